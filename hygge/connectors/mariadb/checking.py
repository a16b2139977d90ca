"""What a run that writes to MariaDB refuses: before rows move, and before they are visible."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa

from hygge.connectors.mariadb import kept, ledger
from hygge.connectors.mariadb.evolving import evolution_of
from hygge.connectors.mariadb.target import TargetTable, check_engine, check_fit
from hygge.connectors.mariadb.types import column_ddl
from hygge.connectors.sql.evolving import NOTHING, Evolution
from hygge.connectors.sql.goal import Goal
from hygge.connectors.sql.heads import lost_target, not_ours
from hygge.connectors.sql.own_columns import check_written
from hygge.model import Run

if TYPE_CHECKING:
    from pymysql.connections import Connection


def check(
    connection: Connection,
    goal: Goal,
    run: Run,
    schema: pa.Schema | None,
    table: TargetTable | None,
) -> Evolution:
    """Raise if the rows or the target do not fit: before rows move, and before they are visible.

    Returns what is still to be done to the target's columns.
    """
    for field in schema or ():
        column_ddl(goal, field, field.name in run.key)
    if table is not None:
        check_engine(goal, table, run)
        if schema is not None:
            check_written(table.written(schema.names), goal.who)
    check_ours(connection, goal, run, table)
    if run.mode == "replace" and table is not None:
        if table.dependent:
            kept.check_foreign_keys(connection, goal)
        kept.check_hidden_keys(connection, goal)
    if not goal.keeps_table(run.mode):
        if table is not None:
            written = [stored.head for stored in ledger.heads_at(connection, goal).values()]
            kept.check_replace(connection, goal, table, schema, written)
        return NOTHING
    heads = ledger.heads_at(connection, goal)
    is_lost = table is None and run.mode != "replace"
    if is_lost and run.flow in heads and heads[run.flow].head.columns:
        raise lost_target(goal.who, run.flow)
    evolved = evolution_of(connection, goal, run, schema, table)
    if schema is not None and table is not None:
        check_fit(goal, table, schema, evolved.dealt_with)
    return evolved


def check_ours(connection: Connection, goal: Goal, run: Run, table: TargetTable | None) -> None:
    """Raise NotOurs for a `replace` of a table that hygge did not make, and may not adopt."""
    if run.mode != "replace" or table is None or goal.options.adopt:
        return
    if not ledger.is_made(connection, goal, table):
        raise not_ours(goal.who)
