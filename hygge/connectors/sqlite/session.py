"""Connections to SQLite files.

SQLite alone opens the database file. POSIX drops all locks of a process on a file as soon as the
process closes any file descriptor of that file, so hygge never opens it by itself.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote as url_quote

from hygge.connectors.sql import pins
from hygge.connectors.sqlite.errors import in_words
from hygge.errors import HyggeError, SourceMissing
from hygge.places.names import hint_for_missing

BUSY_S = 30.0
"""Seconds that a statement waits for the lock of another connection."""

Value = int | float | str | bytes | None
"""A value as SQLite stores it."""


def path_of(url: str) -> str:
    """Return the path of the file that a SQLite URL names."""
    from sqlalchemy.engine import make_url

    return str(make_url(url).database)


def quoted(name: str) -> str:
    """Return an identifier in SQLite's quotes."""
    return '"' + name.replace('"', '""') + '"'


@contextmanager
def opened(
    path: str, who: str, side: type[HyggeError], mode: str = "ro"
) -> Iterator[sqlite3.Connection]:
    """Open a connection in autocommit, and close it at the end.

    `mode` is that of SQLite's URIs: `ro` and `rw` never create the file, `rwc` does.
    Raises SourceMissing if there is no file to read; SQLite's errors as `in_words` says.
    """
    if mode == "ro" and not os.path.isfile(path):
        raise SourceMissing(f"there is no SQLite database {path}", hint_for_missing(path))
    with in_words(who, side):
        connection = sqlite3.connect(
            f"file:{url_quote(path)}?mode={mode}",
            uri=True,
            timeout=BUSY_S,
            isolation_level=None,
            check_same_thread=False,
        )
        try:
            connection.executescript(";".join(pins.in_sqlite()))
            yield connection
        finally:
            connection.close()


def fetch_value(connection: sqlite3.Connection, sql: str, *values: Value) -> Any:
    """Run a query; return the first value of its first row, or None if it has no rows."""
    row = connection.execute(sql, values).fetchone()
    return row[0] if row else None
