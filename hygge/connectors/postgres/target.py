"""The table of PostgreSQL that rows go to: how a run table is made like it, and what hangs on it.

A table can be exchanged for another one only while nothing else means it. Whatever the catalog says
depends on it hangs on it, of whatever kind; so does everything about it that a new table would not
have. Not counted are its primary key, where the new one has the same; and owner, grants, comments
and storage parameters, which the new one is given.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from hygge.connectors.postgres import session
from hygge.connectors.postgres.session import ask
from hygge.connectors.postgres.types import ddl_columns
from hygge.connectors.sql import ledger
from hygge.connectors.sql.goal import Goal
from hygge.errors import StoreError

SPLIT, ROW = "_hygge_split", "_hygge_row"
"""Columns of a run table that is to be merged: which split a row is of, and the order in it."""


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
class There:
    """The target as it is now."""

    oid: int
    owner: str
    columns: tuple[tuple[str, str], ...]
    """Names and types, as PostgreSQL prints them."""
    key_name: str | None
    hangs: tuple[str, ...]
    """What would be lost or broken if another table took its place, in words."""


def names_of(connection: Any, goal: Goal, run: str) -> Names:
    """What the tables of a run are called."""
    return Names(schema_of(connection, goal), ledger.target_of(goal).name, rows_table(run))


def schema_of(connection: Any, goal: Goal) -> str:
    """The schema of the target, also where its name does not say it."""
    told = ledger.target_of(goal).schema
    if told is None:
        told = ask(connection, "SELECT current_schema()")[0][0]
    if told is None:
        raise StoreError(
            f"{goal.who}: this user's search_path names no schema that exists",
            "name one: `table: schema.table`",
        )
    return str(told)


def rows_table(run: str) -> str:
    """The table that all splits of a run load."""
    return f"{ledger.run_name(run)}_rows"


def rows_ddl(
    connection: Any, names: Names, schema: pa.Schema, mode: str, called: str | None = None
) -> str:
    """CREATE TABLE of the run table (or of `called`); for a merge its rows are numbered besides."""
    columns = []
    for name, kind, nullable, collation in ddl_columns(connection, schema):
        words = [session.quoted(name), kind]
        words += [f"COLLATE {session.quoted(collation)}"] if collation else []
        if not nullable:
            # Named like those of the target, which it may become.
            rule = f"{names.name.encode()[:20].decode(errors='ignore')}_{name}_not_null"
            rule = rule.encode()[:63].decode(errors="ignore")
            words.append(f"CONSTRAINT {session.quoted(rule)} NOT NULL")
        columns.append(" ".join(words))
    if mode == "merge":
        columns.append(f"{SPLIT} integer NOT NULL DEFAULT current_setting('hygge.split')::integer")
        columns.append(f"{ROW} bigint GENERATED ALWAYS AS IDENTITY")
    # What is published for all subscribers to a schema must not show them this table's rows.
    hidden = called is None and _is_published(connection, names.schema)
    kind = "UNLOGGED TABLE" if hidden else "TABLE"
    return f"CREATE {kind} {called or names.rows} ({', '.join(columns)})"


def _is_published(connection: Any, schema: str) -> bool:
    """Whether there is a publication of every table of this schema, also of new ones."""
    if ask(connection, "SELECT 1 FROM pg_publication WHERE puballtables LIMIT 1"):
        return True
    if ask(connection, "SELECT to_regclass('pg_catalog.pg_publication_namespace')")[0][0] is None:
        return False
    found = ask(
        connection,
        "SELECT 1 FROM pg_publication_namespace p JOIN pg_namespace n ON n.oid = p.pnnspid "
        "WHERE n.nspname = %s LIMIT 1",
        schema,
    )
    return bool(found)


def columns_of(connection: Any, schema: str, name: str) -> tuple[tuple[str, str], ...]:
    """Names and types of a table's columns, in its order; nothing where no table is."""
    found = ask(
        connection,
        "SELECT a.attname, format_type(a.atttypid, a.atttypmod) FROM pg_attribute a "
        "JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace "
        "WHERE n.nspname = %s AND c.relname = %s AND a.attnum > 0 AND NOT a.attisdropped "
        "ORDER BY a.attnum",
        schema, name,
    )  # fmt: skip
    return tuple((name, kind) for name, kind in found)


def found(connection: Any, names: Names, key: tuple[str, ...]) -> There | None:
    """The target, if it is there; `key` is the primary key that a new one would have."""
    rows = ask(
        connection,
        "SELECT c.oid, pg_get_userbyid(c.relowner), c.reltype FROM pg_class c "
        "JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = %s AND c.relname = %s",
        names.schema, names.name,
    )  # fmt: skip
    if not rows:
        return None
    oid, owner, row_type = rows[0]
    hangs = [*_itself(connection, oid), *_decor(connection, oid)]
    key_oid, key_name = _key(connection, oid, key)
    hangs += _dependents(connection, oid, row_type, key_oid)
    columns = columns_of(connection, names.schema, names.name)
    return There(oid, owner, columns, key_name, tuple(hangs))


