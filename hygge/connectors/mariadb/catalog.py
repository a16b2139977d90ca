"""MariaDB's catalog: the columns, keys and engines of tables, and the columns of queries."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hygge.connectors.mariadb.session import (
    fetch_all,
    fetch_one,
    literal,
    number_of,
    quoted,
    session,
    table_names_fold,
)
from hygge.connectors.sql.ask import Ask
from hygge.connectors.sql.connection import split_name
from hygge.connectors.sql.errors import missing_column, missing_table
from hygge.connectors.sql.listing import Listing, Table
from hygge.errors import HomeError

if TYPE_CHECKING:
    from pymysql.connections import Connection
    from pymysql.protocol import FieldDescriptorPacket

UTC = "UTC"
"""The comment of a datetime column that holds moments in UTC: hygge writes it, and reads it so."""
_SNAPSHOT_ENGINES = ("innodb", "rocksdb")
_DENIED = (1142, 1143)
_NOT_A_TEXT = 63
"""The number of the character set `binary`."""

# What the protocol calls the types of a query's columns.
_PROTOCOL_TYPES = {
    0: "decimal", 1: "tinyint", 2: "smallint", 3: "int", 4: "float", 5: "double", 7: "timestamp",
    8: "bigint", 9: "mediumint", 10: "date", 11: "time", 12: "datetime", 13: "year", 16: "bit",
    245: "json", 246: "decimal", 255: "geometry",
}  # fmt: skip

_TABLES = """
SELECT table_schema, table_name, table_type = 'VIEW' OR engine <=> 'MRG_MYISAM'
FROM information_schema.tables
WHERE table_type IN ('BASE TABLE', 'SYSTEM VERSIONED', 'VIEW')
  AND table_schema NOT IN ('information_schema', 'mysql', 'performance_schema', 'sys')
"""


@dataclass(frozen=True)
class Column:
    """A column in MariaDB's catalog, or of a query's result."""

    name: str
    kind: str
    """`data_type` of the catalog, in small letters; `bool` for tinyint(1), `bit1` for bit(1),
    `datetime utc` for a datetime with the comment 'UTC'."""
    native: str
    """The type as people write it."""
    nullable: bool = True
    unsigned: bool = False
    precision: int = 0
    scale: int = 0
    charset: str | None = None
    collation: str | None = None


def in_schema(schema: str | None) -> str:
    """Return the schema of a table's name as SQL compares it: that of the session by default."""
    return "DATABASE()" if schema is None else literal(schema)


def tables(url: str, who: str, patterns: Sequence[str]) -> Listing:
    """Return every table and view of the server that this user sees."""
    with session(url, who, HomeError, None) as connection:
        default = fetch_one(connection, "SELECT DATABASE()")[0]
        rows = fetch_all(connection, _TABLES)
    return Listing(
        default or "main", [Table(schema, name, bool(view)) for schema, name, view in rows]
    )


def table_columns(connection: Connection, ask: Ask) -> tuple[list[Column], tuple[str, ...]]:
    """Return the columns of a table or view, and its primary key.

    INVISIBLE columns are columns too. Raises SourceMissing if there is no such table, HomeError for
    a view that cannot be read, and where all columns are meant and this user may not read all.
    """
    schema, name = split_name(ask.table or "")
    where = f"table_schema = {in_schema(schema)}"
    rows = fetch_all(
        connection,
        "SELECT table_name, column_name, data_type, column_type, is_nullable, "
        "numeric_precision, numeric_scale, character_set_name, collation_name, extra, "
        "column_comment, privileges, ordinal_position "
        f"FROM information_schema.columns WHERE {where} "
        f"AND table_name = {literal(name)} ORDER BY ordinal_position",
    )
    # The catalog's comparison ignores case, so the rows may be of other tables too.
    names = {row[0] for row in rows}
    if name not in names and name.lower() in names and table_names_fold(connection):
        name = name.lower()  # the server ignores the case of tables' names
    rows = [row for row in rows if row[0] == name]
    if not rows:
        raise _nothing_there(connection, ask, where, name)
    key = fetch_all(
        connection,
        "SELECT table_name, column_name FROM information_schema.statistics "
        f"WHERE {where} AND table_name = {literal(name)} "
        "AND index_name = 'PRIMARY' ORDER BY seq_in_index",
    )
    if ask.columns is None:
        _check_rights(connection, ask, rows)
    columns = [_column(row) for row in rows]
    return columns, tuple(column for table, column in key if table == name)


def _check_rights(connection: Connection, ask: Ask, rows: Sequence[tuple[Any, ...]]) -> None:
    """Raise a HomeError if this user may read some of the columns only; `rows` are the catalog's.

    The catalog leaves out columns for which this user has no right, and `SELECT *` is refused then,
    also for an INVISIBLE one.
    """
    from pymysql.err import MySQLError

    denied = [row[1] for row in rows if "select" not in row[11].lower().split(",")]
    try:
        fetch_all(connection, f"SELECT * FROM {source_of(ask)} LIMIT 0")
    except MySQLError as error:
        if number_of(error) not in _DENIED:
            raise
    else:
        if not denied:
            return
    places = {row[12] for row in rows}
    hidden = [str(at) for at in range(1, max(places)) if at not in places]
    named = [f"column '{name}'" for name in denied]
    named += [f"number {at}, whose name the server does not tell it" for at in hidden]
    granted = [row[1] for row in rows if row[1] not in denied]
    (user,) = fetch_one(connection, "SELECT CURRENT_USER()")
    name, _, host = str(user).rpartition("@")
    raise HomeError(
        f"{ask.who}: permission denied: of its columns this user may not read "
        f"{', '.join(named) or 'one or more at the end, whose names the server does not tell it'}",
        f"name what is meant: `columns: [{', '.join(granted)}]`, or GRANT SELECT ON "
        f"{source_of(ask)} TO '{name}'@'{host}'",
    )


