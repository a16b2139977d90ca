"""The table of PostgreSQL that rows go to, its run table, and what hangs on it.

A table can be exchanged for another one only while nothing else depends on it. What hangs on it is
all that the catalog says depends on it, of every kind, and every property of it that a new table
would not have. Not counted are its primary key, where the new table has the same; and owner,
grants, comments and storage parameters, which the new table is given.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa

from hygge.connectors.postgres import session
from hygge.connectors.postgres.types import new_columns
from hygge.connectors.sql import ledger as sql_ledger
from hygge.connectors.sql.goal import Goal
from hygge.connectors.sql.own_columns import OwnColumns
from hygge.errors import StoreError

if TYPE_CHECKING:
    import sqlalchemy as sa

SPLIT, ROW = "_hygge_split", "_hygge_row"
"""Columns of a run table that is to be merged: which split a row is of, and the order in it."""

_LONGEST_NAME = 63
ColumnTypes = tuple[tuple[str, str], ...]
"""Names and types of a table's columns, as PostgreSQL prints them, in the table's order."""


@dataclass(frozen=True)
class Names:
    """The target and the run table of one run, as SQL writes them."""

    schema: str
    name: str
    rows_name: str

    @property
    def target(self) -> str:
        return session.quoted(self.schema, self.name)

    @property
    def rows(self) -> str:
        return session.quoted(self.schema, self.rows_name)


@dataclass(frozen=True)
class Existing:
    """The target as it is now."""

    oid: int
    owner: str
    columns: ColumnTypes
    key_name: str | None
    """The name of its primary key, where a new table would have the same key."""
    hangs: tuple[str, ...]
    """All that would be lost or broken if another table took its place, for people."""


def names_of(connection: sa.Connection, goal: Goal, run: str) -> Names:
    """Return the names of a run's tables."""
    return Names(schema_of(connection, goal), sql_ledger.target_of(goal).name, rows_table(run))


def schema_of(connection: sa.Connection, goal: Goal) -> str:
    """Return the schema of the target: that of its name, else the first of the search_path."""
    schema = sql_ledger.target_of(goal).schema
    if schema is None:
        (schema,) = session.fetch_one(connection, "SELECT current_schema()")
    if schema is None:
        raise StoreError(
            f"{goal.who}: this user's search_path names no schema that exists",
            "name one: `table: schema.table`",
        )
    return str(schema)


def rows_table(run: str) -> str:
    """Return the name of the table that all splits of a run load."""
    return f"{sql_ledger.run_name(run)}_rows"


def create_sql(
    connection: sa.Connection, names: Names, schema: pa.Schema, mode: str, table: str | None = None
) -> str:
    """Return CREATE TABLE for the run table, or for `table`; with `merge` it numbers its rows."""
    columns = []
    for at, column in enumerate(new_columns(connection, schema)):
        words = [session.quoted(column.name), column.type]
        if column.collation:
            words.append(f"COLLATE {session.quoted(column.collation)}")
        if not column.nullable:
            # Named like those of the target, which it may become.
            beginning = names.name.encode()[:20].decode(errors="ignore")
            rule = f"{beginning}_{column.name}_not_null"
            if len(rule.encode()) > _LONGEST_NAME:  # cut, it could be that of another column
                rule = f"{beginning}_{at + 1}_not_null"
            words.append(f"CONSTRAINT {session.quoted(rule)} NOT NULL")
        columns.append(" ".join(words))
    if mode == "merge":
        columns.append(f"{SPLIT} integer NOT NULL DEFAULT current_setting('hygge.split')::integer")
        columns.append(f"{ROW} bigint GENERATED ALWAYS AS IDENTITY")
    # A publication of all tables of the schema must not show subscribers the rows of a run table.
    is_hidden = table is None and _is_published(connection, names.schema)
    kind = "UNLOGGED TABLE" if is_hidden else "TABLE"
    return f"CREATE {kind} {table or names.rows} ({', '.join(columns)})"


