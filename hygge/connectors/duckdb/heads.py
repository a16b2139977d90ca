"""The heads in a DuckDB file: `_hygge_heads` in the schema of the target."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hygge.connectors.duckdb import catalog
from hygge.connectors.duckdb.catalog import sql_name
from hygge.connectors.duckdb.database import table_names
from hygge.connectors.sql.goal import Goal
from hygge.connectors.sql.heads import (
    HEAD_COLUMNS,
    HEADS,
    Heads,
    head_in,
    still,
    stored_heads,
)
from hygge.model import Head

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

_NUMBERS = ("generation", "rows")


def create_heads(connection: DuckDBPyConnection, goal: Goal) -> None:
    """Create the table of heads, if it does not exist."""
    kinds = {"format": "INTEGER"} | dict.fromkeys(_NUMBERS, "BIGINT")
    columns = ", ".join(f"{name} {kinds.get(name, 'VARCHAR')}" for name in HEAD_COLUMNS)
    connection.execute(f"CREATE TABLE IF NOT EXISTS {_table(goal)} ({columns})")


def heads_at(connection: DuckDBPyConnection, goal: Goal) -> Heads:
    """Return the heads of the target, by flow.

    Raises StoreError if the table holds what hygge would not write.
    """
    schema, name = table_names(goal.table)
    names = [column.name for column in catalog.columns(connection, schema, HEADS)]
    if not names:
        return {}
    rows = connection.execute(f"SELECT * FROM {_table(goal)}").fetchall()
    found = [dict(zip(names, row, strict=True)) for row in rows]
    # A table of heads that somebody else made may lack any column: `stored_heads` says so.
    return stored_heads(
        [row for row in found if row.get("target") in (None, name.lower())], goal.who
    )


def head_at(connection: DuckDBPyConnection, goal: Goal, flow: str) -> Head | None:
    """Return the head of one flow on the target."""
    return head_in(heads_at(connection, goal), flow)


def write_head(connection: DuckDBPyConnection, goal: Goal, row: dict[str, Any], mode: str) -> None:
    """Write a head; `replace` also removes the heads of other flows, whose rows are gone."""
    mine = "" if mode == "replace" else " AND flow = ?"
    values = [row["target"]] if mode == "replace" else [row["target"], row["flow"]]
    connection.execute(f"DELETE FROM {_table(goal)} WHERE target = ?{mine}", values)
    marks = ", ".join("?" * len(HEAD_COLUMNS))
    connection.execute(
        f"INSERT INTO {_table(goal)} ({', '.join(HEAD_COLUMNS)}) VALUES ({marks})",
        [row[name] for name in HEAD_COLUMNS],
    )


def identity(connection: DuckDBPyConnection, goal: Goal) -> str | None:
    """Return a text that stays while hygge's table is as it made it; None if there is no table.

    Columns that somebody adds stand at its end. A rule, a default or another type changes it.
    """
    schema, name = table_names(goal.table)
    columns = catalog.columns(connection, schema, name)
    if not columns:
        return None
    rules = [f"{kind}: {rule}\n" for kind, rule in catalog.constraints(connection, schema, name)]
    lines = [
        f"{each.name} {each.type}{' NOT NULL' * each.notnull}"
        f"{f' DEFAULT {each.default}' if each.default else ''}\n"
        for each in columns
    ]
    return "".join([*rules, *lines])


def is_made(connection: DuckDBPyConnection, goal: Goal) -> bool:
    """Whether hygge made the table that is there now."""
    return still(identity(connection, goal), heads_at(connection, goal))


def _table(goal: Goal) -> str:
    return sql_name(table_names(goal.table)[0], HEADS)
