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

import re
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from hygge.connectors.mariadb.session import literal, one, quoted, rows
from hygge.connectors.sql.ask import Ask
from hygge.connectors.sql.connection import split_name
from hygge.connectors.sql.errors import missing_column, missing_table
from hygge.errors import ConfigError, HomeError
from hygge.model import Column

_WITH_SNAPSHOTS = ("innodb", "rocksdb")
_INTEGERS = {
    "tinyint": (pa.int8(), pa.uint8()),
    "smallint": (pa.int16(), pa.uint16()),
    "mediumint": (pa.int32(), pa.uint32()),
    "int": (pa.int32(), pa.uint32()),
    "bigint": (pa.int64(), pa.uint64()),
}
_TEXTS = (
    "char", "varchar", "tinytext", "text", "mediumtext", "longtext", "enum", "set", "json", "uuid",
    "inet4", "inet6",
)  # fmt: skip
_BYTES = ("binary", "varbinary", "tinyblob", "blob", "mediumblob", "longblob")
_SHAPES = (
    "geometry", "point", "linestring", "polygon", "multipoint", "multilinestring", "multipolygon",
    "geometrycollection",
)  # fmt: skip
_LARGE = ("text", "mediumtext", "longtext", "json", "blob", "mediumblob", "longblob", *_SHAPES)
UTC = "UTC"
"""The comment of a datetime column whose moments are those of UTC: written and read by hygge."""
_LINE = 65_536
"""Bytes of a value that still goes into the line."""
_MISFITS = ("bool", "date", "datetime", "datetime utc", "timestamp", "time")
"""Kinds whose columns may hold what Arrow does not."""

# What the protocol calls the columns of a query.
_WIRE = {
    0: "decimal", 1: "tinyint", 2: "smallint", 3: "int", 4: "float", 5: "double", 7: "timestamp",
    8: "bigint", 9: "mediumint", 10: "date", 11: "time", 12: "datetime", 13: "year", 16: "bit",
    245: "json", 246: "decimal", 255: "geometry",
}  # fmt: skip


@dataclass(frozen=True)
class Known:
    """A column as the catalog, or the result of a query, tells of it."""

    name: str
    kind: str
    """`data_type` of the catalog, in small letters; `bool` for tinyint(1) and bit(1)."""
    native: str
    nullable: bool = True
    unsigned: bool = False
    precision: int = 0
    scale: int = 0
    charset: str | None = None
    collation: str | None = None


def table_of(connection: Any, ask: Ask) -> tuple[list[Known], tuple[str, ...]]:
    """The columns of a table or view, and its primary key; SourceMissing if it is not there."""
    schema, name = split_name(ask.table or "")
    place = "DATABASE()" if schema is None else literal(schema)
    # The catalog's own comparison takes names that differ in case for one.
    found = [
        row
        for row in rows(
            connection,
            "SELECT table_name, column_name, data_type, column_type, is_nullable, "
            "numeric_precision, numeric_scale, character_set_name, collation_name, extra, "
            "column_comment "
            f"FROM information_schema.columns WHERE table_schema = {place} "
            f"AND table_name = {literal(name)} ORDER BY ordinal_position",
        )
    ]
    if not any(row[0] == name for row in found) and one(
        connection, "SELECT @@lower_case_table_names"
    ) != (0,):
        name = name.lower() if any(row[0] == name.lower() for row in found) else name
    found = [row for row in found if row[0] == name]
    if not found:
        known = rows(
            connection,
            f"SELECT table_name FROM information_schema.tables WHERE table_schema = {place}",
        )
        if any(each == name for (each,) in known):
            raise HomeError(
                f"{ask.who}: '{name}' is a view that the server cannot read: what it shows is "
                "gone, or not for this user",
                f"see what `SELECT * FROM {name}` says, and mend or drop the view",
            )
        raise missing_table(
            ask.who, name, [each for (each,) in known if not each.startswith("_hygge_")]
        )
    key = rows(
        connection,
        "SELECT table_name, column_name FROM information_schema.statistics "
        f"WHERE table_schema = {place} AND table_name = {literal(name)} "
        "AND index_name = 'PRIMARY' ORDER BY seq_in_index",
    )
    asked = set(ask.columns or ())
    columns = [_known(row) for row in found if "INVISIBLE" not in row[9] or row[1] in asked]
    return columns, tuple(column for table, column in key if table == name)


def engine_without_snapshots(connection: Any, ask: Ask) -> str | None:
    """The engine of a table of which a transaction sees no snapshot; None for all others.

    Of a query, and of what is behind a view, that is not known.
    """
    if ask.query is not None:
        return None
    schema, name = split_name(ask.table or "")
    place = "DATABASE()" if schema is None else literal(schema)
    found = rows(
        connection,
        "SELECT engine FROM information_schema.tables "
        f"WHERE table_schema = {place} AND table_name = {literal(name)}",
    )
    engine = found[0][0] if found else None
    return None if engine is None or engine.lower() in _WITH_SNAPSHOTS else str(engine)


