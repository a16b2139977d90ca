"""The tables of any database, as SQLAlchemy reflects them."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from hygge.connectors.anysql.session import connected
from hygge.connectors.sql.listing import Listing, Table
from hygge.errors import HomeError

if TYPE_CHECKING:
    from sqlalchemy import Inspector

_SYSTEM = ("information_schema", "pg_catalog", "sys", "INFORMATION_SCHEMA")
# The partitions of PostgreSQL, and the table of each.
_PARTITIONS = """
SELECT n.nspname, c.relname, pn.nspname, p.relname
FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_class p ON p.oid = i.inhparent JOIN pg_namespace pn ON pn.oid = p.relnamespace
WHERE c.relispartition
"""
# Tables of MySQL that hold no rows of their own: those of other tables.
_UNIONS = """
SELECT table_schema, table_name FROM information_schema.tables WHERE engine = 'MRG_MYISAM'
"""


def tables(url: str, who: str, patterns: Sequence[str]) -> Listing:
    """Every table and view of the schemas that the patterns name."""
    import sqlalchemy as sa

    with connected(url, who, HomeError) as connection:
        inspector = sa.inspect(connection)
        default = inspector.default_schema_name or "main"
        schemas = [p.partition(".")[0] if "." in p else default for p in patterns]
        parents = {}
        if connection.dialect.name == "postgresql":
            rows = connection.execute(sa.text(_PARTITIONS))
            parents = {(row[0], row[1]): (row[2], row[3]) for row in rows}
        unions: set[tuple[str, str]] = set()
        if connection.dialect.name in ("mysql", "mariadb"):
            unions = {(row[0], row[1]) for row in connection.execute(sa.text(_UNIONS))}
        listed = tuple(_reflected(inspector, schemas, parents, unions))
        names = [name for name in inspector.get_schema_names() if name not in _SYSTEM]
    return Listing(default, listed, names)


def _reflected(
    inspector: Inspector,
    schemas: Sequence[str],
    parents: Mapping[tuple[str, str], tuple[str, str]],
    unions: Collection[tuple[str, str]],
) -> Iterator[Table]:
    for schema in inspector.get_schema_names():
        if schema in _SYSTEM or not any(fnmatchcase(schema, each) for each in schemas):
            continue
        for name in inspector.get_table_names(schema):
            is_union = (schema, name) in unions
            yield Table(schema, name, is_union, parent=parents.get((schema, name)))
        yield from (Table(schema, name, True) for name in inspector.get_view_names(schema))
