"""How every Arrow type is kept in SQLite, exactly, and read back.

SQLite has five storage classes and no types, so the declared type of a column carries the Arrow
type, and its affinity must leave the stored value alone:

    int64 double string binary bool     INTEGER REAL TEXT BLOB BOOLEAN
    date32 time64[us] timestamp[us]     DATE TIME TIMESTAMP, as ISO 8601 text
    timestamp[us, tz=Europe/Berlin]     "TIMESTAMPTZ Europe/Berlin", as ISO 8601 text in UTC
    decimal128(38, 10)                  DECIMAL_TEXT(38,10), as text with all its digits
    uint64                              U64_TEXT, as text (any name with INT is an affinity)
    other widths and units              INTEGER_8, UINTEGER_32, FLOAT32, TIMESTAMP(9), DURATION(6) …

SQLite turns NaN into NULL and -0.0 into 0.0, so these two are kept in a REAL column as the text
'NaN' and the blob '-0.0': neither is changed by the affinity, and both add up as 0 in SQL.
A foreign table is read by what it declares; see `arrow_for`.
"""

from __future__ import annotations

import re
from typing import Any

import pyarrow as pa

from hygge.errors import UnfitValue

DIGITS = {"s": 0, "ms": 3, "us": 6, "ns": 9}
_BY_DIGITS = {digits: unit for unit, digits in DIGITS.items()}
_PLAIN: dict[str, Any] = {
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
_DECLARED = {kind: word for word, kind in _PLAIN.items()} | {
    pa.large_string(): "TEXT",
    pa.large_binary(): "BLOB",
}
_FOREIGN: dict[str, Any] = {
    "BOOL": pa.bool_(),
    "STRING": pa.string(),
    "BINARY": pa.binary(),
    "VARBINARY": pa.binary(),
    "BYTEA": pa.binary(),
    "UUID": pa.string(),
    "JSON": pa.string(),
    "JSONB": pa.string(),
}
_WIDTHS = {32: pa.decimal32, 64: pa.decimal64, 128: pa.decimal128, 256: pa.decimal256}


def declared_for(kind: Any, column: str) -> str:
    """The declared type that keeps `kind` exactly, or UnfitValue."""
    t: Any = pa.types
    if kind in _DECLARED:
        return _DECLARED[kind]
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
        f"column '{column}' is {kind}, which SQLite cannot keep exactly",
        "leave it out with `columns`, or turn it into text or separate columns before",
    )


def arrow_for(declared: str) -> Any:
    """The Arrow type of a declared type, hygge's own or a foreign one; None: its values decide."""
    word = declared.strip()
    if zone := re.fullmatch(r"TIMESTAMPTZ(?:\((\d)\))? (.+)", word):
        return pa.timestamp(_unit(zone[1]), zone[2])
    name, numbers = _parsed(word.upper())
    if name in _PLAIN:
        return _PLAIN[name]
    if name == "FIXED_BLOB" and numbers:
        return pa.binary(numbers[0])
    if kept := re.fullmatch(r"DECIMAL(\d*)_TEXT", name):
        precision, scale = numbers
        return _WIDTHS[int(kept[1] or (128 if precision <= 38 else 256))](precision, scale)
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
    return _FOREIGN.get(name) or _by_affinity(name)


def _parsed(word: str) -> tuple[str, list[int]]:
    """`NUMERIC(10, 2)` as its name and its numbers; words after the bracket belong to the name."""
    found = re.fullmatch(r"([^(]*?)\s*(?:\(\s*([+-]?\d+)\s*(?:,\s*([+-]?\d+)\s*)?\)\s*(.*))?", word)
    if not found:
        return word, []
    name = f"{found[1]} {found[4] or ''}".strip()
    return name, [int(each) for each in (found[2], found[3]) if each is not None]


def _unit(digits: Any) -> Any:
    return _BY_DIGITS.get(int(digits), "us") if digits is not None else "us"


def _by_affinity(name: str) -> Any:
    """SQLite's own rules (datatype3.html); None where only the values can tell."""
    if "INT" in name:
        return pa.int64()
    if any(each in name for each in ("CHAR", "CLOB", "TEXT")):
        return pa.string()
    if "BLOB" in name:
        return pa.binary()
    if any(each in name for each in ("REAL", "FLOA", "DOUB")):
        return pa.float64()
    return None


def by_classes(classes: set[str]) -> Any:
    """The Arrow type of an undeclared column whose values have these storage classes."""
    if classes <= {"integer"} and classes:
        return pa.int64()
    if classes <= {"integer", "real"} and classes:
        return pa.float64()
    return pa.binary() if classes == {"blob"} else pa.string()


def affinity_of(declared: str) -> str:
    """SQLite's rules in their order (datatype3.html, 3.1)."""
    word = declared.upper()
    if "INT" in word:
        return "INTEGER"
    if any(each in word for each in ("CHAR", "CLOB", "TEXT")):
        return "TEXT"
    if "BLOB" in word or not word:
        return "BLOB"
    return "REAL" if any(each in word for each in ("REAL", "FLOA", "DOUB")) else "NUMERIC"
