"""The key by which a flow merges: stated, or the primary key of its source."""

from __future__ import annotations

from typing import Protocol

from hygge.errors import ConfigError
from hygge.home import Home
from hygge.model import Mode


class Merging(Protocol):
    """The part of a Flow that is about its key."""

    home: Home
    mode: Mode
    key: tuple[str, ...]


def find_key(flow: Merging) -> None:
    """Give a flow of mode `merge` the primary key of its source, where no key is stated.

    Raises ConfigError where the source has none, and what `Home.primary_key` raises.
    """
    if flow.mode != "merge" or flow.key:
        return
    flow.key = flow.home.flow_key = flow.home.primary_key()
    if not flow.key:
        raise ConfigError(
            f"mode merge needs a key, and {flow.home.describe()} has no primary key",
            "name the columns that tell its rows apart: `key: [id]`",
        )
