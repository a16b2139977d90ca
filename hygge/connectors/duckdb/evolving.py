"""How a table of DuckDB follows the columns of its rows: `schema: evolve`.

The statements run in the transaction of the commit. DuckDB changes no type of a column, and
drops no NOT NULL, of a table that has an index or that a foreign key refers to.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa

from hygge.batches import plain_schema
from hygge.connectors.duckdb import catalog
from hygge.connectors.duckdb.catalog import sql_name
from hygge.connectors.duckdb.database import table_names
from hygge.connectors.duckdb.heads import heads_at
from hygge.connectors.duckdb.session import fetch_value, quoted
from hygge.connectors.duckdb.target import arrow_of, can_keep
from hygge.connectors.duckdb.types import column_type
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
from hygge.model import Run

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

_INDEXES = """
SELECT count(*) FROM duckdb_indexes() WHERE database_name = current_database()
    AND lower(schema_name) = lower(?) AND lower(table_name) = lower(?)
"""


def evolution_of(
    connection: DuckDBPyConnection, goal: Goal, run: Run, schema: pa.Schema | None
) -> Evolution:
    """Return what makes the target take rows of `schema`; nothing unless the flow evolves.

    Raises StoreError for a difference that cannot be made good.
    """
    names = table_names(goal.table)
    columns = catalog.columns(connection, *names)
    if schema is None or not goal.evolves or not columns:
        return NOTHING
    fields = {field.name: field for field in plain_schema(schema)}
    by_name = {column.name: column for column in columns}
    key = catalog.primary_key(connection, *names)
    is_held = bool(
        fetch_value(connection, _INDEXES, *names) or catalog.referring(connection, *names)
    )
    table = sql_name(*names)

    def alter(column: str, change: str) -> str | None:
        return None if is_held else f"ALTER TABLE {table} ALTER COLUMN {quoted(column)} {change}"

    def wider(present: Present, wanted: Wanted) -> bool:
        old, new = arrow_of(connection, present.type), arrow_of(connection, wanted.type)
        return old is not None and new is not None and is_wider(old, new)

    return evolution(
        [
            Present(
                column.name, column.type, not column.notnull, column.is_supplied,
                column.generated, column.name in key,
            )
            for column in columns
        ],
        [
            Wanted(field.name, column_type(field), field.nullable)
            for field in fields.values()
        ],
        Statements(
            lambda wanted: f"ALTER TABLE {table} ADD COLUMN {quoted(wanted.name)} {wanted.type}",
            lambda present, wanted: alter(present.name, f"TYPE {wanted.type}"),
            lambda present: alter(present.name, "DROP NOT NULL"),
            lambda present, wanted: can_keep(
                connection, by_name[present.name], fields[wanted.name]
            ),
            wider, ascii_folded,
        ),
        run,
        [head for head, _ in heads_at(connection, goal).values()],
        goal.who,
    )  # fmt: skip
