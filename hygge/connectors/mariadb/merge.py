"""Merges into MariaDB: one row for each key of the staged rows, then deletions and additions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import pyarrow as pa

from hygge.connectors.mariadb import ledger
from hygge.connectors.mariadb.load import ROW
from hygge.connectors.mariadb.publish import check_warnings, rejecting
from hygge.connectors.mariadb.refusing import RowsOfMariaDB
from hygge.connectors.mariadb.session import execute, fetch_one, quoted, quoted_list
from hygge.connectors.mariadb.target import OPTIONS, quoted_table, quoted_target
from hygge.connectors.mariadb.types import column_ddl
from hygge.connectors.sql.changes import DELETES, STAGED, check_order
from hygge.connectors.sql.commit import check_all_in, check_all_out, check_merge
from hygge.connectors.sql.goal import Goal
from hygge.connectors.sql.ledger import run_name
from hygge.connectors.sql.refusing import Range
from hygge.model import Run

if TYPE_CHECKING:
    from pymysql.connections import Connection


class Kept(NamedTuple):
    """The tables of a merge, and their rows."""

    name: str
    """That of the rows that are updated or added."""
    rows: int
    deleted_name: str | None = None
    """That of the keys that are deleted."""
    deleted: int = 0


def keep_last(
    connection: Connection,
    goal: Goal,
    run: Run,
    name: str,
    schema: pa.Schema,
    are_changes: bool,
    numbers: bool = False,
) -> Kept:
    """Make a table with one row for each key of the run table; with `numbers` it has their numbers.

    Of staged rows that share a key, the one with the highest cursor counts; of equal ones the last.
    The table has the run's key as its primary key, so it can become the target. Where the rows
    `are_changes`, the keys whose last change is `delete` are in a table of their own. Raises
    Rejected if rows have no key, or share one and have no order.
    """
    source, key = quoted_table(goal, name), quoted_list(run.key)
    is_null = " OR ".join(f"{quoted(column)} IS NULL" for column in run.key)
    rows, nulls = fetch_one(
        connection, f"SELECT COUNT(*), COALESCE(SUM({is_null}), 0) FROM {source}"
    )
    distinct = _count_distinct(connection, source, key)
    check_merge(rows, int(nulls), distinct, run, goal.who, has_order=are_changes)
    if are_changes and run.cursor is not None and rows != distinct:
        both = _count_distinct(connection, source, f"{key}, {quoted(run.cursor)}")
        check_order(rows, both, run, goal.who)
    which = f"NOT {STAGED} {DELETES}" if are_changes else "TRUE"
    kept = Kept(*_last(connection, goal, run, name, schema, "winners", which, numbers))
    if are_changes:
        of_key = pa.schema([schema.field(column) for column in run.key])
        gone = _last(connection, goal, run, name, of_key, "deleted", f"{STAGED} {DELETES}")
        kept = Kept(kept.name, kept.rows, *gone)
    check_all_in(kept.rows + kept.deleted, distinct, goal.who)
    return kept


def _last(
    connection: Connection,
    goal: Goal,
    run: Run,
    name: str,
    schema: pa.Schema,
    kind: str,
    which: str,
    numbers: bool = False,
) -> tuple[str, int]:
    """Make a table of the columns `schema` of the last row of each key, if it is one of `which`."""
    copy = f"{run_name(run.id)}_{kind}"
    table = quoted_table(goal, copy)
    ledger.remember(connection, goal, run.id, copy, schema)
    execute(connection, f"DROP TABLE IF EXISTS {table}")
    columns = [column_ddl(goal, field, field.name in run.key) for field in schema]
    columns += [f"{quoted(ROW)} bigint NOT NULL"] * numbers
    key = quoted_list(run.key)
    execute(
        connection,
        f"CREATE TABLE {table} ({', '.join(columns)}, PRIMARY KEY ({key})) {OPTIONS}",
    )
    order = [f"{quoted(ROW)} DESC"]
    if run.cursor is not None:
        cursor = quoted(run.cursor)
        order = [f"{cursor} IS NULL", f"{cursor} DESC", *order]
    names = quoted_list([*schema.names, *[ROW] * numbers])
    judged = names if which == "TRUE" else f"{names}, {STAGED}"
    rows = execute(
        connection,
        f"INSERT INTO {table} ({names}) SELECT {names} FROM (SELECT {judged}, ROW_NUMBER() OVER "
        f"(PARTITION BY {key} ORDER BY {', '.join(order)}) AS `_hygge_n` "
        f"FROM {quoted_table(goal, name)}) h WHERE `_hygge_n` = 1 AND {which}",
    )
    check_warnings(connection, goal)
    return copy, rows


def _count_distinct(connection: Connection, source: str, columns: str) -> int:
    (count,) = fetch_one(
        connection, f"SELECT COUNT(*) FROM (SELECT DISTINCT {columns} FROM {source}) h"
    )
    return int(count)


def delete(connection: Connection, goal: Goal, run: Run, name: str) -> None:
    """Delete the target's rows whose keys are in the table `name`, which `keep_last` made.

    It runs in the transaction of `MergedRows`, before them.
    """
    target = quoted_target(goal)
    same_key = " AND ".join(f"t.{quoted(column)} = s.{quoted(column)}" for column in run.key)
    both = f"{target} t JOIN {quoted_table(goal, name)} s ON {same_key}"
    with rejecting(goal, merges=True):
        (there,) = fetch_one(connection, f"SELECT COUNT(*) FROM {both}")
        removed = execute(connection, f"DELETE t FROM {both}")
    check_warnings(connection, goal)
    check_all_out(removed, int(there), goal.who)


class MergedRows(RowsOfMariaDB):
    """Rows of the table of `keep_last` that update those of their key, or are inserted.

    The caller's transaction is SERIALIZABLE, so no row of a key comes in between.
    """

    key: Sequence[str]

    def put(self, rows: Range | None) -> None:
        connection, which = self.connection, self.condition(rows)
        target, source = quoted_target(self.goal), self.table
        same_key = " AND ".join(f"t.{quoted(column)} = s.{quoted(column)}" for column in self.key)
        assignments = ", ".join(
            f"t.{quoted(column)} = s.{quoted(column)}"
            for column in self.columns
            if column not in self.key
        )
        names = quoted_list(self.columns)
        values = ", ".join(f"s.{quoted(column)}" for column in self.columns)
        # An UPDATE counts the target's rows, of which several may have one key.
        (matched,) = fetch_one(
            connection,
            f"SELECT COUNT(*) FROM {source} s "
            f"WHERE EXISTS (SELECT 1 FROM {target} t WHERE {same_key}) AND {which}",
        )
        if assignments:
            execute(
                connection,
                f"UPDATE {target} t JOIN {source} s ON {same_key} SET {assignments} WHERE {which}",
            )
            check_warnings(connection, self.goal)
        added = execute(
            connection,
            f"INSERT INTO {target} ({names}) SELECT {values} FROM {source} s "
            f"LEFT JOIN {target} t ON {same_key} WHERE t.{quoted(self.key[0])} IS NULL "
            f"AND {which}",
        )
        check_warnings(connection, self.goal)
        check_all_in(matched + added, self.count(rows), self.who)
