"""The options and the arguments that the Homes of all file formats have."""

from __future__ import annotations

import os
from typing import Literal, TypedDict

from pydantic import Field

from hygge.model import MIB
from hygge.places.access import Access, AccessDict
from hygge.settings import Settings


class FileOptions(Settings):
    """How a file Home reads."""

    batch_size: int = Field(default=1_000_000, gt=0)
    """The most rows of a batch."""
    batch_bytes: int = Field(default=32 * MIB, gt=0)
    """About the most Arrow bytes of a batch; whichever limit is met first."""
    split_bytes: int = Field(default=128 * MIB, gt=0)
    """About how many file bytes a split has: the unit of parallel work and of retry."""


class FileOptionsDict(TypedDict, total=False):
    """`FileOptions` as a dict."""

    batch_size: int
    batch_bytes: int
    split_bytes: int


class FileHomeArguments(TypedDict, total=False):
    """The keyword arguments of every file Home; a format adds its `options`."""

    path: str | os.PathLike[str] | None
    connection: Access | AccessDict | None
    columns: list[str] | tuple[str, ...] | None
    schema: Literal["first", "union"] | None
    changes: bool
