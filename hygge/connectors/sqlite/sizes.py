"""How many bytes tables of a SQLite file have."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from hygge.connectors.sqlite.database import table_name
from hygge.connectors.sqlite.session import fetch_value, opened, path_of
from hygge.errors import HomeError
from hygge.model import MIB

# A virtual table has no pages of its own.
_STORED = """
SELECT name FROM main.sqlite_master WHERE type = 'table' AND rootpage > 0 AND lower(name) = lower(?)
"""
_MOST_BYTES = 64 * MIB
"""Where a file is larger, the pages of each table are counted, and no more than these."""


def sizes(url: str, who: str, tables: Sequence[str]) -> dict[str, int]:
    """Return the bytes of each table: at most those of the file, where it has up to 64 MiB.

    Of a larger file the pages of the table are counted; a table with more than 64 MiB has none
    here, like one that is not there, a view, and a virtual table. Raises HomeError where the file
    cannot be read, SourceMissing where there is none.
    """
    found = {}
    with opened(path_of(url), who, HomeError) as connection:
        page = fetch_value(connection, "PRAGMA main.page_size")
        whole = page * fetch_value(connection, "PRAGMA main.page_count")
        for table in tables:
            name = fetch_value(connection, _STORED, table_name(table))
            if name is None:
                continue
            size = whole if whole <= _MOST_BYTES else _count_bytes(connection, name, page)
            if size is not None:
                found[table] = size
    return found


def _count_bytes(connection: sqlite3.Connection, table: str, page: int) -> int | None:
    """Return the bytes of a table's pages; None where there are more than 64 MiB, or none."""
    most = _MOST_BYTES // page
    count = "SELECT count(*) FROM (SELECT 1 FROM dbstat WHERE name = ? LIMIT ?)"
    try:
        pages = int(fetch_value(connection, count, table, most + 1))
    except sqlite3.OperationalError:  # this SQLite was built without `dbstat`
        return None
    return pages * page if 0 < pages <= most else None
