"""About how many bytes tables of MariaDB have on the server's disk."""

from __future__ import annotations

from collections.abc import Sequence

from hygge.connectors.mariadb.catalog import in_schema
from hygge.connectors.mariadb.session import fetch_all, literal, session
from hygge.connectors.sql.connection import split_name
from hygge.errors import HomeError

_ON_DISK = ("innodb", "aria", "myisam", "rocksdb")
"""Engines that know the size of a table, and keep its rows on this server."""


def sizes(url: str, who: str, tables: Sequence[str]) -> dict[str, int]:
    """Return about how many bytes the rows of each table have, as the server estimates it.

    A table that is not there, a view and a table of another engine have none. Raises HomeError
    where the server does not answer.
    """
    found = {}
    with session(url, who, HomeError, None) as connection:
        for table in tables:
            schema, name = split_name(table)
            # Named one by one: of a list of names the server opens every table that it has.
            rows = fetch_all(
                connection,
                "SELECT engine, data_length FROM information_schema.tables "
                f"WHERE table_schema = {in_schema(schema)} AND table_name = {literal(name)} "
                "AND table_type IN ('BASE TABLE', 'SYSTEM VERSIONED')",
            )
            if len(rows) == 1 and str(rows[0][0]).lower() in _ON_DISK and rows[0][1]:
                found[table] = int(rows[0][1])
    return found