def _itself(connection: Any, oid: int) -> list[str]:
    """What is special about the table itself."""
    (row,) = ask(
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
    words = (
        "it is no plain table", "it is unlogged or temporary", "row security", "a replica identity",
        "a tablespace", "a table access method", "partitions or inheritance",
        "storage parameters of its TOAST table", "a publication", "a security label",
        "an extension", "it belongs to another role", "grants by others than its owner",
    )  # fmt: skip
    return [word for word, is_so in zip(words, row, strict=True) if is_so]


def _decor(connection: Any, oid: int) -> list[str]:
    """Columns that somebody has set something about."""
    rows = ask(
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


def _key(connection: Any, oid: int, key: tuple[str, ...]) -> tuple[int | None, str | None]:
    """The primary key, if a new table would have the same."""
    rows = ask(
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
    if rows and rows[0][2] and tuple(rows[0][3]) == key:
        return rows[0][0], rows[0][1]
    return None, None


def _dependents(connection: Any, oid: int, row_type: int, key_oid: int | None) -> list[str]:
    rows = ask(
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
    connection: Any, goal: Goal, mode: str, there: There, columns: list[str] | None
) -> None:
    """StoreError where this user may not write the table, or these columns, as the mode needs."""
    known = {name for name, _ in there.columns}
    if mode != "append":
        has = "has_table_privilege(%s::oid, %s)"
        asked = [(right, has, [right]) for right in _RIGHTS[mode]]
    elif columns is None:
        asked = [("INSERT", "has_any_column_privilege(%s::oid, 'INSERT')", [])]
    else:
        asked = [
            (
                f"INSERT ({session.quoted(name)})",
                "has_column_privilege(%s::oid, %s, 'INSERT')",
                [name],
            )
            for name in columns
            if name in known
        ]
    given = ask(
        connection, f"SELECT {', '.join(['true', *[call for _, call, _ in asked]])}",
        *[each for _, _, values in asked for each in (there.oid, *values)],
    )[0][1:]  # fmt: skip
    lacks = [right for (right, _, _), is_so in zip(asked, given, strict=True) if not is_so]
    if mode == "append" and len(lacks) == len(asked):
        lacks = ["INSERT"] if asked else []
    if lacks:
        raise StoreError(
            f"{goal.who}: permission denied: this user may not {', '.join(lacks)}",
            f"GRANT {', '.join(lacks)} ON the table to this user; `mode: {mode}` needs it",
        )


def check_deletes(connection: Any, goal: Goal, there: There) -> None:
    """StoreError where PostgreSQL lets nobody delete: it could not tell subscribers which rows."""
    rows = ask(
        connection,
        "SELECT p.pubname FROM pg_publication p JOIN pg_publication_tables t USING (pubname) "
        "JOIN pg_namespace n ON n.nspname = t.schemaname JOIN pg_class c ON c.relname = "
        "t.tablename AND c.relnamespace = n.oid WHERE c.oid = %s AND p.pubdelete AND ("
        "c.relreplident = 'n' OR c.relreplident = 'd' AND NOT EXISTS "
        "(SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisprimary))",
        there.oid,
    )
    if rows:
        raise StoreError(
            f"{goal.who} cannot be replaced: publication {rows[0][0]} publishes what is deleted, "
            "and the table has no replica identity to tell its rows apart",
            "give it a primary key, or ALTER TABLE … REPLICA IDENTITY FULL",
        )


def check_children(connection: Any, goal: Goal, there: There) -> None:
    """StoreError where removing the old rows would remove, change or break rows of other tables."""
    rows = ask(
        connection,
        "SELECT conname, conrelid::regclass::text, confdeltype, condeferrable, "
        "has_table_privilege(conrelid, 'SELECT') FROM pg_constraint "
        "WHERE confrelid = %s AND contype = 'f' AND conrelid <> confrelid AND conparentid = 0",
        there.oid,
    )
    for name, child, action, deferrable, may_look in rows:
        if action in "cnd":
            does = {"c": "removed", "n": "set to NULL", "d": "set to their default"}[action]
            said = f"the rows of {child} that refer to it would be {does}"
        elif action == "a" and deferrable:
            continue  # checked at the end, when the new rows are there
        elif may_look and not ask(connection, f"SELECT 1 FROM {child} LIMIT 1"):
            continue
        else:
            said = f"rows of {child} may refer to it"
        raise StoreError(
            f"{goal.who} cannot be replaced: {said} (foreign key {name})",
            f"use `mode: merge`, or make that key DEFERRABLE with ON DELETE NO ACTION: "
            f"ALTER TABLE {child} ALTER CONSTRAINT {session.quoted(name)} DEFERRABLE",
        )


def alike(columns: tuple[tuple[str, str], ...], other: tuple[tuple[str, str], ...]) -> bool:
    """Whether rows of one table go into another by the names of their columns, types equal."""
    return sorted(columns) == sorted(other)
