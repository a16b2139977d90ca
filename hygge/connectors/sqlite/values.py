"""Values of SQLite: Arrow columns as what SQLite stores, and back; see `types` for the types.

Reading never guesses: a value that is not of its column's type raises UnfitValue. Whole columns are
converted at once; only after an error is the misfit looked for, value by value.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Sequence
from decimal import Decimal, InvalidOperation
from typing import Literal

import pyarrow as pa

from hygge.connectors.sql.arrays import array_of
from hygge.connectors.sqlite.session import Value
from hygge.connectors.sqlite.types import DIGITS
from hygge.errors import UnfitValue
from hygge.formats.exact_text import (
    NoText,
    check_utf8,
    extension_as_text,
    has_text,
    refuse_no_text,
    times_as_text,
)
from hygge.type_words import value_text, word_of

NAN, MINUS_ZERO = "NaN", b"-0.0"
"""Stored in place of two floats that SQLite itself would change."""


Values = Sequence[Value]
Classes = set[type]
"""The Python classes of a column's values, without that of None."""
_Unit = Literal["s", "ms", "us", "ns", "D"]
_Decoder = Callable[[Values, Classes, pa.DataType, bool], pa.Array]
_MISFIT = (pa.ArrowException, ValueError, TypeError, OverflowError, InvalidOperation)


def encode(name: str, column: pa.ChunkedArray, kind: pa.DataType) -> list[Value]:
    """Return the Arrow column `name` as the Python values that SQLite stores for `kind`."""
    try:
        return _encoded(column, kind)
    except NoText as problem:
        raise refuse_no_text(name, problem) from None


def _encoded(column: pa.ChunkedArray, kind: pa.DataType) -> list[Value]:
    t = pa.types
    if column.type != kind:
        column = column.cast(kind)
    if has_text(kind):
        texts: list[Value] = extension_as_text(column).to_pylist()
        return texts
    if t.is_floating(kind):
        return _floats_with_markers(column.cast(pa.float64()))
    if t.is_date(kind) or t.is_timestamp(kind) or t.is_time(kind):
        texts = times_as_text(column).to_pylist()
        return texts
    if t.is_boolean(kind):
        column = column.cast(pa.int8())
    elif t.is_duration(kind):
        column = column.cast(pa.int64())
    elif kind == pa.uint64() or t.is_decimal(kind):
        column = column.cast(pa.string())
    check_utf8(column)
    values: list[Value] = column.to_pylist()
    return values


def _floats_with_markers(column: pa.ChunkedArray) -> list[Value]:
    """Return floats, with NaN and -0.0 as their markers."""
    import pyarrow.compute as pc

    values: list[Value] = column.to_pylist()
    special = pc.or_(pc.is_nan(column), pc.equal(column, 0.0))
    for at in pc.indices_nonzero(pc.fill_null(special, False)).to_pylist():
        value = values[at]
        if value != value:
            values[at] = NAN
        elif struct.pack(">d", value)[0]:  # the sign bit
            values[at] = MINUS_ZERO
    return values


def decode(
    values: Values, kind: pa.DataType, table: str, column: str, asked: bool = False
) -> pa.Array:
    """Return SQLite values as an Arrow array of `kind`; raise UnfitValue for the first misfit.

    `asked`: the user named this type, so that numbers may become text (and text bytes).
    """
    decoder = _decoder(kind)
    try:
        return decoder(values, _classes(values), kind, asked)
    except _MISFIT as error:
        for value in values:
            try:
                decoder([value], _classes([value]), kind, asked)
            except _MISFIT as misfit:
                raise UnfitValue(
                    f"{table}: column '{column}' is {word_of(kind)}, but holds {_shown(value)}",
                    _remedy(column, value),
                ) from misfit
        raise UnfitValue(
            f"{table}: column '{column}' is {word_of(kind)}, and its values do not fit together: "
            f"{error}",
            _remedy(column, b"" if bytes in _classes(values) else ""),
        ) from error


def _remedy(column: str, value: Value) -> str:
    """Return a type that holds `value` whatever the others are: bytes may be no text."""
    is_text = True
    if isinstance(value, bytes):
        try:
            value.decode()
        except UnicodeDecodeError:
            is_text = False
        is_text = is_text and value != b""
    word = "string" if is_text else "binary"
    return f"state another type: options: {{types: {{{column}: {word}}}}}, or mend the value"


def _classes(values: Values) -> Classes:
    return set(map(type, values)) - {type(None)}


def _shown(value: Value) -> str:
    names = {int: "the integer", float: "the real", str: "the text", bytes: "the bytes"}
    return f"{names.get(type(value), '')} {value_text(value)}".strip()


def _decoder(kind: pa.DataType) -> _Decoder:
    t = pa.types
    if kind == pa.uint64():
        return _unsigned
    if t.is_integer(kind) or t.is_duration(kind) or t.is_null(kind):
        return _integers
    for is_of_kind, decoder in (
        (t.is_floating, _floats),
        (t.is_boolean, _booleans),
        (t.is_decimal, _decimals),
        (t.is_temporal, _moments),
    ):
        if is_of_kind(kind):
            return decoder
    return _texts if kind in (pa.string(), pa.large_string()) else _bytes


