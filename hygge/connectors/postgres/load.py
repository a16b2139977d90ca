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
import pyarrow.compute as pc

from hygge.batches import plain, raw_format, rows_in
from hygge.connectors.postgres import session
from hygge.connectors.postgres.copy_in import copy_in
from hygge.connectors.postgres.session import driver
from hygge.connectors.postgres.wire import open_socket
from hygge.connectors.sql.errors import driver_error
from hygge.connectors.sql.goal import Goal, stored
from hygge.connectors.sql.prefetch import ahead
from hygge.errors import StoreError, UnfitValue

_STEP_BYTES = 1 << 20
_GROUP = 10_000
_DAYS = (-2_440_588, 2_145_042_905)
_PER_DAY = {"s": 86_400, "ms": 86_400_000, "us": 86_400_000_000}
_LAST_MOMENT_US = 2**63 - 1
_TEXTS = (pa.string(), pa.large_string())


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


def fitted(goal: Goal, batch: pa.Table, schema: pa.Schema) -> pa.Table:
    """A batch in the columns of `schema`, made by `stored`; NULL where a value may be dropped.

    Moments beyond PostgreSQL's are looked for here, since they would become other ones; the server
    finds all other misfits.
    """
    columns = []
    for field, column in zip(schema, batch.columns, strict=True):
        wish = goal.on_value(field.name)
        if wish == "as_text" and column.type not in _TEXTS:
            column = _as_text(goal, field.name, column)
        elif wish == "set_null" or pa.types.is_date(column.type) or is_moment(column.type):
            mask = unfit(column)
            if mask is not None and pc.any(mask).as_py():
                if wish != "set_null":
                    raise misfit(goal, field.name, column, mask)
                column = pc.if_else(mask, pa.scalar(None, column.type), column)
        columns.append(column)
    return pa.table(columns, schema=schema)


def is_moment(kind: Any) -> bool:
    """A timestamp of a unit that PostgreSQL has."""
    return bool(pa.types.is_timestamp(kind) and kind.unit in _PER_DAY)


def unfit(column: Any) -> Any:
    """True where a value cannot be held, or None where the type has no such values."""
    kind = column.type
    if kind in _TEXTS:
        mask = pc.match_substring(column, "\0")
        return pc.or_(mask, broken) if (broken := _broken(column)) is not None else mask
    if pa.types.is_decimal(kind):
        most = Decimal(10**kind.precision - 1).scaleb(-kind.scale, Context(prec=100))
        least = most.copy_negate()
        return pc.or_(
            pc.greater(column, pa.scalar(most, kind)), pc.less(column, pa.scalar(least, kind))
        )
    if pa.types.is_date32(kind):
        return _outside(column.cast(pa.int32()), *_DAYS)
    if pa.types.is_date64(kind):
        day = _PER_DAY["ms"]
        return _outside(column.cast(pa.int64()), _DAYS[0] * day, _DAYS[1] * day)
    if is_moment(kind):
        per_day = _PER_DAY[kind.unit]
        last = _LAST_MOMENT_US // (_PER_DAY["us"] // per_day)
        return _outside(column.cast(pa.int64()), _DAYS[0] * per_day, last)
    return None


def _outside(counts: Any, least: int, most: int) -> Any:
    ends = pc.min_max(counts).as_py()
    if ends["min"] is None or (ends["min"] >= least and ends["max"] <= most):
        return None
    return pc.or_(pc.less(counts, least), pc.greater(counts, most))


def _broken(column: Any) -> Any:
    """True where a text is not UTF-8, or None where none is broken."""
    try:
        column.validate(full=True)
        return None
    except pa.ArrowInvalid:
        return pa.array([_is_broken(each) for each in column], pa.bool_())


def _is_broken(value: Any) -> bool:
    try:
        value.as_py()
        return False
    except UnicodeDecodeError:
        return True


def first_misfit(goal: Goal, batch: pa.Table) -> UnfitValue | None:
    """What the server has refused, if it can be told; a batch is searched only for that."""
    for field, column in zip(batch.schema, batch.columns, strict=True):
        mask = unfit(column)
        if mask is not None and pc.any(mask).as_py():
            return misfit(goal, field.name, column, mask)
    return None


def misfit(goal: Goal, name: str, column: Any, mask: Any) -> UnfitValue:
    """The error that names the column and the first such value."""
    first = column.filter(pc.fill_null(mask, False))[0]
    kind, value = column.type, _shown(first)
    option = f"or NULL instead of it: options: {{on_value: {{{name}: set_null}}}}"
    if kind in _TEXTS:
        nul = "\0" in value
        what = "the character NUL" if nul else "bytes that are not UTF-8"
        return UnfitValue(
            f"{goal.who}: column '{name}' holds {what}, which a text of PostgreSQL cannot keep; "
            f"the first such value is {value!r}",
            f"take it out before, make the column binary, {option}",
        )
    where = (
        "which is outside of the years that PostgreSQL has"
        if not pa.types.is_decimal(kind)
        else "which is beyond the precision of the column"
    )
    return UnfitValue(
        f"{goal.who}: column '{name}' is {kind}, but holds {value}, {where}",
        f"leave such rows out, write text (options: {{on_value: {{{name}: as_text}}}}), {option}",
    )


def _shown(value: Any) -> str:
    try:
        text = str(value.as_py())
    except UnicodeDecodeError:
        text = repr(value.as_buffer().to_pybytes())
    except (ValueError, OverflowError):  # Python's years end at 9999
        text = str(value.value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _as_text(goal: Goal, name: str, column: Any) -> Any:
    try:
        return column.cast(pa.string())
    except (pa.ArrowNotImplementedError, pa.ArrowInvalid) as error:
        raise UnfitValue(
            f"{goal.who}: column '{name}' is {column.type}, which does not become text: {error}",
            "turn it into text before, or leave it out with `columns`",
        ) from error
