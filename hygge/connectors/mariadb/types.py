"""Columns of MariaDB: their Arrow types, and how the server writes them into a line of CSV.

    tinyint(1), boolean          bool; another value than 0 and 1 is a misfit
    tinyint … bigint, unsigned   int8 … uint64
    decimal(p, s)                decimal128, decimal256 from 39 digits on
    float, double                float32, float64: every bit
    bit(1), bit(n)               bool, uint64
    date, datetime               date32, timestamp[us]; zero dates and such without a day: misfits
    timestamp                    timestamp[us, tz=UTC]; so does a datetime with the comment 'UTC'
    time                         time64[us]; below 00:00 and from 24:00 on: misfits
    year                         uint16
    text of any character set, enum, set, json, uuid, inet4, inet6    string
    binary, varbinary, blob      binary
    geometry                     refused, unless `options.types` asks for its text (WKT)

A text is in quotes, a NULL is empty and is not. Of a column that may hold much, a value of more
than 64 KiB comes beside the line, so that no line is longer than the server allows.
"""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from hygge.connectors.mariadb.catalog import UTC, Known
from hygge.connectors.mariadb.session import quoted
from hygge.connectors.sql.ask import Ask
from hygge.connectors.sql.goal import Goal
from hygge.errors import ConfigError, UnfitValue
from hygge.model import Column

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
"""Kinds whose columns may hold what Arrow does not."""


def column_of(ask: Ask, known: Known) -> Column:
    """The column of the plan."""
    kind = ask.stated.get(known.name) or arrow_of(ask, known)
    return Column(known.name, kind, known.native, known.nullable, known.collation)


def arrow_of(ask: Ask, known: Known) -> pa.DataType:
    """The Arrow type of a column that nobody stated one for."""
    kind = known.kind
    if kind in _MISFITS and ask.on_value(known.name) == "as_text":
        return pa.string()
    if kind in _INTEGERS:
        return _INTEGERS[kind][known.unsigned]
    if kind == "decimal":
        make = pa.decimal128 if known.precision <= 38 else pa.decimal256
        return make(known.precision, known.scale)
    plain: dict[str, pa.DataType] = {
        "bool": pa.bool_(), "bit1": pa.bool_(), "bit": pa.uint64(), "float": pa.float32(),
        "double": pa.float64(), "date": pa.date32(), "datetime": pa.timestamp("us"),
        "datetime utc": pa.timestamp("us", "UTC"),
        "timestamp": pa.timestamp("us", "UTC"), "time": pa.time64("us"), "year": pa.uint16(),
        **dict.fromkeys(TEXTS, pa.string()), **dict.fromkeys(BYTES, pa.binary()),
    }  # fmt: skip
    if kind in plain:
        return plain[kind]
    raise ConfigError(
        f"{ask.who}: column '{known.name}' is {known.native}, which Arrow has no type for",
        f"read its text, options: {{types: {{{known.name}: string}}}}, or leave it out with "
        "`columns`",
    )


TEXT = "CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin"
_PLAIN = {
    pa.bool_(): "tinyint(1)", pa.int8(): "tinyint", pa.int16(): "smallint", pa.int32(): "int",
    pa.int64(): "bigint", pa.uint8(): "tinyint unsigned", pa.uint16(): "smallint unsigned",
    pa.uint32(): "int unsigned", pa.uint64(): "bigint unsigned", pa.float16(): "float",
    pa.float32(): "float", pa.float64(): "double", pa.date32(): "date", pa.date64(): "date",
}  # fmt: skip


def column_ddl(goal: Goal, each: pa.Field, in_key: bool) -> str:
    """One column of a CREATE TABLE, or UnfitValue."""
    kind: Any = each.type
    t: Any = pa.types
    comment = ""
    native = _PLAIN.get(kind)
    if kind in (pa.string(), pa.large_string()):
        native = f"{'varchar(255)' if in_key else 'longtext'} {TEXT}"
    elif t.is_binary(kind) or t.is_large_binary(kind):
        native = "varbinary(255)" if in_key else "longblob"
    elif t.is_decimal(kind) and kind.precision <= 65 and 0 <= kind.scale <= 38:
        native = f"decimal({kind.precision},{kind.scale})"
    elif t.is_time(kind) and kind.unit != "ns":
        native = "time(6)"
    elif t.is_timestamp(kind) and kind.unit != "ns":
        zone = kind.tz if goal.options.zones == "error" else (kind.tz and "UTC")
        if zone in (None, "UTC"):
            native, comment = "datetime(6)", f" COMMENT '{UTC}'" if zone else ""
    if native is None:
        raise UnfitValue(
            f"{goal.who}: column '{each.name}' is {kind}, which a column of MariaDB cannot keep "
            "exactly",
            "leave it out with `columns`, turn it into text before, or options: {on_value: "
            f"{{{each.name}: as_text}}}}; of another zone than UTC: options: {{zones: utc}}",
        )
    null = "NULL" if each.nullable and not in_key else "NOT NULL"
    return f"{quoted(each.name)} {native} {null}{comment}"
