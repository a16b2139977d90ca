"""How many bytes tables of PostgreSQL have on the server's disk."""

from __future__ import annotations

from collections.abc import Sequence

from hygge.connectors.postgres import session
from hygge.connectors.postgres.session import quoted
from hygge.connectors.sql.connection import split_name
from hygge.errors import HomeError

# With what is read of it: partitions and tables that inherit. The disk of a foreign table is on
# another server, and a view has none.
_SIZES = """
WITH RECURSIVE tree(asked, oid) AS (
  SELECT at, to_regclass(name)::oid FROM unnest(%s::text[]) WITH ORDINALITY AS asked(name, at)
  UNION SELECT t.asked, i.inhrelid FROM pg_inherits i JOIN tree t ON i.inhparent = t.oid)
SELECT t.asked, sum(CASE WHEN c.relkind = 'p' THEN 0 ELSE pg_table_size(c.oid) END)::bigint
FROM tree t JOIN pg_class c ON c.oid = t.oid
GROUP BY 1 HAVING bool_and(c.relkind IN ('r', 'p', 'm'))
"""
_LOCK_WAIT = "2s"


def sizes(url: str, who: str, tables: Sequence[str]) -> dict[str, int]:
    """Return the bytes of each table, of its rows alone and without its indexes.

    A table that is not there, a view and a foreign table have none. Raises HomeError where the
    server does not answer, or somebody has locked one of the tables for two seconds.
    """
    names = [quoted(*split_name(table)) for table in tables]
    name = session.application_name(None)
    with session.connected(url, who, HomeError, name, read_only=True) as connection:
        session.execute(connection, f"SET lock_timeout = '{_LOCK_WAIT}'")
        rows = session.fetch_all(connection, _SIZES, names)
    return {tables[at - 1]: size for at, size in rows}
