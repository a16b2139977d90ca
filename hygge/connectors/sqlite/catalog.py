"""The tables of a SQLite file."""

from __future__ import annotations

from collections.abc import Sequence

from hygge.connectors.sql.listing import Listing, Table
from hygge.connectors.sqlite.session import opened, path_of
from hygge.errors import HomeError


def tables(url: str, who: str, patterns: Sequence[str]) -> Listing:
    """Every table and view of the file; SourceMissing where there is no file."""
    with opened(path_of(url), who, HomeError) as connection:
        found = connection.execute(
            "SELECT name, type = 'view' FROM main.sqlite_master WHERE type IN ('table', 'view') "
            "AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'"
        ).fetchall()
    return Listing("main", [Table("main", name, bool(view)) for name, view in found], ["main"])