def _is_published(connection: sa.Connection, schema: str) -> bool:
    """True if there is a publication of every table of this schema, also of new ones."""
    if session.fetch_all(connection, "SELECT 1 FROM pg_publication WHERE puballtables LIMIT 1"):
        return True
    # PostgreSQL before 15 has no publications of a schema, and no such catalog.
    (catalog,) = session.fetch_one(
        connection, "SELECT to_regclass('pg_catalog.pg_publication_namespace')"
    )
    if catalog is None:
        return False
    publications = session.fetch_all(
        connection,
        "SELECT 1 FROM pg_publication_namespace p JOIN pg_namespace n ON n.oid = p.pnnspid "
        "WHERE n.nspname = %s LIMIT 1",
        schema,
    )
    return bool(publications)


def columns_of(connection: sa.Connection, schema: str, name: str) -> ColumnTypes:
    """Return names and types of a table's columns; none where there is no such table."""
    rows = session.fetch_all(
        connection,
        "SELECT a.attname, format_type(a.atttypid, a.atttypmod) FROM pg_attribute a "
        "JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace "
        "WHERE n.nspname = %s AND c.relname = %s AND a.attnum > 0 AND NOT a.attisdropped "
        "ORDER BY a.attnum",
        schema, name,
    )  # fmt: skip
    return tuple((name, kind) for name, kind in rows)


def existing(connection: sa.Connection, names: Names, key: tuple[str, ...]) -> Existing | None:
    """Return the target, or None; `key` is the primary key that a new table would have."""
    rows = session.fetch_all(
        connection,
        "SELECT c.oid, pg_get_userbyid(c.relowner), c.reltype FROM pg_class c "
        "JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = %s AND c.relname = %s",
        names.schema, names.name,
    )  # fmt: skip
    if not rows:
        return None
    oid, owner, row_type = rows[0]
    hangs = [*_properties(connection, oid), *_column_settings(connection, oid)]
    key_oid, key_name = _same_key(connection, oid, key)
    hangs += _dependents(connection, oid, row_type, key_oid)
    columns = columns_of(connection, names.schema, names.name)
    return Existing(oid, owner, columns, key_name, tuple(hangs))


def _properties(connection: sa.Connection, oid: int) -> list[str]:
    """Return the properties of the table itself that a new table would not have."""
    flags = session.fetch_one(
        connection,
        """
        SELECT c.relkind <> 'r', c.relpersistence <> 'p', c.relrowsecurity OR c.relforcerowsecurity,
            c.relreplident <> 'd', c.reltablespace <> 0,
            c.relam <> (SELECT oid FROM pg_am
                        WHERE amname = current_setting('default_table_access_method')),
            EXISTS (SELECT FROM pg_inherits WHERE inhrelid = c.oid OR inhparent = c.oid),
            EXISTS (SELECT FROM pg_class t WHERE t.oid = c.reltoastrelid
                    AND t.reloptions IS NOT NULL),
            EXISTS (SELECT FROM pg_publication_tables p JOIN pg_namespace n
                    ON n.nspname = p.schemaname WHERE n.oid = c.relnamespace
                    AND p.tablename = c.relname),
            EXISTS (SELECT FROM pg_seclabel WHERE classoid = 'pg_class'::regclass
                    AND objoid = c.oid),
            EXISTS (SELECT FROM pg_depend WHERE classid = 'pg_class'::regclass
                    AND objid = c.oid AND deptype IN ('e', 'x')),
            NOT pg_has_role(c.relowner, 'USAGE') OR NOT (c.relowner::regrole = current_user::regrole
                OR has_schema_privilege(c.relowner, c.relnamespace, 'CREATE')),
            EXISTS (SELECT FROM aclexplode(c.relacl) a WHERE a.grantor <> c.relowner)
        FROM pg_class c WHERE c.oid = %s
        """,
        oid,
    )
    properties = (
        "it is no plain table", "it is unlogged or temporary", "row security", "a replica identity",
        "a tablespace", "a table access method", "partitions or inheritance",
        "storage parameters of its TOAST table", "a publication", "a security label",
        "an extension", "it belongs to another role", "grants by others than its owner",
    )  # fmt: skip
    return [name for name, is_so in zip(properties, flags, strict=True) if is_so]


