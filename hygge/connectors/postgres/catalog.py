"""What PostgreSQL's catalog says of a table, a view or a query: columns, sizes, parts, key.

Nothing is guessed: a column has the type of the catalog, a domain that of what it is made of.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from hygge.connectors.postgres import session
from hygge.connectors.postgres.session import application, literal, quoted
from hygge.connectors.sql.ask import Ask
from hygge.connectors.sql.connection import split_name
from hygge.connectors.sql.errors import missing_column, missing_table
from hygge.connectors.sql.listing import Listing, Table
from hygge.errors import HomeError

_FIRST_USER_OID = 16384
_KINDS = {
    "r": "table", "p": "partitioned table", "v": "view", "m": "materialised view",
    "f": "foreign table",
}  # fmt: skip
_PARTS = """
WITH RECURSIVE tree(oid) AS (
  SELECT inhrelid FROM pg_inherits WHERE inhparent = {oid}
  UNION SELECT i.inhrelid FROM pg_inherits i JOIN tree t ON i.inhparent = t.oid)
"""
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
_COLUMNS = """
SELECT a.attname, a.atttypid, a.atttypmod, format_type(a.atttypid, a.atttypmod),
  a.attnotnull AND NOT EXISTS (SELECT FROM pg_constraint k WHERE k.conrelid = a.attrelid
    AND k.contype = 'n' AND NOT k.convalidated AND a.attnum = ANY (k.conkey)),
  CASE WHEN a.attcollation <> t.typcollation THEN l.collname END
FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
LEFT JOIN pg_collation l ON l.oid = a.attcollation
WHERE a.attrelid = {oid} AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum
"""
_PRIMARY = """
SELECT a.attname FROM pg_index i
CROSS JOIN LATERAL unnest(i.indkey::int2[]) WITH ORDINALITY AS k(attnum, at)
JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
WHERE i.indrelid = {oid} AND i.indisprimary AND k.at <= i.indnkeyatts ORDER BY k.at
"""
_BASES = """
WITH RECURSIVE d(top, oid, typtype, below, below_mod, typmod) AS (
  SELECT oid, oid, typtype, typbasetype, typtypmod, -1 FROM pg_type WHERE oid = ANY ({oids})
  UNION ALL
  SELECT d.top, t.oid, t.typtype, t.typbasetype, t.typtypmod,
    CASE WHEN d.below_mod <> -1 THEN d.below_mod ELSE d.typmod END
  FROM d JOIN pg_type t ON d.typtype = 'd' AND t.oid = d.below)
