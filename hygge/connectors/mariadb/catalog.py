"""The tables of a MariaDB or MySQL server."""

from __future__ import annotations

from collections.abc import Sequence

from hygge.connectors.mariadb.session import one, rows, session
from hygge.connectors.sql.listing import Listing, Table
from hygge.errors import HomeError

_TABLES = """
SELECT table_schema, table_name, table_type = 'VIEW' FROM information_schema.tables
WHERE table_type IN ('BASE TABLE', 'SYSTEM VERSIONED', 'VIEW')
  AND table_schema NOT IN ('information_schema', 'mysql', 'performance_schema', 'sys')
"""


def tables(url: str, who: str, patterns: Sequence[str]) -> Listing:
    """Every table and view that this user sees."""
    with session(url, who, HomeError, None) as connection:
        default = one(connection, "SELECT DATABASE()")[0]
        found = rows(connection, _TABLES)
    return Listing(
        default or "main", [Table(schema, name, bool(view)) for schema, name, view in found]
    )
