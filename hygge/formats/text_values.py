"""Cells of text and the types they may have: what stands behind `types:` and `sample_bytes`.

Words for types: string, int8 … int64, uint8 … uint64, float16, float32, float64, bool, date, time,
timestamp (microseconds, no zone), timestamp_tz (microseconds, UTC), timestamp[ns],
timestamp[us, tz=Europe/Berlin], decimal(p,s), binary (base64), binary(n) for n bytes each.
Aliases: text, int, integer, bigint, float, double, boolean … JSONL also knows list<int64>,
fixed_size_list<int64>[2] and struct<id: int64, tags: list<string>>, any words inside.

What a sample infers (`infer`): a type only where *every* sampled value has its plain form.
  007  +5              text (zip codes, telephone numbers)
  12  -3               int64; beyond it uint64, then decimal(38,0), then text; never float
  1.5  -0  1e+20       float64, where float64 gives back each number exactly; else text
  true False TRUE      bool
  2024-02-29           date
  2024-02-29 10:00:00  timestamp; with Z or +02:00 timestamp_tz (the instant is kept, in UTC)
  nothing at all       text
Later values must have the same form: `fit` refuses 007 in a column inferred int64, and 0.1 with
twenty digits in one inferred float64. A type that was *stated* is taken at its word.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from typing import Any

import pyarrow as pa

from hygge.errors import one_of

_WORDS: dict[str, pa.DataType] = {
    "string": pa.string(), "text": pa.string(), "str": pa.string(), "varchar": pa.string(),
    "int8": pa.int8(), "int16": pa.int16(), "int32": pa.int32(), "int64": pa.int64(),
    "uint8": pa.uint8(), "uint16": pa.uint16(), "uint32": pa.uint32(), "uint64": pa.uint64(),
    "int": pa.int64(), "integer": pa.int64(), "bigint": pa.int64(), "smallint": pa.int16(),
    "float16": pa.float16(), "halffloat": pa.float16(), "float32": pa.float32(),
    "float64": pa.float64(), "float": pa.float64(),
    "double": pa.float64(), "real": pa.float32(),
    "bool": pa.bool_(), "boolean": pa.bool_(),
    "date": pa.date32(), "date32": pa.date32(), "date32[day]": pa.date32(),
    "time": pa.time64("us"), "time64[us]": pa.time64("us"), "time64[ns]": pa.time64("ns"),
    "timestamp": pa.timestamp("us"), "datetime": pa.timestamp("us"),
    "timestamp_tz": pa.timestamp("us", "UTC"), "timestamptz": pa.timestamp("us", "UTC"),
    "binary": pa.binary(), "bytes": pa.binary(),
}  # fmt: skip
_DECIMAL = re.compile(r"(?:decimal|numeric)(?:128|256)?\s*\(\s*(\d+)\s*(?:,\s*(\d+)\s*)?\)")
_TIMESTAMP = re.compile(r"timestamp\[(s|ms|us|ns)(?:,\s*(?:tz=)?([\w+:/-]+))?\]", re.IGNORECASE)
_BYTES = re.compile(r"(?:binary\(\s*(\d+)\s*\)|fixed_size_binary\[(\d+)\])")
_LIST = re.compile(r"(?:fixed_size_)?list<(?:(?:item|element):)?(.*)>(?:\[(\d+)\])?", re.IGNORECASE)
_STRUCT = re.compile(r"struct<(.+)>", re.IGNORECASE)
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


def type_of(word: str) -> pa.DataType:
    """The Arrow type that a word in `types:` means; ValueError with the nearest known one."""
    plain = word.strip().lower()
    if plain in _WORDS:
        return _WORDS[plain]
    if found := _DECIMAL.fullmatch(plain):
        precision, scale = int(found[1]), int(found[2] or 0)
        if not (1 <= precision <= 76 and scale <= precision):
            raise ValueError(f"'{word}': precision is 1 to 76, and scale at most the precision")
        kind = pa.decimal128 if precision <= 38 else pa.decimal256
        return kind(precision, scale)
    if found := _TIMESTAMP.fullmatch(word.strip()):
        unit: Any = found[1].lower()
        return pa.timestamp(unit, _zone(word, found[2])) if found[2] else pa.timestamp(unit)
    if found := _BYTES.fullmatch(plain):
        return pa.binary(int(found[1] or found[2]))
    raise ValueError(
        f"there is no type '{word}': {one_of('types', plain, [*_WORDS, 'decimal(p,s)'])}"
    )


def _zone(word: str, zone: str) -> str:
    from zoneinfo import ZoneInfo

    if zone.upper() == "UTC":
        return "UTC"
    try:
        if not re.fullmatch(r"[+-]\d\d:\d\d", zone):
            ZoneInfo(zone)
    except (KeyError, OSError, ValueError):
        raise ValueError(f"'{word}': there is no time zone '{zone}'") from None
    return zone


def nested_type_of(word: str) -> pa.DataType:
    """The type that a word means where lists and structs can be written too."""
    word = word.strip()
    if found := _LIST.fullmatch(word):
        inner = nested_type_of(found[1])
        return pa.list_(inner, int(found[2])) if found[2] else pa.list_(inner)
    if found := _STRUCT.fullmatch(word):
        fields = [part.partition(":") for part in _at_top(found[1])]
        if unnamed := [name for name, colon, _ in fields if not colon]:
            raise ValueError(f"'{word}': {unnamed[0].strip()!r} is no `name: type`")
        if len({name.strip() for name, _, _ in fields}) < len(fields):
            raise ValueError(f"'{word}': two fields have one name")
        return pa.struct([(name.strip(), nested_type_of(kind)) for name, _, kind in fields])
    return type_of(word)


def _at_top(text: str) -> list[str]:
    """`text` cut at the commas that stand in no bracket."""
    parts, depth = [""], 0
    for sign in text:
        depth += (sign in "<([") - (sign in ">)]")
        if sign == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += sign
    return parts


def types_of(words: dict[str, str], *, nested: bool = False) -> dict[str, pa.DataType]:
    """The types of an option `types`; ValueError names the column."""
    made = {}
    for column, word in words.items():
        try:
            made[column] = nested_type_of(word) if nested else type_of(word)
        except ValueError as error:
            raise ValueError(f"column '{column}': {error}") from None
    return made


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


def moments_text(column: Any) -> Any:
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


def plain_decimals(column: Any) -> Any:
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
