"""Types of DuckDB: the Arrow type in which each is read, and the column that keeps an Arrow type.

DuckDB's own export to Arrow changes some values: the highest UHUGEINT becomes -1, a TIMETZ loses
its offset, a BIT becomes the bytes inside. Such columns are cast to text in the SELECT, at whatever
depth: HUGEINT, UHUGEINT, TIMETZ, INTERVAL, BIT, BIGNUM, VARIANT, UNION, ENUM and JSON.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from hygge.connectors.duckdb.session import quoted
from hygge.errors import UnfitValue
from hygge.extension_types import is_json
from hygge.type_words import type_hint, word_of

if TYPE_CHECKING:
    from duckdb.sqltypes import DuckDBPyType

_ARROW = {
    "BOOLEAN": pa.bool_(),
    "TINYINT": pa.int8(),
    "SMALLINT": pa.int16(),
    "INTEGER": pa.int32(),
    "BIGINT": pa.int64(),
    "UTINYINT": pa.uint8(),
    "USMALLINT": pa.uint16(),
    "UINTEGER": pa.uint32(),
    "UBIGINT": pa.uint64(),
    "FLOAT": pa.float32(),
    "DOUBLE": pa.float64(),
    "VARCHAR": pa.string(),
    "BLOB": pa.binary(),
    "DATE": pa.date32(),
    "TIME": pa.time64("us"),
    "TIME_NS": pa.time64("ns"),
    "TIMESTAMP": pa.timestamp("us"),
    "TIMESTAMP_S": pa.timestamp("s"),
    "TIMESTAMP_MS": pa.timestamp("ms"),
    "TIMESTAMP_NS": pa.timestamp("ns"),
    "TIMESTAMP WITH TIME ZONE": pa.timestamp("us", "UTC"),
    "UUID": pa.string(),
    '"NULL"': pa.int32(),
}
"""DuckDB's types whose values Arrow gets as they are; those of a uuid as its text."""
_COLUMNS = {
    kind: name for name, kind in _ARROW.items() if name not in ("UUID", '"NULL"', "VARCHAR")
} | {
    pa.string(): "VARCHAR",
    pa.large_string(): "VARCHAR",
    pa.large_binary(): "BLOB",
    pa.float16(): "FLOAT",
    pa.date64(): "DATE",
    pa.time32("s"): "TIME",
    pa.time32("ms"): "TIME",
}  # fmt: skip
_AS_TEXT = re.compile(
    r"HUGEINT|UHUGEINT|TIME WITH TIME ZONE|INTERVAL|BIT|BIGNUM|VARINT|VARIANT|JSON|UNION\(.*"
    r"|ENUM\(.*",
    re.DOTALL,
)
ZONED = "TIMESTAMP WITH TIME ZONE"
_TAGGED = ("VARIANT", "UNION(")
"""Their text does not say which of their types a value has."""


def is_text_borne(name: str) -> bool:
    """Return whether a column of this type takes its values as texts, and gives them back so."""
    return bool(name == "UUID" or _AS_TEXT.fullmatch(name)) and not name.startswith(_TAGGED)


def read_as(kind: DuckDBPyType) -> tuple[pa.DataType, str] | None:
    """Return the Arrow type of a column and the type that it is cast to for that.

    The second is the column's own type where no cast is needed. None: DuckDB's type is not known.
    """
    name = str(kind)
    if name in _ARROW:
        return _ARROW[name], "INTEGER" if name == '"NULL"' else name
    if _AS_TEXT.fullmatch(name):
        return pa.string(), "VARCHAR"
    parts: dict[str, Any] = {}
    if kind.id in ("decimal", "list", "array", "struct", "map"):
        parts = dict(kind.children)
    if kind.id == "decimal":
        return pa.decimal128(parts["precision"], parts["scale"]), name
    inner = {key: read_as(part) for key, part in parts.items() if key != "size"}
    if not inner or None in inner.values():
        return None
    known = {key: part for key, part in inner.items() if part is not None}
    if kind.id in ("list", "array"):
        child, text = known["child"]
        size = parts.get("size")
        return (
            (pa.list_(child, size), f"{text}[{size}]") if size else (pa.list_(child), f"{text}[]")
        )
    if kind.id == "map":
        (key, key_text), (value, value_text) = known["key"], known["value"]
        return pa.map_(key, value), f"MAP({key_text}, {value_text})"
    fields = ", ".join(f"{quoted(key)} {text}" for key, (_, text) in known.items())
    return pa.struct([(key, part) for key, (part, _) in known.items()]), f"STRUCT({fields})"


def column_type(field: pa.Field) -> str:
    """Return the type of a column that keeps a field exactly; UnfitValue if there is none."""
    name = "JSON" if is_json(field) else _name_of(field.type)
    if name is None:
        inside = " within" if pa.types.is_nested(field.type) else ""
        raise UnfitValue(
            f"column '{field.name}' is{inside} {word_of(field.type)}, which DuckDB cannot keep "
            "exactly",
            type_hint(field.name, field.type),
        ).at(field.name)
    return name


def _name_of(kind: Any) -> str | None:
    t: Any = pa.types
    if kind in _COLUMNS:
        return _COLUMNS[kind]
    if isinstance(kind, pa.UuidType | pa.JsonType):
        return "UUID" if isinstance(kind, pa.UuidType) else "JSON"
    if t.is_decimal(kind):
        fits = kind.precision <= 38 and 0 <= kind.scale <= kind.precision
        return f"DECIMAL({kind.precision},{kind.scale})" if fits else None
    if t.is_timestamp(kind):
        return ZONED if kind.tz is not None and kind.unit != "ns" else None
    if t.is_struct(kind):
        parts = [(field.name, _name_of(field.type)) for field in kind]
        names = {name.lower() for name, _ in parts}
        if not parts or len(names) < len(parts) or any(text is None for _, text in parts):
            return None
        return f"STRUCT({', '.join(f'{quoted(name)} {text}' for name, text in parts)})"
    if t.is_map(kind):
        key, value = _name_of(kind.key_type), _name_of(kind.item_type)
        return f"MAP({key}, {value})" if key and value else None
    if t.is_list(kind) or t.is_large_list(kind) or t.is_fixed_size_list(kind):
        child = _name_of(kind.value_type)
        size = kind.list_size if t.is_fixed_size_list(kind) else ""
        return f"{child}[{size}]" if child and size != 0 else None
    return None


def zones_of(kind: Any) -> set[str]:
    """Return the time zones of a type, at any depth."""
    if pa.types.is_timestamp(kind):
        return {kind.tz} if kind.tz is not None else set()
    inner = [kind.field(at).type for at in range(kind.num_fields)]
    return set().union(*map(zones_of, inner))
