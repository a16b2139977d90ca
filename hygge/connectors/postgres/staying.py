"""A `replace` in PostgreSQL whose table stays: its rows are deleted, and the new ones inserted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hygge.connectors.postgres import session
from hygge.connectors.postgres.target import Existing, Names
from hygge.connectors.sql import ledger as sql_ledger
from hygge.connectors.sql.commit import keeps_rows
from hygge.connectors.sql.goal import Goal
from hygge.connectors.sql.heads import not_ours
from hygge.connectors.sql.inheriting import check_inheriting
from hygge.errors import StoreError

if TYPE_CHECKING:
    import sqlalchemy as sa


def check_table(connection: sa.Connection, goal: Goal, old: Existing) -> None:
    """Raise StoreError for a target whose rows `adopt` cannot replace: a view, say."""
    (kind,) = session.fetch_one(connection, "SELECT relkind FROM pg_class WHERE oid = %s", old.oid)
    if kind not in ("r", "p"):
        what = {"v": "a view", "m": "a materialized view", "f": "a foreign table"}
        raise StoreError(
            f"{goal.who} is {what.get(kind, 'no table')}, and `adopt` takes tables", "name a table"
        )


def delete_rows(connection: sa.Connection, goal: Goal, names: Names) -> None:
    """Delete the old rows, under a lock that lets no other session write.

    By DELETE and not by TRUNCATE, so that the triggers and rules of the table are run.
    """
    # Deferrable foreign keys are checked at COMMIT, when the new rows are there.
    session.execute(connection, "SET CONSTRAINTS ALL DEFERRED")
    session.execute(connection, f"LOCK TABLE {names.target} IN SHARE ROW EXCLUSIVE MODE")
    # Looked at once more: under the lock nobody else can change it.
    if not goal.options.adopt and not sql_ledger.is_made(connection, goal):
        raise not_ours(goal.who)
    check_inheriting(connection, sql_ledger.target_of(goal), goal.who)
    session.execute(connection, f"DELETE FROM {names.target}")
    if session.fetch_all(connection, f"SELECT 1 FROM {names.target} LIMIT 1"):
        raise keeps_rows(goal.who)
    if goal.refused is not None:
        _look_at_rows_at_once(connection, names)


def _look_at_rows_at_once(connection: sa.Connection, names: Names) -> None:
    """Have the table's own deferrable constraints looked at with each statement.

    Else a row that breaks one would be found in COMMIT, which nothing undoes. Keys of other tables
    that refer to this one still wait, and triggers for DELETE, which would miss the new rows. A
    name that a constraint of another table has, too, waits: the statement would mean both.
    """
    constraints = session.fetch_all(
        connection,
        """
        WITH tables AS (SELECT %s::regclass::oid AS oid
                        UNION SELECT relid FROM pg_partition_tree(%s::regclass))
        SELECT n.nspname, c.conname FROM pg_constraint c JOIN pg_namespace n ON n.oid = connamespace
        WHERE c.condeferrable AND c.conrelid <> 0
        GROUP BY 1, 2 HAVING bool_and(c.conrelid IN (SELECT oid FROM tables)
            AND NOT EXISTS (SELECT FROM pg_trigger t WHERE t.tgconstraint = c.oid
                            AND c.contype = 't' AND t.tgtype & 8 <> 0))
        """,
        names.target, names.target,
    )  # fmt: skip
    if constraints:
        listed = ", ".join(f"{session.quoted(schema)}.{session.quoted(name)}"
                           for schema, name in constraints)  # fmt: skip
        session.execute(connection, f"SET CONSTRAINTS {listed} IMMEDIATE")
