"""Text of values of which Arrow writes something else: far dates, and bytes that are no text.

Arrow casts a date beyond the year 32767 to `<value out of range: …>`, and takes any bytes for the
text of a string column that a file says is one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Literal, TypeAlias
from uuid import UUID

import pyarrow as pa

from hygge.errors import UnfitValue
from hygge.type_words import value_text

ArrowColumn: TypeAlias = pa.Array | pa.ChunkedArray
_PER_DAY = {"s": 86_400, "ms": 86_400_000, "us": 86_400_000_000, "ns": 86_400_000_000_000}
_FAR_DAYS = 10_000_000
"""About 27,000 years: Arrow prints what is nearer than that."""


class NoText(Exception):
    """A value that has no text; the message shows it."""


def times_as_text(column: ArrowColumn) -> ArrowColumn:
    """Return dates, times and timestamps as ISO 8601 text; those with a zone in UTC, with a Z.

    Raises NoText for a time outside of a day.
    """
    import pyarrow.compute as pc

    kind = column.type
    if pa.types.is_date64(kind):
        return times_as_text(column.cast(pa.date32()))
    is_zoned = pa.types.is_timestamp(kind) and kind.tz is not None
    if is_zoned:
        # Arrow formats a zone slowly, and far moments wrongly; without one it shows the UTC.
        column = column.cast(pa.int64()).cast(pa.timestamp(kind.unit))
    if has_far(column):
        texts: ArrowColumn = pa.array([_iso(value) for value in column], pa.string())
    else:
        texts = column.cast(pa.string())
    return pc.binary_join_element_wise(texts, "Z", "") if is_zoned else texts


def has_far(column: ArrowColumn) -> bool:
    """Whether Arrow could print one of these dates, times or timestamps as an error."""
    import pyarrow.compute as pc

    kind = column.type
    number = pa.int32() if kind.bit_width == 32 else pa.int64()
    ends = pc.min_max(column.cast(number)).as_py()
    if ends["min"] is None:
        return False
    if pa.types.is_time(kind):
        return bool(ends["min"] < 0 or ends["max"] >= _PER_DAY[kind.unit])
    limit = _FAR_DAYS * (_PER_DAY[kind.unit] if pa.types.is_timestamp(kind) else 1)
    return bool(ends["min"] < -limit or ends["max"] > limit)


def _iso(value: pa.Scalar) -> str | None:
    import numpy as np

    if not value.is_valid:
        return None
    text = value.cast(pa.string()).as_py()
    if text[0] != "<":
        return str(text)
    kind, count = value.type, value.value
    if pa.types.is_time(kind):
        seconds = count / (_PER_DAY[kind.unit] // 86_400)
        raise NoText(f"{seconds:,} s after midnight, which is no time of a day")
    unit: Literal["s", "ms", "us", "ns", "D"] = kind.unit if pa.types.is_timestamp(kind) else "D"
    text = str(np.datetime64(count, unit)).replace("T", " ")
    if text == "NaT":
        raise NoText(f"{kind} {count}, which has no place in any calendar")
    return text


def has_text(kind: pa.DataType) -> bool:
    """Whether an extension type becomes text: a uuid and JSON do."""
    return isinstance(kind, pa.UuidType | pa.JsonType)


def extension_as_text(column: ArrowColumn) -> ArrowColumn:
    """Return uuids as 8-4-4-4-12 digits, and JSON as it stands."""
    if isinstance(column, pa.ChunkedArray):
        return pa.chunked_array(map(extension_as_text, column.chunks), pa.large_string())
    storage = column.storage
    if isinstance(column.type, pa.UuidType):
        texts = [None if value is None else str(UUID(bytes=value)) for value in storage.to_pylist()]
        return pa.array(texts, pa.large_string())
    check_utf8(storage)
    return storage.cast(pa.large_string())


def check_utf8(column: ArrowColumn) -> None:
    """Raise NoText for the first text of a column, at any depth, whose bytes are not UTF-8."""
    chunks = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
    for leaf in (leaf for chunk in chunks for leaf in leaves(chunk, _is_text)):
        try:
            leaf.validate(full=True)
        except pa.ArrowInvalid:
            for value in leaf.cast(pa.large_binary()).to_pylist():
                _decode(value)
            raise


def check_texts(table: pa.Table) -> None:
    """Raise UnfitValue for a text that is not UTF-8, at any depth."""
    for name, column in zip(table.column_names, table.columns, strict=True):
        try:
            check_utf8(column)
        except NoText as problem:
            raise refuse_no_text(name, problem) from None


def check_values(table: pa.Table) -> None:
    """Raise UnfitValue for a text that is not UTF-8, and for a time that has no text."""
    for name, column in zip(table.column_names, table.columns, strict=True):
        try:
            if not pa.types.is_temporal(column.type):
                check_utf8(column)
            elif has_far(column):
                times_as_text(column)
        except NoText as problem:
            raise refuse_no_text(name, problem) from None


def refuse_no_text(column: str, problem: NoText) -> UnfitValue:
    """Return the error for a value of a column that has no text."""
    return UnfitValue(
        f"column '{column}' holds {problem}",
        "mend it at the source, leave the column out with `columns`, or write parquet or arrow",
    ).at(column)


def leaves(array: pa.Array, wanted: Callable[[pa.DataType], bool]) -> Iterator[pa.Array]:
    """Yield the arrays of a `wanted` type in an array, at any depth of structs, maps and lists."""
    t = pa.types
    kind = array.type
    if isinstance(array, pa.ExtensionArray):
        yield from leaves(array.storage, wanted)
    elif wanted(kind):
        yield array
    elif t.is_dictionary(kind):
        yield from leaves(array.dictionary, wanted)
    elif t.is_struct(kind):
        for child in array.flatten():
            yield from leaves(child, wanted)
    elif t.is_map(kind):
        yield from leaves(array.keys, wanted)
        yield from leaves(array.items, wanted)
    elif t.is_list(kind) or t.is_large_list(kind) or t.is_fixed_size_list(kind):
        yield from leaves(array.flatten(), wanted)


def has_repeated_key(maps: pa.Array) -> bool:
    """Whether one of these maps has one key twice."""
    import pyarrow.compute as pc

    entries = maps.cast(pa.list_(pa.struct([("key", maps.type.key_type), maps.type.item_field])))
    keys = entries.flatten().field("key")
    pairs = pa.table({"row": pc.list_parent_indices(entries), "key": keys})
    try:
        distinct = pairs.group_by(["row", "key"]).aggregate([]).num_rows
    except pa.ArrowNotImplementedError:  # for keys that are lists or structs
        distinct = len({(row["row"], repr(row["key"])) for row in pairs.to_pylist()})
    return bool(distinct < pairs.num_rows)


def _is_text(kind: pa.DataType) -> bool:
    t = pa.types
    return bool(t.is_string(kind) or t.is_large_string(kind) or t.is_string_view(kind))


def _decode(value: bytes | None) -> None:
    try:
        if value is not None:
            value.decode()
    except UnicodeDecodeError:
        raise NoText(f"{value_text(value)}, which is no UTF-8 text") from None
