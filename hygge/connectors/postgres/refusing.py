"""The staged rows of a commit to PostgreSQL, and what the target refuses: see `sql.refusing`.

A row's number is its place in the run table, block and line, which stays while the commit holds the
lock of that table.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import pyarrow as pa

from hygge.connectors.postgres import home, ledger, session
from hygge.connectors.postgres.target import SPLIT, Names, columns_of
from hygge.connectors.sql.ask import Ask, SQLHomeOptions
from hygge.connectors.sql.goal import Goal
from hygge.connectors.sql.refusing import AT_ONCE, Number, Range, StagedRows, put_all, said
from hygge.errors import UnfitValue
from hygge.model import Run

if TYPE_CHECKING:
    import sqlalchemy as sa

_NOT_OF_ROWS = (
    "08", "0A", "0B", "25", "26", "28", "2B", "2D", "34", "3B", "3D", "3F", "40", "42", "53",
    "55", "57", "58", "F0", "XX",
)  # fmt: skip
"""Classes of SQLSTATE that are about the session, the server or a statement. All others may be
about a row; a trigger raises what it likes."""
_LAST_LINE = 65_535


class RowsOfPostgres(StagedRows):
    """Staged rows in the run table."""

    total: int | None = None
    """The number of all of them, where it is known."""

    def __init__(self, connection: sa.Connection, goal: Goal, run: Run, names: Names) -> None:
        self.connection, self.goal, self.run, self.names = connection, goal, run, names
        self.who = goal.who

    def do(self, sql: str) -> None:
        session.execute(self.connection, sql)

    def refusal(self, error: Exception) -> UnfitValue | None:
        import psycopg

        if not isinstance(error, psycopg.Error) or not error.sqlstate:
            return None
        if error.sqlstate.startswith(_NOT_OF_ROWS):
            return None
        about = error.diag
        text = ": ".join(filter(None, (about.message_primary, about.message_detail)))
        return said(text or str(error), about.column_name)

    def ranges(self) -> Iterator[Range]:
        blocks, rows = session.fetch_one(
            self.connection,
            "SELECT pg_relation_size(%s::regclass) / current_setting('block_size')::bigint, "
            f"count(*) FROM {self.names.rows}",
            self.names.rows,
        )
        step = max(1, AT_ONCE * blocks // max(1, rows))
        for start in range(0, blocks, step):
            yield (start, 0), (start + step - 1, _LAST_LINE)

    def numbers(self, rows: Range) -> list[Number]:
        found = session.fetch_all(
            self.connection,
            f"SELECT s.ctid::text FROM {self.names.rows} s WHERE {self.condition(rows)} "
            "ORDER BY s.ctid",
        )
        return [_number(place) for (place,) in found]

    def read(self, numbers: Sequence[Number]) -> tuple[pa.Table, list[int | None]]:
        where = self.among(numbers)
        written = columns_of(self.connection, self.names.schema, self.names.rows_name)
        present = [name for name, _ in written]
        columns = tuple(name for name in present if not name.startswith("_hygge_"))
        # Where rows of a split are told by the transaction that loaded them: see `ledger`.
        seals = ledger.seals(self.connection, self.goal, self.run.id).values()
        split_of = {seal.xmin: seal.ticket.split for seal in seals if seal.rows}
        told_by = session.quoted(SPLIT) if SPLIT in present else "xmin"
        found = session.fetch_all(
            self.connection,
            f"SELECT ctid::text, {told_by}::text FROM {self.names.rows} WHERE {where}",
        )
        if SPLIT in present:
            split_of = {split: int(split) for _, split in found}
        splits = {_number(place): split_of.get(told) for place, told in found}
        # Row by row: so they come in this order.
        tables = [self._read_row(number, columns) for number in numbers]
        return pa.concat_tables(tables), [splits.get(number) for number in numbers]

    def _read_row(self, number: Number, columns: tuple[str, ...]) -> pa.Table:
        ask = Ask(
            self.goal.url, self.who, self.names.rows, None, columns, self.among([number]), None,
            None, SQLHomeOptions(), self.goal.flow,
        )  # fmt: skip
        return home.read_now(session.driver_connection(self.connection), ask)

    def condition(self, rows: Range | None) -> str:
        """Return SQL for the rows of a range, where the run table is `s`."""
        if rows is None:
            return "TRUE"
        first, last = (f"'({block},{line})'::tid" for block, line in rows)
        return f"s.ctid BETWEEN {first} AND {last}"

    def among(self, numbers: Sequence[Number]) -> str:
        """Return SQL for these rows of the run table."""
        places = ", ".join(f"'({block},{line})'" for block, line in numbers)
        return f"ctid = ANY(ARRAY[{places}]::tid[])"

    def count(self, rows: Range | None) -> int:
        """Return the number of rows of a range."""
        if rows is None and self.total is not None:
            return self.total
        (count,) = session.fetch_one(
            self.connection,
            f"SELECT count(*) FROM {self.names.rows} s WHERE {self.condition(rows)}",
        )
        return int(count)


class ConvertedRows(RowsOfPostgres):
    """Staged rows whose texts take the types of the target; nothing is written."""

    casts: Sequence[str] = ()

    def put(self, rows: Range | None) -> None:
        computed = ", ".join(f"count({cast})" for cast in self.casts)
        session.fetch_all(
            self.connection,
            f"SELECT {computed} FROM {self.names.rows} s WHERE {self.condition(rows)}",
        )


def take_unconvertible(rows: ConvertedRows) -> None:
    """Delete the rows of the run table whose texts the types of the target do not take.

    The goal's `refused` takes them.
    """
    taken = put_all(rows, rows.goal.refused)
    if taken:
        rows.do(f"DELETE FROM {rows.names.rows} WHERE {rows.among(taken)}")


def _number(place: str) -> Number:
    block, line = place.strip("()").split(",")
    return int(block), int(line)
