"""Batches into the run table by COPY: Arrow in PostgreSQL's binary format, passthrough as it is.

A batch of Arrow is checked, encoded and sent as one COPY, so that no statement waits for the next
batch. `pgpq` encodes small pieces, which stay in the processor's cache and keep the server busy;
columns of types that it does not know are encoded here before.

PostgreSQL holds text without NUL and in UTF-8, decimals within their precision, and days and
moments from 4713 BC to the years 5874897 and 294276. Every other value is an UnfitValue, or NULL
(`on_value: set_null`). A column that is to be text (`as_text`) is text from the first row on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from decimal import Context, Decimal
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from hygge.batches import plain, raw_format, rows_in
from hygge.connectors.postgres import session
from hygge.connectors.postgres.copy_in import copy_in
from hygge.connectors.postgres.wire import has_plain_socket
from hygge.connectors.sql.errors import driver_error
from hygge.connectors.sql.goal import Goal, SQLStoreOptions, stored
from hygge.connectors.sql.prefetch import prefetched
from hygge.errors import StoreError, UnfitValue
from hygge.type_words import value_text, word_of

if TYPE_CHECKING:
    import sqlalchemy as sa

_STEP_BYTES = 1 << 20
_NUMERIC_BASE = 10_000
_DAYS = (-2_440_588, 2_145_042_905)
"""The first and the last day of PostgreSQL, since 1970."""
_PER_DAY = {"s": 86_400, "ms": 86_400_000, "us": 86_400_000_000}
_LAST_MOMENT_US = 2**63 - 1
_TEXTS = (pa.string(), pa.large_string())


def load(
    connection: sa.Connection,
    goal: Goal,
    table: str,
    schema: pa.Schema,
    batches: Iterator[pa.Table],
    beat: Callable[[], None],
) -> tuple[int, int]:
    """Load all batches into `table`, which was made for `schema`; return rows and bytes.

    The caller ends the transaction. `beat` is called after each batch.
    """
    driver = session.driver_connection(connection)
    rows, size, plain_socket = 0, 0, has_plain_socket(driver)
    for batch in batches:
        batch = plain(batch)
        size += batch.nbytes
        if batch.num_rows:
            _check_columns(goal, stored(goal, batch.schema), schema)
            batch = fit(goal, batch, schema)
            _copy(connection, goal, table, batch, plain_socket)
        rows += batch.num_rows
        del batch
        beat()
    return rows, size


def _check_columns(goal: Goal, came: pa.Schema, schema: pa.Schema) -> None:
    if came.names != schema.names or came.types != schema.types:
        raise StoreError(
            f"{goal.who}: a batch came as {_listed(came)}, where {_listed(schema)} was expected",
            "every batch of a run has the same columns; run again if the source was changed",
        )


def _listed(schema: pa.Schema) -> str:
    return ", ".join(f"{field.name} {field.type}" for field in schema)


def _copy(
    connection: sa.Connection, goal: Goal, table: str, batch: pa.Table, plain_socket: bool
) -> None:
    import psycopg

    wire = _for_encoder(batch)
    step_rows = max(1, _STEP_BYTES * wire.num_rows // max(1, wire.nbytes))
    names = session.quoted_list(batch.column_names)
    statement = f"COPY {table} ({names}) FROM STDIN (FORMAT binary)"
    try:
        with copy_in(session.driver_connection(connection), statement, plain_socket) as copy:
            for data in prefetched(_encode(wire, step_rows)):
                copy.write(data)
    except psycopg.DataError as error:
        misfit = first_misfit(goal, batch)
        raise misfit or driver_error(error, goal.who, StoreError, False) from error
    _check_count(goal, copy.rows, batch.num_rows)


def _encode(wire: pa.Table, step_rows: int) -> Iterator[bytes]:
    import pgpq

    encoder = pgpq.ArrowToPostgresBinaryEncoder(wire.schema)
    yield encoder.write_header()
    for piece in wire.to_batches(max_chunksize=step_rows):
        yield encoder.write_batch(piece)
    yield encoder.finish()


def load_passthrough(
    connection: sa.Connection,
    goal: Goal,
    table: str,
    names: list[str],
    schema: pa.Schema,
    batches: Iterator[pa.Table],
    beat: Callable[[], None],
) -> tuple[int, int]:
    """Load all chunks of a passthrough as they are, in one COPY; return rows and bytes.

    The caller ends the transaction. `beat` is called after each batch.
    """
    driver = session.driver_connection(connection)
    rows, size, plain_socket = 0, 0, has_plain_socket(driver)
    first = next(batches, None)
    if first is None:
        return 0, 0
    form = (raw_format(schema) or "").removeprefix("pgcopy-")
    listed = session.quoted_list(names)
    statement = f"COPY {table} ({listed}) FROM STDIN (FORMAT {form})"
    with copy_in(driver, statement, plain_socket) as copy:
        batch: pa.Table | None = first
        del first
        while batch is not None:
            for value in batch.column(0):
                chunk = value.as_buffer()
                copy.pass_on(chunk)
                size += chunk.size
            rows += rows_in(batch)
            batch = next(batches, None)
            beat()
    _check_count(goal, copy.rows, rows)
    return rows, size


def _check_count(goal: Goal, taken: int, sent: int) -> None:
    if taken != sent:
        raise StoreError(
            f"{goal.who}: COPY took {taken:,} rows, but {sent:,} were sent",
            "run again; if it happens again, it is an error of hygge's: please report it",
        )


def _for_encoder(batch: pa.Table) -> pa.Table:
    """Return the batch with columns of types that pgpq does not know as types that it knows."""
    for at, field in enumerate(batch.schema):
        column = batch.column(at)
        if pa.types.is_date64(field.type):
            column = column.cast(pa.date32())
        elif field.type == pa.uint64():
            column = column.cast(pa.decimal128(20, 0))
        elif pa.types.is_decimal256(field.type):
            column = pa.chunked_array([_numeric(column, field.type.scale)])
        else:
            continue
        batch = batch.set_column(at, field.with_type(column.type), column)
    return batch.replace_schema_metadata(None)


def _numeric(column: pa.ChunkedArray, scale: int) -> pa.Array:
    """Return decimals as the bytes of PostgreSQL's numeric; value by value: 76 digits are rare."""
    exact = Context(prec=200)
    values = [
        None if value is None else _numeric_bytes(value, scale, exact)
        for value in column.to_pylist()
    ]
    return pa.array(values, pa.binary())