def _only(classes: Classes, allowed: Classes) -> None:
    """Raise TypeError for other classes: pa.array would take 1.5 as 1, and bytes as text."""
    if not classes <= allowed:
        raise TypeError("another storage class")


def _integers(values: Values, classes: Classes, kind: pa.DataType, asked: bool) -> pa.Array:
    _only(classes, {int})
    if pa.types.is_duration(kind):
        return array_of(values, pa.int64()).cast(kind)
    return array_of(values, kind)


def _unsigned(values: Values, classes: Classes, kind: pa.DataType, asked: bool) -> pa.Array:
    _only(classes, {int, str})
    if str in classes:
        texts = [None if v is None else str(v) for v in values]
        return array_of(texts, pa.string()).cast(kind)
    return pa.array(values, kind)


def _floats(values: Values, classes: Classes, kind: pa.DataType, asked: bool) -> pa.Array:
    if classes - {float}:
        values = [_float(value) for value in values]
    wide = array_of(values, pa.float64())
    if kind == pa.float64():
        return wide
    narrow = wide.cast(kind)
    both = zip(wide.to_pylist(), narrow.cast(pa.float64()).to_pylist(), strict=True)
    if any(exact != narrowed and exact == exact for exact, narrowed in both):  # NaN equals nothing
        raise ValueError("not exact")
    return narrow


def _float(value: Value) -> float | None:
    if value is None or isinstance(value, float):
        return value
    if isinstance(value, int) and int(float(value)) == value:
        return float(value)
    if value == NAN:
        return float("nan")
    if value == MINUS_ZERO:
        return -0.0
    raise ValueError("not a number")


def _booleans(values: Values, classes: Classes, kind: pa.DataType, asked: bool) -> pa.Array:
    _only(classes, {int})
    if not set(values) <= {0, 1, None}:
        raise ValueError("neither 0 nor 1")
    return array_of(values, pa.int8()).cast(kind)


def _decimals(values: Values, classes: Classes, kind: pa.DataType, asked: bool) -> pa.Array:
    if classes <= {str} and kind.bit_width >= 128:
        return array_of(values, pa.string()).cast(kind)
    _only(classes, {int, float, str})
    # A REAL counts as the shortest decimal that gives it, which is what people wrote into it.
    exact = [
        None if v is None else Decimal(repr(v) if isinstance(v, float) else str(v)) for v in values
    ]
    return pa.array(exact, kind)


def _texts(values: Values, classes: Classes, kind: pa.DataType, asked: bool) -> pa.Array:
    if asked and classes - {str}:
        values = [_as_text(value) for value in values]
    else:
        _only(classes, {str})
    return array_of(values, kind)


def _as_text(value: Value) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return value.decode() if isinstance(value, bytes) else repr(value)


def _bytes(values: Values, classes: Classes, kind: pa.DataType, asked: bool) -> pa.Array:
    if asked and str in classes:
        values = [v.encode() if isinstance(v, str) else v for v in values]
        classes = classes - {str} | {bytes}
    _only(classes, {bytes})
    return array_of(values, kind)


def _moments(values: Values, classes: Classes, kind: pa.DataType, asked: bool) -> pa.Array:
    t = pa.types
    _only(classes, {str})
    texts = array_of(values, pa.string())
    if t.is_time(kind):
        import pyarrow.compute as pc

        moments = pc.binary_join_element_wise("1970-01-01", texts, " ")
        return moments.cast(pa.timestamp(kind.unit)).cast(kind)
    if t.is_date(kind):
        try:
            return texts.cast(pa.date32()).cast(kind)
        except pa.ArrowInvalid:
            return pa.array([_days(v) for v in values], pa.int32()).cast(pa.date32()).cast(kind)
    plain = pa.timestamp(kind.unit, "UTC" if kind.tz else None)
    try:
        return texts.cast(plain).cast(kind)
    except pa.ArrowInvalid:
        counts = [_count(v, kind.unit, bool(kind.tz)) for v in values]
        return pa.array(counts, pa.int64()).cast(plain).cast(kind)


_FAR_DATE = re.compile(r"[+-]?\d{4,}-\d\d-\d\d")
_FAR_MOMENT = re.compile(r"([+-]?\d{4,}-\d\d-\d\d)[ T](\d\d:\d\d:\d\d(?:\.(\d{1,9}))?)(Z|\+00:00)?")


def _days(text: Value) -> int | None:
    import numpy as np

    if not isinstance(text, str):
        return None
    if not _FAR_DATE.fullmatch(text):
        raise ValueError("not a date")
    return int(np.datetime64(text, "D").astype("int64"))


def _count(text: Value, unit: _Unit, is_zoned: bool) -> int | None:
    import numpy as np

    if not isinstance(text, str):
        return None
    match = _FAR_MOMENT.fullmatch(text)
    if not match:  # a usual year, in a column that also holds one far away
        near = pa.scalar(text).cast(pa.timestamp(unit, "UTC" if is_zoned else None))
        return int(near.value)
    date, clock, fraction, zone = match.groups()
    if len(fraction or "") > DIGITS[unit] or bool(zone) != is_zoned:
        raise ValueError("not a moment of this type")
    wanted = f"{date}T{clock}".lstrip("+")
    count = np.datetime64(wanted, unit)
    if not str(count).startswith(wanted.split(".")[0]):
        raise ValueError("too far for this unit")  # numpy has wrapped around
    return int(count.astype("int64"))
