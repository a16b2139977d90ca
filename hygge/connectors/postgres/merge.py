"""Merging in PostgreSQL: staged rows update the rows of the same key, and the others are added.

The run table takes the types of the target first, so that keys are compared as the target compares
them. Of staged rows that share a key, the last by cursor is kept; of those with equal cursors, the
last row of the last split.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa

from hygge.connectors.postgres import session
from hygge.connectors.postgres.catalog import has_relation
from hygge.connectors.postgres.publish import convert_texts
from hygge.connectors.postgres.refusing import RowsOfPostgres
from hygge.connectors.postgres.target import ROW, SPLIT, Names, create_sql
from hygge.connectors.postgres.types import column_names
from hygge.connectors.sql import ledger as sql_ledger
from hygge.connectors.sql.changes import DELETES, STAGED, check_order
from hygge.connectors.sql.commit import broken_rule, check_all_in, check_all_out, check_merge
from hygge.connectors.sql.goal import Goal
from hygge.connectors.sql.names import key_index
from hygge.connectors.sql.own_columns import own_columns
from hygge.connectors.sql.refusing import Range, put_all
from hygge.model import Run

if TYPE_CHECKING:
    import sqlalchemy as sa


def merge(
    connection: sa.Connection,
    goal: Goal,
    run: Run,
    names: Names,
    schema: pa.Schema,
    target_exists: bool,
    are_changes: bool,
) -> tuple[int, int]:
    """Merge the staged rows into the target; return how many there were, one for each key.

    Those that the goal's `refused` takes are among them.

    Where they `are_changes`, the rows of keys whose last change is `delete` are deleted; the second
    number that is returned is that of these keys.
    """
    import psycopg

    if target_exists:
        # No other session may write from here on: a key that it adds in between would be there
        # twice, or its row would not be updated.
        session.execute(connection, f"LOCK TABLE {names.target} IN SHARE ROW EXCLUSIVE MODE")
        convert_texts(connection, goal, run, names)
    taken = 0 if goal.refused is None else goal.refused.rows
    kept = _keep_last_of_each_key(connection, goal, run, names, are_changes)
    deleted = 0
    rows = _MergedRows(connection, goal, run, names)
    rows.columns = column_names(schema)
    try:
        if are_changes:
            deleted = _delete(connection, goal, run, names, target_exists)
        rows.total = kept - deleted
        if not target_exists:
            _create_target(connection, run, names, schema)
        put_all(rows, goal.refused)
    except (psycopg.IntegrityError, psycopg.errors.WithCheckOptionViolation) as error:
        raise broken_rule(str(error), goal.who, merges=True) from error
    return kept + taken, deleted


class _MergedRows(RowsOfPostgres):
    """Staged rows that update those of their key, or are inserted."""

    columns: list[str]

    def put(self, rows: Range | None) -> None:
        own = own_columns(self.connection, sql_ledger.target_of(self.goal))
        columns, which = own.written(self.columns), self.condition(rows)
        names, listed = self.names, session.quoted_list(columns)
        updated = self._update(columns, which)
        added = session.execute(
            self.connection,
            f"INSERT INTO {names.target} ({listed}) {own.overriding(columns)}"
            f"SELECT {listed} FROM {names.rows} s WHERE {which} AND "
            f"NOT EXISTS (SELECT FROM {names.target} t WHERE {_same_key(self.run)})",
        )
        check_all_in(updated + added, self.count(rows), self.who)

    def _update(self, columns: list[str], which: str) -> int:
        """Update the target's rows of staged keys; return how many staged rows have such a row."""
        names, same_key = self.names, _same_key(self.run)
        matched, pairs = session.fetch_one(
            self.connection,
            f"SELECT count(DISTINCT s.{ROW}), count(*) FROM {names.target} t "
            f"JOIN {names.rows} s ON {same_key} WHERE {which}",
        )
        values = ", ".join(
            f"{session.quoted(name)} = s.{session.quoted(name)}"
            for name in columns
            if name not in self.run.key
        )
        if values and pairs:
            updated = session.execute(
                self.connection,
                f"UPDATE {names.target} t SET {values} FROM {names.rows} s "
                f"WHERE {same_key} AND {which}",
            )
            check_all_in(updated, pairs, self.who)
        return int(matched)


def _delete(
    connection: sa.Connection, goal: Goal, run: Run, names: Names, target_exists: bool
) -> int:
    """Delete the target's rows of keys whose change says so; return how many such keys there are.

    The changes themselves go, too, so that those that are left are merged.
    """
    gone = f"s.{STAGED} {DELETES} AND {_same_key(run)}"
    if target_exists:
        (there,) = session.fetch_one(
            connection, f"SELECT count(*) FROM {names.target} t JOIN {names.rows} s ON {gone}"
        )
        removed = session.execute(
            connection, f"DELETE FROM {names.target} t USING {names.rows} s WHERE {gone}"
        )
        check_all_out(removed, there, goal.who)
    return session.execute(connection, f"DELETE FROM {names.rows} WHERE {STAGED} {DELETES}")


def _keep_last_of_each_key(
    connection: sa.Connection, goal: Goal, run: Run, names: Names, are_changes: bool
) -> int:
    """Delete staged rows that a later one of their key supersedes; return how many are left."""
    key = [session.quoted(name) for name in run.key]
    is_null = " OR ".join(f"{name} IS NULL" for name in key)
    rows, nulls = session.fetch_one(
        connection, f"SELECT count(*), count(*) FILTER (WHERE {is_null}) FROM {names.rows}"
    )
    (distinct,) = session.fetch_one(
        connection, f"SELECT count(*) FROM (SELECT DISTINCT {', '.join(key)} FROM {names.rows}) k"
    )
    check_merge(rows, nulls, distinct, run, goal.who, has_order=are_changes)
    if rows != distinct:
        order = f"{SPLIT} DESC, {ROW} DESC"
        if run.cursor is not None:
            cursor = session.quoted(run.cursor)
            order = f"{cursor} IS NULL, {cursor} DESC, {order}"
            if are_changes:
                both = ", ".join([*key, cursor])
                counted = f"SELECT count(*) FROM (SELECT DISTINCT {both} FROM {names.rows}) k"
                check_order(rows, session.fetch_one(connection, counted)[0], run, goal.who)
        deleted = session.execute(
            connection,
            f"DELETE FROM {names.rows} WHERE {ROW} IN (SELECT {ROW} FROM (SELECT {ROW}, "
            f"row_number() OVER (PARTITION BY {', '.join(key)} ORDER BY {order}) AS n "
            f"FROM {names.rows}) o WHERE o.n > 1)",
        )
        check_all_in(rows - deleted, distinct, goal.who)
    return int(distinct)


def _create_target(connection: sa.Connection, run: Run, names: Names, schema: pa.Schema) -> None:
    """Create the target, with a unique index of its key."""
    session.execute(connection, create_sql(connection, names, schema, "append", names.target))
    index = key_index(names.name)
    key = session.quoted_list(run.key)
    # PostgreSQL finds a name itself where this one is taken.
    name = "" if has_relation(connection, names.schema, index) else session.quoted(index)
    session.execute(connection, f"CREATE UNIQUE INDEX {name} ON {names.target} ({key})")


def _same_key(run: Run) -> str:
    """The condition that the row `t` of the target and the staged row `s` have the same key."""
    names = [session.quoted(name) for name in run.key]
    return " AND ".join(f"t.{name} = s.{name}" for name in names)
