"""Arrow columns as the values that SQLite keeps, and back; the types are `sqlite_types`'s.

Reading never guesses: a value that is not of its column's type is UnfitValue. Whole columns are
converted at once, and looked at one by one only to name the misfit.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Sequence
from decimal import Decimal, InvalidOperation
from typing import Any

import pyarrow as pa

from hygge.connectors.sqlite.types import DIGITS
from hygge.errors import UnfitValue

NAN, MINUS_ZERO = "NaN", b"-0.0"
_REMEDY = "read it as text: options: {{types: {{{column}: string}}}}, or mend the value"


def encode(column: Any, kind: Any) -> list[Any]:
    """An Arrow column as the Python values that SQLite keeps for `kind`."""
    t: Any = pa.types
    if column.type != kind:
        column = column.cast(kind)
    if t.is_boolean(kind):
        return column.cast(pa.int8()).to_pylist()  # type: ignore[no-any-return]  # a list
    if t.is_floating(kind):
        return _markers(column.cast(pa.float64()))
    if t.is_duration(kind):
        return column.cast(pa.int64()).to_pylist()  # type: ignore[no-any-return]  # a list
    if kind == pa.uint64() or t.is_decimal(kind) or t.is_time(kind):
        return column.cast(pa.string()).to_pylist()  # type: ignore[no-any-return]  # a list
    if t.is_date64(kind):
        column = column.cast(pa.date32())
    if t.is_date(kind) or t.is_timestamp(kind):
        return _iso(column)
    return column.to_pylist()  # type: ignore[no-any-return]  # a list


def _markers(column: Any) -> list[Any]:
    import pyarrow.compute as pc

    values: list[Any] = column.to_pylist()
    odd = pc.or_(pc.is_nan(column), pc.equal(column, 0.0))
    for at in pc.indices_nonzero(pc.fill_null(odd, False)).to_pylist():
        if values[at] != values[at]:
            values[at] = NAN
        elif struct.pack(">d", values[at])[0]:
            values[at] = MINUS_ZERO
    return values


def _iso(column: Any) -> list[Any]:
    """ISO 8601 text; Arrow prints years -32767 … 32767, numpy all others."""
    import pyarrow.compute as pc

    zoned = bool(getattr(column.type, "tz", None))
    if zoned:  # through the bare count: Arrow prints a far moment with a zone wrongly
        column = column.cast(pa.int64()).cast(pa.timestamp(column.type.unit))
    texts = column.cast(pa.string())
    if pc.any(pc.starts_with(texts, "<")).as_py():
        far = [
            t if t is None or t[0] != "<" else _far(v.value, v.type)
            for t, v in zip(texts.to_pylist(), column, strict=True)
        ]
        texts = pa.array(far, pa.string())
    if zoned:
        texts = pc.binary_join_element_wise(texts, "Z", "")
    return texts.to_pylist()  # type: ignore[no-any-return]  # a list


def _far(value: int, kind: Any) -> str:
    import numpy as np

    unit: Any = kind.unit if pa.types.is_timestamp(kind) else "D"
    text = str(np.datetime64(value, unit)).replace("T", " ")
    if text == "NaT":
        raise UnfitValue(f"{kind} {value} has no place in any calendar", "set it to NULL before")
    return text


def decode(values: Sequence[Any], kind: Any, table: str, column: str, asked: bool = False) -> Any:
    """SQLite values as an Arrow array of `kind`, or UnfitValue that names the first misfit.

    `asked`: the user named this type, so that numbers may become text (and text bytes).
    """
    classes = set(map(type, values)) - {type(None)}
    how = _decoder(kind)
    try:
        return how(values, classes, kind, asked)
    except (pa.ArrowException, ValueError, TypeError, OverflowError, InvalidOperation) as error:
        for value in values:
            try:
                how([value], {type(value)} - {type(None)}, kind, asked)
            except (
                pa.ArrowException,
                ValueError,
                TypeError,
                OverflowError,
                InvalidOperation,
            ) as misfit:
                raise UnfitValue(
                    f"{table}: column '{column}' is {kind}, but holds {_shown(value)}",
                    _REMEDY.format(column=column),
                ) from misfit
        raise UnfitValue(f"{table}: column '{column}': {error}") from error


def _shown(value: Any) -> str:
    text = repr(value)
    words = {int: "the integer", float: "the real", str: "the text", bytes: "the blob"}
    return f"{words.get(type(value), '')} {text if len(text) < 60 else text[:57] + '...'}".strip()


def _decoder(kind: Any) -> Callable[[Sequence[Any], set[Any], Any, bool], Any]:
    t: Any = pa.types
    if kind == pa.uint64():
        return _unsigned
    if t.is_integer(kind) or t.is_duration(kind) or t.is_null(kind):
        return _integers
    for question, how in (
        (t.is_floating, _floats),
        (t.is_boolean, _booleans),
        (t.is_decimal, _decimals),
        (t.is_temporal, _moments),
    ):
        if question(kind):
            return how
    return _texts if kind in (pa.string(), pa.large_string()) else _bytes


def _only(classes: set[Any], allowed: set[Any]) -> None:
    # pa.array would take 1.5 as the integer 1, and bytes as text: never ask it to.
    if not classes <= allowed:
        raise TypeError("another storage class")


def _integers(values: Sequence[Any], classes: set[Any], kind: Any, asked: bool) -> Any:
    _only(classes, {int})
    if pa.types.is_duration(kind):
        return pa.array(values, pa.int64()).cast(kind)
    return pa.array(values, kind)


def _unsigned(values: Sequence[Any], classes: set[Any], kind: Any, asked: bool) -> Any:
    _only(classes, {int, str})
    if str in classes:
        return pa.array([None if v is None else str(v) for v in values], pa.string()).cast(kind)
    return pa.array(values, kind)


def _floats(values: Sequence[Any], classes: set[Any], kind: Any, asked: bool) -> Any:
    if classes - {float}:
        values = [_float(value) for value in values]
    wide = pa.array(values, pa.float64())
    if kind == pa.float64():
        return wide
    narrow = wide.cast(kind)
    both = zip(wide.to_pylist(), narrow.cast(pa.float64()).to_pylist(), strict=True)
    if any(one != two and one == one for one, two in both):
        raise ValueError("not exact")
    return narrow


def _float(value: Any) -> float | None:
    if value is None or isinstance(value, float):
        return value
    if isinstance(value, int) and int(float(value)) == value:
        return float(value)
    if value == NAN:
        return float("nan")
    if value == MINUS_ZERO:
        return -0.0
    raise ValueError("not a number")


def _booleans(values: Sequence[Any], classes: set[Any], kind: Any, asked: bool) -> Any:
    _only(classes, {int})
    if not set(values) <= {0, 1, None}:
        raise ValueError("neither 0 nor 1")
    return pa.array(values, pa.int8()).cast(kind)


def _decimals(values: Sequence[Any], classes: set[Any], kind: Any, asked: bool) -> Any:
    if classes <= {str} and kind.bit_width >= 128:
        return pa.array(values, pa.string()).cast(kind)
    _only(classes, {int, float, str})
    # A REAL counts as the shortest decimal that gives it, which is what was written into it.
    exact = [None if v is None else Decimal(repr(v) if isinstance(v, float) else v) for v in values]
    return pa.array(exact, kind)


def _texts(values: Sequence[Any], classes: set[Any], kind: Any, asked: bool) -> Any:
    if asked and classes - {str}:
        values = [_as_text(value) for value in values]
    else:
        _only(classes, {str})
    return pa.array(values, kind)


def _as_text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return value.decode() if isinstance(value, bytes) else repr(value)


def _bytes(values: Sequence[Any], classes: set[Any], kind: Any, asked: bool) -> Any:
    if asked and str in classes:
        values = [v.encode() if isinstance(v, str) else v for v in values]
        classes = classes - {str} | {bytes}
    _only(classes, {bytes})
    return pa.array(values, kind)


def _moments(values: Sequence[Any], classes: set[Any], kind: Any, asked: bool) -> Any:
    t: Any = pa.types
    _only(classes, {str})
    texts = pa.array(values, pa.string())
    if t.is_time(kind):
        import pyarrow.compute as pc

        day = pc.binary_join_element_wise("1970-01-01", texts, " ")
        return day.cast(pa.timestamp(kind.unit)).cast(kind)
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
_FAR_TIME = re.compile(r"([+-]?\d{4,}-\d\d-\d\d)[ T](\d\d:\d\d:\d\d(?:\.(\d{1,9}))?)(Z|\+00:00)?")


def _days(text: str | None) -> int | None:
    import numpy as np

    if text is None:
        return None
    if not _FAR_DATE.fullmatch(text):
        raise ValueError("not a date")
    return int(np.datetime64(text, "D").astype("int64"))


def _count(text: str | None, unit: Any, zoned: bool) -> int | None:
    import numpy as np

    if text is None:
        return None
    found = _FAR_TIME.fullmatch(text)
    if not found:  # a usual year, in a column that also holds a far one
        near = pa.scalar(text).cast(pa.timestamp(unit, "UTC" if zoned else None))
        return int(near.value)
    if len(found[3] or "") > DIGITS[unit] or bool(found[4]) != zoned:
        raise ValueError("not a moment of this type")
    wanted = f"{found[1]}T{found[2]}".lstrip("+")
    count = np.datetime64(wanted, unit)
    if not str(count).startswith(wanted.split(".")[0]):
        raise ValueError("too far for this unit")  # numpy wraps around
    return int(count.astype("int64"))