def _numeric_bytes(value: Decimal, scale: int, exact: Context) -> bytes:
    """Encode one numeric: groups of four digits, which begin at the point in both directions."""
    padding = -scale % 4
    groups_behind_point = (scale + padding) // 4
    rest = abs(int(value.scaleb(scale, exact))) * 10**padding
    groups: list[int] = []
    while rest:
        rest, group = divmod(rest, _NUMERIC_BASE)
        groups.append(group)
    weight = len(groups) - 1 - groups_behind_point
    while groups and groups[0] == 0:
        groups.pop(0)
    header = [len(groups), weight if groups else 0, 0x4000 if value < 0 else 0, scale]
    numbers = [*header, *groups[::-1]]
    return b"".join(number.to_bytes(2, "big", signed=number < 0) for number in numbers)


def fit(goal: Goal, batch: pa.Table, schema: pa.Schema) -> pa.Table:
    """Return a batch in the columns of `schema`, with NULL or text where `on_value` says so.

    Days and moments out of range are errors here, since they would arrive as other ones. All other
    misfits are refused by the server.
    """
    columns = []
    for field, column in zip(schema, batch.columns, strict=True):
        on_value = goal.on_value(field.name)
        if on_value == "as_text" and column.type not in _TEXTS:
            column = _as_text(goal, field.name, column)
        elif on_value == "set_null" or pa.types.is_date(column.type) or is_moment(column.type):
            mask = misfits(column)
            if mask is not None and pc.any(mask).as_py():
                if on_value != "set_null":
                    raise misfit_error(goal, field.name, column, mask)
                column = pc.if_else(mask, pa.scalar(None, column.type), column)
        columns.append(column)
    return pa.table(columns, schema=schema)


def check_batch(goal: Goal, batch: pa.Table) -> None:
    """Raise UnfitValue for a value that PostgreSQL cannot hold, where that is an error."""
    for field, column in zip(batch.schema, batch.columns, strict=True):
        if goal.on_value(field.name) != "error":
            continue
        mask = misfits(column)
        if mask is not None and pc.any(mask).as_py():
            raise misfit_error(goal, field.name, column, mask)


