"""The tables of any database, as SQLAlchemy reflects them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from hygge.connectors.anysql.session import connected
from hygge.connectors.sql.listing import Listing, Table
from hygge.errors import HomeError

if TYPE_CHECKING:
    from sqlalchemy import Inspector

_SYSTEM = ("information_schema", "pg_catalog", "sys", "INFORMATION_SCHEMA")


def tables(url: str, who: str, patterns: Sequence[str]) -> Listing:
    """Every table and view of the schemas that the patterns name."""
    import sqlalchemy as sa

    with connected(url, who, HomeError) as connection:
        inspector = sa.inspect(connection)
        default = inspector.default_schema_name or "main"
        schemas = [p.partition(".")[0] if "." in p else default for p in patterns]
        listed = tuple(_reflected(inspector, schemas))
        names = [name for name in inspector.get_schema_names() if name not in _SYSTEM]
    return Listing(default, listed, names)


def _reflected(inspector: Inspector, schemas: Sequence[str]) -> Iterator[Table]:
    for schema in inspector.get_schema_names():
        if schema in _SYSTEM or not any(fnmatchcase(schema, each) for each in schemas):
            continue
        yield from (Table(schema, name) for name in inspector.get_table_names(schema))
        yield from (Table(schema, name, True) for name in inspector.get_view_names(schema))
