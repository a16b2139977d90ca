"""The catalog of PostgreSQL: columns, size, parts and key of a table, a view or a query.

Types come from the catalog alone; a column of a domain has the domain's base type.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

from hygge.connectors.postgres import session
from hygge.connectors.postgres.session import literal, quoted
from hygge.connectors.sql.ask import Ask
from hygge.connectors.sql.connection import split_name
from hygge.connectors.sql.errors import missing_column, missing_table
from hygge.connectors.sql.listing import Listing, Table
from hygge.errors import HomeError

if TYPE_CHECKING:
    import psycopg

    from hygge.connectors.postgres.session import AnyConnection

_FIRST_USER_OID = 16384
_KINDS = {
    "r": "table", "p": "partitioned table", "v": "view", "m": "materialised view",
    "f": "foreign table",
}  # fmt: skip
# The tables and partitions that inherit from one, at every depth.
_PARTS = """
WITH RECURSIVE tree(oid) AS (
  SELECT inhrelid FROM pg_inherits WHERE inhparent = {oid}
  UNION SELECT i.inhrelid FROM pg_inherits i JOIN tree t ON i.inhparent = t.oid)
"""
# A row is a Relation, in the order of its fields, and whether anything inherits from it. A
# partitioned table and a view have no size of their own. `ctid` exists in the storage `heap` alone.
_SIZES = """
SELECT c.oid, n.nspname, c.relname, c.relkind::text, c.reltuples::float8,
  CASE WHEN c.relkind IN ('r', 'm') THEN pg_table_size(c.oid) ELSE 0 END,
  CASE WHEN c.relkind IN ('r', 'm')
    THEN pg_relation_size(c.oid) / current_setting('block_size')::int ELSE 0 END,
  coalesce(a.amname = 'heap', false),
  has_table_privilege(c.oid, 'SELECT'), c.relrowsecurity,
  c.relhassubclass
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace LEFT JOIN pg_am a ON a.oid = c.relam
"""
# A row is a _CatalogColumn.
_COLUMNS = """
SELECT a.attname, a.atttypid, a.atttypmod, format_type(a.atttypid, a.atttypmod),
  CASE WHEN a.attcollation <> t.typcollation THEN l.collname END
FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
LEFT JOIN pg_collation l ON l.oid = a.attcollation
WHERE a.attrelid = {oid} AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum
"""
# The columns that are NOT NULL in each of the tables whose rows are read together. A foreign table
# only claims it, and a NOT NULL that was added as NOT VALID may still have NULLs under it.
_NOT_NULL_IN_ALL = """
SELECT a.attname FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
WHERE a.attrelid IN ({oids}) AND a.attnum > 0 AND NOT a.attisdropped AND c.relkind <> 'f'
  AND a.attnotnull AND NOT EXISTS (SELECT FROM pg_constraint k WHERE k.conrelid = a.attrelid
    AND k.contype = 'n' AND NOT k.convalidated AND a.attnum = ANY (k.conkey))
GROUP BY 1 HAVING count(*) = {count}
"""
# The columns of the index behind the primary key, without those that it only INCLUDEs.
_PRIMARY = """
SELECT a.attname FROM pg_index i
CROSS JOIN LATERAL unnest(i.indkey::int2[]) WITH ORDINALITY AS k(attnum, at)
JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
WHERE i.indrelid = {oid} AND i.indisprimary AND k.at <= i.indnkeyatts ORDER BY k.at
"""
# All tables and views but those of the system, with the table that each is a partition of.
_TABLES = """
SELECT n.nspname, c.relname, c.relkind IN ('v', 'm'), has_table_privilege(c.oid, 'SELECT'),
       pn.nspname, p.relname
FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_catalog.pg_inherits i ON c.relispartition AND i.inhrelid = c.oid
LEFT JOIN pg_catalog.pg_class p ON p.oid = i.inhparent
LEFT JOIN pg_catalog.pg_namespace pn ON pn.oid = p.relnamespace
WHERE c.relkind IN ('r', 'p', 'v', 'm') AND c.relpersistence <> 't'
  AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
"""
# Goes from each domain down to its base type, and keeps the modifier that a domain states.
_BASES = """
WITH RECURSIVE d(top, oid, typtype, below, below_mod, typmod) AS (
  SELECT oid, oid, typtype, typbasetype, typtypmod, -1 FROM pg_type WHERE oid = ANY ({oids})
  UNION ALL
  SELECT d.top, t.oid, t.typtype, t.typbasetype, t.typtypmod,
    CASE WHEN d.below_mod <> -1 THEN d.below_mod ELSE d.typmod END
  FROM d JOIN pg_type t ON d.typtype = 'd' AND t.oid = d.below)
