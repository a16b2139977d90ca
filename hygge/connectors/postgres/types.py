"""Types of PostgreSQL: the Arrow type of a column that is read, and the type of one that is made.

  int2 int4 int8 float4 float8 bool        the same in Arrow
  numeric(p, s), p up to 76                decimal128 or decimal256; without precision: text
  text varchar name char(n)                string; char(n) with its padding
  bytea                                    binary
  date, time, timestamp, timestamptz       date32, time64[us], timestamp[us], timestamp[us, UTC]
  all others                               string: the text that the database itself gives

A value that the Arrow type does not hold (`infinity`, NaN in a numeric(p, s), 24:00:00, a moment
after 294247) is an error that names it, or NULL, or text: `on_value`.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, NamedTuple, NotRequired, TypedDict

import pyarrow as pa

from hygge.batches import RAW_ABOUT, key_of, raw_format
from hygge.connectors.postgres.catalog import Column
from hygge.connectors.postgres.made_types import MadeType
from hygge.connectors.postgres.session import quoted
from hygge.connectors.sql.ask import Ask
from hygge.connectors.sql.types import column_for
from hygge.extension_types import is_json

if TYPE_CHECKING:
    import sqlalchemy as sa

_PLAIN: dict[int, pa.DataType] = {
    16: pa.bool_(), 17: pa.binary(), 20: pa.int64(), 21: pa.int16(), 23: pa.int32(),
    700: pa.float32(), 701: pa.float64(), 1082: pa.date32(), 1083: pa.time64("us"),
    1114: pa.timestamp("us"), 1184: pa.timestamp("us", "UTC"),
}  # fmt: skip
_NUMERIC, _BYTEA, _TEXTS = 1700, 17, (18, 19, 25, 1042, 1043)
_WIDER_THAN_ARROW = (1082, 1083, 1114, 1184, _NUMERIC)
_LAST_MOMENT = "294247-01-01"
RAW_TEXT_ONLY = (
    "regclass", "regproc", "regprocedure", "regoper", "regoperator", "regtype", "regrole",
    "regnamespace", "regconfig", "regdictionary", "regcollation", "aclitem", "tsquery",
)  # fmt: skip
"""Types whose binary form is a number of one database only, or is not always read back."""


class Selection(NamedTuple):
    """A column that is read: its SQL in the SELECT, and the Arrow column that it becomes."""

    sql: str
    type: pa.DataType
    nullable: bool


def arrow_of(column: Column) -> pa.DataType:
    """Return the Arrow type of a column, as the table above says."""
    if column.oid != _NUMERIC:
        return _PLAIN.get(column.oid, pa.string())
    if column.typmod < 4:
        return pa.string()
    # numeric keeps its precision in the upper 16 bits, and a signed scale of 11 bits below.
    bits = column.typmod - 4
    precision, scale = bits >> 16 & 0xFFFF, (bits & 0x7FF ^ 1024) - 1024
    if scale < 0:  # rounded to tens, hundreds …
        precision, scale = precision - scale, 0
    precision = max(precision, scale)
    if precision > 76:
        return pa.string()
    return pa.decimal128(precision, scale) if precision <= 38 else pa.decimal256(precision, scale)


def selection(ask: Ask, column: Column) -> Selection:
    """Return the selection of a column, by the types and `on_value` that the user stated."""
    name, natural = quoted(column.name), arrow_of(column)
    kind = ask.stated.get(column.name, natural)
    if kind == natural and not may_misfit(column):
        return Selection(name, kind, column.nullable)
    on_value = ask.on_value(column.name)
    if column.name not in ask.stated and on_value == "as_text":
        return Selection(name, pa.string(), column.nullable)
    if kind in (pa.string(), pa.large_string()):
        is_text = column.oid in _TEXTS or natural == pa.string()
        return Selection(name if is_text else f"{name}::text AS {name}", kind, column.nullable)
    fits = _fits(name, column, kind) if on_value == "set_null" else None
    if fits is None:
        return Selection(name, kind, column.nullable)
    return Selection(f"CASE WHEN {fits} THEN {name} END AS {name}", kind, nullable=True)


def may_misfit(column: Column) -> bool:
    """True if a column of this type can hold values that its Arrow type cannot."""
    return column.oid in _WIDER_THAN_ARROW and arrow_of(column) != pa.string()


def is_hex(column: Column, kind: pa.DataType) -> bool:
    """True if a column comes as the hexadecimal text of bytea (`\\x0aff`), and becomes bytes."""
    return column.oid == _BYTEA and kind not in (pa.string(), pa.large_string())


def _fits(name: str, column: Column, kind: pa.DataType) -> str | None:
    """SQL that is true for the values that the Arrow type holds; None where none is needed."""
    if column.oid == 1083:
        return f"{name} < '24:00:00'"
    if column.oid == 1082:
        return f"isfinite({name})"
    if column.oid in (1114, 1184):
        return f"isfinite({name}) AND {name} < '{_LAST_MOMENT}'"
    if column.oid == _NUMERIC and pa.types.is_decimal(kind):
        # Nothing is rounded: a value with more digits behind the point does not fit.
        return (
            f"{name} <> 'NaN' AND abs({name}) < 1e{kind.precision - kind.scale} "
            f"AND {name} = round({name}, {kind.scale})"
        )
    return None


class PassthroughColumn(TypedDict):
    """A column of a passthrough, as its Home describes it, and as the Store wants it."""

    name: str
    type: str
    builtin: bool
    nullable: NotRequired[bool]
    collation: NotRequired[str | None]
    base: NotRequired[str]
    """The type behind a domain, where the type is one."""
    made: NotRequired[list[str]]
    """Names of the types that somebody made, and that it needs."""
    as_text: NotRequired[bool]
    """True if it comes as the text of another type; `type` is `text` then."""
    source: NotRequired[str]
    """Its name in the source, where that is another one."""
    by_value: NotRequired[bool]
    """True if the user stated a type that only Arrow can make of it."""
    lacking: NotRequired[str]
    """Why there can be no such column at the target, for people."""


class Passthrough(TypedDict):
    """The rows of a passthrough, as its Home describes them in JSON in the schema's metadata."""

    columns: list[PassthroughColumn]
    key: NotRequired[list[str]]
    server: NotRequired[int]
    types: NotRequired[list[MadeType]]
    by_value: NotRequired[bool]
    """True if a function of the user's makes the rows, so that they must come as Arrow."""


