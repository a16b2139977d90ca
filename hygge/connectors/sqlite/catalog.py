"""SQLite's catalog: tables, views, and their columns."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass

from hygge.connectors.sql.ask import Ask
from hygge.connectors.sql.errors import missing_column, missing_table
from hygge.connectors.sql.listing import Listing, Table
from hygge.connectors.sqlite.database import table_name
from hygge.connectors.sqlite.session import fetch_value, opened, path_of, quoted
from hygge.errors import HomeError

_QUERY_VIEW = "_hygge_query"
_CREATED_BY = "SELECT sql FROM main.sqlite_master WHERE type = 'table' AND lower(name) = lower(?)"
_ROWID_NAMES = ("rowid", "_rowid_", "oid")


@dataclass(frozen=True)
class Column:
    """A column in SQLite's catalog."""

    name: str
    declared: str
    """The declared type as it was written; empty where there is none."""
    notnull: bool
    default: str | None
    key: int
    """Position in the primary key, from 1; 0 for a column outside of it."""
    generated: bool
    is_rowid: bool
    """Whether the column is another name for the rowid."""

    @property
    def is_supplied(self) -> bool:
        """Whether the table has a value for the column that is not NULL, where rows lack it."""
        return self.generated or (self.default or "NULL").upper() != "NULL"

    @property
    def fills_itself(self) -> bool:
        """Whether an INSERT may leave the column out."""
        return self.default is not None or self.generated or self.is_rowid


def tables(url: str, who: str, patterns: Sequence[str]) -> Listing:
    """Return every table and view of the file, without shadow tables.

    Raises SourceMissing if there is no file.
    """
    with opened(path_of(url), who, HomeError) as connection:
        rows = connection.execute(
            "SELECT name, type = 'view' FROM main.sqlite_master WHERE type IN ('table', 'view') "
            "AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'"
        ).fetchall()
        shadows = set(shadow_tables(connection))
    tables = [Table("main", name, bool(view)) for name, view in rows if name not in shadows]
    return Listing("main", tables, ["main"])


def shadow_tables(connection: sqlite3.Connection, virtual: str | None = None) -> list[str]:
    """Return the tables in which virtual tables (FTS5, R*Tree) keep their rows.

    `virtual`: those of this virtual table alone.
    """
    rows = connection.execute("PRAGMA main.table_list").fetchall()
    kinds = {name: kind for _, name, kind, *_ in rows}
    shadows = sorted(name for name, kind in kinds.items() if kind == "shadow")
    if virtual is None:
        return shadows
    if kinds.get(virtual) != "virtual":
        return []
    return [name for name in shadows if name.lower().startswith(f"{virtual.lower()}_")]


def table_names(connection: sqlite3.Connection) -> list[str]:
    """Return the names of all tables and views, without SQLite's own and hygge's own."""
    rows = connection.execute(
        "SELECT name FROM sqlite_master WHERE type IN ('table', 'view') "
        "AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' AND name NOT LIKE '\\_hygge\\_%' ESCAPE '\\'"
    )
    return [name for (name,) in rows]


def kind_of(connection: sqlite3.Connection, table: str) -> str | None:
    """Return 'table', 'view', or None where there is neither. Names ignore case, as in SQLite."""
    kind: str | None = fetch_value(
        connection,
        "SELECT type FROM sqlite_master WHERE type IN ('table', 'view') AND lower(name) = lower(?)",
        table,
    )
    return kind


def is_index(connection: sqlite3.Connection, name: str) -> bool:
    """Whether there is an index of this name."""
    sql = "SELECT 1 FROM sqlite_master WHERE type = 'index' AND lower(name) = lower(?)"
    return fetch_value(connection, sql, name) is not None


def created_by(connection: sqlite3.Connection, table: str) -> str | None:
    """Return the CREATE TABLE statement of a table, or None where there is no such table."""
    sql: str | None = fetch_value(connection, _CREATED_BY, table)
    return sql