SELECT d.top, d.oid, d.typmod, t.typname, d.top = d.oid, format_type(d.oid, d.typmod)
FROM d JOIN pg_type t ON t.oid = d.oid
WHERE d.typtype <> 'd'
"""


@dataclass(frozen=True)
class Column:
    """A column of the source: `oid` and `typmod` of its base type, and its type's `native` name."""

    name: str
    oid: int
    typmod: int
    native: str
    nullable: bool = True
    collation: str | None = None
    builtin: bool = True
    """True if the number of its type means the same type in every database."""
    type_oid: int = 0
    """The number of its own type, which may be a domain."""
    base: str = ""
    """The name of its base type with its modifier, where its type is a domain."""


class _CatalogColumn(NamedTuple):
    """A column as the catalog says it, before a domain is resolved to its base type."""

    name: str
    oid: int
    typmod: int
    native: str
    collation: str | None


@dataclass(frozen=True)
class Relation:
    """A table or view, and its size. `rows` is the catalog's estimate, -1 where it has none."""

    oid: int
    schema: str
    name: str
    kind: str
    rows: float
    bytes: int
    blocks: int
    is_heap: bool
    readable: bool
    """True if this user may read all of its columns, and so `ctid` too."""
    row_security: bool
    """True if policies filter the rows of a user who reads it by its own name."""
    parts: tuple[Relation, ...] = ()
    """Tables that are read with it: partitions and tables that inherit, at every depth."""
    inheritors: tuple[str, ...] = ()
    """Tables that inherit from it, and are not read with it; as SQL writes them."""

    @property
    def sql(self) -> str:
        """Its name as SQL writes it."""
        return quoted(self.schema, self.name)

    @property
    def kind_name(self) -> str:
        """Its kind for people: table, view, …"""
        return _KINDS.get(self.kind, "relation")


def find(connection: psycopg.Connection, ask: Ask) -> Relation | None:
    """Return the relation of `ask.table`, None for a query; SourceMissing if it does not exist."""
    if ask.table is None:
        return None
    schema, name = split_name(ask.table)
    named = literal(quoted(schema, name))
    matches = session.fetch_all(
        connection,
        f"{_SIZES} WHERE c.oid = to_regclass({named}) AND c.relkind IN ('r','p','v','m','f')",
    )
    if not matches:
        raise missing_table(ask.who, ask.table, _table_names(connection, schema))
    *facts, has_parts = matches[0]
    relation = Relation(*facts)
    if not has_parts:
        return relation
    parts = session.fetch_all(
        connection,
        f"{_PARTS.format(oid=relation.oid)} {_SIZES} JOIN tree ON tree.oid = c.oid ORDER BY 1",
    )
    tables = tuple(Relation(*facts) for *facts, _ in parts)
    if ask.only and relation.kind in ("r", "f"):
        return replace(relation, inheritors=tuple(table.sql for table in tables))
    return replace(relation, parts=tables)


def _table_names(connection: psycopg.Connection, schema: str | None) -> list[str]:
    """Tables and views of a schema, or of the search_path; without partitions and hygge's own."""
    where = f"n.nspname = {literal(schema)}" if schema else "pg_table_is_visible(c.oid)"
    names = session.fetch_all(
        connection,
        "SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
        f"WHERE {where} AND c.relkind IN ('r','p','v','m','f') AND NOT c.relispartition "
        "AND n.nspname NOT IN ('pg_catalog', 'information_schema')",
    )
    return [name for (name,) in names if not name.startswith("_hygge_")]


def tables(url: str, who: str, patterns: Sequence[str]) -> Listing:
    """Return every table and view that this user sees, without the system's own.

    They are not chosen by `patterns`: one statement lists them all.
    """
    with session.connected(url, who, HomeError, session.application_name(None)) as connection:
        (default_schema,) = session.fetch_one(connection, "SELECT current_schema()")
        rows = session.fetch_all(connection, _TABLES)
    return Listing(
        default_schema or "main",
        [
            Table(schema, name, is_view, readable, (parent_schema, parent) if parent else None)
            for schema, name, is_view, readable, parent_schema, parent in rows
        ],
    )


def has_relation(connection: AnyConnection, schema: str, name: str) -> bool:
    """True if a table, view or index of this name is in the schema."""
    matches = session.fetch_all(
        connection,
        "SELECT 1 FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n "
        "ON n.oid = c.relnamespace WHERE n.nspname = %s AND c.relname = %s",
        schema, name,
    )  # fmt: skip
    return bool(matches)


def columns(connection: psycopg.Connection, ask: Ask, relation: Relation | None) -> list[Column]:
    """Return all columns of a relation or of a query, in order."""
    if relation is None:
        described = _query_columns(connection, ask.query or "")
    else:
        rows = session.fetch_all(connection, _COLUMNS.format(oid=relation.oid))
        described = [_CatalogColumn(*row) for row in rows]
    if not described:
        raise HomeError(f"{ask.who} has no columns", "name something to read")
    names = [column.name for column in described]
    if again := sorted({name for name in names if names.count(name) > 1}):
        raise HomeError(
            f"{ask.who}: the query gives more than one column named '{again[0]}'",
            "name each one: SELECT a.id AS a_id, b.id AS b_id",
        )
    listed = ",".join(str(oid) for oid in sorted({column.oid for column in described}))
    base_types = {
        oid: rest
        for oid, *rest in session.fetch_all(
            connection, _BASES.format(oids=f"'{{{listed}}}'::oid[]")
        )
    }
    never_null = _never_null(connection, relation)
    resolved = []
    for column in described:
        base_oid, base_typmod, type_name, is_base, base = base_types[column.oid]
        # A number of the catalog (regclass, a row's types) means another thing in another database.
        is_bound = type_name.lstrip("_").startswith(("reg", "record"))
        resolved.append(
            Column(
                column.name,
                base_oid,
                column.typmod if is_base else base_typmod,
                column.native,
                nullable=column.name not in never_null,
                collation=column.collation,
                builtin=column.oid < _FIRST_USER_OID
                and base_oid < _FIRST_USER_OID
                and not is_bound,
                type_oid=column.oid,
                base="" if is_base else base,
            )
        )
    return resolved


