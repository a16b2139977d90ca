"""The table of a MariaDB session in which rows are tried: see `hygge.connectors.sql.trial`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pyarrow as pa

from hygge.batches import plain
from hygge.connectors.mariadb import ledger
from hygge.connectors.mariadb.load import ROW, SPLIT, load_split
from hygge.connectors.mariadb.session import execute, fetch_all, in_words, quoted, quoted_list
from hygge.connectors.mariadb.session import transaction as _transaction
from hygge.connectors.mariadb.target import quoted_target
from hygge.connectors.sql.goal import Goal, stored
from hygge.connectors.sql.rules import SCRATCH
from hygge.connectors.sql.rules import may_mend as may_mend
from hygge.connectors.sql.rules import rules_of as rules_of
from hygge.errors import StoreError

if TYPE_CHECKING:
    from pymysql.connections import Connection


@contextmanager
def scratch(goal: Goal, columns: Sequence[str]) -> Iterator[_Scratch]:
    """Make the table for these columns of the target; it ends with its session."""
    with ledger.opened(goal) as connection:
        yield _Scratch(connection, goal, columns)


class _Scratch:
    def __init__(self, connection: Connection, goal: Goal, columns: Sequence[str]) -> None:
        self.connection, self.goal = connection, goal
        execute(
            connection,
            f"CREATE TEMPORARY TABLE {SCRATCH} ({SPLIT} bigint, {ROW} bigint, KEY ({ROW})) "
            f"AS SELECT {quoted_list(columns)} FROM {quoted_target(goal)} LIMIT 0",
        )

    @staticmethod
    def quote(name: str) -> str:
        return quoted(name)

    def load(self, rows: pa.Table, start: int) -> None:
        rows = plain(rows)
        schema = stored(self.goal, rows.schema)
        with _transaction(self.connection):
            load_split(
                self.connection, self.goal, SCRATCH, schema, iter([rows]), 0, start, lambda: None
            )

    def ask(self, sql: str) -> list[tuple[int, ...]]:
        with in_words(self.goal.who, StoreError):
            return fetch_all(self.connection, sql)

    def do(self, sql: str) -> None:
        with in_words(self.goal.who, StoreError):
            execute(self.connection, sql)
