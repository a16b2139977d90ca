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
from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from typing import Any

import pyarrow as pa

NO_TEXT = (
    "list", "large_list", "fixed_size_list", "struct", "map", "dense_union", "sparse_union",
    "duration", "month_day_nano_interval",
)  # fmt: skip
"""Types (by the beginning of their text) that a cell of text holds no value of."""

_INT = "^-?(0|[1-9][0-9]*)$"
# An exponent without a point must have its sign: 12E45 is a code, 1e+45 is a number.
_FLOAT = (
    r"^-?((0|[1-9][0-9]*)(\.[0-9]+)?|\.[0-9]+)([eE][+-][0-9]+)?$"
    r"|^-?(0|[1-9][0-9]*)\.[0-9]+[eE][0-9]+$|^(nan|NaN|-?inf|-?Inf|-?Infinity)$"
)
_ENDLESS = "(?i)^[+-]?(nan|inf|infinity)$"
_BOOL = "^(true|false|True|False|TRUE|FALSE)$"
_DATE = "^[0-9]{4}-[0-9]{2}-[0-9]{2}$"
_TIME_OF = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}[ T][0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,9})?)?"
_ZONE = "(Z|[+-][0-9]{2}(:?[0-9]{2})?)$"


class Unfit(Exception):
    """The value at `index` is none of its column's type."""

    def __init__(self, index: int) -> None:
        super().__init__(index)
        self.index = index


def infer(texts: Any, *, only_times: bool = False) -> pa.DataType:
    """The type of a sample. `only_times`: dates and timestamps; all other text is meant as text."""
    import pyarrow.compute as pc

    texts = pc.unique(texts.drop_null())
    if len(texts) == 0:
        return pa.string()
    if not only_times and (kind := _infer_plain(texts)) is not None:
        return kind
    if _all(texts, _DATE):
        return _castable(texts, pa.date32())
    if _all(texts, _TIME_OF + "$"):
        return _castable(texts, pa.timestamp("us"), pa.timestamp("ns"))
    if _all(texts, _TIME_OF + _ZONE):
        return _castable(texts, pa.timestamp("us", "UTC"), pa.timestamp("ns", "UTC"))
    return pa.string()


def fit(texts: Any, kind: pa.DataType, inferred: bool) -> Any:
    """`texts` as `kind`, exactly, or Unfit. `inferred`: each must have the plain form as well."""
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


def must_be_read_as_text(kind: pa.DataType, inferred: bool) -> bool:
    """Whether pyarrow.csv by itself could change a value of this type, or cannot read it."""
    t = pa.types
    if t.is_string(kind) or is_bytes(kind) or t.is_decimal256(kind) or t.is_float16(kind):
        return True
    return inferred and (t.is_integer(kind) or t.is_floating(kind) or t.is_boolean(kind))


def is_bytes(kind: pa.DataType) -> bool:
    t = pa.types
    return bool(t.is_binary(kind) or t.is_large_binary(kind) or t.is_fixed_size_binary(kind))


def timestamps_as_text(column: Any) -> Any:
    """Timestamps as ISO 8601 text; those with a zone in UTC, with a Z."""
    import pyarrow.compute as pc

    if column.type.tz is None:
        return column.cast(pa.string())
    # Arrow formats a zone slowly; without one it shows the UTC that it keeps.
    text = column.cast(pa.timestamp(column.type.unit)).cast(pa.string())
    return pc.binary_join_element_wise(text, "Z", "")


def inexact(texts: Any) -> bool:
    """Whether any of these numbers is none that float64 gives back."""
    import pyarrow.compute as pc

    # Up to 15 digits always are, unless an exponent leads out of the range.
    exponent = pc.match_substring(texts, "e", ignore_case=True)
    doubtful = pc.or_(pc.greater(pc.binary_length(texts), pa.scalar(15)), exponent)
    texts = texts.filter(doubtful)
    again = texts.cast(pa.float64()).cast(pa.string())
    texts = texts.filter(pc.not_equal(texts, again))
    return not all(float_gives_back(text) for text in texts.to_pylist() if text is not None)


def float_gives_back(text: str) -> bool:
    try:
        number = Decimal(text)
        return not number.is_finite() or Decimal(repr(float(text))) == number
    except InvalidOperation:
        return False