def is_moment(kind: pa.DataType) -> bool:
    """True if it is a timestamp of a unit that PostgreSQL has."""
    return bool(pa.types.is_timestamp(kind) and kind.unit in _PER_DAY)


def misfits(column: pa.ChunkedArray) -> pa.ChunkedArray | None:
    """Return True where PostgreSQL cannot hold a value; None where the type has no such values."""
    kind = column.type
    if kind in _TEXTS:
        mask = pc.match_substring(column, "\0")
        broken = _broken_texts(column)
        return mask if broken is None else pc.or_(mask, broken)
    if pa.types.is_decimal(kind):
        most = Decimal(10**kind.precision - 1).scaleb(-kind.scale, Context(prec=100))
        least = most.copy_negate()
        return pc.or_(
            pc.greater(column, pa.scalar(most, kind)), pc.less(column, pa.scalar(least, kind))
        )
    if pa.types.is_date32(kind):
        return _outside(column.cast(pa.int32()), *_DAYS)
    if pa.types.is_date64(kind):
        per_day = _PER_DAY["ms"]
        return _outside(column.cast(pa.int64()), _DAYS[0] * per_day, _DAYS[1] * per_day)
    if is_moment(kind):
        per_day = _PER_DAY[kind.unit]
        last = _LAST_MOMENT_US // (_PER_DAY["us"] // per_day)
        return _outside(column.cast(pa.int64()), _DAYS[0] * per_day, last)
    return None


def _outside(counts: pa.ChunkedArray, least: int, most: int) -> pa.ChunkedArray | None:
    ends = pc.min_max(counts).as_py()
    if ends["min"] is None or (ends["min"] >= least and ends["max"] <= most):
        return None
    return pc.or_(pc.less(counts, least), pc.greater(counts, most))


def _broken_texts(column: pa.ChunkedArray) -> pa.Array | None:
    """Return True where a text is not UTF-8; None where all are."""
    try:
        column.validate(full=True)
        return None
    except pa.ArrowInvalid:
        return pa.array([_is_broken(text) for text in column], pa.bool_())


def _is_broken(text: pa.Scalar) -> bool:
    try:
        text.as_py()
        return False
    except UnicodeDecodeError:
        return True


def first_misfit(goal: Goal, batch: pa.Table) -> UnfitValue | None:
    """Return the error of the value that the server has refused; None where it is not found."""
    try:
        check_batch(replace(goal, options=SQLStoreOptions()), batch)
    except UnfitValue as error:
        return error
    return None


def misfit_error(
    goal: Goal, name: str, column: pa.ChunkedArray, mask: pa.ChunkedArray
) -> UnfitValue:
    """Return the error that names the column and the first value for which `mask` is true."""
    row = pc.indices_nonzero(mask)[0].as_py()
    kind, value = column.type, value_text(column[row])
    option = f"or NULL instead of it: options: {{on_value: {{{name}: set_null}}}}"
    if kind in _TEXTS:
        what = "the character NUL" if "\\x00" in value else "bytes that are not UTF-8"
        return UnfitValue(
            f"{goal.who}: column '{name}' holds {what}, which a text of PostgreSQL cannot keep; "
            f"the first such value is {value}",
            f"take it out before, make the column binary, {option}",
        ).at(name, row=row)
    if pa.types.is_decimal(kind):
        why = "which is beyond the precision of the column"
    else:
        why = "which is outside of the years that PostgreSQL has"
    return UnfitValue(
        f"{goal.who}: column '{name}' is {word_of(kind)}, but holds {value}, {why}",
        f"leave such rows out, write text (options: {{on_value: {{{name}: as_text}}}}), {option}",
    ).at(name, row=row)


def _as_text(goal: Goal, name: str, column: pa.ChunkedArray) -> pa.ChunkedArray:
    try:
        return column.cast(pa.string())
    except (pa.ArrowNotImplementedError, pa.ArrowInvalid) as error:
        raise UnfitValue(
            f"{goal.who}: column '{name}' is {word_of(column.type)}, which does not become text",
            "turn it into text before, or leave it out with `columns`",
        ) from error
