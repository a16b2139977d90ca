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
