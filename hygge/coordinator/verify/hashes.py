"""The hash of each value, row and key, as 64 bits. Equal values have equal hashes in any process.

The hash of a column is the sum of the hashes of its values: it does not depend on the order of the
rows, and a doubled value changes it. Two columns that differ have the same sum once in 2**64 times.
The same sum over whole rows tells a value that moved to another row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from hygge.coordinator.verify.forms import Form, in_form

Hashes = NDArray[np.uint64]
MOST_ROWS = 30_000_000
"""Rows of a side whose hashes are kept, 16 bytes a row, so that single rows can be found."""
_NULL = np.uint64(0x9E3779B97F4A7C15)


@dataclass
class Side:
    """What is known of the rows of one side."""

    rows: int = 0
    columns: dict[str, int] = field(default_factory=dict)
    """Name of a column → the sum of the hashes of its values."""
    pairing: int = 0
    """The sum of the hashes of whole rows: it tells which values stand in one row."""
    keys: list[Hashes] = field(default_factory=list)
    whole: list[Hashes] = field(default_factory=list)
    """The hash of each row, in the order of `keys`."""

    def add(self, table: pa.Table, forms: Mapping[str, Form], key: Sequence[str]) -> None:
        """Take in the rows of a batch. Without a key, a row is known by all of its values."""
        hashes = {name: column_hashes(table.column(name), form) for name, form in forms.items()}
        for name, values in hashes.items():
            total = int(np.add.reduce(values, dtype=np.uint64)) if len(values) else 0
            self.columns[name] = (self.columns.get(name, 0) + total) % 2**64
        whole = combined([hashes[name] for name in sorted(hashes)], table.num_rows)
        self.pairing = (self.pairing + int(np.add.reduce(whole, dtype=np.uint64))) % 2**64
        self.whole.append(whole)
        self.keys.append(combined([hashes[n] for n in key], table.num_rows) if key else whole)
        self.rows += table.num_rows
        if self.rows > MOST_ROWS:
            self.keys, self.whole = [], []

    @property
    def has_rows(self) -> bool:
        """Return whether the hashes of single rows are kept."""
        return self.rows <= MOST_ROWS

    def arrays(self) -> tuple[Hashes, Hashes]:
        """Return the hashes of (key, row) of each row."""
        return _joined(self.keys), _joined(self.whole)

    def sums(self) -> tuple[int, int, dict[str, int]]:
        """Return what is equal for two readings of the same rows."""
        return self.rows, self.pairing, self.columns


def column_hashes(column: pa.ChunkedArray, form: Form) -> Hashes:
    """Return the hash of each value; all NULLs have one of their own."""
    hashes = combined([_hashed(part) for part in in_form(column, form)], len(column))
    nulls = column.is_null().to_numpy()
    return np.where(nulls, _NULL, hashes)


def combined(parts: Sequence[Hashes], rows: int) -> Hashes:
    """Return one hash a row from several, in their order."""
    total = np.full(rows, 17, np.uint64)
    for part in parts:
        total ^= part + _NULL + (total << np.uint64(6)) + (total >> np.uint64(2))
    return total


def _hashed(values: NDArray[Any]) -> Hashes:
    hashed: Hashes
    if values.dtype == object:
        hashed = pd.util.hash_array(values, categorize=len(values) > 1000)
    else:
        hashed = pd.util.hash_array(values.astype(np.int64))
    return hashed


def _joined(parts: Sequence[Hashes]) -> Hashes:
    return np.concatenate(parts) if parts else np.empty(0, np.uint64)
