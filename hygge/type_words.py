"""The words for types in `types:`: from a word to the Arrow type that it means.

    string  text  str  varchar          int8 … int64  uint8 … uint64  int  bigint  smallint
    float16  float32  float64  double   bool  date  time  binary (base64)  binary(n), n bytes each
    decimal(p,s)                        timestamp (microseconds, no zone)
    timestamp_tz (microseconds, UTC)    timestamp[ns]  timestamp[us, tz=Europe/Berlin]

JSONL also knows json (any value, as the JSON text that stands there), list<int64>,
fixed_size_list<int64>[2] and struct<id: int64, tags: list<string>>, with any of these words inside.
Arrow's own text of a type (`str(pa.float16())`) is a word, too.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from hygge.errors import one_of

_TYPE_OF_WORD: dict[str, pa.DataType] = {
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


def type_of(word: str) -> pa.DataType:
    """Return the Arrow type of a word. Raises ValueError with the nearest known word."""
    lower = word.strip().lower()
    if lower in _TYPE_OF_WORD:
        return _TYPE_OF_WORD[lower]
    if match := _DECIMAL.fullmatch(lower):
        precision, scale = int(match[1]), int(match[2] or 0)
        if not (1 <= precision <= 76 and scale <= precision):
            raise ValueError(f"'{word}': precision is 1 to 76, and scale at most the precision")
        if precision <= 38:
            return pa.decimal128(precision, scale)
        return pa.decimal256(precision, scale)
    if match := _TIMESTAMP.fullmatch(word.strip()):
        unit, zone = match[1].lower(), match[2]
        return pa.timestamp(unit, _checked_zone(word, zone)) if zone else pa.timestamp(unit)
    if match := _BYTES.fullmatch(lower):
        return pa.binary(int(match[1] or match[2]))
    raise ValueError(
        f"there is no type '{word}': {one_of('types', lower, [*_TYPE_OF_WORD, 'decimal(p,s)'])}"
    )


_WORD_OF_TYPE: dict[pa.DataType, str] = {
    pa.large_string(): "string", pa.string_view(): "string", pa.large_binary(): "binary",
    pa.binary_view(): "binary", pa.float64(): "float64", pa.float32(): "float32",
    pa.float16(): "float16", pa.date32(): "date", pa.date64(): "date", pa.time64("us"): "time",
    pa.timestamp("us"): "timestamp", pa.timestamp("us", "UTC"): "timestamp_tz", pa.null(): "null",
    pa.month_day_nano_interval(): "interval",
}  # fmt: skip
_EXTENSIONS = {"arrow.uuid": "uuid", "arrow.json": "json"}


def word_of(kind: pa.DataType) -> str:
    """Return the word for a type, as people write it under `types:`; else Arrow's own text.

    How values are encoded (dictionary, run-end, view, large) is no part of it.
    """
    t = pa.types
    if kind in _WORD_OF_TYPE:
        return _WORD_OF_TYPE[kind]
    if isinstance(kind, pa.BaseExtensionType):
        name = kind.extension_name
        return _EXTENSIONS.get(name) or f"{name} (kept as {word_of(kind.storage_type)})"
    if t.is_decimal(kind):
        return f"decimal({kind.precision},{kind.scale})"
    if t.is_fixed_size_binary(kind):
        return f"binary({kind.byte_width})"
    if t.is_dictionary(kind) or t.is_run_end_encoded(kind):
        return word_of(kind.value_type)
    if t.is_map(kind):
        return f"map<{word_of(kind.key_type)}, {word_of(kind.item_type)}>"
    if t.is_struct(kind):
        fields = (f"{field.name}: {word_of(field.type)}" for field in kind)
        return f"struct<{', '.join(fields)}>"
    if t.is_union(kind):
        fields = (f"{field.name}: {word_of(field.type)}" for field in kind)
        return f"union<{', '.join(fields)}>"
    if t.is_fixed_size_list(kind):
        return f"fixed_size_list<{word_of(kind.value_type)}>[{kind.list_size}]"
    if hasattr(kind, "value_field"):
        return f"list<{word_of(kind.value_type)}>"
    return str(kind)


def words_of(one: pa.DataType, other: pa.DataType) -> tuple[str, str]:
    """Return the words for two types that differ: Arrow's own texts where they have one word.

    Where these are equal, too, the types differ in the parameters of an extension, which follow.
    """
    words = word_of(one), word_of(other)
    if words[0] == words[1]:
        words = str(one), str(other)
    if words[0] == words[1]:
        words = _with_parameters(one), _with_parameters(other)
    return words


def _with_parameters(kind: pa.DataType) -> str:
    """Return the text of a type, and the parameters of extensions in it."""
    if isinstance(kind, pa.ExtensionType):
        parameters = kind.__arrow_ext_serialize__().decode(errors="backslashreplace")
        return f"{kind.extension_name} {parameters}"
    inner = [_with_parameters(kind.field(at).type) for at in range(kind.num_fields)]
    return f"{kind} of {', '.join(inner)}" if inner else str(kind)


NOT_IN_PARQUET = ("sparse_union", "dense_union", "month_day_nano_interval")
"""Types that only an Arrow file holds, each as the beginning of its text."""
_NOT_IN_JSON = (*NOT_IN_PARQUET, "duration", "map", "extension")


def has_type(kind: pa.DataType, names: tuple[str, ...]) -> bool:
    """Return whether a type, or one inside it, begins with one of `names` in Arrow's text."""
    inner = (kind.field(at).type for at in range(kind.num_fields))
    return str(kind).startswith(names) or any(has_type(each, names) for each in inner)


