"""Columns of PostgreSQL as Arrow: a stated type for each, and CSV of COPY parsed into it.

  int2 int4 int8 float4 float8 bool        the same in Arrow
  numeric(p, s), p up to 76                decimal128 or decimal256; without precision: text
  text varchar name char(n)                string; char(n) with its padding
  bytea                                    binary
  date, time, timestamp, timestamptz       date32, time64[us], timestamp[us], timestamp[us, UTC]
  all others                               string: the text that the database itself gives

What a type of Arrow does not hold (`infinity`, NaN in a numeric(p, s), 24:00:00, a moment after
294247) is an error that names it, or NULL, or text: `on_value`.
"""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa

from hygge.batches import RAW_ABOUT, key_of, raw_format
from hygge.connectors.postgres.catalog import Field
from hygge.connectors.postgres.session import ask as rows_of
from hygge.connectors.postgres.session import quoted
from hygge.connectors.sql.ask import Ask
from hygge.connectors.sql.types import column_for

_PLAIN: dict[int, pa.DataType] = {
    16: pa.bool_(), 17: pa.binary(), 20: pa.int64(), 21: pa.int16(), 23: pa.int32(),
    700: pa.float32(), 701: pa.float64(), 1082: pa.date32(), 1083: pa.time64("us"),
    1114: pa.timestamp("us"), 1184: pa.timestamp("us", "UTC"),
}  # fmt: skip
RAW_TEXT_ONLY = (
    "regclass", "regproc", "regprocedure", "regoper", "regoperator", "regtype", "regrole",
    "regnamespace", "regconfig", "regdictionary", "regcollation", "aclitem", "tsquery",
)  # fmt: skip
"""Types whose binary form is a number of one database only, or is not always read back."""
_NUMERIC, _BYTEA, _TEXTS = 1700, 17, (18, 19, 25, 1042, 1043)
_LAST_MOMENT = "294247-01-01"
_MORE_RANGE = (1082, 1083, 1114, 1184, _NUMERIC)


def arrow_of(field: Field) -> pa.DataType:
    """The Arrow type of a column, as the table above says."""
    if field.oid != _NUMERIC:
        return _PLAIN.get(field.oid, pa.string())
    if field.typmod < 4:
        return pa.string()
    bits = field.typmod - 4
    precision, scale = bits >> 16 & 0xFFFF, (bits & 0x7FF ^ 1024) - 1024
    if scale < 0:  # rounded to tens, hundreds …
        precision, scale = precision - scale, 0
    precision = max(precision, scale)
    if precision > 76:
        return pa.string()
    return pa.decimal128(precision, scale) if precision <= 38 else pa.decimal256(precision, scale)


def chosen(ask: Ask, field: Field) -> tuple[str, pa.DataType, bool]:
    """How a column is selected, the Arrow type that it becomes, and whether it may be NULL."""
    name, natural = quoted(field.name), arrow_of(field)
    kind = ask.stated.get(field.name, natural)
    if kind == natural and not may_misfit(field):
        return name, kind, field.nullable
    decided = ask.on_value(field.name)
    if field.name not in ask.stated and decided == "as_text":
        return name, pa.string(), field.nullable
    if kind in (pa.string(), pa.large_string()):
        cast = name if field.oid in _TEXTS or natural == pa.string() else f"{name}::text AS {name}"
        return cast, kind, field.nullable
    fits = _fits(name, field, kind) if decided == "set_null" else None
    if fits is None:
        return name, kind, field.nullable
    return f"CASE WHEN {fits} THEN {name} END AS {name}", kind, True


def may_misfit(field: Field) -> bool:
    """Whether a column of this type can hold what Arrow does not."""
    return field.oid in _MORE_RANGE and arrow_of(field) != pa.string()


def is_hexed(field: Field, kind: Any) -> bool:
    """Whether a column comes as bytea does (`\\x0aff`) and becomes bytes."""
    return field.oid == _BYTEA and kind not in (pa.string(), pa.large_string())


def _fits(name: str, field: Field, kind: Any) -> str | None:
    """SQL that is true for the values that `kind` holds."""
    if field.oid == 1083:
        return f"{name} < '24:00:00'"
    if field.oid == 1082:
        return f"isfinite({name})"
    if field.oid in (1114, 1184):
        return f"isfinite({name}) AND {name} < '{_LAST_MOMENT}'"
    if field.oid == _NUMERIC and pa.types.is_decimal(kind):
        # Nothing is rounded: what has more places is not held.
        return (
            f"{name} <> 'NaN' AND abs({name}) < 1e{kind.precision - kind.scale} "
            f"AND {name} = round({name}, {kind.scale})"
        )
    return None


def about_of(schema: pa.Schema) -> dict[str, Any]:
    """What a passthrough says of its columns."""
    told: dict[str, Any] = json.loads((schema.metadata or {})[RAW_ABOUT])
    return told


def column_names(schema: pa.Schema) -> list[str]:
    """The columns of a schema, passthrough or not."""
    if raw_format(schema) is None:
        return list(schema.names)
    return [each["name"] for each in about_of(schema)["columns"]]


def key_in(schema: pa.Schema) -> tuple[str, ...]:
    """The source's primary key, if all its columns come."""
    raw = raw_format(schema) is not None
    key = tuple(about_of(schema).get("key") or ()) if raw else key_of(schema)
    return key if set(key) <= set(column_names(schema)) else ()


def ddl_columns(connection: Any, schema: pa.Schema) -> list[tuple[str, str, bool, str | None]]:
    if raw_format(schema) is not None:
        return [
            (each["name"], each["type"], each.get("nullable", True), each.get("collation"))
            for each in about_of(schema)["columns"]
        ]
    return [
        (
            each.name,
            column_for(each.type, "postgresql", each.name).compile(dialect=connection.dialect),
            each.nullable,
            None,
        )
        for each in schema
    ]


def are_known(connection: Any, columns: list[dict[str, Any]]) -> bool:
    """Whether the types and collations of a passthrough's columns are here too."""
    import psycopg

    for each in columns:
        try:
            # A type's whole name or nothing: what else the text says is an error.
            if rows_of(connection, "SELECT to_regtype(%s)", each["type"])[0][0] is None:
                return False
        except psycopg.Error as error:
            if (error.sqlstate or "")[:2] in ("42", "22"):
                connection.rollback()
                return False
            raise
        sorts = "SELECT 1 FROM pg_collation WHERE collname = %s AND pg_collation_is_visible(oid)"
        if each.get("collation") and not rows_of(connection, sorts, each["collation"]):
            return False
    return True