def _known(row: tuple[Any, ...]) -> Known:
    _, name, kind, native, nullable, precision, scale, charset, collation, _, comment = row
    kind = kind.lower()
    if kind == "datetime" and comment == UTC:
        kind = "datetime utc"
    if re.match(r"(tinyint|bit)\(1\)", native):
        kind = "bool" if kind == "tinyint" else "bit1"
    return Known(
        name, kind, native, nullable == "YES", "unsigned" in native, precision or 0, scale or 0,
        charset, collation,
    )  # fmt: skip


def query_of(connection: Any, ask: Ask) -> list[Known]:
    """The columns of a query, from what the server says of its result."""
    from pymysql.constants import FLAG

    cursor = connection.cursor()
    cursor.execute(f"{connection.hygge}SELECT * FROM ({bare(ask.query or '')}\n) h LIMIT 0")
    columns = []
    for field in cursor._result.fields:
        unsigned = bool(field.flags & FLAG.UNSIGNED)
        kind = _WIRE.get(field.type_code)
        if kind is None:
            kind = "varbinary" if field.charsetnr == 63 else "text"
        if kind in ("tinyint", "bit") and field.length == 1:
            kind = "bool" if kind == "tinyint" else "bit1"
        scale = field.scale if kind == "decimal" else 0
        precision = field.length - (scale > 0) - (not unsigned)
        nullable = not field.flags & FLAG.NOT_NULL
        native = f"decimal({precision},{scale})" if kind == "decimal" else kind
        if native == "text":
            native = "text of a query"
        columns.append(
            Known(field.name, kind, native, nullable, unsigned, precision, scale, "unknown")
        )
    cursor.close()
    names = [each.name for each in columns]
    again = sorted({name for name in names if names.count(name) > 1})
    if again:
        raise HomeError(
            f"{ask.who}: the query gives more than one column named '{again[0]}'",
            "name each one: SELECT a.id AS a_id, b.id AS b_id",
        )
    return columns


def bare(query: str) -> str:
    """Somebody's SELECT without its semicolon, to stand in brackets."""
    return query.strip().rstrip(";")


def check_names(ask: Ask, known: list[Known]) -> None:
    """SourceMissing for a column that was named and is not there."""
    names = [each.name for each in known]
    given = ask.options.on_value
    of_values = () if isinstance(given, str) else tuple(given)
    for name in (
        ask.cursor, ask.split_by, *(ask.columns or ()), *ask.stated, *of_values
    ):  # fmt: skip
        if name is not None and name not in names:
            raise missing_column(ask.who, name, names)


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
        **dict.fromkeys(_TEXTS, pa.string()), **dict.fromkeys(_BYTES, pa.binary()),
    }  # fmt: skip
    if kind in plain:
        return plain[kind]
    raise ConfigError(
        f"{ask.who}: column '{known.name}' is {known.native}, which Arrow has no type for",
        f"read its text, options: {{types: {{{known.name}: string}}}}, or leave it out with "
        "`columns`",
    )


def line_of(chosen: list[Known], kinds: pa.Schema, oracle: bool) -> tuple[str, list[str]]:
    """What a SELECT asks for: the lead columns and the line; and the names of the lead ones.

    `oracle`: CONCAT takes NULL for '' in the server's sql_mode.
    """
    wide = [each.name for each in chosen if each.kind in _LARGE]
    cells = [_cell(each, kinds.field(each.name).type, oracle) for each in chosen]
    line = "CONCAT(" + ", ".join(f"',', {cell}" for cell in cells) + ", '\n')"
    lead = [
        f"IF(LENGTH({_raw(each)}) > {_LINE}, {_raw(each)}, NULL)"
        for each in chosen
        if each.kind in _LARGE
    ]
    return ", ".join([*lead, line]), wide


def is_hex(known: Known, kind: pa.DataType) -> bool:
    """Whether the cells of a column are its bytes in hexadecimal digits."""
    return known.kind in _BYTES and pa.types.is_binary(kind)


def value_of(known: Known) -> str:
    """A column as a condition or an aggregate compares it."""
    name = quoted(known.name)
    return f"CAST({name} AS DOUBLE)" if known.kind == "float" else name


def _raw(known: Known) -> str:
    """A column's own bytes, texts in utf8mb4."""
    name = quoted(known.name)
    if known.kind in _SHAPES:
        return f"ST_AsText({name})"
    convert = known.kind in _TEXTS and known.charset not in (None, "utf8mb4")
    return f"CONVERT({name} USING utf8mb4)" if convert else name


def _cell(known: Known, kind: pa.DataType, oracle: bool) -> str:
    value = _raw(known)
    if known.kind in _LARGE:
        value = f"IF(LENGTH({value}) > {_LINE}, NULL, {value})"
    bare_value = value
    if known.kind in ("bit", "bit1"):
        value += " + 0"
    elif known.kind == "float":
        value = f"CAST({value} AS DOUBLE)"
    elif is_hex(known, kind):
        value = f"'\"', HEX({value}), '\"'"
    elif known.kind in (*_TEXTS, *_BYTES, *_SHAPES):
        value = f"'\"', REPLACE({value}, '\"', '\"\"'), '\"'"
    several = value.startswith("'")
    if known.nullable or known.kind in _LARGE:
        value = f"CONCAT({value})" if several else value
        # The first is much slower, and the second sees no NULL in that mode.
        return f"IF({bare_value} IS NULL, '', {value})" if oracle else f"COALESCE({value}, '')"
    return value
