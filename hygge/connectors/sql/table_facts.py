"""What the catalogs of PostgreSQL, MariaDB and MySQL tell of a table whose rows are tried."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from hygge.connectors.sql.target import Target

if TYPE_CHECKING:
    import sqlalchemy as sa

_OF_TABLE = (
    "c.relname = :name AND c.relnamespace = (SELECT oid FROM pg_namespace "
    "WHERE nspname = coalesce(:schema, current_schema()))"
)
# A condition may be about `tableoid`, too, which counts as a column.
_POSTGRES_CHECKS = f"""
SELECT conname, pg_get_expr(conbin, conrelid), ARRAY(
    SELECT a.attname::text FROM unnest(conkey) k
    JOIN pg_attribute a ON a.attrelid = conrelid AND a.attnum = k)
FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid
WHERE {_OF_TABLE} AND contype = 'c' AND coalesce(to_jsonb(k)->>'conenforced', 'true') = 'true'
ORDER BY conname
"""
_MARIADB_CHECKS = """
SELECT constraint_name, check_clause FROM information_schema.check_constraints
WHERE constraint_schema = coalesce(:schema, DATABASE()) AND table_name = :name
"""
# Rules on UPDATE and INSERT; of triggers, 2 is BEFORE, 64 INSTEAD OF. A row that goes into a
# partition meets the triggers of that one, too.
_POSTGRES_MENDS = f"""
SELECT EXISTS (SELECT FROM pg_rewrite w WHERE w.ev_class = c.oid AND w.ev_type IN ('2', '3'))
OR EXISTS (SELECT FROM pg_trigger t WHERE NOT t.tgisinternal AND t.tgenabled <> 'D'
    AND t.tgtype & 66 <> 0 AND (t.tgrelid = c.oid
        OR t.tgrelid IN (SELECT relid FROM pg_partition_tree(c.oid))))
FROM pg_class c WHERE {_OF_TABLE}
"""
_MYSQL_MENDS = """
SELECT COUNT(*) FROM information_schema.triggers WHERE action_timing = 'BEFORE'
AND event_object_schema = coalesce(:schema, DATABASE()) AND event_object_table = :name
"""
# Without that right MySQL shows no triggers. What a role of this user may do is not listed.
_WHO = "CONCAT('\\'', REPLACE(CURRENT_USER(), '@', '\\'@\\''), '\\'')"
_MYSQL_SEES = f"""
SELECT EXISTS (SELECT 1 FROM information_schema.user_privileges
    WHERE privilege_type = 'TRIGGER' AND grantee = {_WHO})
OR EXISTS (SELECT 1 FROM information_schema.schema_privileges WHERE privilege_type = 'TRIGGER'
    AND grantee = {_WHO} AND coalesce(:schema, DATABASE()) LIKE table_schema)
OR EXISTS (SELECT 1 FROM information_schema.table_privileges WHERE privilege_type = 'TRIGGER'
    AND grantee = {_WHO} AND table_schema = coalesce(:schema, DATABASE()) AND table_name = :name)
"""
_HAS_OWN_ROWS = f"SELECT relkind = 'r' FROM pg_class c WHERE {_OF_TABLE}"


class Check(NamedTuple):
    """A CHECK of a table."""

    name: str | None
    text: str
    """The condition, as the catalog prints it."""
    columns: tuple[str, ...]
    """The columns that it is about."""


def checks_of(connection: sa.Connection, target: Target) -> list[Check]:
    """Return the checks of a table, those of its columns, too."""
    import sqlalchemy as sa

    values = {"schema": target.schema, "name": target.name}
    if connection.dialect.name == "postgresql":
        rows = connection.execute(sa.text(_POSTGRES_CHECKS), values)
        return [Check(name, text, tuple(columns)) for name, text, columns in rows]
    if is_mariadb(connection):
        found = [tuple(row) for row in connection.execute(sa.text(_MARIADB_CHECKS), values)]
    else:
        checks = sa.inspect(connection).get_check_constraints(target.name, schema=target.schema)
        found = [(each["name"], str(each["sqltext"])) for each in checks]
    return [Check(name, text, _names_in(text)) for name, text in found]


def is_mariadb(connection: sa.Connection) -> bool:
    """True if MariaDB answers, whatever the URL says."""
    return bool(getattr(connection.dialect, "is_mariadb", False))


def mended_by(connection: sa.Connection, target: Target) -> str:
    """Return what may change a row before the table's rules are looked at; empty: nothing."""
    import sqlalchemy as sa

    is_postgres = connection.dialect.name == "postgresql"
    values = {"schema": target.schema, "name": target.name}

    def answer(sql: str) -> bool:
        return bool(connection.execute(sa.text(sql), values).scalar())

    if answer(_POSTGRES_MENDS if is_postgres else _MYSQL_MENDS):
        return "a trigger may mend a row before"
    if not is_postgres and not is_mariadb(connection) and not answer(_MYSQL_SEES):
        return "this user sees no trigger that may mend a row before: GRANT TRIGGER ON the table"
    return ""


def has_own_rows(connection: sa.Connection, schema: str | None, name: str) -> bool:
    """True for a table of PostgreSQL to be read ONLY: its children have keys of their own.

    A partitioned table has no rows of its own.
    """
    import sqlalchemy as sa

    if connection.dialect.name != "postgresql":
        return False
    values = {"schema": schema, "name": name}
    return bool(connection.execute(sa.text(_HAS_OWN_ROWS), values).scalar())


def _names_in(text: str) -> tuple[str, ...]:
    """Return the names in a condition that MariaDB or MySQL prints: they stand in backticks."""
    outside = re.sub(r"'(?:[^'\\]|''|\\.)*'", "''", text)
    found = re.findall(r"`((?:[^`]|``)*)`", outside)
    return tuple(dict.fromkeys(name.replace("``", "`") for name in found))
