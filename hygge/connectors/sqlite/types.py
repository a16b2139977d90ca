"""Types of SQLite: the declared type that keeps each Arrow type exactly, and the way back.

SQLite has five storage classes and no types. So the declared type of a column says which Arrow type
it holds, and its affinity must not change the stored value:

    int64 double string binary bool     INTEGER REAL TEXT BLOB BOOLEAN
    date32 time64[us] timestamp[us]     DATE TIME TIMESTAMP, as ISO 8601 text
    timestamp[us, tz=Europe/Berlin]     "TIMESTAMPTZ Europe/Berlin", as ISO 8601 text in UTC
    decimal128(38, 10)                  DECIMAL_TEXT(38,10), as text with all its digits
    uint64                              U64_TEXT, as text (any name with INT is an affinity)
    other widths and units              INTEGER_8, UINTEGER_32, FLOAT32, TIMESTAMP(9), DURATION(6) …

SQLite turns NaN into NULL and -0.0 into 0.0. So a REAL column keeps these two as the text 'NaN' and
the blob '-0.0': the affinity changes neither, and both count as 0 in a sum. In a table that hygge
did not make they are an error.
A table that hygge did not make is read by the types that it declares; see `arrow_for`.
"""

from __future__ import annotations

import re

import pyarrow as pa

from hygge.errors import UnfitValue
from hygge.formats.exact_text import has_text
from hygge.type_words import word_of

DIGITS = {"s": 0, "ms": 3, "us": 6, "ns": 9}
"""Digits of a second's fraction, by Arrow's unit."""
_BY_DIGITS = {digits: unit for unit, digits in DIGITS.items()}
_TYPES: dict[str, pa.DataType] = {
    "INTEGER": pa.int64(),
    "REAL": pa.float64(),
    "TEXT": pa.string(),
    "BLOB": pa.binary(),
    "BOOLEAN": pa.bool_(),
    "DATE": pa.date32(),
    "INTEGER_8": pa.int8(),
    "INTEGER_16": pa.int16(),
    "INTEGER_32": pa.int32(),
    "UINTEGER_8": pa.uint8(),
    "UINTEGER_16": pa.uint16(),
    "UINTEGER_32": pa.uint32(),
    "U64_TEXT": pa.uint64(),
    "FLOAT16": pa.float16(),
    "FLOAT32": pa.float32(),
    "DATE64": pa.date64(),
    "NULL_TEXT": pa.null(),
}
_DECLARED = {kind: word for word, kind in _TYPES.items()} | {
    pa.large_string(): "TEXT",
    pa.large_binary(): "BLOB",
}
_OTHERS_TYPES: dict[str, pa.DataType] = {
    "BOOL": pa.bool_(),
    "STRING": pa.string(),
    "BINARY": pa.binary(),
    "VARBINARY": pa.binary(),
    "BYTEA": pa.binary(),
    "UUID": pa.string(),
    "JSON": pa.string(),
    "JSONB": pa.string(),
}
_AFFINITIES = {
    "INTEGER": pa.int64(),
    "TEXT": pa.string(),
    "BLOB": pa.binary(),
    "REAL": pa.float64(),
}
_WIDTHS = {32: pa.decimal32, 64: pa.decimal64, 128: pa.decimal128, 256: pa.decimal256}


def declared_for(kind: pa.DataType, column: str) -> str:
    """Return the declared type that keeps `kind` exactly; raise UnfitValue if there is none."""
    t = pa.types
    if kind in _DECLARED:
        return _DECLARED[kind]
    if has_text(kind):
        return "TEXT"
    if t.is_decimal(kind):
        natural = 128 if kind.precision <= 38 else 256
        width = "" if kind.bit_width == natural else str(kind.bit_width)
        return f"DECIMAL{width}_TEXT({kind.precision},{kind.scale})"
    digits = DIGITS.get(getattr(kind, "unit", ""), 6)
    suffix = "" if digits == 6 else f"({digits})"
    if t.is_timestamp(kind):
        return f"TIMESTAMPTZ{suffix} {kind.tz}" if kind.tz else f"TIMESTAMP{suffix}"
    if t.is_time(kind):
        return f"TIME{suffix}"
    if t.is_duration(kind):
        return f"DURATION({digits})"
    if t.is_fixed_size_binary(kind) and not isinstance(kind, pa.BaseExtensionType):
        return f"FIXED_BLOB({kind.byte_width})"
    raise UnfitValue(
        f"column '{column}' is {word_of(kind)}, which SQLite cannot keep exactly",
        "leave it out with `columns`, or turn it into text or separate columns before",
    )


