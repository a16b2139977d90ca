"""Types of MariaDB: the Arrow type of each column, and the column that keeps each Arrow type.

Read:
    tinyint(1), boolean          bool; other values than 0 and 1 are misfits
    tinyint … bigint, unsigned   int8 … uint64
    decimal(p, s)                decimal128, decimal256 from 39 digits on
    float, double                float32, float64: every bit
    bit(1), bit(n)               bool, uint64
    date, datetime               date32, timestamp[us]; zero dates and dates without a day: misfits
    timestamp                    timestamp[us, tz=UTC]; so does a datetime with the comment 'UTC'
    time                         time64[us]; below 00:00 and from 24:00 on: misfits
    year                         uint16
    text of any character set, enum, set, json, uuid, inet4, inet6    string
    binary, varbinary, blob      binary
    geometry                     refused, unless `options.types` asks for its text (WKT)

Written:
    bool                         tinyint(1)
    int8 … int64, uint8 …        tinyint … bigint, unsigned
    float16, float32, float64    float, double; NaN, the infinities and -0.0 are misfits
    decimal(p, s)                decimal, up to 65 digits, 38 of them behind the point
    string                       longtext, utf8mb4_nopad_bin; in a key varchar(255)
    nested values, as JSON       json, which is a longtext with a check
    binary                       longblob; in a key varbinary(255)
    date, timestamp              date, datetime(6), of the years 1 … 9999
    timestamp in UTC             datetime(6) with the comment 'UTC'
    time                         time(6)

A misfit is a value that the other side cannot hold; `on_value` decides what becomes of it.
"""

from __future__ import annotations

import pyarrow as pa

from hygge import model
from hygge.connectors.mariadb.catalog import UTC, Column
from hygge.connectors.mariadb.session import quoted
from hygge.connectors.sql.ask import Ask
from hygge.connectors.sql.goal import Goal
from hygge.errors import ConfigError, UnfitValue
from hygge.extension_types import is_json
from hygge.type_words import word_of

_INTEGERS = {
    "tinyint": (pa.int8(), pa.uint8()),
    "smallint": (pa.int16(), pa.uint16()),
    "mediumint": (pa.int32(), pa.uint32()),
    "int": (pa.int32(), pa.uint32()),
    "bigint": (pa.int64(), pa.uint64()),
}
TEXTS = (
    "char", "varchar", "tinytext", "text", "mediumtext", "longtext", "enum", "set", "json", "uuid",
    "inet4", "inet6",
)  # fmt: skip
BYTES = ("binary", "varbinary", "tinyblob", "blob", "mediumblob", "longblob")
SHAPES = (
    "geometry", "point", "linestring", "polygon", "multipoint", "multilinestring", "multipolygon",
    "geometrycollection",
)  # fmt: skip
LARGE = ("text", "mediumtext", "longtext", "json", "blob", "mediumblob", "longblob", *SHAPES)
_MISFITS = ("bool", "date", "datetime", "datetime utc", "timestamp", "time")
"""Kinds of columns that may hold what Arrow does not."""
TEXT = "CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin"
"""Of the texts that hygge makes: those that differ in case, accents or blanks stay different."""
_ARROW: dict[str, pa.DataType] = {
    "bool": pa.bool_(), "bit1": pa.bool_(), "bit": pa.uint64(), "float": pa.float32(),
    "double": pa.float64(), "date": pa.date32(), "datetime": pa.timestamp("us"),
    "datetime utc": pa.timestamp("us", "UTC"),
    "timestamp": pa.timestamp("us", "UTC"), "time": pa.time64("us"), "year": pa.uint16(),
    **dict.fromkeys(TEXTS, pa.string()), **dict.fromkeys(BYTES, pa.binary()),
}  # fmt: skip
_NATIVE = {
    pa.bool_(): "tinyint(1)", pa.int8(): "tinyint", pa.int16(): "smallint", pa.int32(): "int",
    pa.int64(): "bigint", pa.uint8(): "tinyint unsigned", pa.uint16(): "smallint unsigned",
    pa.uint32(): "int unsigned", pa.uint64(): "bigint unsigned", pa.float16(): "float",
    pa.float32(): "float", pa.float64(): "double", pa.date32(): "date", pa.date64(): "date",
}  # fmt: skip


def planned_column(ask: Ask, column: Column) -> model.Column:
    """Return a column as the plan describes it."""
    kind = ask.stated.get(column.name) or arrow_of(ask, column)
    # A value that becomes NULL is in a column that is NOT NULL at the source, too.
    may_misfit = column.kind in _MISFITS or column.name in ask.stated
    is_set_null = may_misfit and ask.on_value(column.name) == "set_null"
    nullable = column.nullable or is_set_null
    return model.Column(column.name, kind, column.native, nullable, column.collation)


def arrow_of(ask: Ask, column: Column) -> pa.DataType:
    """Return the Arrow type of a column that `options.types` does not name.

    Raises ConfigError where Arrow has no such type.
    """
    kind = column.kind
    if kind in _MISFITS and ask.on_value(column.name) == "as_text":
        return pa.string()
    if kind in _INTEGERS:
        return _INTEGERS[kind][column.unsigned]
    if kind == "decimal":
        make = pa.decimal128 if column.precision <= 38 else pa.decimal256
        return make(column.precision, column.scale)
    if kind in _ARROW:
        return _ARROW[kind]
    raise ConfigError(
        f"{ask.who}: column '{column.name}' is {column.native}, which Arrow has no type for",
        f"read its text, options: {{types: {{{column.name}: string}}}}, or leave it out with "
        "`columns`",
    )


def column_ddl(goal: Goal, field: pa.Field, in_key: bool) -> str:
    """Return a column's part of CREATE TABLE; raise UnfitValue where MariaDB has no such type."""
    kind, t = field.type, pa.types
    native, comment = _NATIVE.get(kind), ""
    if kind in (pa.string(), pa.large_string()):
        native = f"{'varchar(255)' if in_key else 'longtext'} {TEXT}"
        native = "json" if is_json(field) else native
    elif t.is_binary(kind) or t.is_large_binary(kind):
        native = "varbinary(255)" if in_key else "longblob"
    elif t.is_decimal(kind) and kind.precision <= 65 and 0 <= kind.scale <= 38:
        native = f"decimal({kind.precision},{kind.scale})"
    elif t.is_time(kind) and kind.unit != "ns":
        native = "time(6)"
    elif t.is_timestamp(kind) and kind.unit != "ns":
        if kind.tz is None:
            native = "datetime(6)"
        elif kind.tz == "UTC" or goal.options.zones != "error":
            native, comment = "datetime(6)", f" COMMENT '{UTC}'"
    if native is None:
        raise UnfitValue(
            f"{goal.who}: column '{field.name}' is {word_of(kind)}, which a column of MariaDB "
            "cannot keep exactly",
            "leave it out with `columns`, turn it into text before, or options: {on_value: "
            f"{{{field.name}: as_text}}}}; of another zone than UTC: options: {{zones: utc}}",
        )
    null = "NULL" if field.nullable and not in_key else "NOT NULL"
    return f"{quoted(field.name)} {native} {null}{comment}"
