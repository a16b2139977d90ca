"""Triggers that end the transaction, while rows that the table refuses are looked for.

RAISE(ROLLBACK) undoes all that a commit has done, so that nobody can go on without the row that it
refuses. Within the transaction of the commit such triggers say RAISE(ABORT), which undoes the one
statement, and before it ends they are again as they were. Nobody else ever sees them changed.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from hygge.connectors.sqlite.session import quoted

_TOKEN = re.compile(
    r"""'(?:[^']|'')*'|"(?:[^"]|"")*"|`(?:[^`]|``)*`|\[[^\]]*\]|--[^\n]*|/\*.*?\*/"""
    r"|\bRAISE\s*\(\s*ROLLBACK\b",
    re.IGNORECASE | re.DOTALL,
)
"""Texts, names and comments, which stay as they are; else what is looked for."""


@contextmanager
def aborting(connection: sqlite3.Connection) -> Iterator[None]:
    """Let triggers abort their statement, and not the transaction that the caller has begun."""
    ending = [row for row in _triggers(connection) if _aborts(row[2]) != row[2]]
    tables = {table for _, table, _ in ending}
    # All triggers of these tables, so that they go off in the order in which they did.
    kept = [row for row in _triggers(connection) if row[1] in tables]
    _make_again(connection, [(name, _aborts(sql)) for name, _, sql in kept])
    yield
    _make_again(connection, [(name, sql) for name, _, sql in kept])


def _triggers(connection: sqlite3.Connection) -> list[tuple[str, str, str]]:
    """Return name, table and statement of each trigger, in the order in which they were made."""
    return connection.execute(
        "SELECT name, lower(tbl_name), sql FROM main.sqlite_master WHERE type = 'trigger' "
        "ORDER BY rowid"
    ).fetchall()


def _make_again(connection: sqlite3.Connection, triggers: list[tuple[str, str]]) -> None:
    for name, _ in triggers:
        connection.execute(f"DROP TRIGGER main.{quoted(name)}")
    for _, sql in triggers:
        connection.execute(sql)


def _aborts(sql: str) -> str:
    """Return the statement of a trigger with RAISE(ABORT) in the place of RAISE(ROLLBACK)."""
    return _TOKEN.sub(lambda found: "RAISE(ABORT" if found[0][0] in "rR" else found[0], sql)
