"""The table of a session in which rows are tried: see `hygge.connectors.sql.trial`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from hygge.batches import plain
from hygge.connectors.anysql.session import connected
from hygge.connectors.anysql.values import encode
from hygge.connectors.sql.errors import in_words
from hygge.connectors.sql.goal import Goal
from hygge.connectors.sql.ledger import target_of
from hygge.connectors.sql.plain_sql import quoter, run_plain
from hygge.connectors.sql.rules import SCRATCH
from hygge.connectors.sql.rules import may_mend as may_mend
from hygge.connectors.sql.rules import rules_of as rules_of
from hygge.connectors.sql.target import ORDINAL, reflected_columns
from hygge.errors import StoreError

if TYPE_CHECKING:
    import sqlalchemy as sa


@contextmanager
def scratch(goal: Goal, columns: Sequence[str]) -> Iterator[_Scratch]:
    """Make the table for these columns of the target; it ends with its session."""
    with connected(goal.url, goal.who, StoreError) as connection:
        yield _Scratch(connection, goal, columns)


class _Scratch:
    def __init__(self, connection: sa.Connection, goal: Goal, columns: Sequence[str]) -> None:
        import sqlalchemy as sa

        self.connection, self.goal = connection, goal
        with connection.begin():
            types = {
                column["name"]: column["type"]
                for column in reflected_columns(connection, target_of(goal))
            }
            self.table: Any = sa.Table(
                SCRATCH,
                sa.MetaData(),
                *[sa.Column(name, types[name], key=f"c{at}") for at, name in enumerate(columns)],
                sa.Column(ORDINAL, sa.BigInteger, key="ordinal"),
                prefixes=["TEMPORARY"],
            )
            self.table.create(connection)

    def quote(self, name: str) -> str:
        return quoter(self.connection)(name)

    def load(self, rows: pa.Table, start: int) -> None:
        rows = plain(rows)
        step, keys = self.goal.options.batch_size, [column.key for column in self.table.columns]
        with in_words(self.goal.who, StoreError), self.connection.begin():
            for at in range(0, rows.num_rows, step):
                piece = rows.slice(at, step)
                values = [
                    encode(column, self.goal.who, name)
                    for name, column in zip(piece.column_names, piece.columns, strict=True)
                ]
                numbers = range(start + at, start + at + piece.num_rows)
                self.connection.execute(
                    self.table.insert(),
                    [
                        dict(zip(keys, row, strict=True))
                        for row in zip(*values, numbers, strict=True)
                    ],
                )

    def ask(self, sql: str) -> list[tuple[int, ...]]:
        with in_words(self.goal.who, StoreError), self.connection.begin():
            return [tuple(row) for row in run_plain(self.connection, sql)]

    def do(self, sql: str) -> None:
        with in_words(self.goal.who, StoreError), self.connection.begin():
            run_plain(self.connection, sql)