def base64_text(column: Any) -> Any:
    """Binary as text, for formats that hold none."""
    values = column.to_pylist()
    return pa.array(
        [None if value is None else base64.b64encode(value).decode() for value in values],
        pa.large_string(),
    )


def decimals_as_text(column: Any) -> Any:
    """Decimals as 0.00000001, also where a cast would give 1E-8."""
    if 0 <= column.type.scale <= 6:
        return column.cast(pa.string())
    return pa.array([None if v is None else f"{v:f}" for v in column.to_pylist()], pa.string())


def _infer_plain(texts: Any) -> pa.DataType | None:
    import pyarrow.compute as pc

    if _all(texts, _INT) and "-0" not in texts.to_pylist():
        if pc.max(pc.binary_length(texts)).as_py() <= 18:
            return pa.int64()
        numbers = [int(text) for text in texts.to_pylist()]
        return whole_number(min(numbers), max(numbers)) or pa.string()
    if _all(texts, _FLOAT):
        finite = texts.filter(pc.invert(pc.match_substring_regex(texts, _ENDLESS)))
        return pa.float64() if len(finite) and not inexact(finite) else pa.string()
    return pa.bool_() if _all(texts, _BOOL) else None


def whole_number(least: int, most: int) -> pa.DataType | None:
    """The narrowest of int64, uint64, decimal(38,0) that holds both."""
    if least >= -(2**63) and most < 2**63:
        return pa.int64()
    if least >= 0 and most < 2**64:
        return pa.uint64()
    return pa.decimal128(38, 0) if max(-least, most) < 10**38 else None


def _all(texts: Any, pattern: str) -> bool:
    import pyarrow.compute as pc

    return bool(pc.all(pc.match_substring_regex(texts, pattern)).as_py())


def _castable(texts: Any, *kinds: pa.DataType) -> pa.DataType:
    for kind in kinds:
        try:
            texts.cast(kind)
        except pa.ArrowInvalid:
            continue
        return kind
    return pa.string()


def _converted(texts: Any, kind: pa.DataType, inferred: bool) -> Any:
    if texts.type == kind:
        return texts
    if is_bytes(kind):
        values = texts.to_pylist()
        return pa.array([None if t is None else _from_base64(t) for t in values], kind)
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


def _checked_cast(texts: Any, kind: pa.DataType) -> Any:
    import pyarrow.compute as pc

    if pa.types.is_time(kind):
        moment = pc.binary_join_element_wise("1970-01-01T", texts, "")
        return moment.cast(pa.timestamp(kind.unit)).cast(kind)
    made = texts.cast(kind)
    if pa.types.is_floating(kind):
        endless = pc.is_inf(made)
        if pc.any(endless).as_py() and not _all(texts.filter(endless), _ENDLESS):
            raise ValueError("a number too large for its type")
    return made


def _refuse_other_forms(texts: Any, kind: pa.DataType) -> None:
    """The forms that a cast would take although the sample had none of them."""
    import pyarrow.compute as pc

    def refuse(found: Any) -> None:
        if pc.any(found).as_py():
            raise ValueError("another form than the sample had")

    starts: Callable[[str], Any] = lambda prefix: pc.starts_with(texts, prefix)  # noqa: E731
    if pa.types.is_integer(kind) or pa.types.is_decimal(kind):
        refuse(pc.and_(starts("0"), pc.greater(pc.binary_length(texts), pa.scalar(1))))
        refuse(pc.or_(starts("-0"), starts("+")))
        if pa.types.is_decimal(kind):
            refuse(pc.match_substring_regex(texts, "[^0-9-]"))
    elif pa.types.is_floating(kind):
        refuse(starts("+"))
        zeros = texts.filter(pc.or_(starts("0"), starts("-0")))
        refuse(pc.match_substring_regex(zeros, "^-?0[0-9]"))
        if inexact(texts):
            raise ValueError("a number that float64 does not give back")
    elif pa.types.is_boolean(kind):
        refuse(pc.is_in(texts, value_set=pa.array(["0", "1"])))


def shortened(value: str) -> str:
    """A value as an error shows it."""
    shown = repr(value)
    return shown if len(shown) <= 60 else shown[:40] + "…" + shown[-15:]