SELECT d.top, d.oid, d.typmod, t.typname, d.top = d.oid FROM d JOIN pg_type t ON t.oid = d.oid
WHERE d.typtype <> 'd'
"""


@dataclass(frozen=True)
class Field:
    """One column: `oid` and `typmod` of its base type, `native` as the catalog calls it."""

    name: str
    oid: int
    typmod: int
    native: str
    nullable: bool = True
    collation: str | None = None
    builtin: bool = True
    """Whether its type means the same in every database, by its number."""


@dataclass(frozen=True)
class Relation:
    """A table or view, with how big it is. `rows` is an estimate; -1 where nobody knows."""

    oid: int
    schema: str
    name: str
    kind: str
    rows: float
    bytes: int
    blocks: int
    heap: bool
    allowed: bool
    """Whether this user may read all of its columns, `ctid` too."""
    secured: bool
    """Whether policies decide which rows one sees who reads it by its own name."""
    parts: tuple[Relation, ...] = ()
    """What is read with it: partitions and tables that inherit, at every depth."""

    @property
    def sql(self) -> str:
        return quoted(self.schema, self.name)

    @property
    def what(self) -> str:
        return _KINDS.get(self.kind, "relation")


def find(connection: Any, ask: Ask) -> Relation | None:
    """The relation of `ask.table`, or None for a query; SourceMissing if it is not there."""
    if ask.table is None:
        return None
    schema, name = split_name(ask.table)
    named = literal(quoted(schema, name))
    found = connection.execute(
        f"{_SIZES} WHERE c.oid = to_regclass({named}) AND c.relkind IN ('r','p','v','m','f')"
    ).fetchone()
    if found is None:
        raise missing_table(ask.who, ask.table, _known(connection, schema))
    *facts, has_parts = found
    parts: tuple[Relation, ...] = ()
    if has_parts:
        rows = connection.execute(
            f"{_PARTS.format(oid=facts[0])} {_SIZES} JOIN tree ON tree.oid = c.oid ORDER BY 1"
        )
        parts = tuple(Relation(*row[:-1]) for row in rows.fetchall())
    return replace(Relation(*facts), parts=parts)


def is_there(connection: Any, where: str, name: str) -> bool:
    """Whether there is such a table."""
    found = session.ask(
        connection,
        "SELECT 1 FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n "
        "ON n.oid = c.relnamespace WHERE n.nspname = %s AND c.relname = %s",
        where, name,
    )  # fmt: skip
    return bool(found)


def _known(connection: Any, schema: str | None) -> list[str]:
    where = f"n.nspname = {literal(schema)}" if schema else "pg_table_is_visible(c.oid)"
    found = connection.execute(
        "SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
        f"WHERE {where} AND c.relkind IN ('r','p','v','m','f') AND NOT c.relispartition "
        "AND n.nspname NOT IN ('pg_catalog', 'information_schema')"
    ).fetchall()
    return [name for (name,) in found if not name.startswith("_hygge_")]


def columns(connection: Any, ask: Ask, relation: Relation | None) -> list[Field]:
    """All columns of a relation or of a query, in order."""
    if relation is not None:
        rows = connection.execute(_COLUMNS.format(oid=relation.oid)).fetchall()
        view = relation.kind == "v"
        rows = [(n, o, m, native, not solid or view, c) for n, o, m, native, solid, c in rows]
    else:
        query = body(ask.query or "")
        rows = _described(connection, f"SELECT * FROM (\n{query}\n) AS h WHERE false")
    if not rows:
        raise HomeError(f"{ask.who} has no columns", "name something to read")
    names = [row[0] for row in rows]
    if again := sorted({name for name in names if names.count(name) > 1}):
        raise HomeError(
            f"{ask.who}: the query gives more than one column named '{again[0]}'",
            "name each one: SELECT a.id AS a_id, b.id AS b_id",
        )
    listed = ",".join(str(oid) for oid in sorted({row[1] for row in rows}))
    bases = {
        top: rest
        for top, *rest in connection.execute(
            _BASES.format(oids=f"'{{{listed}}}'::oid[]")
        ).fetchall()
    }
    fields = []
    for name, oid, typmod, native, nullable, collation in rows:
        base, base_mod, typname, itself = bases[oid]
        # What holds numbers of the catalog (regclass, a row's types) means another thing elsewhere.
        bound = typname.lstrip("_").startswith(("reg", "record"))
        fields.append(
            Field(
                name, base, typmod if itself else base_mod, native, nullable, collation,
                oid < _FIRST_USER_OID and base < _FIRST_USER_OID and not bound,
            )
        )  # fmt: skip
    return fields


def _described(connection: Any, statement: str) -> list[tuple[Any, ...]]:
    result = connection.execute(statement).pgresult
    kinds = [
        (result.fname(at).decode(), result.ftype(at), result.fmod(at))
        for at in range(result.nfields)
    ]
    rows = []
    for name, oid, typmod in kinds:
        (native,) = connection.execute(f"SELECT format_type({oid}, {typmod})").fetchone()
        rows.append((name, oid, typmod, native, True, None))
    return rows


def shape(connection: Any, statement: str) -> list[list[int]]:
    """Type and modifier of each column that a SELECT gives now; no row is read."""
    result = connection.execute(f"SELECT * FROM (\n{statement}\n) AS h WHERE false").pgresult
    return [[result.ftype(at), result.fmod(at)] for at in range(result.nfields)]


def primary_key(connection: Any, relation: Relation | None) -> tuple[str, ...]:
    """Columns of the primary key, in its order."""
    if relation is None:
        return ()
    rows = connection.execute(_PRIMARY.format(oid=relation.oid)).fetchall()
    return tuple(name for (name,) in rows)


def with_misfits(connection: Any, relation: Relation | None, names: Sequence[str]) -> list[str]:
    """Which of these columns hold `infinity`, NaN or 24:00:00, as far as ANALYZE has met them."""
    if relation is None or not names:
        return []
    rows = connection.execute(
        "SELECT DISTINCT attname FROM pg_stats "
        f"WHERE schemaname = {literal(relation.schema)} AND tablename = {literal(relation.name)} "
        f"AND attname IN ({', '.join(map(literal, names))}) "
        "AND concat(most_common_vals, histogram_bounds) ~ 'infinity|NaN|24:00:00'"
    ).fetchall()
    found = {name for (name,) in rows}
    return [name for name in names if name in found]


def check_names(ask: Ask, fields: Sequence[Field]) -> dict[str, Field]:
    """The columns by name; SourceMissing, with the nearest one, where the user named another."""
    by_name = {each.name: each for each in fields}
    told = ask.options.on_value
    decided = () if isinstance(told, str) else tuple(told)
    for name in (ask.cursor, *ask.split_keys, *(ask.columns or ()), *ask.stated, *decided):
        if name is not None and name not in by_name:
            raise missing_column(ask.who, name, list(by_name))
    return by_name


def check_rights(connection: Any, ask: Ask, relation: Relation, fields: Sequence[Field]) -> None:
    """HomeError that names the columns which this user may not read."""
    listed = ", ".join(literal(each.name) for each in fields)
    rows = connection.execute(
        f"SELECT attname, current_user FROM pg_attribute WHERE attrelid = {relation.oid} "
        f"AND attname IN ({listed}) AND NOT has_column_privilege(attrelid, attnum, 'SELECT')"
    ).fetchall()
    if not rows:
        return
    named = ", ".join(f"'{name}'" for name, _ in rows)
    raise HomeError(
        f"{ask.who}: permission denied: this user may not read column {named} of {relation.sql}",
        f"GRANT SELECT ON {relation.sql} TO {quoted(rows[0][1])}, or name others in `columns`",
    )


def body(sql: str) -> str:
    """Somebody's SELECT, without what ends it."""
    return sql.strip().rstrip(";").rstrip()


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


def tables(url: str, who: str, patterns: Sequence[str]) -> Listing:
    """Every table and view of the database that this user sees, without the system's own."""
    with session.session(url, who, HomeError, application(None)) as connection:
        (default,) = connection.execute("SELECT current_schema()").fetchone()
        rows = connection.execute(_TABLES).fetchall()
    return Listing(
        default or "main",
        [
            Table(schema, name, view, readable, (parent_schema, parent) if parent else None)
            for schema, name, view, readable, parent_schema, parent in rows
        ],
    )