def formats_with(kind: pa.DataType) -> str:
    """Return the formats of files that hold a type which CSV does not hold, for hints."""
    if has_type(kind, NOT_IN_PARQUET):
        return "arrow"
    return "parquet or arrow" if has_type(kind, _NOT_IN_JSON) else "jsonl or parquet"


def value_text(value: object) -> str:
    """Return a value as a person writes it, at most 60 letters: `'a text'`, `2024-05-01`, `0xff00`.

    Of an Arrow scalar also where Python has no such date or moment.
    """
    if isinstance(value, pa.Scalar):
        value = _python_value(value)
    if isinstance(value, bytes | bytearray | memoryview):
        raw = bytes(value)
        if sum(0x20 <= byte < 0x7F for byte in raw) * 2 > len(raw):  # mostly a text
            text = repr(raw)[1:]
            return text if len(text) <= 60 else f"{text[:42]}…{text[-15:]}"
        return f"0x{raw[:24].hex()}" + ("…" if len(raw) > 24 else "")
    text = repr(value) if isinstance(value, str) else str(value)
    return text if len(text) <= 60 else f"{text[:42]}…{text[-15:]}"


def _python_value(scalar: pa.Scalar) -> object:
    import numpy as np

    kind = scalar.type
    try:
        return scalar.as_py()
    except UnicodeDecodeError:
        return scalar.as_buffer().to_pybytes()
    except (ValueError, OverflowError):  # Python's years are 1 to 9999
        if pa.types.is_date32(kind):
            return np.datetime64(scalar.value, "D")
        unit: Any = "ms" if pa.types.is_date64(kind) else kind.unit
        moment = str(np.datetime64(scalar.value, unit)).replace("T", " ")
        zone = getattr(kind, "tz", None)
        return _Written(f"{moment} UTC" if zone else moment)


class _Written(str):
    """A text that is shown without quotes."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


def nested_type_of(word: str) -> pa.DataType:
    """Return the Arrow type of a word that may also be a list or a struct, as JSONL knows them.

    Raises ValueError, as `type_of` does.
    """
    word = word.strip()
    if match := _LIST.fullmatch(word):
        item = nested_type_of(match[1])
        return pa.list_(item, int(match[2])) if match[2] else pa.list_(item)
    if match := _STRUCT.fullmatch(word):
        fields = [part.partition(":") for part in _split_outside_brackets(match[1])]
        if without_type := [name for name, colon, _ in fields if not colon]:
            raise ValueError(f"'{word}': {without_type[0].strip()!r} is no `name: type`")
        if len({name.strip() for name, _, _ in fields}) < len(fields):
            raise ValueError(f"'{word}': two fields have one name")
        return pa.struct([(name.strip(), nested_type_of(inner)) for name, _, inner in fields])
    return type_of(word)


def is_json(word: str) -> bool:
    """Return whether a word means any JSON value as its text."""
    return word.strip().lower() == "json"


def types_of(words: Mapping[str, str], *, nested: bool = False) -> dict[str, pa.DataType]:
    """Return the types of an option `types` by column. Raises ValueError that names the column."""
    types = {}
    for column, word in words.items():
        try:
            if nested and is_json(word):
                types[column] = pa.string()
                continue
            types[column] = nested_type_of(word) if nested else type_of(word)
        except ValueError as error:
            raise ValueError(f"column '{column}': {error}") from None
    return types


def _checked_zone(word: str, zone: str) -> str:
    from zoneinfo import ZoneInfo

    if zone.upper() == "UTC":
        return "UTC"
    try:
        if not re.fullmatch(r"[+-]\d\d:\d\d", zone):
            ZoneInfo(zone)
    except (KeyError, OSError, ValueError):
        raise ValueError(f"'{word}': there is no time zone '{zone}'") from None
    return zone


def _split_outside_brackets(text: str) -> list[str]:
    """Split `text` at the commas that are in no bracket."""
    parts, depth = [""], 0
    for sign in text:
        depth += (sign in "<([") - (sign in ">)]")
        if sign == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += sign
    return parts


def type_hint(column: str, kind: pa.DataType) -> str:
    """Return what to do about a column of a type that a Store does not hold."""
    t = pa.types
    if t.is_nested(kind) or isinstance(kind, pa.BaseExtensionType):
        return f"leave it out: exclude: [{column}]"
    word = "timestamptz" if t.is_timestamp(kind) and kind.tz is not None else "string"
    word = "int64" if t.is_duration(kind) else word
    return (
        f"state another type, beside all other columns to move: columns: [{{name: {column}, type: "
        f"{word}}}, …]; or leave it out: exclude: [{column}]"
    )
