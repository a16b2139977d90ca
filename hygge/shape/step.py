"""What every step of a shape has in common: the schema that comes out, and the batch."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

import pyarrow as pa


@dataclass(frozen=True)
class Reading:
    """What a step may know of the run that reads."""

    who: str = ""
    """The Home, for errors."""
    run: str = ""
    """Id of the run."""
    began: datetime | None = None
    """Time when the run began; that of a run that is gone on with stays."""


class Step(Protocol):
    """One change of all batches. It travels to the Home's process."""

    @property
    def schema(self) -> pa.Schema:
        """The schema that comes out."""
        ...

    def apply(self, table: pa.Table, reading: Reading) -> pa.Table:
        """Return the batch as it comes out."""
        ...
