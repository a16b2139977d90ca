"""The rows that a table holds before a run, counted up to a bound."""

from __future__ import annotations

from hygge.model import TargetState

MOST = 1_000_000
"""Rows that are counted; of a larger table only that it is larger is said."""


def count_sql(table: str) -> str:
    """Return the SELECT that counts the rows of `table`, a name in quotes, up to MOST + 1."""
    return f"SELECT COUNT(*) FROM (SELECT 1 FROM {table} LIMIT {MOST + 1}) counted"


def state_of(
    rows: int | None, changes: tuple[str, ...] = (), is_adopted: bool = False
) -> TargetState:
    """Return the state of a table with so many rows; None: this user may not count them."""
    if rows is None:
        return TargetState(True, changes=changes, is_adopted=is_adopted)
    return TargetState(True, min(rows, MOST), rows <= MOST, changes, is_adopted)
