"""Batches into MariaDB: LOAD DATA LOCAL from memory, and not one warning.

Lines of fields behind tabs, with backslashes before what would end one, \\N for NULL; bytes go as
hexadecimal digits. LOCAL makes the server turn errors into warnings and go on, so that any warning,
and any row that is missing in its count, fails the split.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pyarrow as pa

from hygge.batches import plain, slices
from hygge.connectors.mariadb.session import execute, quoted, rows
from hygge.connectors.mariadb.wire import load
from hygge.connectors.sql.goal import Goal
from hygge.connectors.sql.prefetch import ahead
from hygge.errors import StoreError, UnfitValue

SPLIT, ROW = "_hygge_split", "_hygge_row"
_ESCAPES = (("\\", "\\\\"), ("\t", "\\t"), ("\n", "\\n"), ("\0", "\\0"))
_DAYS = (-719_162, 2_932_896)
"""0001-01-01 … 9999-12-31."""
_PER_DAY = {"s": 86_400, "ms": 86_400_000, "us": 86_400_000_000}
_STEP_BYTES = 4 << 20
_DUPLICATE = (1062, 1022, 1586)


def loaded(
    connection: Any,
    goal: Goal,
    table: str,
    schema: pa.Schema,
    batches: Iterator[pa.Table],
    number: int,
    first: int | None,
    alive: Callable[[], None],
) -> tuple[int, int]:
    """Rows and bytes of the batches, which are now in `table` under the split's `number`.

    `schema`: the columns as they are written. `first`: rows are numbered too, from this on.
    """
    sent = size = 0

    def chunks() -> Iterator[Any]:
        nonlocal sent, size
        for batch in batches:
            sent += batch.num_rows
            size += batch.nbytes
            # In small steps: the fields of a whole batch are three times as large as the batch.
            pieces = slices(plain(batch), batch.num_rows, _STEP_BYTES)
            yield from ahead(_lines(goal, piece, schema) for piece in pieces)
            del pieces, batch
            alive()

    fields, turned = [], [f"{quoted(SPLIT)} = {number}"]
    for at, each in enumerate(schema):
        name = quoted(each.name)
        fields.append(f"@b{at}" if _is_bytes(each.type) else name)
        if _is_bytes(each.type):
            turned.append(f"{name} = UNHEX(@b{at})")
    if first is not None:
        execute(connection, f"SET @hygge_row = {first - 1}")
        turned.append(f"{quoted(ROW)} = (@hygge_row := @hygge_row + 1)")
    taken = load(
        connection,
        f"LOAD DATA LOCAL INFILE 'hygge' INTO TABLE {table} CHARACTER SET utf8mb4 "
        "FIELDS TERMINATED BY '\\t' ESCAPED BY '\\\\' LINES TERMINATED BY '\\n' "
        f"({', '.join(fields)}, @end) SET {', '.join(turned)}",
        chunks(),
    )
    _no_warning(connection, goal)
    if taken != sent:
        raise StoreError(f"{goal.who} took {taken:,} of {sent:,} rows, and did not say why")
    return sent, size


def _no_warning(connection: Any, goal: Goal) -> None:
    found = rows(connection, "SHOW WARNINGS LIMIT 1")
    if not found:
        return
    _, number, said = found[0]
    if number in _DUPLICATE:
        raise UnfitValue(
            f"{goal.who}: two rows have one key: {said}",
            "use `mode: merge` with a `cursor`, or leave one of them out with `where`",
        )
    raise UnfitValue(
        f"{goal.who}: {said}",
        "widen the column in the database, or decide with options: {on_value: …} on the store",
    )


def _is_bytes(kind: pa.DataType) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _lines(goal: Goal, batch: pa.Table, schema: pa.Schema) -> Any:
    """A batch as the lines of such a file, in one buffer."""
    import pyarrow.compute as pc

    fields = []
    for column, each in zip(batch.columns, schema, strict=True):
        array = column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)
        if isinstance(array, pa.ChunkedArray):
            array = pa.concat_arrays(array.chunks) if array.num_chunks else array
        fields.append(_texts(goal, each, array))
    if batch.num_rows == 0:
        return b""
    end, tab = (pa.scalar(each, pa.large_string()) for each in ("\n", "\t"))
    whole = pc.binary_join_element_wise(
        *fields, end, tab, null_handling="replace", null_replacement="\\N"
    )
    ends = memoryview(whole.buffers()[1]).cast("q")
    return memoryview(whole.buffers()[2])[ends[whole.offset] : ends[whole.offset + len(whole)]]


def _texts(goal: Goal, each: pa.Field, array: Any) -> Any:
    """A column as fields; a misfit is an error, or NULL."""
    import pyarrow.compute as pc

    t: Any = pa.types
    kind = array.type
    if each.type in (pa.string(), pa.large_string()):
        if kind not in (pa.string(), pa.large_string()):
            try:
                array = array.cast(pa.large_string())
            except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
                raise UnfitValue(
                    f"{goal.who}: column '{each.name}' is {kind}, which has no text: {error}",
                    "turn it into text before, or leave it out with `columns`",
                ) from error
        return _escaped(array.cast(pa.large_string()))
    if _is_bytes(each.type):
        return _digits(array.cast(pa.large_binary()))
    mask = _misfits(array)
    if mask is not None and pc.any(mask).as_py():
        if goal.on_value(each.name) != "set_null":
            first = array.filter(mask)[0]
            raise UnfitValue(
                f"{goal.who}: column '{each.name}' holds {_shown(first)}, which MariaDB cannot "
                f"keep in a column of {kind}",
                f"decide: options: {{on_value: {{{each.name}: set_null}}}} on the store writes "
                f"NULL, {{on_value: {{{each.name}: as_text}}}} makes the column a text",
            )
        array = pc.if_else(mask, pa.scalar(None, kind), array)
    if t.is_boolean(kind):
        array = array.cast(pa.int8())
    elif t.is_floating(kind):
        array = array.cast(pa.float64())
    elif t.is_date(kind):
        array = array.cast(pa.date32())
    elif t.is_timestamp(kind):
        array = array.cast(pa.int64()).cast(pa.timestamp(kind.unit))
    return array.cast(pa.string()).cast(pa.large_string())


def _shown(value: Any) -> str:
    try:
        return str(value.as_py())
    except (ValueError, OverflowError):
        return f"{value.type} {value.value}"


def _misfits(array: Any) -> Any:
    """True where MariaDB has no such value: not a number, infinity, -0.0, years beyond 1 … 9999."""
    import pyarrow.compute as pc

    t: Any = pa.types
    kind = array.type
    if t.is_floating(kind):
        wide = array.cast(pa.float64())
        signed = pc.and_(pc.equal(wide, 0.0), pc.less(pc.divide(1.0, wide), 0.0))
        return pc.fill_null(pc.or_(pc.invert(pc.is_finite(wide)), signed), False)
    if t.is_date(kind):
        return _outside(array.cast(pa.date32()).cast(pa.int32()), *_DAYS)
    if t.is_timestamp(kind):
        per_day = _PER_DAY[kind.unit]
        return _outside(array.cast(pa.int64()), _DAYS[0] * per_day, (_DAYS[1] + 1) * per_day - 1)
    return None


def _outside(numbers: Any, low: int, high: int) -> Any:
    import pyarrow.compute as pc

    outside = pc.or_(pc.less(numbers, low), pc.greater(numbers, high))
    return pc.fill_null(outside, False)


def _escaped(texts: Any) -> Any:
    import numpy as np
    import pyarrow.compute as pc

    _, ends, data = texts.buffers()
    if data is None:
        return texts
    ends = np.frombuffer(ends, np.int64)[texts.offset : texts.offset + len(texts) + 1]
    used = np.frombuffer(data, np.uint8)[ends[0] : ends[-1]]
    for special, written in _ESCAPES:
        if (used == ord(special)).any():
            texts = pc.replace_substring(texts, special, written)
    return texts


def _digits(data: Any) -> Any:
    """Bytes as hexadecimal digits."""
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
