"""The staged rows of a commit to SQLite, and what the target refuses of them: see `sql.refusing`.

A row's number is the place of its table among those that are put, and its rowid there.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import pyarrow as pa

from hygge.connectors.sql.commit import check_all_in
from hygge.connectors.sql.refusing import AT_ONCE, Number, Range, StagedRows, said
from hygge.connectors.sqlite import catalog
from hygge.connectors.sqlite.session import quoted
from hygge.connectors.sqlite.target import TargetColumn
from hygge.connectors.sqlite.values import decode
from hygge.errors import Rejected, UnfitValue

_OF_COLUMN = re.compile(r"constraint failed: [^.,]+\.([^.,]+)$")


def rowid_name(columns: Sequence[TargetColumn]) -> str:
    """Return the name of the rowid in a table with these columns; Rejected where it has none."""
    name = catalog.free_rowid_name([column.name for column in columns])
    if name is None:
        raise Rejected("columns are named rowid, _rowid_ and oid", "rename one of them")
    return name


class Source(NamedTuple):
    """A table of staged rows."""

    table: str
    """As SQL writes it."""
    split: int | None = None
    """The split that its rows are of; None: of several."""


class RowsOfSQLite(StagedRows):
    """Staged rows in tables with the columns of the target."""

    total = 0
    """The number of all of them."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        target: str,
        columns: Sequence[TargetColumn],
        sources: Sequence[Source],
        who: str,
    ) -> None:
        self.connection, self.target, self.columns = connection, target, columns
        self.sources, self.who = sources, who

    @property
    def rowid(self) -> str:
        return rowid_name(self.columns)

    def do(self, sql: str) -> None:
        self.connection.execute(sql)

    def refusal(self, error: Exception) -> UnfitValue | None:
        # What has ended the transaction leaves nothing to go on with.
        if not isinstance(error, sqlite3.IntegrityError) or not self.connection.in_transaction:
            return None
        found = _OF_COLUMN.search(str(error))
        return said(str(error), found and found[1])

    def ranges(self) -> Iterator[Range]:
        for at, source in enumerate(self.sources):
            low, high = self.connection.execute(
                f"SELECT min({self.rowid}), max({self.rowid}) FROM {source.table}"
            ).fetchone()
            for start in range(low, high + 1, AT_ONCE) if low is not None else ():
                yield (at, start), (at, min(high, start + AT_ONCE - 1))

    def numbers(self, rows: Range) -> list[Number]:
        at = rows[0][0]
        found = self.connection.execute(
            f"SELECT {self.rowid} FROM {self.sources[at].table} AS s WHERE {self.condition(rows)} "
            "ORDER BY 1"
        )
        return [(at, number) for (number,) in found]

    def read(self, numbers: Sequence[Number]) -> tuple[pa.Table, list[int | None]]:
        names = ", ".join(quoted(column.name) for column in self.columns)
        rows = [
            self.connection.execute(
                f"SELECT {names} FROM {self.sources[at].table} AS s WHERE {self.rowid} = ?",
                [number],
            ).fetchone()
            for at, number in numbers
        ]
        arrays = [
            decode(values, column.type, self.who, column.name)
            for values, column in zip(zip(*rows, strict=True), self.columns, strict=True)
        ]
        table = pa.Table.from_arrays(arrays, [column.name for column in self.columns])
        return table, [self.sources[at].split for at, _ in numbers]

    def condition(self, rows: Range | None) -> str:
        """Return SQL for the rows of a range, where their table is `s`."""
        if rows is None:
            return "TRUE"
        (_, first), (_, last) = rows
        return f"s.{self.rowid} BETWEEN {first} AND {last}"


class AppendedRows(RowsOfSQLite):
    """Staged rows that are inserted."""

    def put(self, rows: Range | None) -> None:
        present = catalog.columns(self.connection, self.target)
        names_and_types = [(column.name, column.declared) for column in present]
        is_same = names_and_types == [(column.name, column.declared) for column in self.columns]
        is_same = is_same and not any(column.generated for column in present)
        names = ", ".join(quoted(column.name) for column in self.columns if column.is_written)
        into = f"INSERT OR ABORT INTO main.{quoted(self.target)}"
        if not is_same:
            into += f" ({names})"
        which = "" if rows is None else f" WHERE {self.condition(rows)}"
        sources = self.sources if rows is None else [self.sources[rows[0][0]]]
        count, wanted = 0, self.total
        for source in sources:
            of_source = f"FROM {source.table} AS s{which}"
            if rows is not None:
                wanted = self.connection.execute(f"SELECT count(*) {of_source}").fetchone()[0]
            sql = f"{into} SELECT {'*' if is_same else names} {of_source}"
            count += self.connection.execute(sql).rowcount
        check_all_in(count, wanted, self.who)
