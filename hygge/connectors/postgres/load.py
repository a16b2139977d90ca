"""Batches into a table of PostgreSQL by COPY: Arrow in its binary format, passthrough as it is.

`pgpq` encodes what it knows, in small steps, which stay in the processor's cache and keep the
server busy; what it does not know goes to it as the bytes that PostgreSQL wants. A batch of Arrow
is one COPY, so that nobody waits inside of a statement for the next one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from decimal import Context, Decimal
from typing import Any

import pyarrow as pa

from hygge.batches import plain, raw_format, rows_in
from hygge.connectors.postgres import session
from hygge.connectors.postgres.copy_in import copy_in
from hygge.connectors.postgres.session import driver
from hygge.connectors.postgres.values import first_misfit, fitted
from hygge.connectors.postgres.wire import open_socket
from hygge.connectors.sql.errors import driver_error
from hygge.connectors.sql.goal import Goal, stored
from hygge.connectors.sql.prefetch import ahead
from hygge.errors import StoreError

_STEP_BYTES = 1 << 20
_GROUP = 10_000


def loaded(
    connection: Any,
    goal: Goal,
    table: str,
    schema: pa.Schema,
    batches: Iterator[pa.Table],
    alive: Callable[[], None],
) -> tuple[int, int]:
    """COPY all batches into `table`, made for `schema`; rows and bytes. The caller ends it.

    `alive` is called after each batch.
    """
    rows, size, bare = 0, 0, open_socket(driver(connection))
    for batch in batches:
        batch = plain(batch)
        size += batch.nbytes
        if batch.num_rows:
            _check_columns(goal, stored(goal, batch.schema), schema)
            batch = fitted(goal, batch, schema)
            _copy(connection, goal, table, batch, bare)
        rows += batch.num_rows
        del batch
        alive()
    return rows, size


def _check_columns(goal: Goal, came: pa.Schema, schema: pa.Schema) -> None:
    if came.names != schema.names or came.types != schema.types:
        raise StoreError(
            f"{goal.who}: a batch came as {_listed(came)}, where {_listed(schema)} was expected",
            "every batch of a run has the same columns; run again if the source was changed",
        )


def _listed(schema: pa.Schema) -> str:
    return ", ".join(f"{each.name} {each.type}" for each in schema)


def _copy(connection: Any, goal: Goal, table: str, batch: pa.Table, bare: bool) -> None:
    import psycopg

    wire = _wire(batch)
    step = max(1, _STEP_BYTES * wire.num_rows // max(1, wire.nbytes))
    names = ", ".join(map(session.quoted, batch.column_names))
    statement = f"COPY {table} ({names}) FROM STDIN (FORMAT binary)"
    try:
        with copy_in(driver(connection), statement, bare) as copy:
            for data in ahead(_encoded(wire, step)):
                copy.write(data)
    except psycopg.DataError as error:
        known = first_misfit(goal, batch)
        raise known or driver_error(error, goal.who, StoreError, False) from error
    _check_tag(goal, copy.rows, batch.num_rows)


def _encoded(wire: pa.Table, step: int) -> Iterator[bytes]:
    import pgpq

    encoder = pgpq.ArrowToPostgresBinaryEncoder(wire.schema)
    yield encoder.write_header()
    for piece in wire.to_batches(max_chunksize=step):
        yield encoder.write_batch(piece)
    yield encoder.finish()


def passed(
    connection: Any,
    goal: Goal,
    table: str,
    names: list[str],
    schema: pa.Schema,
    batches: Iterator[pa.Table],
    alive: Callable[[], None],
) -> tuple[int, int]:
    """One COPY of the chunks of a passthrough, as they are; rows and bytes."""
    rows, size, bare = 0, 0, open_socket(driver(connection))
    first = next(batches, None)
    if first is None:
        return 0, 0
    form = (raw_format(schema) or "").removeprefix("pgcopy-")
    listed = ", ".join(map(session.quoted, names))
    statement = f"COPY {table} ({listed}) FROM STDIN (FORMAT {form})"
    with copy_in(driver(connection), statement, bare) as copy:
        batch: pa.Table | None = first
        del first
        while batch is not None:
            for value in batch.column(0):
                chunk = value.as_buffer()
                copy.pass_on(chunk)
                size += chunk.size
            rows += rows_in(batch)
            batch = next(batches, None)
            alive()
    _check_tag(goal, copy.rows, rows)
    return rows, size


def _check_tag(goal: Goal, taken: int, sent: int) -> None:
    if taken != sent:
        raise StoreError(
            f"{goal.who}: COPY took {taken:,} rows, but {sent:,} were sent",
            "run again; if it happens again, it is an error of hygge's: please report it",
        )


def _wire(batch: pa.Table) -> pa.Table:
    """The batch with columns that pgpq does not know as what goes over the wire."""
    for at, field in enumerate(batch.schema):
        column: Any = batch.column(at)
        if pa.types.is_date64(field.type):
            column = column.cast(pa.date32())
        elif pa.types.is_decimal256(field.type):
            column = pa.chunked_array([_numeric(column, field.type.scale)])
        else:
            continue
        batch = batch.set_column(at, field.with_type(column.type), column)
    return batch.replace_schema_metadata(None)


def _numeric(column: Any, scale: int) -> Any:
    """Decimals as PostgreSQL's numeric is sent: groups of four digits, those behind the point too.

    In Python: 76 digits are rare.
    """
    exact = Context(prec=200)
    pad = -scale % 4
    behind = (scale + pad) // 4
    made: list[bytes | None] = []
    for value in column.to_pylist():
        made.append(None if value is None else _sent(value, scale, pad, behind, exact))
    return pa.array(made, pa.binary())


def _sent(value: Decimal, scale: int, pad: int, behind: int, exact: Context) -> bytes:
    rest = abs(int(value.scaleb(scale, exact))) * 10**pad
    groups: list[int] = []
    while rest:
        rest, group = divmod(rest, _GROUP)
        groups.append(group)
    weight = len(groups) - 1 - behind
    while groups and groups[0] == 0:
        groups.pop(0)
    words = [len(groups), weight if groups else 0, 0x4000 if value < 0 else 0, scale]
    return b"".join(each.to_bytes(2, "big", signed=each < 0) for each in [*words, *groups[::-1]])
