"""Values as text, and Arrow types: infer the type of a sample, convert texts exactly, write texts.

`infer` gives a column a type only where *every* sampled value has the plain form of that type:
  007  +5              text (zip codes, telephone numbers)
  12  -3               int64; beyond it uint64, then decimal(38,0), then text; never float
  1.5  -0  1e+20       float64, where float64 gives back each number exactly; else text
  true False TRUE      bool
  2024-02-29           date
  2024-02-29 10:00:00  timestamp; with Z or +02:00 timestamp_tz (the instant is kept, in UTC)
  nothing at all       text
Later values must have the same form: `fit` refuses 007 in a column inferred int64, and 0.1 with
twenty digits in one inferred float64. For a *stated* type (`types:`) any value of it will do.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from typing import TypeAlias

import pyarrow as pa

from hygge import arrays

NO_TEXT = (
    "list", "large_list", "fixed_size_list", "struct", "map", "dense_union", "sparse_union",
    "duration", "month_day_nano_interval",
)  # fmt: skip
"""Types (by the beginning of their text) that have no form as text."""

_INT = "^-?(0|[1-9][0-9]*)$"
# An exponent without a point must have its sign: 12E45 is a code, 1e+45 is a number.
_FLOAT = (
    r"^-?((0|[1-9][0-9]*)(\.[0-9]+)?|\.[0-9]+)([eE][+-][0-9]+)?$"
    r"|^-?(0|[1-9][0-9]*)\.[0-9]+[eE][0-9]+$|^(nan|NaN|-?inf|-?Inf|-?Infinity)$"
)
NOT_FINITE = "(?i)^[+-]?(nan|inf|infinity)$"
_BOOL = "^(true|false|True|False|TRUE|FALSE)$"
_DATE = "^[0-9]{4}-[0-9]{2}-[0-9]{2}$"
_TIME_OF = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}[ T][0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,9})?)?"
_ZONE = "(Z|[+-][0-9]{2}(:?[0-9]{2})?)$"


_PIECE_ROWS = 4096
"""Rows of a column that are converted at once where some do not fit; few values are bad."""
_NAMED = re.compile("(?s)'(.*)'")
"""The text that pyarrow names, in the error of a cast."""

ArrowColumn: TypeAlias = pa.Array | pa.ChunkedArray


_FEW = 0.1
"""The share of other values up to which a column of text is told to be almost all numbers."""


class Unfit(Exception):
    """The text at `index` is no value of its column's type."""

    def __init__(self, index: int) -> None:
        super().__init__(index)
        self.index = index


def infer(texts: ArrowColumn, *, only_times: bool = False) -> pa.DataType:
    """Return the type of a sample. With `only_times`, all but dates and timestamps is text."""
    import pyarrow.compute as pc

    texts = pc.unique(texts.drop_null())
    if len(texts) == 0:
        return pa.string()
    if not only_times and (kind := _number_or_bool(texts)) is not None:
        return kind
    if _all(texts, _DATE):
        return _first_castable(texts, pa.date32())
    if _all(texts, _TIME_OF + "$"):
        return _first_castable(texts, pa.timestamp("us"), pa.timestamp("ns"))
    if _all(texts, _TIME_OF + _ZONE):
        return _first_castable(texts, pa.timestamp("us", "UTC"), pa.timestamp("ns", "UTC"))
    return pa.string()


def inferred_text(kind: pa.DataType, sample: ArrowColumn) -> str:
    """Return the words for a type that `infer` found, with what made text of almost all numbers."""
    why = _why_text(sample) if pa.types.is_string(kind) else ""
    return f"text, inferred: {why}" if why else "text, inferred"


def _why_text(texts: ArrowColumn) -> str:
    import pyarrow.compute as pc

    texts = pc.unique(texts.drop_null())
    is_number = pc.match_substring_regex(texts, _FLOAT)
    others = texts.filter(pc.invert(is_number))
    if len(texts) == 0 or len(others) > len(texts) * _FEW:
        return ""
    if len(others):
        return f"{others[0].as_py()!r} is no plain number"
    inexact = [text for text in texts.to_pylist() if not float_gives_back(text)]
    return f"{inexact[0]!r} is a number that float64 does not give back" if inexact else ""


def fit(texts: ArrowColumn, kind: pa.DataType, inferred: bool) -> ArrowColumn:
    """Convert texts to a type, exactly. Where it is `inferred`, each must have its plain form.

    Raises Unfit with the index of the first text that does not fit.
    """
    try:
        return _converted(texts, kind, inferred)
    except (pa.ArrowInvalid, ValueError):
        start, length = 0, len(texts)
        while length > 1:
            half = length // 2
            try:
                _converted(texts.slice(start, half), kind, inferred)
            except (pa.ArrowInvalid, ValueError):
                length = half
            else:
                start, length = start + half, length - half
        raise Unfit(start) from None


