"""JSON values and Arrow types: parse a line exactly, infer a type, convert a value.

Numbers are kept as their text (`Number`) until a type says what they are, so that neither a
decimal nor a 64-bit integer goes through a float.

`infer` makes of numbers int64, then uint64, then decimal(38,0), or float64 where float64 gives back
each of them; of texts that are all dates or timestamps (not inside objects and lists) such a type,
else text; of objects a struct of all fields seen; of lists a list; of nothing but null text. Values
of two kinds in one column, or a number that float64 does not hold, are an error that asks for
`types`.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Sequence
from decimal import Decimal

import pyarrow as pa

from hygge import arrays
from hygge.errors import UnfitValue
from hygge.formats import text_values

_WHOLE = re.compile(r"-?(0|[1-9][0-9]{0,80})")
_MOST_DIGITS = 76  # of decimal256
_NOT_FINITE = ("NaN", "Infinity", "-Infinity", "nan", "inf", "-inf")


NO_JSON = ("map", "dense_union", "sparse_union", "duration", "month_day_nano_interval")
"""Types (by the beginning of their text) that JSON has no form for."""


class Number(str):
    """A JSON number, as it is written."""

    __slots__ = ()


Json = None | bool | str | list["Json"] | dict[str, "Json"]
"""A parsed value; its numbers are `Number`s, which are str."""


_KINDS = {
    Number: "a number", str: "a text", bool: "true or false", list: "a list", dict: "an object",
}  # fmt: skip
"""The class of a value that is not null → its kind, in words."""


class Misfit(Exception):
    """A value that its column's type does not hold; the message shows it."""


def parse(line: str) -> Json:
    """Parse a line, with numbers as `Number`. Raises ValueError where an object repeats a name."""
    value: Json = json.loads(
        line,
        parse_int=Number,
        parse_float=Number,
        parse_constant=Number,
        object_pairs_hook=_object,
    )
    return value


def _object(pairs: Sequence[tuple[str, Json]]) -> dict[str, Json]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"field '{twice}' stands twice")
    return fields


_RAW = json.JSONDecoder(parse_int=str, parse_float=str, parse_constant=str)
_BLANKS = re.compile(r"[ \t\n\r]*")


def texts_of(line: str) -> dict[str, str]:
    """Return the text of each field's value as it stands in a line that `parse` has accepted."""
    texts: dict[str, str] = {}
    at = _after_blanks(line, line.index("{") + 1)
    while line[at] != "}":
        name, at = _RAW.raw_decode(line, at)
        start = _after_blanks(line, _after_blanks(line, at) + 1)  # behind the colon
        _, at = _RAW.raw_decode(line, start)
        texts[name] = line[start:at]
        at = _after_blanks(line, at)
        if line[at] == ",":
            at = _after_blanks(line, at + 1)
    return texts


def _after_blanks(line: str, at: int) -> int:
    match = _BLANKS.match(line, at)
    assert match is not None
    return match.end()


def value_of(value: Json, kind: pa.DataType, stated: bool) -> object:
    """Return a parsed value as `pa.array` takes it for a type, exactly. Raises Misfit."""
    t = pa.types
    if value is None:
        return None
    if t.is_fixed_size_list(kind) and isinstance(value, list) and len(value) != kind.list_size:
        raise Misfit(_shown(value))
    if (t.is_list(kind) or t.is_fixed_size_list(kind)) and isinstance(value, list):
        return [value_of(item, kind.value_type, stated) for item in value]
    if t.is_struct(kind) and isinstance(value, dict):
        return _struct_of(value, kind, stated)
    if t.is_boolean(kind) and isinstance(value, bool):
        return value
    if t.is_string(kind):
        return _text_of(value, stated)
    if isinstance(value, str) and not t.is_nested(kind):
        converted = _number_of(value, kind, stated)
        if converted is not None:
            return converted
    raise Misfit(_shown(value))


def _struct_of(value: dict[str, Json], kind: pa.StructType, stated: bool) -> dict[str, object]:
    fields = {kind.field(i).name: kind.field(i).type for i in range(kind.num_fields)}
    if unknown := [name for name in value if name not in fields]:
        raise Misfit(f"{_shown(value)}, with a field '{unknown[0]}' besides,")
    return {name: value_of(value.get(name), inner, stated) for name, inner in fields.items()}


def _text_of(value: Json, stated: bool) -> str:
    if isinstance(value, str) and not isinstance(value, Number):
        try:
            value.encode()
        except UnicodeEncodeError:
            raise Misfit(f"{_shown(value)} (half of a surrogate pair)") from None
        return value
    if stated:
        return as_json(value)
    raise Misfit(_shown(value))


def _number_of(value: str, kind: pa.DataType, stated: bool) -> object:
    """Return a number, or what JSON writes as text: dates, times, timestamps, binary, NaN.

    None where the value is none of the type.
    """
    t = pa.types
    is_number = isinstance(value, Number)
    if t.is_integer(kind):
        fits = _WHOLE.fullmatch(value) and (is_number or stated)
        if not fits or (value == "-0" and not stated):
            return None
        low, high = (-(2 ** (kind.bit_width - 1)), 2 ** (kind.bit_width - 1))
        if t.is_unsigned_integer(kind):
            low, high = 0, 2**kind.bit_width
        return int(value) if low <= int(value) < high else None
    if t.is_floating(kind):
        if value in _NOT_FINITE:
            return float(value)
        if not (is_number or stated) or (not stated and not text_values.float_gives_back(value)):
            return None
    if t.is_decimal(kind) and not (is_number or stated):
        return None
    if is_number and not (t.is_floating(kind) or t.is_decimal(kind)):
        return None
    try:
        scalar = text_values.fit(pa.array([str(value)]), kind, False)[0]
    except text_values.Unfit:
        return None
    return scalar if t.is_temporal(kind) else scalar.as_py()


