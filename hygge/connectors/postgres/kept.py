"""What a `replace` in PostgreSQL would lose of a table that it makes anew."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hygge.connectors.postgres import session, target
from hygge.connectors.postgres.target import ColumnTypes, Existing, Names, columns_of
from hygge.connectors.sql import ledger as sql_ledger
from hygge.connectors.sql.goal import Goal
from hygge.connectors.sql.own_columns import check_added, gone_notes, own_columns
from hygge.errors import Rejected

if TYPE_CHECKING:
    import sqlalchemy as sa


def check_columns(
    connection: sa.Connection, goal: Goal, old: Existing, columns: ColumnTypes
) -> None:
    """Raise Rejected for a table that would have to be made anew, and would lose something then.

    `columns` are those of the rows.
    """
    own = own_columns(connection, sql_ledger.target_of(goal))
    if target.takes_rows(old, own, columns):
        return
    # What the table fills itself is told as something that depends on it.
    present = [name for name, _ in old.columns if name not in own.filled]
    names = [name for name, _ in columns]
    heads = sql_ledger.heads_at(connection, goal).values()
    check_added(present, names, [head for head, _ in heads], goal.who)
    if not old.hangs:
        return
    listed = ", ".join(old.hangs[:5]) + (" …" if len(old.hangs) > 5 else "")
    raise Rejected(
        f"{goal.who} has other columns than the rows, and something depends on it: {listed}",
        "drop what depends on it, add new columns yourself (ALTER TABLE … ADD COLUMN), or keep the "
        "columns with `columns`",
    )


def changes(connection: sa.Connection, names: Names) -> list[str]:
    """Return what to say of columns that the run table does not have as the target has them.

    Either the source has changed, or somebody had changed the target.
    """
    columns = columns_of(connection, names.schema, names.rows_name)
    present = columns_of(connection, names.schema, names.name)
    types = dict(columns)
    notes = gone_notes((name for name, _ in present), types)
    notes += [
        f"column '{name}' was {kind} and is {types[name]}"
        for name, kind in present
        if types.get(name, kind) != kind
    ]
    rows = session.fetch_all(
        connection,
        "SELECT o.attname FROM pg_attribute o JOIN pg_attribute n ON n.attname = o.attname "
        "WHERE o.attrelid = %s::regclass AND n.attrelid = %s::regclass AND o.attnum > 0 "
        "AND NOT o.attisdropped AND NOT n.attisdropped AND o.attnotnull AND NOT n.attnotnull "
        "ORDER BY o.attnum",
        names.target, names.rows,
    )  # fmt: skip
    listed = ", ".join(f"'{name}'" for (name,) in rows)
    notes += [f"NOT NULL of {listed} is gone: the source allows NULL"] if rows else []
    return notes
