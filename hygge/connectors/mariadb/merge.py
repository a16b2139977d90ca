"""Merges into MariaDB: one row a key of what was staged, then updates and additions."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from hygge.connectors.mariadb import ledger
from hygge.connectors.mariadb.load import ROW
from hygge.connectors.mariadb.publish import breaking, no_warning
from hygge.connectors.mariadb.session import execute, listed, one, quoted
from hygge.connectors.mariadb.target import OPTIONS, There, quoted_table, quoted_target
from hygge.connectors.mariadb.types import column_ddl
from hygge.connectors.sql.commit import check_all_in, check_merge
from hygge.connectors.sql.goal import Goal
from hygge.connectors.sql.ledger import run_name
from hygge.model import Run


def winners(
    connection: Any, goal: Goal, run: Run, name: str, schema: pa.Schema, old: There | None
) -> tuple[str, int]:
    """A table of one row a key: of staged rows that share one, the last by cursor counts.

    It has the columns of the target where there is one, or becomes the target.
    """
    copy = f"{run_name(run.id)}_winners"
    table, source = quoted_table(goal, copy), quoted_table(goal, name)
    ledger.remember(connection, goal, run.id, copy, schema)
    execute(connection, f"DROP TABLE IF EXISTS {table}")
    key = listed(run.key)
    absent = " OR ".join(f"{quoted(each)} IS NULL" for each in run.key)
    whole, nulls = one(connection, f"SELECT COUNT(*), COALESCE(SUM({absent}), 0) FROM {source}")
    (distinct,) = one(connection, f"SELECT COUNT(*) FROM (SELECT DISTINCT {key} FROM {source}) h")
    check_merge(whole, int(nulls), distinct, run, goal.who)
    columns = [column_ddl(goal, each, each.name in run.key) for each in schema]
    execute(
        connection,
        f"CREATE TABLE {table} ({', '.join(columns)}, PRIMARY KEY ({key})) {OPTIONS}",
    )
    order = [f"{quoted(ROW)} DESC"]
    if run.cursor is not None:
        cursor = quoted(run.cursor)
        order = [f"{cursor} IS NULL", f"{cursor} DESC", *order]
    names = listed(schema.names)
    execute(
        connection,
        f"INSERT INTO {table} ({names}) SELECT {names} FROM (SELECT {names}, ROW_NUMBER() OVER "
        f"(PARTITION BY {key} ORDER BY {', '.join(order)}) AS `_hygge_n` FROM {source}) h "
        "WHERE `_hygge_n` = 1",
    )
    no_warning(connection, goal)
    return copy, distinct


def merged(
    connection: Any, goal: Goal, run: Run, copy: str, schema: pa.Schema, wanted: int
) -> None:
    """Update the rows whose keys are there, add the others; in the caller's serial transaction."""
    target, source = quoted_target(goal), quoted_table(goal, copy)
    same = " AND ".join(f"t.{quoted(each)} = s.{quoted(each)}" for each in run.key)
    changed = ", ".join(
        f"t.{quoted(each)} = s.{quoted(each)}" for each in schema.names if each not in run.key
    )
    names = listed(schema.names)
    theirs = ", ".join(f"s.{quoted(each)}" for each in schema.names)
    with breaking(goal):
        (met,) = one(
            connection,
            f"SELECT COUNT(*) FROM {source} s WHERE EXISTS (SELECT 1 FROM {target} t WHERE {same})",
        )
        if changed:
            execute(connection, f"UPDATE {target} t JOIN {source} s ON {same} SET {changed}")
            no_warning(connection, goal)
        fresh = execute(
            connection,
            f"INSERT INTO {target} ({names}) SELECT {theirs} FROM {source} s "
            f"LEFT JOIN {target} t ON {same} WHERE t.{quoted(run.key[0])} IS NULL",
        )
    no_warning(connection, goal)
    check_all_in(met + fresh, wanted, goal.who)