def fit_around(
    texts: ArrowColumn,
    kind: pa.DataType,
    inferred: bool,
    plain: Callable[[ArrowColumn], ArrowColumn],
) -> tuple[pa.Array, list[int]]:
    """Convert texts as `fit` does; NULL in the place of those that do not fit, and their places.

    `plain` makes the texts that are converted; it raises Unfit or ValueError for others.
    """
    import numpy as np
    import pyarrow.compute as pc

    def convert(part: ArrowColumn) -> ArrowColumn:
        return _converted(plain(part), kind, inferred)

    pieces: list[pa.Array] = []
    places: list[int] = []
    for start in range(0, len(texts), _PIECE_ROWS):
        piece = texts.slice(start, _PIECE_ROWS)
        is_done = False
        while not is_done:
            try:
                pieces.append(convert(piece))
                is_done = True
            except (pa.ArrowInvalid, ValueError, Unfit) as error:
                refused = _refused(piece, convert, error)
                places += [start + at for at in refused]
                is_bad = np.zeros(len(piece), np.bool_)
                is_bad[refused] = True
                nulls = pa.nulls(len(piece), pa.string())
                piece = pc.if_else(arrays.booleans(is_bad), nulls, piece)
    whole = pa.concat_arrays(pieces) if pieces else pa.nulls(0, kind)
    return whole, sorted(places)


def _refused(
    texts: ArrowColumn, convert: Callable[[ArrowColumn], object], error: Exception
) -> list[int]:
    """Return places of texts that do not fit, at least one; `error` is that of all of them.

    It may name a text: then all that are the same are found at once.
    """
    import pyarrow.compute as pc

    def fits(start: int, count: int) -> bool:
        try:
            convert(texts.slice(start, count))
        except (pa.ArrowInvalid, ValueError, Unfit):
            return False
        return True

    if named := _NAMED.search(str(error)):
        same = pc.is_in(texts, value_set=arrays.texts([named[1]]))
        places: list[int] = pc.indices_nonzero(same).to_pylist()
        if places and not fits(places[0], 1):
            return places
    start, length = 0, len(texts)
    while length > 1:
        half = length // 2
        if fits(start, half):
            start, length = start + half, length - half
        else:
            length = half
    if fits(start, 1):
        raise error  # each fits, and all do not
    return [start]


def must_be_read_as_text(kind: pa.DataType, inferred: bool) -> bool:
    """Whether pyarrow.csv cannot read this type by itself, or could change a value of it."""
    t = pa.types
    if t.is_string(kind) or is_bytes(kind) or t.is_decimal256(kind) or t.is_float16(kind):
        return True
    return inferred and (t.is_integer(kind) or t.is_floating(kind) or t.is_boolean(kind))


def is_bytes(kind: pa.DataType) -> bool:
    """Whether a type is one of the binary types."""
    t = pa.types
    return bool(t.is_binary(kind) or t.is_large_binary(kind) or t.is_fixed_size_binary(kind))


def is_inexact(texts: pa.Array) -> bool:
    """Whether float64 does not give back one of these numbers."""
    import pyarrow.compute as pc

    # Numbers of up to 15 digits are exact, unless an exponent leads out of the range. There is no
    # scalar to compare a length with: for one, pyarrow loads pandas.
    texts = texts.filter(pc.match_substring_regex(texts, "(?s)^.{16}|[eE]"))
    again = texts.cast(pa.float64()).cast(pa.string())
    texts = texts.filter(pc.not_equal(texts, again))
    return not all(float_gives_back(text) for text in texts.to_pylist() if text is not None)


def float_gives_back(text: str) -> bool:
    """Whether float64 holds a number exactly as it is written."""
    try:
        number = Decimal(text)
        return not number.is_finite() or Decimal(repr(float(text))) == number
    except InvalidOperation:
        return False


def base64_text(column: ArrowColumn) -> pa.Array:
    """Return binary values as base64 text, for formats without binary."""
    values = column.to_pylist()
    return pa.array(
        [None if value is None else base64.b64encode(value).decode() for value in values],
        pa.large_string(),
    )


def decimals_as_text(column: ArrowColumn) -> ArrowColumn:
    """Return decimals as 0.00000001, also where a cast would give 1E-8."""
    if 0 <= column.type.scale <= 6:
        return column.cast(pa.string())
    texts = [None if value is None else f"{value:f}" for value in column.to_pylist()]
    return pa.array(texts, pa.string())


