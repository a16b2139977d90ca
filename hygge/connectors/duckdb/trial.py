"""What a DuckDB table would refuse of a row: NULL in a column that is NOT NULL.

Other rules (CHECK, UNIQUE, keys) are left to the commit: asking about each batch would take the
lock of the file each time.
"""

from __future__ import annotations

import os

from hygge.connectors.duckdb import catalog, session
from hygge.connectors.duckdb.database import table_names
from hygge.connectors.duckdb.session import path_of
from hygge.connectors.sql.goal import Goal
from hygge.errors import StoreError


def not_null(goal: Goal) -> frozenset[str]:
    """Return the columns of the target that are NOT NULL."""
    path = path_of(goal.url)
    if not os.path.exists(path):
        return frozenset()
    with session.reading(path, goal.who, StoreError) as connection:
        columns = catalog.columns(connection, *table_names(goal.table))
    return frozenset(column.name for column in columns if column.notnull)


def rules(goal: Goal) -> list[str]:
    """Return the other rules of the target, for people."""
    path = path_of(goal.url)
    if not os.path.exists(path):
        return []
    with session.reading(path, goal.who, StoreError) as connection:
        return [text for _, text in catalog.constraints(connection, *table_names(goal.table))]
