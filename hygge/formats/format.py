"""The interface of a file format: its writer, its joiner, the types that it cannot hold.

Life of a file: `Format.open_writer` makes it, `Writer.write` takes tables, and `Writer.close` ends
it and returns statistics of what is in it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Protocol

import pyarrow as pa

from hygge.errors import Rejected, StoreError


@dataclass(frozen=True)
class ColumnStatistics:
    """The values of one top-level column of a file.

    `min` and `max` are scalars of the column's Arrow type, or None where they are not known: in
    formats that keep none (only Parquet does), for nested columns, for values that are too long for
    the footer, and where no value but NULL and NaN is. NaN is never one of them.
    """

    null_count: int
    min: pa.Scalar | None = None
    max: pa.Scalar | None = None


class FileStatistics:
    """The rows of a closed file, and the statistics of its columns by name, in order.

    The columns are computed when they are asked for: their scalars make pyarrow import pandas,
    which costs a process half a second.
    """

    def __init__(self, rows: int, columns: Callable[[], dict[str, ColumnStatistics]]) -> None:
        self.rows = rows
        self._columns = columns

    @cached_property
    def columns(self) -> dict[str, ColumnStatistics]:
        return self._columns()


class Writer(Protocol):
    """An open file of one format."""

    def write(self, table: pa.Table) -> None:
        """Add rows. `table` may lie in memory that is given back when this returns."""
        ...

    def size(self) -> int:
        """Return about how many bytes of the file are written so far."""
        ...

    def close(self) -> FileStatistics:
        """End the file and return its statistics. Called once."""
        ...


class Format:
    """A file format; a Store of files is one, wherever its files lie."""

    suffixes: ClassVar[tuple[str, ...]] = ()
    evolves: bool = False
    """True if files that are added may have other columns than those before: `schema: evolve`."""
    freezes: bool = False
    """True if files that replace others must have their columns: `schema: freeze`."""
    unites_columns: ClassVar[bool] = True
    """True if readers unite files of different columns by name."""
    keeps_metadata: ClassVar[bool] = False
    """True if a file has a schema, with metadata, also without rows."""
    takes_wider: ClassVar[bool] = False
    """True if a wider type of a column is none to its readers, since the format has no types."""

    def suffix(self) -> str:
        """Return the ending of the file names that are written."""
        return self.suffixes[0]

    def open_writer(self, path: str, schema: pa.Schema) -> Writer:
        """Return a writer for a new file at `path`."""
        raise StoreError(f"{type(self).__name__} does not write")

    def join(self, parts: Sequence[str], target: str, schema: pa.Schema) -> None:
        """Write several files, in order, as one file at `target`."""
        raise StoreError(f"{type(self).__name__} does not join")

    def check_schema(self, schema: pa.Schema) -> None:
        """Raise UnfitValue for a column whose type the format cannot hold exactly."""

    def check_values(self, table: pa.Table) -> None:
        """Raise UnfitValue for a value that the format has no form for."""

    def count(self, path: str) -> int | None:
        """Return the rows of a file by its own footer, or None where the format has none."""
        return None

    def check_count(self, path: str, rows: int) -> None:
        """Raise Rejected where a file does not hold `rows` rows by its own footer."""
        footer_rows = self.count(path)
        if footer_rows is not None:
            check_rows(path, footer_rows, rows)


def check_rows(path: str, held: int, written: int) -> None:
    """Raise Rejected where a file holds other than the rows that were written to it."""
    if held != written:
        raise Rejected(f"{path} holds {held:,} rows, {written:,} were written")


class RowCounter:
    """Counts rows and NULLs as they are written, for the statistics of a file."""

    def __init__(self, schema: pa.Schema) -> None:
        self.rows = 0
        self.null_counts = dict.fromkeys(schema.names, 0)

    def add(self, table: pa.Table) -> None:
        self.rows += table.num_rows
        for name, column in zip(table.column_names, table.columns, strict=True):
            self.null_counts[name] += column.null_count

    def statistics(self) -> FileStatistics:
        """Return what was counted; min and max are not known."""
        counts = self.null_counts.items()
        return FileStatistics(
            self.rows, lambda: {n: ColumnStatistics(count) for n, count in counts}
        )
