"""How a table of SQLite follows the columns of its rows: `schema: evolve`.

SQLite adds columns, and changes no type. A wider type of the same affinity, and a NOT NULL that
goes, change no stored row: so the statement that made the table is rewritten in the catalog, as
https://www.sqlite.org/lang_altertable.html describes it, in the transaction of the commit. The new
statement is tried in memory before: it must give the same columns but for the one that changes.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace

import pyarrow as pa

from hygge.batches import plain_schema
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
from hygge.connectors.sql.names import ascii_folded
from hygge.connectors.sqlite import catalog, ledger
from hygge.connectors.sqlite.catalog import Column
from hygge.connectors.sqlite.database import table_name
from hygge.connectors.sqlite.session import fetch_value, quoted
from hygge.connectors.sqlite.target import TargetColumn, can_keep, existing_columns, target_columns
from hygge.connectors.sqlite.types import affinity_of, arrow_for, declared_for
from hygge.model import Run

_TYPE = r'(?:"(?:[^"]|"")*"|\w+(?:\s*\([^)]*\))?)'


def evolved_columns(
    connection: sqlite3.Connection, goal: Goal, run: Run, schema: pa.Schema
) -> list[TargetColumn]:
    """Return where the columns of `schema` go, once the table has followed them."""
    target = table_name(goal.table)
    evolved = evolution_of(connection, goal, run, schema)
    if evolved is NOTHING:
        stays = goal.keeps_table(run.mode)
        return target_columns(connection, target, stays, schema, goal.who)
    present = _followed(catalog.columns(connection, target), schema, evolved)
    return existing_columns(present, schema, goal.who)


def evolution_of(
    connection: sqlite3.Connection, goal: Goal, run: Run, schema: pa.Schema | None
) -> Evolution:
    """Return what makes the target take rows of `schema`; nothing unless the flow evolves.

    Raises StoreError for a difference that cannot be made good.
    """
    target = table_name(goal.table)
    columns = catalog.columns(connection, target)
    if schema is None or not goal.evolves or not columns:
        return NOTHING
    fields = {field.name: field for field in plain_schema(schema)}
    sql = catalog.created_by(connection, target) or ""
    by_name = {column.name: column for column in columns}
    table = f"main.{quoted(target)}"

    def widen(present: Present, wanted: Wanted) -> str | None:
        column = by_name[present.name]
        after = rewritten(sql, column, replace(column, declared=wanted.type))
        return None if after is None else f"{table}: {quoted(column.name)} {wanted.type}"

    def free(present: Present) -> str | None:
        column = by_name[present.name]
        after = rewritten(sql, column, replace(column, notnull=False))
        return None if after is None else f"{table}: {quoted(column.name)} without NOT NULL"

    def wider(present: Present, wanted: Wanted) -> bool:
        old = arrow_for(present.type)
        return old is not None and is_wider(old, fields[wanted.name].type)

    return evolution(
        [
            Present(
                column.name, column.declared, not column.notnull, column.is_supplied,
                column.generated, bool(column.key),
            )
            for column in columns
        ],
        [
            Wanted(field.name, declared_for(field.type, field.name), field.nullable)
            for field in fields.values()
        ],
        Statements(
            lambda wanted: f"ALTER TABLE {table} ADD COLUMN {_new(wanted).ddl()}",
            widen, free,
            lambda present, wanted: can_keep(by_name[present.name], fields[wanted.name]),
            wider, ascii_folded,
        ),
        run,
        [head for head, _ in ledger.heads_at(connection, goal).values()],
        goal.who,
    )  # fmt: skip


def follow(connection: sqlite3.Connection, goal: Goal, run: Run, schema: pa.Schema) -> Evolution:
    """Change the target, in the transaction of the commit; return what was changed."""
    evolved = evolution_of(connection, goal, run, schema)
    target = table_name(goal.table)
    after = _followed(catalog.columns(connection, target), schema, evolved)
    for column in catalog.columns(connection, target):
        new = next(each for each in after if each.name == column.name)
        freed = f"{quoted(column.name)} without NOT NULL"
        new = replace(new, default=column.default)
        if any(statement.endswith(f": {freed}") for statement in evolved.statements):
            new = replace(new, notnull=False)
        if new != column:
            _rewrite(connection, target, column, new)
    for statement in evolved.statements:
        if statement.startswith("ALTER TABLE "):
            connection.execute(statement)
    return evolved


def rewritten(sql: str, column: Column, new: Column) -> str | None:
    """Return the statement that makes a table, with `new` in the place of `column`.

    None where the new declaration has another affinity, where the old one cannot be found, or where
    the changed statement would make another table.
    """
    if affinity_of(new.declared) != affinity_of(column.declared):
        return None
    name = f"(?:{re.escape(quoted(column.name))}|{re.escape(column.name)})"
    declared = _new(Wanted(new.name, new.declared, True)).ddl().removeprefix(quoted(new.name))
    parts = re.compile(rf"([(,]\s*{name}\s+)({_TYPE})(\s+NOT\s+NULL)?(?=[\s,)])", re.IGNORECASE)
    candidates = []
    for match in parts.finditer(sql):
        kind = match[2] if new.declared == column.declared else declared.strip()
        rule = (match[3] or "") if new.notnull else ""
        candidates.append(f"{sql[: match.start()]}{match[1]}{kind}{rule}{sql[match.end() :]}")
    before = _columns_made_by(sql)
    wanted = [new if each.name == column.name else each for each in before]
    right = [each for each in candidates if _columns_made_by(each) == wanted]
    return right[0] if before and len(right) == 1 else None


def _columns_made_by(sql: str) -> list[Column]:
    """Return the columns of the table that a statement makes; none where it cannot be run alone."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as memory:
        try:
            memory.execute(sql)
            (table,) = memory.execute("SELECT name FROM sqlite_master LIMIT 1").fetchone()
            return catalog.columns(memory, table)
        except sqlite3.Error:
            return []


def _rewrite(connection: sqlite3.Connection, target: str, column: Column, new: Column) -> None:
    sql = rewritten(catalog.created_by(connection, target) or "", column, new)
    version = fetch_value(connection, "PRAGMA main.schema_version")
    connection.execute("PRAGMA writable_schema = ON")
    try:
        connection.execute(
            "UPDATE main.sqlite_master SET sql = ? WHERE type = 'table' AND lower(name) = lower(?)",
            [sql, target],
        )
        connection.execute(f"PRAGMA main.schema_version = {version + 1}")
    finally:
        connection.execute("PRAGMA writable_schema = RESET")  # off, and the catalog is read again


def _followed(columns: Sequence[Column], schema: pa.Schema, evolved: Evolution) -> list[Column]:
    """Return the columns of the table as they are once it has followed the rows.

    A column that rows lack has a default of NULL here: it may be left out.
    """
    came = {ascii_folded(field.name): field for field in plain_schema(schema)}
    followed = []
    for column in columns:
        field = came.pop(ascii_folded(column.name), None)
        if field is None and column.name in evolved.dealt_with:
            column = replace(column, default=column.default or "NULL")
        elif field is not None and field.name in evolved.dealt_with:
            column = replace(column, declared=declared_for(field.type, field.name))
        followed.append(column)
    for field in came.values():
        declared = declared_for(field.type, field.name)
        followed.append(Column(field.name, declared, False, None, 0, False, False))
    return followed


def _new(wanted: Wanted) -> TargetColumn:
    return TargetColumn(wanted.name, wanted.type, pa.null())
