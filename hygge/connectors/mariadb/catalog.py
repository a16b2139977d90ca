"""What MariaDB's catalog, or the result of a query, says of columns, keys and engines."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hygge.connectors.mariadb.session import literal, one, rows, session
from hygge.connectors.sql.ask import Ask
from hygge.connectors.sql.connection import split_name
from hygge.connectors.sql.errors import missing_column, missing_table
from hygge.connectors.sql.listing import Listing, Table
from hygge.errors import HomeError

UTC = "UTC"
"""The comment of a datetime column whose moments are those of UTC: written and read by hygge."""
_WITH_SNAPSHOTS = ("innodb", "rocksdb")
# What the protocol calls the columns of a query.
_WIRE = {
    0: "decimal", 1: "tinyint", 2: "smallint", 3: "int", 4: "float", 5: "double", 7: "timestamp",
    8: "bigint", 9: "mediumint", 10: "date", 11: "time", 12: "datetime", 13: "year", 16: "bit",
    245: "json", 246: "decimal", 255: "geometry",
}  # fmt: skip

_TABLES = """
SELECT table_schema, table_name, table_type = 'VIEW' FROM information_schema.tables
WHERE table_type IN ('BASE TABLE', 'SYSTEM VERSIONED', 'VIEW')
  AND table_schema NOT IN ('information_schema', 'mysql', 'performance_schema', 'sys')
"""


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


def tables(url: str, who: str, patterns: Sequence[str]) -> Listing:
    """Every table and view that this user sees."""
    with session(url, who, HomeError, None) as connection:
        default = one(connection, "SELECT DATABASE()")[0]
        found = rows(connection, _TABLES)
    return Listing(
        default or "main", [Table(schema, name, bool(view)) for schema, name, view in found]
    )


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
