"""Batches into MariaDB: LOAD DATA LOCAL from memory, and not one warning.

A line has its fields behind tabs, backslashes before special characters, \\N for NULL; bytes are
hexadecimal digits. LOCAL makes the server turn errors into warnings and go on. So any warning, and
any row that is missing in the server's count, fails the split.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pyarrow as pa

from hygge.batches import plain, slices
from hygge.connectors.mariadb.session import execute, fetch_all, quoted
from hygge.connectors.mariadb.wire import load
from hygge.connectors.sql.goal import Goal
from hygge.connectors.sql.prefetch import prefetched
from hygge.errors import StoreError, UnfitValue
from hygge.formats.exact_text import check_texts
from hygge.type_words import value_text, word_of

if TYPE_CHECKING:
    from pymysql.connections import Connection

SPLIT, ROW = "_hygge_split", "_hygge_row"
"""Columns of a run table that are hygge's own: the split of a row, and its number for a merge, and
where rows may be set aside."""
ROWS_PER_SPLIT = 2**40
"""Numbers of rows that a split may give."""
_ESCAPES = (("\\", "\\\\"), ("\t", "\\t"), ("\n", "\\n"), ("\0", "\\0"))
_DAYS = (-719_162, 2_932_896)
"""0001-01-01 … 9999-12-31, in days since 1970-01-01."""
_PER_DAY = {"s": 86_400, "ms": 86_400_000, "us": 86_400_000_000}
_STEP_BYTES = 4 << 20
_DUPLICATE = (1062, 1022, 1586)


def load_split(
    connection: Connection,
    goal: Goal,
    table: str,
    schema: pa.Schema,
    batches: Iterator[pa.Table],
    split_number: int,
    first_row: int | None,
    alive: Callable[[], None],
    merges: bool = False,
) -> tuple[int, int]:
    """Load the batches into `table`; return their rows and bytes.

    `schema`: the columns as they are written. `first_row`: rows are numbered too, from this on.
    `alive` is called after each batch. Raises UnfitValue and StoreError.
    """
    sent = size = 0

    def chunks() -> Iterator[memoryview]:
        nonlocal sent, size
        for batch in batches:
            sent += batch.num_rows
            size += batch.nbytes
            # In small steps: the fields of a whole batch are three times as large as the batch.
            pieces = slices(plain(batch), batch.num_rows, _STEP_BYTES)
            yield from prefetched(_lines(goal, piece, schema) for piece in pieces)
            del pieces, batch
            alive()

    fields, assignments = [], [f"{quoted(SPLIT)} = {split_number}"]
    for at, field in enumerate(schema):
        name = quoted(field.name)
        if _is_bytes(field.type):
            fields.append(f"@b{at}")
            assignments.append(f"{name} = UNHEX(@b{at})")
        else:
            fields.append(name)
    if first_row is not None:
        execute(connection, f"SET @hygge_row = {first_row - 1}")
        assignments.append(f"{quoted(ROW)} = (@hygge_row := @hygge_row + 1)")
    taken = load(
        connection,
        # Each line ends with a tab, so @end takes an empty field behind the last one.
        f"LOAD DATA LOCAL INFILE 'hygge' INTO TABLE {table} CHARACTER SET utf8mb4 "
        "FIELDS TERMINATED BY '\\t' ESCAPED BY '\\\\' LINES TERMINATED BY '\\n' "
        f"({', '.join(fields)}, @end) SET {', '.join(assignments)}",
        chunks(),
    )
    _check_warnings(connection, goal, merges=merges)
    if taken != sent:
        raise StoreError(f"{goal.who} took {taken:,} of {sent:,} rows, and did not say why")
    return sent, size


def _check_warnings(connection: Connection, goal: Goal, merges: bool) -> None:
    """Raise UnfitValue if the last statement gave a warning."""
    warnings = fetch_all(connection, "SHOW WARNINGS LIMIT 1")
    if not warnings:
        return
    _, number, message = warnings[0]
    if number in _DUPLICATE:
        raise UnfitValue(
            f"{goal.who}: two rows have one key: {message}",
            f"{'name' if merges else 'use `mode: merge` with'} a `cursor`, so that the last of "
            "them counts, or leave one of them out with `where`",
        )
    raise UnfitValue(
        f"{goal.who}: {message}",
        "widen the column in the database, or decide with options: {on_value: …} on the store",
    )


def _is_bytes(kind: pa.DataType) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _lines(goal: Goal, batch: pa.Table, schema: pa.Schema) -> memoryview:
    """Return a batch as lines, in one buffer."""
    import pyarrow.compute as pc

    fields = []
    check_texts(batch)  # MariaDB takes halves of surrogate pairs for text
    for column, field in zip(batch.columns, schema, strict=True):
        array = column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)
        if isinstance(array, pa.ChunkedArray):
            array = pa.concat_arrays(array.chunks) if array.num_chunks else array
        fields.append(_field_texts(goal, field, array))
    if batch.num_rows == 0:
        return memoryview(b"")
    end, tab = (pa.scalar(text, pa.large_string()) for text in ("\n", "\t"))
    lines = pc.binary_join_element_wise(
        *fields, end, tab, null_handling="replace", null_replacement="\\N"
    )
    # The texts of an array lie one behind the other: they are the file already.
    ends = memoryview(lines.buffers()[1]).cast("q")
    return memoryview(lines.buffers()[2])[ends[lines.offset] : ends[lines.offset + len(lines)]]


def _field_texts(goal: Goal, field: pa.Field, array: pa.Array) -> pa.Array:
    """Return a column as the texts of its fields; a misfit is NULL, or raises UnfitValue."""
    import pyarrow.compute as pc

    t, kind = pa.types, array.type
    if field.type in (pa.string(), pa.large_string()):
        if kind not in (pa.string(), pa.large_string()):
            try:
                array = array.cast(pa.large_string())
            except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
                raise UnfitValue(
                    f"{goal.who}: column '{field.name}' is {word_of(kind)}, which has no text",
                    "turn it into text before, or leave it out with `columns`",
                ) from error
        return _escaped(array.cast(pa.large_string()))
    if _is_bytes(field.type):
        return _digits(array.cast(pa.large_binary()))
    is_misfit = _misfits(array)
    if is_misfit is not None and pc.any(is_misfit).as_py():
        if goal.on_value(field.name) != "set_null":
            raise _misfit_error(goal, field.name, array.filter(is_misfit)[0])
        array = pc.if_else(is_misfit, pa.scalar(None, kind), array)
    if t.is_boolean(kind):
        array = array.cast(pa.int8())
    elif t.is_floating(kind):
        array = array.cast(pa.float64())
    elif t.is_date(kind):
        array = array.cast(pa.date32())
    elif t.is_timestamp(kind):
        array = array.cast(pa.int64()).cast(pa.timestamp(kind.unit))
    return array.cast(pa.string()).cast(pa.large_string())


def check_batch(goal: Goal, batch: pa.Table) -> None:
    """Raise UnfitValue for a value that MariaDB does not have, where that is an error."""
    import pyarrow.compute as pc

    check_texts(batch)
    for field, column in zip(batch.schema, batch.columns, strict=True):
        if goal.on_value(field.name) != "error":
            continue
        begin = 0
        for chunk in column.chunks:
            is_misfit = _misfits(chunk)
            if is_misfit is not None and pc.any(is_misfit).as_py():
                first = pc.indices_nonzero(is_misfit)[0].as_py()
                raise _misfit_error(goal, field.name, chunk[first], begin + first)
            begin += len(chunk)


def _misfit_error(goal: Goal, name: str, value: pa.Scalar, row: int | None = None) -> UnfitValue:
    return UnfitValue(
        f"{goal.who}: column '{name}' holds {value_text(value)}, which MariaDB cannot keep in a "
        f"column of {word_of(value.type)}",
        f"decide: options: {{on_value: {{{name}: set_null}}}} on the store writes NULL, "
        f"{{on_value: {{{name}: as_text}}}} makes the column a text",
    ).at(name, row=row)


def _misfits(array: pa.Array) -> pa.Array | None:
    """Return True for each value that MariaDB does not have; None for types it has all values of.

    These are NaN, the infinities, -0.0, and the years before 1 and after 9999.
    """
    import pyarrow.compute as pc

    t, kind = pa.types, array.type
    if t.is_floating(kind):
        wide = array.cast(pa.float64())
        is_minus_zero = pc.and_(pc.equal(wide, 0.0), pc.less(pc.divide(1.0, wide), 0.0))
        return pc.fill_null(pc.or_(pc.invert(pc.is_finite(wide)), is_minus_zero), False)
    if t.is_date(kind):
        return _outside(array.cast(pa.date32()).cast(pa.int32()), *_DAYS)
    if t.is_timestamp(kind):
        per_day = _PER_DAY[kind.unit]
        return _outside(array.cast(pa.int64()), _DAYS[0] * per_day, (_DAYS[1] + 1) * per_day - 1)
    return None


def _outside(numbers: pa.Array, low: int, high: int) -> pa.Array:
    import pyarrow.compute as pc

    outside = pc.or_(pc.less(numbers, low), pc.greater(numbers, high))
    return pc.fill_null(outside, False)


def _escaped(texts: pa.Array) -> pa.Array:
    """Return texts with backslashes; only the characters that occur are looked for."""
    import numpy as np
    import pyarrow.compute as pc

    _, offsets, data = texts.buffers()
    if data is None:
        return texts
    ends = np.frombuffer(offsets, np.int64)[texts.offset : texts.offset + len(texts) + 1]
    used = np.frombuffer(data, np.uint8)[ends[0] : ends[-1]]
    for special, written in _ESCAPES:
        if (used == ord(special)).any():
            texts = pc.replace_substring(texts, special, written)
    return texts


def _digits(data: pa.Array) -> pa.Array:
    """Return bytes as texts of hexadecimal digits."""
    import numpy as np

    count, offset = len(data), data.offset
    if data.buffers()[2] is None:
        return data.cast(pa.large_string())
    ends = np.frombuffer(data.buffers()[1], np.int64)[offset : offset + count + 1]
    raw = np.frombuffer(data.buffers()[2], np.uint8)[ends[0] : ends[-1]]
    pairs = np.frombuffer(b"".join(b"%02X" % byte for byte in range(256)), np.uint16)
    validity = None if data.null_count == 0 else data.is_valid().buffers()[1]
    return pa.Array.from_buffers(
        pa.large_string(),
        count,
        [validity, pa.py_buffer((ends - ends[0]) * 2), pa.py_buffer(pairs[raw])],
    )
