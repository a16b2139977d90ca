"""JSON values and the types they may have: a line parsed exactly, a type inferred, a value fitted.

Numbers are kept as their text (`Number`) until a type says what they are, so that neither a
decimal nor a 64-bit integer goes through a float.

What a sample infers: numbers int64, then uint64, then decimal(38,0), or float64 where float64 gives
back each of them; texts that are all dates or timestamps as such (not inside objects and lists),
else text; objects a struct of all fields seen; lists a list; nothing but null text. Two sorts in
one column, or a number that float64 does not hold, is an error that asks for `types`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from hygge.errors import UnfitValue
from hygge.formats import text_values

_WHOLE = re.compile(r"-?(0|[1-9][0-9]{0,80})")
_ENDLESS = ("NaN", "Infinity", "-Infinity", "nan", "inf", "-inf")


NO_JSON = ("map", "dense_union", "sparse_union", "duration", "month_day_nano_interval")
"""Types (by the beginning of their text) that JSON holds no value of."""


class Number(str):
    """A JSON number, as it is written."""

    __slots__ = ()


class Misfit(Exception):
    """A value that its column's type does not hold; `str` says how it differs."""


def parse(line: str) -> Any:
    """A line's value: numbers as `Number`, a repeated name refused."""
    return json.loads(
        line,
        parse_int=Number,
        parse_float=Number,
        parse_constant=Number,
        object_pairs_hook=_object,
    )


def _object(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"field '{twice}' stands twice")
    return made


def value_of(value: Any, kind: pa.DataType, stated: bool) -> Any:
    """A parsed value as `pa.array` takes it for `kind`, exactly, or Misfit."""
    t = pa.types
    if value is None:
        return None
    if t.is_fixed_size_list(kind) and isinstance(value, list) and len(value) != kind.list_size:
        raise Misfit(_shown(value))
    if (t.is_list(kind) or t.is_fixed_size_list(kind)) and isinstance(value, list):
        return [value_of(each, kind.value_type, stated) for each in value]
    if t.is_struct(kind) and isinstance(value, dict):
        return _struct_of(value, kind, stated)
    if t.is_boolean(kind) and isinstance(value, bool):
        return value
    if t.is_string(kind):
        return _text_of(value, stated)
    if isinstance(value, str):
        whole = _number_of(value, kind, stated)
        if whole is not None:
            return whole
    raise Misfit(_shown(value))


def _struct_of(value: dict[str, Any], kind: Any, stated: bool) -> dict[str, Any]:
    fields = {kind.field(i).name: kind.field(i).type for i in range(kind.num_fields)}
    if unknown := [name for name in value if name not in fields]:
        raise Misfit(f"{_shown(value)}, with a field '{unknown[0]}' besides,")
    return {name: value_of(value.get(name), each, stated) for name, each in fields.items()}


def _text_of(value: Any, stated: bool) -> str:
    if isinstance(value, str) and not isinstance(value, Number):
        try:
            value.encode()
        except UnicodeEncodeError:
            raise Misfit(f"{_shown(value)} (half of a surrogate pair)") from None
        return value
    if stated:
        return as_json(value)
    raise Misfit(_shown(value))


def _number_of(value: str, kind: Any, stated: bool) -> Any:
    """Numbers, and what JSON writes as text: dates, times, timestamps, binary, NaN."""
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
        if value in _ENDLESS:
            return float(value)
        if not (is_number or stated) or (not stated and not text_values.float_gives_back(value)):
            return None
    if t.is_decimal(kind) and not (is_number or stated):
        return None
    if is_number and not (t.is_floating(kind) or t.is_decimal(kind)):
        return None
    try:
        made = text_values.fit(pa.array([str(value)]), kind, False)[0]
    except text_values.Unfit:
        return None
    return made.as_py() if not t.is_temporal(kind) else made


def as_json(value: Any) -> str:
    """A parsed value as JSON text, its numbers as they were written."""
    if isinstance(value, Number):
        return str(value)
    if isinstance(value, dict):
        inner = (f"{json.dumps(k, ensure_ascii=False)}:{as_json(v)}" for k, v in value.items())
        return "{" + ",".join(inner) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(as_json, value)) + "]"
    return json.dumps(value, ensure_ascii=False)


def _shown(value: Any) -> str:
    return text_values.shortened(as_json(value))


def infer(
    name: str, values: list[tuple[int, Any]], path: str, column: str | None = None
) -> pa.DataType:
    """The one type of (line, value) pairs, or UnfitValue that names the lines that differ.

    `name` is a column, or (with `column`) a place within one.
    """
    stated = f"options: {{types: {{{column or name}: "
    values = [(line, value) for line, value in values if value is not None]
    if not values:
        return pa.string()
    sorts = {_sort(value): line for line, value in reversed(values)}
    if len(sorts) > 1:
        (one, at), (other, there) = sorted(sorts.items(), key=lambda pair: pair[1])[:2]
        raise UnfitValue(
            f"{path}: '{name}' is {one} on line {at}, {other} on line {there}",
            f"`{stated}string}}}}` keeps them as JSON text",
        )
    sort = next(iter(sorts))
    if sort == "a text":
        texts = pa.array([value for _, value in values], pa.string())
        return pa.string() if column else text_values.infer(texts, only_times=True)
    if sort == "true or false":
        return pa.bool_()
    if sort == "a list":
        inner = [(line, each) for line, value in values for each in value]
        return pa.list_(infer(name, inner, path, column or name))
    if sort == "an object":
        names = dict.fromkeys(key for _, value in values for key in value)
        if not names:
            raise UnfitValue(
                f"{path}, line {values[0][0]}: '{name}' is an object without fields",
                f"`{stated}string}}}}` keeps it as JSON text",
            )
        fields = [(key, [(line, value.get(key)) for line, value in values]) for key in names]
        return pa.struct(
            [(k, infer(f"{name}.{k}", inner, path, column or name)) for k, inner in fields]
        )
    return _infer_number(name, values, path, stated)


def _sort(value: Any) -> str:
    if isinstance(value, Number):
        return "a number"
    if isinstance(value, str):
        return "a text"
    if isinstance(value, bool):
        return "true or false"
    return "a list" if isinstance(value, list) else "an object"


def _infer_number(name: str, values: list[tuple[int, Any]], path: str, stated: str) -> pa.DataType:
    if all(_WHOLE.fullmatch(value) and value != "-0" for _, value in values):
        numbers = [int(value) for _, value in values]
        if kind := text_values.whole_number(min(numbers), max(numbers)):
            return kind
    for line, value in values:
        if not text_values.float_gives_back(value):
            raise UnfitValue(
                f"{path}, line {line}: '{name}' is {text_values.shortened(value)}, which float64 "
                "does not hold exactly",
                f'`{stated}"decimal(38,10)"}}}}`, or string, or float64 to round it',
            )
    return pa.float64()