def _never_null(connection: psycopg.Connection, relation: Relation | None) -> frozenset[str]:
    """Return the columns that are NOT NULL in every table whose rows are read.

    A table that inherits may do without its parent's rule. Views and queries have no such rule.
    """
    if relation is None or relation.kind not in ("r", "p"):
        return frozenset()
    oids = [table.oid for table in (relation, *relation.parts)]
    listed = ", ".join(map(str, oids))
    rows = session.fetch_all(connection, _NOT_NULL_IN_ALL.format(oids=listed, count=len(oids)))
    return frozenset(name for (name,) in rows)


def _query_columns(connection: psycopg.Connection, query: str) -> list[_CatalogColumn]:
    """The columns of a query, from the description of its empty result."""
    statement = f"SELECT * FROM (\n{bare_query(query)}\n) AS h WHERE false"
    result = connection.execute(statement).pgresult
    assert result is not None  # a SELECT has a result
    described = []
    for at in range(result.nfields):
        oid, typmod = result.ftype(at), result.fmod(at)
        (native,) = session.fetch_one(connection, f"SELECT format_type({oid}, {typmod})")
        name = (result.fname(at) or b"").decode()
        described.append(_CatalogColumn(name, oid, typmod, native, None))
    return described


def shape(connection: psycopg.Connection, statement: str) -> list[list[int]]:
    """Return type and modifier of each column that a SELECT gives now; no row is read."""
    result = connection.execute(f"SELECT * FROM (\n{statement}\n) AS h WHERE false").pgresult
    assert result is not None  # a SELECT has a result
    return [[result.ftype(at), result.fmod(at)] for at in range(result.nfields)]


def primary_key(connection: psycopg.Connection, relation: Relation | None) -> tuple[str, ...]:
    """Return the columns of the primary key, in its order; none where there is no key."""
    if relation is None:
        return ()
    return tuple(
        name for (name,) in session.fetch_all(connection, _PRIMARY.format(oid=relation.oid))
    )


def columns_with_misfits(
    connection: psycopg.Connection, relation: Relation | None, names: Sequence[str]
) -> list[str]:
    """Return those of `names` in which ANALYZE has met `infinity`, NaN or 24:00:00."""
    if relation is None or not names:
        return []
    rows = session.fetch_all(
        connection,
        "SELECT DISTINCT attname FROM pg_stats "
        f"WHERE schemaname = {literal(relation.schema)} AND tablename = {literal(relation.name)} "
        f"AND attname IN ({', '.join(map(literal, names))}) "
        "AND concat(most_common_vals, histogram_bounds) ~ 'infinity|NaN|24:00:00'",
    )
    misfits = {name for (name,) in rows}
    return [name for name in names if name in misfits]


def check_names(ask: Ask, columns: Sequence[Column]) -> dict[str, Column]:
    """Return the columns by name; SourceMissing where the user names one that is not there."""
    by_name = {column.name: column for column in columns}
    for name in ask.named:
        if name not in by_name:
            raise missing_column(ask.who, name, list(by_name))
    return by_name


def check_rights(
    connection: psycopg.Connection, ask: Ask, relation: Relation, columns: Sequence[Column]
) -> None:
    """Raise a HomeError that names the columns which this user may not read, if there are any."""
    listed = ", ".join(literal(column.name) for column in columns)
    rows = session.fetch_all(
        connection,
        f"SELECT attname, current_user FROM pg_attribute WHERE attrelid = {relation.oid} "
        f"AND attname IN ({listed}) AND NOT has_column_privilege(attrelid, attnum, 'SELECT')",
    )
    if not rows:
        return
    named = ", ".join(f"'{name}'" for name, _ in rows)
    denied = {name for name, _ in rows}
    granted = [column.name for column in columns if column.name not in denied]
    raise HomeError(
        f"{ask.who}: permission denied: this user may not read column {named} of {relation.sql}",
        f"GRANT SELECT ON {relation.sql} TO {quoted(rows[0][1])}, or name others in `columns`"
        + (f": columns: [{', '.join(granted)}]" if granted else ""),
    )


def bare_query(sql: str) -> str:
    """Return a SELECT without the semicolon and the blanks that end it."""
    return sql.strip().rstrip(";").rstrip()
