"""Compares two tables by one number, which the databases compute where the rows are.

Only where nothing can come between: both ends are tables of one kind of database with the same
columns of the same types, and the flow takes each row as it is; with a cursor, where the source has
nothing beyond the watermark. Equal numbers mean equal rows. Others mean nothing yet: then the rows
are read.
"""

from __future__ import annotations

from contextlib import suppress

from hygge.connectors.databases.home import SQLHome
from hygge.errors import HyggeError
from hygge.home import Home
from hygge.model import Head, Plan
from hygge.run.flow import Flow


def rows_if_same(flow: Flow, store: Home, head: Head) -> int | None:
    """Return how many rows both ends have if they are the same; None: the rows have to be read."""
    home = flow.home
    if flow.shape is not None:
        return None
    if not (isinstance(home, SQLHome) and isinstance(store, SQLHome)):
        return None
    if home.database.name != store.database.name:
        return None
    # Where one of them fails, reading the rows says what is wrong.
    with suppress(HyggeError), home.open(None) as here, store.open(None) as there:
        if _types(here) != _types(there):
            return None
        if flow.cursor is not None and here.watermark != head.watermark:
            return None  # the plan has newer rows
        counted = home.digest(here)
        if counted is not None and counted == store.digest(there):
            return counted[0]
    return None


def are_in_one_file(flow: Flow) -> bool:
    """Return whether one database file holds both ends: then the run itself changes its state."""
    file = flow.home.on_disk() if isinstance(flow.home, SQLHome) else None
    return file is not None and file == flow.store.on_disk()


def _types(plan: Plan) -> list[tuple[str, str | None, object]]:
    return [(column.name, column.native, column.type) for column in plan.columns or ()]