def arrow_for(declared: str) -> pa.DataType | None:
    """Return the Arrow type of a declared type, hygge's own or another; None: its values decide."""
    declared = declared.strip()
    if zoned := re.fullmatch(r"TIMESTAMPTZ(?:\((\d)\))? (.+)", declared):
        return pa.timestamp(_unit(zoned[1]), zoned[2])
    name, numbers = _parsed(declared.upper())
    if name in _TYPES:
        return _TYPES[name]
    if name == "FIXED_BLOB" and numbers:
        return pa.binary(numbers[0])
    if own_decimal := re.fullmatch(r"DECIMAL(\d*)_TEXT", name):
        precision, scale = numbers
        return _WIDTHS[int(own_decimal[1] or (128 if precision <= 38 else 256))](precision, scale)
    if name == "DURATION" and numbers:
        return pa.duration(_unit(numbers[0]))
    if name == "TIME":
        unit = _unit(numbers[0] if numbers else None)
        return pa.time32(unit) if unit in ("s", "ms") else pa.time64(unit)
    if name in ("TIMESTAMPTZ", "TIMESTAMP WITH TIME ZONE"):
        return pa.timestamp("us", "UTC")
    if name in ("TIMESTAMP", "DATETIME", "TIMESTAMP WITHOUT TIME ZONE"):
        return pa.timestamp(_unit(numbers[0] if numbers else None))
    if name in ("DECIMAL", "NUMERIC", "NUMBER", "DEC"):
        if numbers and 0 < numbers[0] <= 76:
            make = pa.decimal128 if numbers[0] <= 38 else pa.decimal256
            return make(numbers[0], numbers[1] if len(numbers) > 1 else 0)
        return None
    if name in _OTHERS_TYPES:
        return _OTHERS_TYPES[name]
    return _AFFINITIES.get(affinity_of(name)) if name else None


def _parsed(declared: str) -> tuple[str, list[int]]:
    """Return name and numbers of `NUMERIC(10, 2)`; words after the bracket belong to the name."""
    match = re.fullmatch(
        r"([^(]*?)\s*(?:\(\s*([+-]?\d+)\s*(?:,\s*([+-]?\d+)\s*)?\)\s*(.*))?", declared
    )
    if not match:
        return declared, []
    name = f"{match[1]} {match[4] or ''}".strip()
    return name, [int(number) for number in (match[2], match[3]) if number is not None]


def _unit(digits: int | str | None) -> str:
    """Return Arrow's unit for a number of digits behind the second; microseconds by default."""
    return "us" if digits is None else _BY_DIGITS.get(int(digits), "us")


def by_classes(classes: set[str]) -> pa.DataType:
    """Return the Arrow type of a column without a declared type, by its values' storage classes."""
    if classes == {"integer"}:
        return pa.int64()
    if classes and classes <= {"integer", "real"}:
        return pa.float64()
    return pa.binary() if classes == {"blob"} else pa.string()


def affinity_of(declared: str) -> str:
    """Return the affinity of a declared type, by SQLite's rules (datatype3.html, 3.1)."""
    declared = declared.upper()
    if "INT" in declared:
        return "INTEGER"
    if any(word in declared for word in ("CHAR", "CLOB", "TEXT")):
        return "TEXT"
    if "BLOB" in declared or not declared:
        return "BLOB"
    return "REAL" if any(word in declared for word in ("REAL", "FLOA", "DOUB")) else "NUMERIC"
