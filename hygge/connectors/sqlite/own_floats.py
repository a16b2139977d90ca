"""NaN and -0.0 in a table that somebody else made: its readers do not know hygge's marks for them.

SQLite has neither: it makes NULL of NaN, and 0.0 of -0.0. In tables that hygge makes they are the
text 'NaN' and the blob '-0.0' (`hygge/connectors/sqlite/types.py`).
"""

from __future__ import annotations

import os

import pyarrow as pa

from hygge.connectors.sql.floats import first_odd
from hygge.connectors.sql.goal import Goal
from hygge.connectors.sqlite import catalog, ledger, session
from hygge.connectors.sqlite.database import table_name
from hygge.connectors.sqlite.session import path_of
from hygge.errors import StoreError, UnfitValue


def check_floats(goal: Goal, batch: pa.Table) -> None:
    """Raise UnfitValue for the first NaN or -0.0 that a table of somebody else would hold."""
    for name, column in zip(batch.column_names, batch.columns, strict=True):
        shown = first_odd(column, infinities=False)
        if shown is not None and _is_of_others(goal):
            raise UnfitValue(
                f"{goal.who}: column '{name}' holds {shown}, which SQLite has no number for",
                "leave these rows out with `where`, give NULL or 0.0 in a query of the home, or "
                "write to a table that hygge makes, which has a mark for it",
            ).at(name, shown)


def _is_of_others(goal: Goal) -> bool:
    path = path_of(goal.url)
    if not os.path.exists(path):
        return False
    with session.opened(path, goal.who, StoreError) as connection:
        is_there = catalog.kind_of(connection, table_name(goal.table)) is not None
        return is_there and not ledger.is_made(connection, goal)