def _number_or_bool(texts: pa.Array) -> pa.DataType | None:
    import pyarrow.compute as pc

    if _all(texts, _INT) and "-0" not in texts.to_pylist():
        if pc.max(pc.binary_length(texts)).as_py() <= 18:
            return pa.int64()
        numbers = [int(text) for text in texts.to_pylist()]
        return integer_type(min(numbers), max(numbers)) or pa.string()
    if _all(texts, _FLOAT):
        finite = texts.filter(pc.invert(pc.match_substring_regex(texts, NOT_FINITE)))
        return pa.float64() if len(finite) and not is_inexact(finite) else pa.string()
    return pa.bool_() if _all(texts, _BOOL) else None


def integer_type(least: int, most: int) -> pa.DataType | None:
    """Return the narrowest of int64, uint64 and decimal(38,0) that holds both, or None."""
    if least >= -(2**63) and most < 2**63:
        return pa.int64()
    if least >= 0 and most < 2**64:
        return pa.uint64()
    return pa.decimal128(38, 0) if max(-least, most) < 10**38 else None


def _all(texts: pa.Array, pattern: str) -> bool:
    """Whether every text matches a pattern."""
    import pyarrow.compute as pc

    return bool(pc.all(pc.match_substring_regex(texts, pattern)).as_py())


def _first_castable(texts: pa.Array, *kinds: pa.DataType) -> pa.DataType:
    """Return the first type that all texts can be cast to; string where there is none."""
    for kind in kinds:
        try:
            texts.cast(kind)
        except pa.ArrowInvalid:
            continue
        return kind
    return pa.string()


def _converted(texts: ArrowColumn, kind: pa.DataType, inferred: bool) -> ArrowColumn:
    if texts.type == kind:
        return texts
    if is_bytes(kind):
        values = texts.to_pylist()
        return pa.array([None if v is None else _from_base64(v) for v in values], kind)
    if inferred:
        _refuse_other_forms(texts, kind)
        return _checked_cast(texts, kind)
    try:
        return _checked_cast(texts, kind)
    except pa.ArrowInvalid:
        import pyarrow.compute as pc

        return _checked_cast(pc.utf8_trim_whitespace(texts), kind)


def _from_base64(text: str) -> bytes:
    return binascii.a2b_base64(text, strict_mode=True)


def _checked_cast(texts: ArrowColumn, kind: pa.DataType) -> ArrowColumn:
    """Cast texts; ValueError where a cast would make an infinity of a large number."""
    import pyarrow.compute as pc

    if pa.types.is_time(kind):
        moment = pc.binary_join_element_wise("1970-01-01T", texts, "")
        return moment.cast(pa.timestamp(kind.unit)).cast(kind)
    values = texts.cast(kind)
    if pa.types.is_floating(kind):
        infinite = pc.is_inf(values)
        if pc.any(infinite).as_py() and not _all(texts.filter(infinite), NOT_FINITE):
            raise ValueError("a number too large for its type")
    return values


def _refuse_other_forms(texts: ArrowColumn, kind: pa.DataType) -> None:
    """Raise ValueError for a form that a cast would accept although the sample had none of it."""
    import pyarrow.compute as pc

    def refuse(has_other_form: pa.Array) -> None:
        if pc.any(has_other_form).as_py():
            raise ValueError("another form than the sample had")

    def starts(prefix: str) -> pa.Array:
        return pc.starts_with(texts, prefix)

    if pa.types.is_integer(kind) or pa.types.is_decimal(kind):
        refuse(pc.match_substring_regex(texts.filter(starts("0")), "(?s)^.."))
        refuse(pc.or_(starts("-0"), starts("+")))
        if pa.types.is_decimal(kind):
            refuse(pc.match_substring_regex(texts, "[^0-9-]"))
    elif pa.types.is_floating(kind):
        refuse(starts("+"))
        zeros = texts.filter(pc.or_(starts("0"), starts("-0")))
        refuse(pc.match_substring_regex(zeros, "^-?0[0-9]"))
        if is_inexact(texts):
            raise ValueError("a number that float64 does not give back")
    elif pa.types.is_boolean(kind):
        refuse(pc.is_in(texts, value_set=arrays.texts(["0", "1"])))


def shortened(value: str) -> str:
    """Return a value as an error shows it."""
    shown = repr(value)
    return shown if len(shown) <= 60 else shown[:40] + "…" + shown[-15:]