def _nothing_there(connection: Connection, ask: Ask, where: str, name: str) -> HomeError:
    rows = fetch_all(connection, f"SELECT table_name FROM information_schema.tables WHERE {where}")
    tables = [table for (table,) in rows]
    if name in tables:
        return HomeError(
            f"{ask.who}: '{name}' is a view that the server cannot read: what it shows is "
            "gone, or not for this user",
            f"see what `SELECT * FROM {name}` says, and mend or drop the view",
        )
    return missing_table(ask.who, name, [each for each in tables if not each.startswith("_hygge_")])


def _column(row: tuple[Any, ...]) -> Column:
    _, name, kind, native, nullable, precision, scale, charset, collation, _, comment, *_ = row
    kind = kind.lower()
    if kind == "datetime" and comment == UTC:
        kind = "datetime utc"
    if re.match(r"(tinyint|bit)\(1\)", native):
        kind = "bool" if kind == "tinyint" else "bit1"
    return Column(
        name, kind, native, nullable == "YES", "unsigned" in native, precision or 0, scale or 0,
        charset, collation,
    )  # fmt: skip


def engine_without_snapshots(connection: Connection, ask: Ask) -> str | None:
    """Return the table's engine if its transactions see no snapshot (MyISAM, Aria); else None.

    The engines behind a query or a view are not known: None.
    """
    if ask.query is not None:
        return None
    schema, name = split_name(ask.table or "")
    rows = fetch_all(
        connection,
        "SELECT engine FROM information_schema.tables "
        f"WHERE table_schema = {in_schema(schema)} AND table_name = {literal(name)}",
    )
    engine = rows[0][0] if rows else None
    if engine is None or engine.lower() in _SNAPSHOT_ENGINES:
        return None
    return str(engine)


def history_of(connection: Connection, ask: Ask) -> str:
    """Return what to say of a table that keeps old versions of its rows; '' of any other."""
    if ask.query is not None:
        return ""
    schema, name = split_name(ask.table or "")
    found = fetch_all(
        connection,
        "SELECT 1 FROM information_schema.tables WHERE table_type = 'SYSTEM VERSIONED' "
        f"AND table_schema = {in_schema(schema)} AND table_name = {literal(name)}",
    )
    return "its history (SYSTEM VERSIONING), which is left out: rows of now are read" * bool(found)


def query_columns(connection: Connection, ask: Ask) -> list[Column]:
    """Return the columns of a query, by what the protocol says of its result.

    Raises HomeError if two columns have one name.
    """
    cursor = connection.cursor()
    cursor.execute(f"{connection.comment}SELECT * FROM {source_of(ask)} LIMIT 0")
    columns = [_column_of_field(field) for field in cursor._result.fields]
    cursor.close()
    names = [column.name for column in columns]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise HomeError(
            f"{ask.who}: the query gives more than one column named '{repeated[0]}'",
            "name each one: SELECT a.id AS a_id, b.id AS b_id",
        )
    return columns


def _column_of_field(field: FieldDescriptorPacket) -> Column:
    """Return the column that a field descriptor of pymysql means."""
    from pymysql.constants import FLAG

    unsigned = bool(field.flags & FLAG.UNSIGNED)
    kind = _PROTOCOL_TYPES.get(field.type_code)
    if kind is None:
        kind = "varbinary" if field.charsetnr == _NOT_A_TEXT else "text"
    if kind in ("tinyint", "bit") and field.length == 1:
        kind = "bool" if kind == "tinyint" else "bit1"
    scale = field.scale if kind == "decimal" else 0
    # The length of a decimal is that of its text: a sign and a point come on top of the digits.
    precision = field.length - (scale > 0) - (not unsigned)
    native = {"decimal": f"decimal({precision},{scale})", "text": "text of a query"}.get(kind, kind)
    nullable = not field.flags & FLAG.NOT_NULL
    return Column(field.name, kind, native, nullable, unsigned, precision, scale, "unknown")


def source_of(ask: Ask) -> str:
    """Return what stands behind FROM."""
    if ask.query is None:
        return quoted(*split_name(ask.table or ""))
    # The query may end with a comment, so the bracket stands in a line of its own.
    query = ask.query.strip().rstrip(";")
    return f"({query}\n) h"


def check_names(ask: Ask, columns: Sequence[Column]) -> None:
    """Raise SourceMissing if a column that the settings name is missing."""
    names = [column.name for column in columns]
    for name in ask.named:
        if name not in names:
            raise missing_column(ask.who, name, names)
