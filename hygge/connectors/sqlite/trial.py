"""The table of a SQLite connection in which rows are tried: see `hygge.connectors.sql.trial`.

The database is opened for reading; the table is a temporary one. Foreign keys are not looked at by
SQLite where hygge writes, so they are no rules.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pyarrow as pa

from hygge.batches import plain
from hygge.connectors.sql.goal import Goal
from hygge.connectors.sql.rules import SCRATCH, Rule, check_rule, unique_rules
from hygge.connectors.sql.target import ORDINAL, Target
from hygge.connectors.sqlite import catalog, session
from hygge.connectors.sqlite.database import table_name
from hygge.connectors.sqlite.errors import in_words
from hygge.connectors.sqlite.session import path_of, quoted
from hygge.connectors.sqlite.target import TargetColumn, kept_as
from hygge.connectors.sqlite.values import encode
from hygge.errors import StoreError, UnfitValue

if TYPE_CHECKING:
    import sqlalchemy as sa

_WORD = re.compile(
    r"(?P<skipped>--[^\n]*|/\*.*?\*/|'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|`[^`]*`|\[[^\]]*\])"
    r"|(?P<open>\()|(?P<close>\))|(?P<word>\w+)",
    re.DOTALL,
)


def rules_of(
    connection: sa.Connection, target: Target, names: Sequence[str], adds: bool
) -> list[Rule]:
    """Return the rules of a table that are about columns of `names`; see `sql.rules`."""
    driver = connection.connection.dbapi_connection
    assert isinstance(driver, sqlite3.Connection)
    columns = catalog.columns(driver, target.name)
    by_name = {column.name.lower(): column.name for column in columns if not column.generated}
    there = [by_name[name.lower()] for name in names if name.lower() in by_name]
    created = catalog.created_by(driver, target.name) or ""
    rules = [check_rule(None, text, there) for text in checks_in(created)]
    if adds:
        for key in _keys(driver, target.name, columns):
            rules += unique_rules(key, f"main.{quoted(target.name)}", quoted)
    return [rule for rule in rules if rule.columns and set(rule.columns) <= set(there)]


def checks_in(created: str) -> list[str]:
    """Return the conditions of the CHECKs in a CREATE TABLE statement."""
    checks, depth, begun, is_check = [], 0, [], False
    for match in _WORD.finditer(created):
        if match["open"]:
            depth += 1
            if is_check:
                begun.append((depth, match.end()))
        elif match["close"]:
            if begun and begun[-1][0] == depth:
                checks.append(created[begun.pop()[1] : match.start()].strip())
            depth -= 1
        is_check = (match["word"] or "").upper() == "CHECK"
    return checks


def _keys(
    connection: sqlite3.Connection, table: str, columns: Sequence[catalog.Column]
) -> list[tuple[str, ...]]:
    """Return the columns of each unique index of whole columns, and of the rowid's column."""
    keys = {(column.name,) for column in columns if column.is_rowid}
    collations = catalog.collations(connection, table)
    for _, index, is_unique, _, is_partial in connection.execute(
        f"PRAGMA index_list({quoted(table)})"
    ).fetchall():
        if not is_unique or is_partial:
            continue
        rows = connection.execute(f"PRAGMA index_xinfo({quoted(index)})").fetchall()
        parts = [(name, collation) for _, _, name, _, collation, is_key in rows if is_key]
        if all(name and quoted(collation) == collations[name] for name, collation in parts):
            keys.add(tuple(name for name, _ in parts))
    return sorted(keys)


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

    def ask(self, sql: str) -> list[int]:
        with in_words(self.goal.who, StoreError):
            return [number for (number,) in self.connection.execute(sql).fetchall()]

    def do(self, sql: str) -> None:
        with in_words(self.goal.who, StoreError):
            self.connection.execute(sql)