def columns(connection: sqlite3.Connection, table: str) -> list[Column]:
    """Return the columns of a table or view, in order; an empty list where there is none."""
    rows = connection.execute(f"PRAGMA table_xinfo({quoted(table)})").fetchall()
    key = [row for row in rows if row[5]]
    rowid = key[0][1] if len(key) == 1 and (key[0][2] or "").upper() == "INTEGER" else None
    if rowid is not None and _has_no_rowid(connection, table):
        rowid = None
    return [
        # `hidden`: 1 is a column of a virtual table, 2 and 3 are generated columns.
        Column(name, declared or "", bool(notnull), default, key, hidden in (2, 3), name == rowid)
        for _, name, declared, notnull, default, key, hidden in rows
        if hidden != 1
    ]


def _has_no_rowid(connection: sqlite3.Connection, table: str) -> bool:
    rows = connection.execute(f"PRAGMA table_list({quoted(table)})").fetchall()
    return any(without_rowid for _, _, _, _, without_rowid, *_ in rows)


def collations(connection: sqlite3.Connection, table: str) -> dict[str, str]:
    """Return the quoted name of each column's collation, by column.

    SQLite tells the collation of an index only. So an empty copy of the table, in memory, gets an
    index on all its columns.
    """
    names = [column.name for column in columns(connection, table)]
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as copy:
        copy.execute(created_by(connection, table) or "")
        listed = ", ".join(map(quoted, names))
        copy.execute(f"CREATE INDEX _hygge_i ON {quoted(table)} ({listed})")
        by_column = {row[2]: row[4] for row in copy.execute("PRAGMA index_xinfo(_hygge_i)")}
    return {name: quoted(by_column[name]) for name in names}


def free_rowid_name(taken: Sequence[str]) -> str | None:
    """Return a name of the rowid that is none of these columns' names; None if all are taken."""
    lowered = {name.lower() for name in taken}
    return next((name for name in _ROWID_NAMES if name not in lowered), None)


def rowid_of(connection: sqlite3.Connection, table: str) -> str | None:
    """Return a name of the table's rowid; None for a view, WITHOUT ROWID, or if all are taken."""
    name = free_rowid_name([column.name for column in columns(connection, table)])
    if name is None:
        return None
    try:
        row = connection.execute(f"SELECT typeof({name}) FROM {quoted(table)} LIMIT 1").fetchone()
    except sqlite3.OperationalError:
        return None
    # For a view, SQLite answers with an error or with NULL, which depends on its version.
    return name if row is None or row[0] == "integer" else None


def source_of(connection: sqlite3.Connection, ask: Ask) -> str:
    """Return what stands behind FROM.

    A query becomes a temporary view, so that the catalog knows its columns.
    """
    if ask.query is None:
        return quoted(table_name(ask.table or ""))
    query = ask.query.strip().rstrip(";")
    connection.execute(f"CREATE TEMP VIEW IF NOT EXISTS {_QUERY_VIEW} AS {query}")
    return f"temp.{_QUERY_VIEW}"


def columns_of(connection: sqlite3.Connection, ask: Ask) -> list[Column]:
    """Return the columns of the table, or of the query after `source_of`.

    Raises SourceMissing if the table is missing, HomeError if two columns have one name.
    """
    if ask.query is None:
        table = table_name(ask.table or "")
        if kind_of(connection, table) is None:
            raise missing_table(ask.who, table, table_names(connection))
        return columns(connection, table)
    found = columns(connection, _QUERY_VIEW)
    names = [column.name for column in found]
    for name in names:
        # SQLite names the second `id` of a join `id:1`.
        repeated = re.fullmatch(r"(.+):\d+", name)
        if repeated and repeated[1] in names:
            raise HomeError(
                f"{ask.who}: the query gives more than one column named '{repeated[1]}'",
                "name each one: SELECT a.id AS a_id, b.id AS b_id",
            )
    return found


def chosen(ask: Ask, available: list[Column]) -> list[Column]:
    """Return the columns to read; raise SourceMissing if one that the settings name is missing."""
    by_name = {column.name: column for column in available}
    for name in ask.named:
        if name not in by_name:
            raise missing_column(ask.who, name, list(by_name))
    return ask.chosen(by_name)