def _column_settings(connection: sa.Connection, oid: int) -> list[str]:
    """Return the columns with statistics, storage, compression or a collation of their own."""
    rows = session.fetch_all(
        connection,
        """
        SELECT a.attname FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
        WHERE a.attrelid = %s AND a.attnum > 0 AND NOT a.attisdropped
            AND (a.attoptions IS NOT NULL OR coalesce(a.attstattarget, -1) <> -1
                 OR a.attstorage <> t.typstorage OR a.attcompression <> ''
                 OR (a.attcollation <> t.typcollation AND t.typcollation <> 0))
        """,
        oid,
    )
    return [f"settings of column {name}" for (name,) in rows]


def _same_key(
    connection: sa.Connection, oid: int, key: tuple[str, ...]
) -> tuple[int | None, str | None]:
    """Return number and name of the primary key, if a new table would have the same one."""
    rows = session.fetch_all(
        connection,
        """
        SELECT c.oid, c.conname, NOT c.condeferrable AND NOT i.indisclustered
            AND r.reloptions IS NULL AND r.reltablespace = 0 AND NOT EXISTS (
                SELECT FROM pg_description d WHERE d.objoid IN (c.oid, c.conindid)),
            ARRAY(SELECT a.attname::text FROM unnest(i.indkey::int2[]) WITH ORDINALITY k(n, at)
                  JOIN pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = k.n ORDER BY k.at)
        FROM pg_constraint c JOIN pg_index i ON i.indexrelid = c.conindid
        JOIN pg_class r ON r.oid = c.conindid
        WHERE c.conrelid = %s AND c.contype = 'p'
        """,
        oid,
    )
    if not rows:
        return None, None
    key_oid, name, is_plain, columns = rows[0]
    return (key_oid, name) if is_plain and tuple(columns) == key else (None, None)


def _dependents(
    connection: sa.Connection, oid: int, row_type: int, key_oid: int | None
) -> list[str]:
    """Return what depends on the table, on its row type, or on the key that is not counted.

    Left out are its own parts, which come and go with it: its row type, its TOAST table, that key,
    and its NOT NULL constraints.
    """
    rows = session.fetch_all(
        connection,
        f"""
        SELECT DISTINCT pg_describe_object(d.classid, d.objid, d.objsubid) FROM pg_depend d
        WHERE (d.refclassid = 'pg_class'::regclass AND d.refobjid = {oid}
               OR d.refclassid = 'pg_type'::regclass AND d.refobjid = {row_type}
               OR d.refclassid = 'pg_constraint'::regclass AND d.refobjid = {key_oid or 0}
                  AND d.deptype <> 'i')
            AND NOT (d.classid = 'pg_type'::regclass AND d.deptype = 'i')
            AND NOT (d.classid = 'pg_class'::regclass AND d.deptype = 'i'
                     AND EXISTS (SELECT FROM pg_class t WHERE t.oid = d.objid AND t.relkind = 't'))
            AND NOT (d.classid = 'pg_constraint'::regclass AND (d.objid = {key_oid or 0}
                     OR EXISTS (SELECT FROM pg_constraint c WHERE c.oid = d.objid
                                AND c.conrelid = {oid} AND c.contype = 'n')))
        ORDER BY 1
        """,
    )
    return [text for (text,) in rows]


_RIGHTS = {"replace": ("INSERT", "DELETE", "SELECT"), "merge": ("INSERT", "UPDATE", "SELECT")}