def as_json(value: Json) -> str:
    """Return a parsed value as JSON text, with its numbers as they were written."""
    if isinstance(value, Number):
        return str(value)
    if isinstance(value, dict):
        inner = (f"{json.dumps(k, ensure_ascii=False)}:{as_json(v)}" for k, v in value.items())
        return "{" + ",".join(inner) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(as_json, value)) + "]"
    return json.dumps(value, ensure_ascii=False)


def _shown(value: Json) -> str:
    return text_values.shortened(as_json(value))


def infer(
    name: str,
    values: list[tuple[int, Json]],
    path: str,
    column: str | None = None,
    nothing: pa.DataType | None = None,
) -> pa.DataType:
    """Return the one type of (line, value) pairs.

    `name` is a column, or (with `column`) a field within that column. `nothing` is the type of
    nothing but null, text where it is not given. Raises UnfitValue that names the lines whose
    values differ.
    """
    hint = f"options: {{types: {{{column or name}: "
    values = [(line, value) for line, value in values if value is not None]
    if not values:
        return nothing or pa.string()
    first_lines = {_KINDS[type(value)]: line for line, value in reversed(values)}
    if len(first_lines) > 1:
        by_line = sorted(first_lines.items(), key=lambda pair: pair[1])
        (one, one_line), (other, other_line) = by_line[:2]
        raise UnfitValue(
            f"{path}: '{name}' is {one} on line {one_line}, {other} on line {other_line}",
            f"`{hint}{_word_for(first_lines)}}}}}` keeps them as text",
        )
    kind = next(iter(first_lines))
    if kind == "a text":
        if column:
            return pa.string()
        texts = [value for _, value in values if isinstance(value, str)]
        return text_values.infer(arrays.texts(texts), only_times=True)
    if kind == "true or false":
        return pa.bool_()
    if kind == "a list":
        lists = [(line, value) for line, value in values if isinstance(value, list)]
        items = [(line, item) for line, value in lists for item in value]
        return pa.list_(infer(name, items, path, column or name, nothing))
    if kind == "an object":
        objects = [(line, value) for line, value in values if isinstance(value, dict)]
        return _infer_struct(name, objects, path, column or name, nothing)
    numbers = [(line, value) for line, value in values if isinstance(value, Number)]
    json_hint = f"`{hint}json}}}}` keeps it as JSON text" if column else None
    return _infer_number(name, numbers, path, hint, json_hint)


def _infer_struct(
    name: str,
    values: list[tuple[int, dict[str, Json]]],
    path: str,
    column: str,
    nothing: pa.DataType | None,
) -> pa.DataType:
    keys = dict.fromkeys(key for _, value in values for key in value)
    if not keys:
        raise UnfitValue(
            f"{path}, line {values[0][0]}: '{name}' is an object without fields",
            f"`options: {{types: {{{column}: json}}}}` keeps it as JSON text",
        )
    fields = []
    for key in keys:
        inner = [(line, value.get(key)) for line, value in values]
        fields.append((key, infer(f"{name}.{key}", inner, path, column, nothing)))
    return pa.struct(fields)


def _word_for(kinds: Iterable[str]) -> str:
    """Return the word of `types` that keeps values of these kinds apart."""
    return "json" if "an object" in kinds else "string"


def _infer_number(
    name: str, values: list[tuple[int, Number]], path: str, hint: str, within: str | None
) -> pa.DataType:
    """Return the one type of numbers; `within`: the hint where they are inside of a value."""
    if all(_WHOLE.fullmatch(value) and value != "-0" for _, value in values):
        numbers = [int(value) for _, value in values]
        if kind := text_values.integer_type(min(numbers), max(numbers)):
            return kind
    for line, value in values:
        if not text_values.float_gives_back(value):
            raise UnfitValue(
                f"{path}, line {line}: '{name}' is {text_values.shortened(value)}, which float64 "
                "does not hold exactly",
                within or _exact_number_hint([value for _, value in values], hint),
            )
    return pa.float64()


def _exact_number_hint(values: Sequence[Number], hint: str) -> str:
    """Return which types of `types` take all these numbers; `hint` ends where the type begins."""
    parts = [Decimal(value).as_tuple() for value in values if value not in _NOT_FINITE]
    scale = max(max(-int(part.exponent), 0) for part in parts)
    whole = max(len(part.digits) + int(part.exponent) for part in parts)
    digits = max(whole, 1) + scale
    rounded = ""
    if all(math.isfinite(float(value)) for value in values if value not in _NOT_FINITE):
        rounded = ", or float64 to round it"
    if digits > _MOST_DIGITS or len(parts) < len(values):
        return f"`{hint}string}}}}` keeps it as text{rounded}"
    precision = max(digits, 38)
    return f'`{hint}"decimal({precision},{scale})"}}}}`, or string{rounded}'
