"""What this user may do in the schema of a target, asked before a run begins."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hygge.connectors.postgres import session
from hygge.connectors.postgres.target import Names
from hygge.connectors.sql.goal import Goal
from hygge.connectors.sql.heads import HEADS
from hygge.connectors.sql.ledger import LEDGER
from hygge.errors import StoreError

if TYPE_CHECKING:
    import sqlalchemy as sa

_OWN = ("SELECT", "INSERT", "UPDATE", "DELETE")


def check_schema_rights(connection: sa.Connection, goal: Goal, names: Names) -> None:
    """Raise StoreError where a run could make no tables in the schema of the target."""
    (is_standby,) = session.fetch_one(connection, "SELECT pg_is_in_recovery()")
    if is_standby:
        raise StoreError(
            f"{goal.who}: the server is a standby, and takes no writes", "connect to the primary"
        )
    (read_only,) = session.fetch_one(
        connection, "SELECT current_setting('default_transaction_read_only')"
    )
    if read_only == "on":
        raise StoreError(
            f"{goal.who}: the transactions of this user are read-only",
            "let this user write: ALTER ROLE … SET default_transaction_read_only = off",
        )
    schema = session.quoted(names.schema)
    (number,) = session.fetch_one(connection, "SELECT to_regnamespace(%s)::oid", schema)
    if number is None:
        raise StoreError(
            f"{goal.who}: there is no schema {schema}", f"CREATE SCHEMA {schema}, or name another"
        )
    (may_create,) = session.fetch_one(
        connection, "SELECT has_schema_privilege(%s::oid, 'CREATE')", number
    )
    if not may_create:
        raise StoreError(
            f"{goal.who}: permission denied: this user may make no tables in the schema {schema}, "
            "where hygge stages rows",
            f"GRANT USAGE, CREATE ON SCHEMA {schema} TO this user",
        )
    for name in (HEADS, LEDGER):
        own = session.quoted(names.schema, name)
        calls = ", ".join(f"has_table_privilege(%s, '{right}')" for right in _OWN)
        rights = session.fetch_all(
            connection,
            f"SELECT {calls} WHERE to_regclass(%s) IS NOT NULL",
            *(own for _ in _OWN), own,
        )  # fmt: skip
        missing = (
            [right for right, has in zip(_OWN, rights[0], strict=True) if not has] if rights else []
        )
        if missing:
            raise StoreError(
                f"{goal.who}: permission denied: this user may not {', '.join(missing)} in {own}, "
                "where hygge keeps what is committed",
                f"GRANT {', '.join(_OWN)} ON {own} TO this user",
            )


def count_rows(connection: sa.Connection, sql: str, table: str) -> int | None:
    """Return the number that `sql` counts in `table`; None where this user may not read it."""
    (may_read,) = session.fetch_one(connection, "SELECT has_table_privilege(%s, 'SELECT')", table)
    if not may_read:
        return None
    (rows,) = session.fetch_one(connection, sql)
    return int(rows)