def check_rights(
    connection: sa.Connection,
    goal: Goal,
    mode: str,
    target: Existing,
    columns: list[str] | None,
    deletes: bool = False,
) -> None:
    """Raise StoreError where this user may not write the table, or these columns, as `mode` needs.

    `columns` is None where they are not known yet. `deletes`: rows are deleted one by one.
    """
    known = {name for name, _ in target.columns}
    # Each is the right, the call that asks for it, and the call's values behind the table's number.
    if mode != "append":
        has_right = "has_table_privilege(%s::oid, %s)"
        rights = [*_RIGHTS[mode], *(["DELETE"] if deletes else [])]
        needed = [(right, has_right, [right]) for right in rights]
    elif columns is None:
        needed = [("INSERT", "has_any_column_privilege(%s::oid, 'INSERT')", [])]
    else:
        has_right = "has_column_privilege(%s::oid, %s, 'INSERT')"
        needed = [
            (f"INSERT ({session.quoted(name)})", has_right, [name])
            for name in columns
            if name in known
        ]
    calls = ", ".join(["true", *[call for _, call, _ in needed]])  # no column is known: `true`
    values = [value for _, _, more in needed for value in (target.oid, *more)]
    _, *answers = session.fetch_one(connection, f"SELECT {calls}", *values)
    missing = [right for (right, _, _), has in zip(needed, answers, strict=True) if not has]
    if mode == "append" and len(missing) == len(needed):
        missing = ["INSERT"] if needed else []
    if missing:
        raise StoreError(
            f"{goal.who}: permission denied: this user may not {', '.join(missing)}",
            f"GRANT {', '.join(missing)} ON the table to this user; `mode: {mode}` needs it",
        )


def check_deletes(connection: sa.Connection, goal: Goal, target: Existing) -> None:
    """Raise StoreError where PostgreSQL allows no DELETE, since it is published without a key.

    Without a replica identity it could not tell subscribers which rows are deleted.
    """
    rows = session.fetch_all(
        connection,
        "SELECT p.pubname FROM pg_publication p JOIN pg_publication_tables t USING (pubname) "
        "JOIN pg_namespace n ON n.nspname = t.schemaname JOIN pg_class c ON c.relname = "
        "t.tablename AND c.relnamespace = n.oid WHERE c.oid = %s AND p.pubdelete AND ("
        "c.relreplident = 'n' OR c.relreplident = 'd' AND NOT EXISTS "
        "(SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisprimary))",
        target.oid,
    )
    if rows:
        raise StoreError(
            f"no row of {goal.who} can be deleted: publication {rows[0][0]} publishes what is "
            "deleted, and the table has no replica identity to tell its rows apart",
            "give it a primary key, or ALTER TABLE … REPLICA IDENTITY FULL",
        )


def check_foreign_keys(connection: sa.Connection, goal: Goal, target: Existing) -> None:
    """Raise StoreError where deleting the old rows would change or break rows of other tables."""
    rows = session.fetch_all(
        connection,
        "SELECT conname, conrelid::regclass::text, confdeltype, condeferrable, "
        "has_table_privilege(conrelid, 'SELECT') FROM pg_constraint "
        "WHERE confrelid = %s AND contype = 'f' AND conrelid <> confrelid AND conparentid = 0",
        target.oid,
    )
    for name, child, action, is_deferrable, is_readable in rows:
        if action in "cnd":
            does = {"c": "removed", "n": "set to NULL", "d": "set to their default"}[action]
            why = f"the rows of {child} that refer to it would be {does}"
        elif action == "a" and is_deferrable:
            continue  # checked at the end, when the new rows are there
        elif is_readable and not session.fetch_all(connection, f"SELECT 1 FROM {child} LIMIT 1"):
            continue
        else:
            why = f"rows of {child} may refer to it"
        raise StoreError(
            f"{goal.who} cannot be replaced: {why} (foreign key {name})",
            f"use `mode: merge`, or make that key DEFERRABLE with ON DELETE NO ACTION: "
            f"ALTER TABLE {child} ALTER CONSTRAINT {session.quoted(name)} DEFERRABLE",
        )


def takes_rows(old: Existing, own: OwnColumns, columns: ColumnTypes) -> bool:
    """True if rows of these columns go into the table as it is: it fills all others itself."""
    names = {name for name, _ in columns}
    written = {column for column in columns if column[0] not in own.generated}
    is_filled = all(name in names or name in own.filled for name, _ in old.columns)
    return written <= set(old.columns) and is_filled


def are_same(columns: ColumnTypes, other: ColumnTypes) -> bool:
    """True if two tables have columns of the same names and types, in any order."""
    return sorted(columns) == sorted(other)
