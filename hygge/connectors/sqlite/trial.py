"""The table of a SQLite connection in which rows are tried: see `hygge.connectors.sql.trial`.

The database is opened for reading; the table is a temporary one. Foreign keys are not looked at by
SQLite where hygge writes, so they are no rules.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pyarrow as pa

from hygge.batches import plain
from hygge.connectors.sql.goal import Goal
from hygge.connectors.sql.rules import SCRATCH
from hygge.connectors.sql.target import ORDINAL
from hygge.connectors.sqlite import catalog, session
from hygge.connectors.sqlite.database import table_name
from hygge.connectors.sqlite.errors import in_words
from hygge.connectors.sqlite.rules import may_mend as may_mend
from hygge.connectors.sqlite.rules import rules_of as rules_of
from hygge.connectors.sqlite.session import path_of, quoted
from hygge.connectors.sqlite.target import TargetColumn, kept_as
from hygge.connectors.sqlite.values import encode
from hygge.errors import StoreError, UnfitValue


@contextmanager
def scratch(goal: Goal, columns: Sequence[str]) -> Iterator[_Scratch]:
    """Make the table for these columns of the target; it ends with its connection."""
    with session.opened(path_of(goal.url), goal.who, StoreError) as connection:
        yield _Scratch(connection, goal, columns)


class _Scratch:
    def __init__(self, connection: sqlite3.Connection, goal: Goal, names: Sequence[str]) -> None:
        self.connection, self.goal, self.quote = connection, goal, quoted
        target = table_name(goal.table)
        by_name = {column.name: column for column in catalog.columns(connection, target)}
        self.columns = [by_name[name] for name in names]
        collations = catalog.collations(connection, target)
        ddl = ", ".join(
            f"{TargetColumn(column.name, column.declared, pa.null()).ddl()} "
            f"COLLATE {collations[column.name]}"
            for column in self.columns
        )
        connection.execute("PRAGMA temp_store = FILE")
        connection.execute(f"CREATE TEMP TABLE {SCRATCH} ({ddl}, {ORDINAL} INTEGER PRIMARY KEY)")

    def load(self, rows: pa.Table, start: int) -> None:
        rows = plain(rows)
        kinds = [
            kept_as(column, field) for column, field in zip(self.columns, rows.schema, strict=True)
        ]
        marks = ", ".join("?" * (len(kinds) + 1))
        step = self.goal.options.batch_size
        with in_words(self.goal.who, UnfitValue):
            self.connection.execute("BEGIN")
            try:
                for at in range(0, rows.num_rows, step):
                    piece = rows.slice(at, step)
                    values = [
                        encode(column.name, piece.column(number), kind or rows.schema[number].type)
                        for number, (column, kind) in enumerate(
                            zip(self.columns, kinds, strict=True)
                        )
                    ]
                    numbers = range(start + at, start + at + piece.num_rows)
                    self.connection.executemany(
                        f"INSERT INTO {SCRATCH} VALUES ({marks})",
                        zip(*values, numbers, strict=True),
                    )
                self.connection.execute("COMMIT")
            except BaseException:
                if self.connection.in_transaction:
                    self.connection.execute("ROLLBACK")
                raise

    def ask(self, sql: str) -> list[tuple[int, ...]]:
        with in_words(self.goal.who, StoreError):
            return self.connection.execute(sql).fetchall()

    def do(self, sql: str) -> None:
        with in_words(self.goal.who, StoreError):
            self.connection.execute(sql)