class NewColumn(NamedTuple):
    """A column of a table that is to be made; `type` as PostgreSQL writes it."""

    name: str
    type: str
    nullable: bool
    collation: str | None


def passthrough_of(schema: pa.Schema) -> Passthrough:
    """Return what a passthrough says of its rows."""
    passthrough: Passthrough = json.loads((schema.metadata or {})[RAW_ABOUT])
    return passthrough


def described(schema: pa.Schema | None) -> Passthrough | None:
    """Return what a PostgreSQL says of the rows, which may come as Arrow; None: nothing."""
    if schema is None or RAW_ABOUT not in (schema.metadata or {}):
        return None
    return passthrough_of(schema)


def column_names(schema: pa.Schema) -> list[str]:
    """Return the names of a schema's columns, passthrough or not."""
    if raw_format(schema) is None:
        return list(schema.names)
    return [column["name"] for column in passthrough_of(schema)["columns"]]


def key_in(schema: pa.Schema) -> tuple[str, ...]:
    """Return the primary key of the source, if all its columns are among the rows' columns."""
    if raw_format(schema) is None:
        key = key_of(schema)
    else:
        key = tuple(passthrough_of(schema).get("key") or ())
    return key if set(key) <= set(column_names(schema)) else ()


def new_columns(connection: sa.Connection, schema: pa.Schema) -> list[NewColumn]:
    """Return the columns of a table that is made for the rows of a schema.

    Rows of another PostgreSQL get its types, also where they come as Arrow.
    """
    about = described(schema)
    natives = {} if about is None else {column["name"]: column for column in about["columns"]}
    if raw_format(schema) is not None:
        return [_native(column) for column in natives.values()]
    columns = []
    for field in schema:
        native = natives.get(field.name)
        if native is not None and not native.get("by_value"):
            columns.append(_native(native)._replace(nullable=field.nullable))
            continue
        if is_json(field):
            columns.append(NewColumn(field.name, "json", field.nullable, None))
            continue
        kind = column_for(field.type, "postgresql", field.name)
        columns.append(
            NewColumn(field.name, kind.compile(dialect=connection.dialect), field.nullable, None)
        )
    return columns


def _native(column: PassthroughColumn) -> NewColumn:
    return NewColumn(
        column["name"], column["type"], column.get("nullable", True), column.get("collation")
    )
