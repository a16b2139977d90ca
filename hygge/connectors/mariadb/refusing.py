"""The staged rows of a commit to MariaDB, and what the target refuses: see `sql.refusing`.

Where rows may be set aside, the tables that hold staged rows number them (`load.ROW`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import pyarrow as pa

from hygge.connectors.mariadb import home
from hygge.connectors.mariadb.load import ROW, ROWS_PER_SPLIT
from hygge.connectors.mariadb.session import (
    execute,
    fetch_all,
    fetch_one,
    is_of_rows,
    number_of,
    quoted,
)
from hygge.connectors.mariadb.target import in_target_schema, quoted_table
from hygge.connectors.sql.ask import Ask, SQLHomeOptions
from hygge.connectors.sql.goal import Goal
from hygge.connectors.sql.refusing import AT_ONCE, Number, Range, StagedRows, said
from hygge.errors import Rejected, Superseded, UnfitValue

if TYPE_CHECKING:
    from pymysql.connections import Connection

_INDEX = "_hygge_rows"
_DUPLICATE_NAME = 1061


class RowsOfMariaDB(StagedRows):
    """Staged rows in the table `name`, of which the columns `names` are written."""

    def __init__(
        self, connection: Connection, goal: Goal, name: str, columns: Sequence[str], total: int
    ) -> None:
        self.connection, self.goal, self.name = connection, goal, name
        self.columns, self.total, self.who = columns, total, goal.who

    @property
    def table(self) -> str:
        """The table of the rows, as SQL writes it."""
        return quoted_table(self.goal, self.name)

    def do(self, sql: str) -> None:
        execute(self.connection, sql)

    def refusal(self, error: Exception) -> UnfitValue | None:
        return said(str(error.args[1])) if is_of_rows(error) else None

    def ranges(self) -> Iterator[Range]:
        number, table = quoted(ROW), self.table
        found = fetch_all(
            self.connection,
            f"SELECT MIN({number}), MAX({number}) FROM {table} GROUP BY {number} DIV "
            f"{ROWS_PER_SPLIT} ORDER BY 1",
        )
        for low, high in found:
            for start in range(low, high + 1, AT_ONCE):
                yield (0, start), (0, min(high, start + AT_ONCE - 1))

    def numbers(self, rows: Range) -> list[Number]:
        found = fetch_all(
            self.connection,
            f"SELECT s.{quoted(ROW)} FROM {self.table} s WHERE {self.condition(rows)} ORDER BY 1",
        )
        return [(0, int(number)) for (number,) in found]

    def read(self, numbers: Sequence[Number]) -> tuple[pa.Table, list[int | None]]:
        name = in_target_schema(self.goal, self.name)
        listed = ", ".join(str(number) for _, number in numbers)
        staged = fetch_all(self.connection, f"SHOW COLUMNS FROM {self.table}")
        names = [row[0] for row in staged if not row[0].startswith("_hygge_")]
        ask = Ask(
            self.goal.url, self.who, name, None, (*names, ROW), f"{quoted(ROW)} IN ({listed})",
            None, None, SQLHomeOptions(splits=1), self.goal.flow,
        )  # fmt: skip
        table = home.read_all(ask).sort_by(ROW)
        return table.drop_columns([ROW]), [number // ROWS_PER_SPLIT for _, number in numbers]

    def condition(self, rows: Range | None) -> str:
        """Return SQL for the rows of a range, where their table is `s`."""
        if rows is None:
            return "TRUE"
        (_, first), (_, last) = rows
        return f"s.{quoted(ROW)} BETWEEN {first} AND {last}"

    def count(self, rows: Range | None) -> int:
        """Return the number of rows of a range."""
        if rows is None:
            return self.total
        asked = f"SELECT COUNT(*) FROM {self.table} s WHERE {self.condition(rows)}"
        return int(fetch_one(self.connection, asked)[0])


def are_numbered(connection: Connection, goal: Goal, name: str) -> bool:
    """Return whether a table of staged rows numbers them."""
    return bool(fetch_all(connection, f"SHOW COLUMNS FROM {quoted_table(goal, name)} LIKE '{ROW}'"))


def index_numbers(connection: Connection, goal: Goal, name: str) -> None:
    """Index the numbers of staged rows, outside of a transaction; it may be done already."""
    try:
        execute(
            connection,
            f"ALTER TABLE {quoted_table(goal, name)} ADD KEY {_INDEX} ({quoted(ROW)})",
        )
    except Exception as error:
        if number_of(error) != _DUPLICATE_NAME:
            raise


def may_be_of_rows(error: Exception) -> bool:
    """Return whether rows may be at fault for an error of a commit."""
    if isinstance(error, Superseded):
        return False
    return isinstance(error, Rejected | UnfitValue) or is_of_rows(error)
