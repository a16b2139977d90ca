"""SQLite files: connections, catalog, and the name of a state.

The database file is opened by SQLite alone: POSIX locks of a process vanish when any other of its
file descriptors on that file is closed. Its state is named by `os.stat`.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote as url_quote

from hygge.connectors.sqlite.errors import in_words
from hygge.errors import HyggeError, SourceMissing
from hygge.places.names import hint_for_missing

BUSY_S = 30.0
_YOUNG_NS = 20_000_000


@dataclass(frozen=True)
class Kept:
    """A column as SQLite's catalog has it."""

    name: str
    declared: str
    notnull: bool
    default: str | None
    key: int
    """Position in the primary key, from 1; 0 for a column outside of it."""
    generated: bool

    @property
    def fills_itself(self) -> bool:
        """Whether an insert may leave it out."""
        rowid = self.key == 1 and self.declared.upper() == "INTEGER"
        return self.default is not None or self.generated or rowid


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


def tables(connection: sqlite3.Connection) -> list[str]:
    """Names of all tables and views, without SQLite's own and hygge's own."""
    rows = connection.execute(
        "SELECT name FROM sqlite_master WHERE type IN ('table', 'view') "
        "AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' AND name NOT LIKE '\\_hygge\\_%' ESCAPE '\\'"
    )
    return [name for (name,) in rows]


def kind_of(connection: sqlite3.Connection, table: str) -> str | None:
    """'table', 'view', or None where there is neither. Names do not distinguish case."""
    row = connection.execute(
        "SELECT type FROM sqlite_master WHERE type IN ('table', 'view') AND lower(name) = lower(?)",
        [table],
    ).fetchone()
    return row[0] if row else None


def columns(connection: sqlite3.Connection, table: str) -> list[Kept]:
    """The columns of a table or view, in order; empty where there is none."""
    rows = connection.execute(f"PRAGMA table_xinfo({quote(table)})").fetchall()
    return [
        Kept(name, declared or "", bool(notnull), default, key, hidden in (2, 3))
        for _, name, declared, notnull, default, key, hidden in rows
        if hidden != 1
    ]


def collations(connection: sqlite3.Connection, table: str) -> dict[str, str]:
    """How each column of a table compares its text. Only an index says so: one on an empty twin."""
    asked = "SELECT sql FROM main.sqlite_master WHERE type = 'table' AND lower(name) = lower(?)"
    names = [each.name for each in columns(connection, table)]
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as twin:
        twin.execute(one(connection, asked, table))
        twin.execute(f"CREATE INDEX _hygge_i ON {quote(table)} ({', '.join(map(quote, names))})")
        found = {row[2]: row[4] for row in twin.execute("PRAGMA index_xinfo(_hygge_i)")}
    return {name: quote(found[name]) for name in names}


def rowid_of(connection: sqlite3.Connection, table: str) -> str | None:
    """A name that means the rowid of a table, or None (a view, WITHOUT ROWID, all names taken)."""
    taken = {each.name.lower() for each in columns(connection, table)}
    for word in ("rowid", "_rowid_", "oid"):
        if word not in taken:
            try:
                row = connection.execute(f"SELECT typeof({word}) FROM {quote(table)} LIMIT 1")
                found = row.fetchone()
            except sqlite3.OperationalError:
                return None
            return word if found is None or found[0] == "integer" else None
    return None


def version(path: str) -> str:
    """A name for the state of a database: size and time of its log, or of the file itself.

    Every committed change grows or rewrites one of the two. A file that changed a moment ago could
    change again within one tick of its clock, so it is looked at again a little later.
    """
    for _ in range(50):
        name, stat = path, os.stat(path)
        try:
            stat = os.stat(path + "-wal")
            name = path + "-wal"
        except FileNotFoundError:
            pass
        age = time.time_ns() - stat.st_mtime_ns
        if not 0 <= age < _YOUNG_NS:
            break
        time.sleep((_YOUNG_NS - age) / 1e9)
    return f"{'wal' if name != path else 'db'}:{stat.st_size}:{stat.st_mtime_ns}"


def one(connection: sqlite3.Connection, sql: str, *values: Any) -> Any:
    """The first value of the first row, or None."""
    row = connection.execute(sql, values).fetchone()
    return row[0] if row else None
