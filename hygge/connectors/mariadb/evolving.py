"""How a table of MariaDB follows the columns of its rows: `schema: evolve`.

MariaDB ends a transaction at each ALTER TABLE. So the columns change just before the rows come, in
the commit and under its lock; a reader may see the new columns without the new rows. A run that
dies in between leaves the columns, and the next one goes on from there. A table that hygge made
stays one of its own: its head knows the table before the change and behind it.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

import pyarrow as pa

from hygge.connectors.mariadb import ledger
from hygge.connectors.mariadb.fit import takes
from hygge.connectors.mariadb.session import execute, fetch_one, literal, quoted
from hygge.connectors.mariadb.target import (
    TargetTable,
    identity,
    own_type,
    quoted_table,
    quoted_target,
)
from hygge.connectors.mariadb.types import column_ddl
from hygge.connectors.sql.evolving import (
    NOTHING,
    Evolution,
    Present,
    Statements,
    Wanted,
    evolution,
    is_wider,
)
from hygge.connectors.sql.goal import Goal
from hygge.connectors.sql.heads import HEADS, OR
from hygge.model import Run

if TYPE_CHECKING:
    from pymysql.connections import Connection

    from hygge.connectors.mariadb.catalog import Column


def evolution_of(
    connection: Connection,
    goal: Goal,
    run: Run,
    schema: pa.Schema | None,
    table: TargetTable | None,
) -> Evolution:
    """Return what makes the target take rows of `schema`; nothing unless the flow evolves.

    Raises StoreError for a difference that cannot be made good.
    """
    if schema is None or table is None or not goal.evolves:
        return NOTHING
    target = quoted_target(goal)
    columns = {column.name: column for column in table.columns}
    fields = {field.name: field for field in schema}
    created = str(fetch_one(connection, f"SHOW CREATE TABLE {target}")[1])

    def modified(column: Column, native: str | None, is_freed: bool) -> str | None:
        line = next(
            (line for line in map(str.strip, created.splitlines()) if _is_of(line, column)), None
        )
        if line is None:
            return None
        rest = line.rstrip(",").removeprefix(f"{quoted(column.name)} {column.native}")
        if is_freed:
            rest = rest.replace(" NOT NULL", " NULL", 1)
        name = quoted(column.name)
        return f"ALTER TABLE {target} MODIFY COLUMN {name} {native or column.native}{rest}"

    def widen(present: Present, wanted: Wanted) -> str | None:
        # One statement for both: the second would undo the first.
        freed = wanted.is_nullable and not present.is_nullable and present.name not in table.key
        freed = freed and present.name not in run.key
        return modified(columns[present.name], wanted.type, freed)

    def free(present: Present) -> str | None:
        column = columns[present.name]
        if not fits(present, Wanted(present.name, "", True)):
            return None  # `widen` does it
        return modified(column, None, True)

    def fits(present: Present, wanted: Wanted) -> bool:
        column = columns[present.name]
        return takes(goal, column, own_type(goal, column), fields[wanted.name].type)

    return evolution(
        [
            Present(
                column.name, column.native, column.nullable, table.own[column.name].is_supplied,
                table.own[column.name].is_generated, column.name in table.key,
            )
            for column in table.columns
        ],
        [Wanted(field.name, _native(goal, field), field.nullable) for field in schema],
        Statements(
            lambda wanted: (
                f"ALTER TABLE {target} ADD COLUMN "
                f"{column_ddl(goal, fields[wanted.name].with_nullable(True), False)}"
            ),
            widen, free, fits,
            lambda present, wanted: is_wider(
                own_type(goal, columns[present.name]), fields[wanted.name].type
            ),
        ),
        run,
        [stored.head for stored in ledger.heads_at(connection, goal).values()],
        goal.who,
    )  # fmt: skip


def follow(
    connection: Connection,
    goal: Goal,
    run: Run,
    schema: pa.Schema | None,
    table: TargetTable | None,
) -> Evolution:
    """Change the target, and return what was changed; the caller holds the lock of the table."""
    evolved = evolution_of(connection, goal, run, schema, table)
    if table is None or not evolved.statements:
        return evolved
    if ledger.is_made(connection, goal, table):
        _remember(connection, goal, table, schema)
    for statement in evolved.statements:
        execute(connection, statement)
    return evolved


def _remember(
    connection: Connection, goal: Goal, table: TargetTable, schema: pa.Schema | None
) -> None:
    """Let the heads of the table know it also as it will be: the next statements change it."""
    fields = {field.name: field for field in schema or ()}
    now = str(identity(table))
    steps, columns = [now], list(table.columns)
    for at, column in enumerate(columns):
        field = fields.get(column.name)
        if field is None or takes(goal, column, own_type(goal, column), field.type):
            continue
        native = _as_in_catalog(connection, _native(goal, field))
        columns[at] = replace(column, native=native)
        steps.append(str(identity(table._replace(columns=list(columns)))))
    if len(steps) > 1:
        execute(
            connection,
            f"UPDATE {quoted_table(goal, HEADS)} SET made = {literal(OR.join(steps))} "
            f"WHERE {ledger.is_of_target(connection, goal)} AND made IS NOT NULL",
        )
        execute(connection, "COMMIT")


def _as_in_catalog(connection: Connection, native: str) -> str:
    """Return a type as the catalog writes it: `bigint` is `bigint(20)` there."""
    execute(connection, f"CREATE TEMPORARY TABLE _hygge_type (c {native})")
    try:
        line = str(fetch_one(connection, "SHOW COLUMNS FROM _hygge_type")[1])
    finally:
        execute(connection, "DROP TEMPORARY TABLE _hygge_type")
    return line


def _is_of(line: str, column: Column) -> bool:
    return line.startswith(f"{quoted(column.name)} {column.native}")


def _native(goal: Goal, field: pa.Field) -> str:
    """Return the type of a column that hygge makes for a field, without rules and comment."""
    ddl = column_ddl(goal, field.with_nullable(True), False)
    return re.sub(r" NULL( COMMENT '[^']*')?$", "", ddl.removeprefix(f"{quoted(field.name)} "))
