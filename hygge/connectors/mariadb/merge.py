"""Merges into MariaDB: one row for each key of the staged rows, then updates and additions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import pyarrow as pa

from hygge.connectors.mariadb import ledger
from hygge.connectors.mariadb.load import ROW
from hygge.connectors.mariadb.publish import check_warnings, rejecting
from hygge.connectors.mariadb.session import execute, fetch_one, quoted, quoted_list
from hygge.connectors.mariadb.target import OPTIONS, quoted_table, quoted_target
from hygge.connectors.mariadb.types import column_ddl
from hygge.connectors.sql.commit import check_all_in, check_merge
from hygge.connectors.sql.goal import Goal
from hygge.connectors.sql.ledger import run_name
from hygge.model import Run

if TYPE_CHECKING:
    from pymysql.connections import Connection


def keep_last(
    connection: Connection,
    goal: Goal,
    run: Run,
    name: str,
    schema: pa.Schema,
) -> tuple[str, int]:
    """Make a table with one row for each key of the run table; return its name and its rows.

    Of staged rows that share a key, the one with the highest cursor counts; of equal ones the last.
    The table has the run's key as its primary key, so it can become the target. Raises Rejected if
    rows have no key, or share one without a cursor.
    """
    copy = f"{run_name(run.id)}_winners"
    table, source = quoted_table(goal, copy), quoted_table(goal, name)
    ledger.remember(connection, goal, run.id, copy, schema)
    execute(connection, f"DROP TABLE IF EXISTS {table}")
    key = quoted_list(run.key)
    is_null = " OR ".join(f"{quoted(column)} IS NULL" for column in run.key)
    rows, nulls = fetch_one(
        connection, f"SELECT COUNT(*), COALESCE(SUM({is_null}), 0) FROM {source}"
    )
    (distinct,) = fetch_one(
        connection, f"SELECT COUNT(*) FROM (SELECT DISTINCT {key} FROM {source}) h"
    )
    check_merge(rows, int(nulls), distinct, run, goal.who)
    columns = [column_ddl(goal, field, field.name in run.key) for field in schema]
    execute(
        connection,
        f"CREATE TABLE {table} ({', '.join(columns)}, PRIMARY KEY ({key})) {OPTIONS}",
    )
    order = [f"{quoted(ROW)} DESC"]
    if run.cursor is not None:
        cursor = quoted(run.cursor)
        order = [f"{cursor} IS NULL", f"{cursor} DESC", *order]
    names = quoted_list(schema.names)
    execute(
        connection,
        f"INSERT INTO {table} ({names}) SELECT {names} FROM (SELECT {names}, ROW_NUMBER() OVER "
        f"(PARTITION BY {key} ORDER BY {', '.join(order)}) AS `_hygge_n` FROM {source}) h "
        "WHERE `_hygge_n` = 1",
    )
    check_warnings(connection, goal)
    return copy, distinct


def merge(
    connection: Connection, goal: Goal, run: Run, name: str, columns: Sequence[str], rows: int
) -> None:
    """Update the rows whose keys are there, and add the others, from the table of `keep_last`.

    `columns` are those that are written.

    It runs in the caller's SERIALIZABLE transaction, so no row of a key comes in between.
    """
    target, source = quoted_target(goal), quoted_table(goal, name)
    same_key = " AND ".join(f"t.{quoted(column)} = s.{quoted(column)}" for column in run.key)
    assignments = ", ".join(
        f"t.{quoted(column)} = s.{quoted(column)}" for column in columns if column not in run.key
    )
    names = quoted_list(columns)
    values = ", ".join(f"s.{quoted(column)}" for column in columns)
    with rejecting(goal, merges=True):
        # An UPDATE counts the target's rows, of which several may have one key.
        (matched,) = fetch_one(
            connection,
            f"SELECT COUNT(*) FROM {source} s "
            f"WHERE EXISTS (SELECT 1 FROM {target} t WHERE {same_key})",
        )
        if assignments:
            execute(
                connection, f"UPDATE {target} t JOIN {source} s ON {same_key} SET {assignments}"
            )
            check_warnings(connection, goal)
        added = execute(
            connection,
            f"INSERT INTO {target} ({names}) SELECT {values} FROM {source} s "
            f"LEFT JOIN {target} t ON {same_key} WHERE t.{quoted(run.key[0])} IS NULL",
        )
    check_warnings(connection, goal)
    check_all_in(matched + added, rows, goal.who)
