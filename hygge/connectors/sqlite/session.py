"""SQLite files: connections, catalog, and the name of a state.

The database file is opened by SQLite alone: POSIX locks of a process vanish when any other of its
file descriptors on that file is closed. Its state is named by `os.stat`.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote as url_quote

from hygge.connectors.sqlite.errors import in_words
from hygge.errors import HyggeError, SourceMissing
from hygge.places.names import hint_for_missing

BUSY_S = 30.0


def path_of(url: str) -> str:
    """The file of a SQLite URL."""
    from sqlalchemy.engine import make_url

    return str(make_url(url).database)


def quote(name: str) -> str:
    """An identifier in SQLite's quotes."""
    return '"' + name.replace('"', '""') + '"'


@contextmanager
def opened(
    path: str, who: str, side: type[HyggeError], mode: str = "ro"
) -> Iterator[sqlite3.Connection]:
    """A raw connection in autocommit, closed at the end. `ro` never makes a file, `rwc` does."""
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
            yield connection
        finally:
            connection.close()


def one(connection: sqlite3.Connection, sql: str, *values: Any) -> Any:
    """The first value of the first row, or None."""
    row = connection.execute(sql, values).fetchone()
    return row[0] if row else None
