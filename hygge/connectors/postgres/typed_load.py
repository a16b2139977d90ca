"""Rows of another PostgreSQL that come as Arrow, into columns of their own types.

A batch is loaded into a table of the session, whose columns are those of Arrow, and inserted from
there: texts are read by the type that wrote them. All of it is one transaction, so that the rows of
a split have its number.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import pyarrow as pa

from hygge.connectors.postgres import session
from hygge.connectors.postgres.fit import form_of
from hygge.connectors.postgres.load import load
from hygge.connectors.postgres.types import NewColumn, new_columns
from hygge.connectors.sql.goal import Goal
from hygge.errors import StoreError, UnfitValue, without_password

if TYPE_CHECKING:
    import sqlalchemy as sa

_TABLE = "pg_temp._hygge_batch"
_TEXTS = ("text", "character varying", "character", "name", '"char"')


def load_typed(
    connection: sa.Connection,
    goal: Goal,
    table: str,
    schema: pa.Schema,
    batches: Iterator[pa.Table],
    beat: Callable[[], None],
) -> tuple[int, int]:
    """Load all batches into `table`; return rows and bytes. The caller ends the transaction."""
    import psycopg

    plain = schema.remove_metadata()
    columns = ", ".join(
        f"{session.quoted(column.name)} {column.type}" for column in new_columns(connection, plain)
    )
    session.execute(connection, f"CREATE TEMPORARY TABLE _hygge_batch ({columns}) ON COMMIT DROP")
    natives = new_columns(connection, schema)
    names = session.quoted_list(schema.names)
    values = ", ".join(
        _read_as(field, native.type) for field, native in zip(schema, natives, strict=True)
    )
    rows = size = 0
    for batch in batches:
        count, count_bytes = load(connection, goal, _TABLE, plain, iter([batch]), beat)
        del batch
        try:
            taken = session.execute(
                connection, f"INSERT INTO {table} ({names}) SELECT {values} FROM {_TABLE}"
            )
        except psycopg.DataError as error:
            raise _unfit(goal.who, str(error), natives) from error
        if taken != count:
            raise StoreError(f"{goal.who} took {taken:,} of {count:,} rows", "run again")
        session.execute(connection, f"TRUNCATE {_TABLE}")
        rows, size = rows + count, size + count_bytes
    return rows, size


def _unfit(who: str, said: str, natives: Sequence[NewColumn]) -> UnfitValue:
    """Return the error for a value that the type of its column does not take.

    The server names the type alone, so all columns of that type are named.
    """
    said = without_password(said).split("\n")[0]
    named = [repr(column.name) for column in natives if column.type in said]
    where = f" (in {' or '.join(named)})" if named else ""
    column = named[0].strip("'") if len(named) == 1 else "…"
    return UnfitValue(
        f"{who}: {said}{where}",
        "the column keeps the type of the source; to have it as text, say so in the home: "
        f"options: {{types: {{{column}: string}}}}",
    )


def _read_as(field: pa.Field, native: str) -> str:
    """Return SQL of a column's value in its own type; the cast of an INSERT suffices for most."""
    name = session.quoted(field.name)
    if field.type not in (pa.string(), pa.large_string()):
        return name
    form = form_of(native)
    return name if form.name in _TEXTS and not form.is_array else f"{name}::{native}"
