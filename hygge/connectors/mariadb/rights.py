"""What this user may do in the database of a target, asked before a run begins."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hygge.connectors.mariadb.ledger import rows_table
from hygge.connectors.mariadb.session import execute, fetch_one, number_of
from hygge.connectors.mariadb.target import quoted_table
from hygge.connectors.sql.counting import count_sql
from hygge.connectors.sql.goal import Goal
from hygge.connectors.sql.mysql_rights import NO_TABLE, asking
from hygge.errors import StoreError

if TYPE_CHECKING:
    from pymysql.connections import Connection

_NEEDED = "GRANT SELECT, INSERT, UPDATE, DELETE, CREATE, ALTER, DROP ON the database TO this user"
_DENIED = (1044, 1142, 1143, 1227)


def check_rights(connection: Connection, goal: Goal) -> None:
    """Raise StoreError where a run could make, fill or drop no tables beside the target."""
    for statement in asking(quoted_table(goal, rows_table("check"))):
        _ask(connection, goal, statement)
    writers = "'SUPER', 'READ ONLY ADMIN', 'READ_ONLY ADMIN'"
    (is_closed,) = fetch_one(
        connection,
        # What a role may do beside this is not listed there.
        "SELECT @@global.read_only AND CURRENT_ROLE() IS NULL AND NOT EXISTS (SELECT 1 FROM "
        f"information_schema.user_privileges WHERE privilege_type IN ({writers}))",
    )
    if int(is_closed):
        raise StoreError(
            f"{goal.who}: the server is read-only", "connect to the primary, which takes writes"
        )


def check_renames(connection: Connection, goal: Goal) -> None:
    """Raise StoreError where a run could put none of its tables into the place of the target."""
    table = quoted_table(goal, rows_table("check"))
    _ask(connection, goal, f"ALTER TABLE {table} ADD COLUMN b int")


def check_drops(connection: Connection, goal: Goal) -> None:
    """Raise StoreError where a run could not drop the tables in which it stages rows.

    Without that right alone it would come to its end, and leave them behind.
    """
    _ask(connection, goal, f"DROP TABLE {quoted_table(goal, rows_table('check'))}")


def _ask(connection: Connection, goal: Goal, statement: str) -> None:
    try:
        execute(connection, statement)
    except Exception as error:
        number = number_of(error)
        if number in _DENIED:
            raise StoreError(f"{goal.who}: {error.args[1]}", _NEEDED) from error
        if number == 1049:
            raise StoreError(
                f"{goal.who}: {error.args[1]}", "CREATE DATABASE, or name another one"
            ) from error
        if number not in NO_TABLE:
            raise


def count_rows(connection: Connection, table: str) -> int | None:
    """Return the rows of `table`, a name in quotes; None where this user may not read it."""
    try:
        (rows,) = fetch_one(connection, count_sql(table))
    except Exception as error:
        if number_of(error) in _DENIED:
            return None
        raise
    return int(rows)
