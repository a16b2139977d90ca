"""What SQLite's catalog says of tables and their columns."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from hygge.connectors.sql.ask import Ask
from hygge.connectors.sql.errors import missing_table
from hygge.connectors.sql.listing import Listing, Table
from hygge.connectors.sqlite import session
from hygge.connectors.sqlite.database import table_name
from hygge.errors import HomeError


@dataclass(frozen=True)
class Kept:
    """A column as SQLite's catalog has it."""

    name: str
    declared: str
    notnull: bool
    default: str | None
    key: int
    """Position in the primary key, from 1; 0 for a column outside of it."""
    generated: bool

    @property
    def fills_itself(self) -> bool:
        """Whether an insert may leave it out."""
        rowid = self.key == 1 and self.declared.upper() == "INTEGER"
        return self.default is not None or self.generated or rowid


def tables(url: str, who: str, patterns: Sequence[str]) -> Listing:
    """Every table and view of the file; SourceMissing where there is no file."""
    with session.opened(session.path_of(url), who, HomeError) as connection:
        found = connection.execute(
            "SELECT name, type = 'view' FROM main.sqlite_master WHERE type IN ('table', 'view') "
            "AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'"
        ).fetchall()
    return Listing("main", [Table("main", name, bool(view)) for name, view in found], ["main"])


def table_names(connection: sqlite3.Connection) -> list[str]:
    """Names of all tables and views, without SQLite's own and hygge's own."""
    rows = connection.execute(
        "SELECT name FROM sqlite_master WHERE type IN ('table', 'view') "
        "AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' AND name NOT LIKE '\\_hygge\\_%' ESCAPE '\\'"
    )
    return [name for (name,) in rows]


def kind_of(connection: sqlite3.Connection, table: str) -> str | None:
    """'table', 'view', or None where there is neither. Names do not distinguish case."""
    row = connection.execute(
        "SELECT type FROM sqlite_master WHERE type IN ('table', 'view') AND lower(name) = lower(?)",
        [table],
    ).fetchone()
    return row[0] if row else None


def columns(connection: sqlite3.Connection, table: str) -> list[Kept]:
    """The columns of a table or view, in order; empty where there is none."""
    rows = connection.execute(f"PRAGMA table_xinfo({session.quote(table)})").fetchall()
    return [
        Kept(name, declared or "", bool(notnull), default, key, hidden in (2, 3))
        for _, name, declared, notnull, default, key, hidden in rows
        if hidden != 1
    ]


def collations(connection: sqlite3.Connection, table: str) -> dict[str, str]:
    """How each column of a table compares its text. Only an index says so: one on an empty twin."""
    asked = "SELECT sql FROM main.sqlite_master WHERE type = 'table' AND lower(name) = lower(?)"
    names = [each.name for each in columns(connection, table)]
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as twin:
        twin.execute(session.one(connection, asked, table))
        listed = ", ".join(map(session.quote, names))
        twin.execute(f"CREATE INDEX _hygge_i ON {session.quote(table)} ({listed})")
        found = {row[2]: row[4] for row in twin.execute("PRAGMA index_xinfo(_hygge_i)")}
    return {name: session.quote(found[name]) for name in names}


def rowid_of(connection: sqlite3.Connection, table: str) -> str | None:
    """A name that means the rowid of a table, or None (a view, WITHOUT ROWID, all names taken)."""
    taken = {each.name.lower() for each in columns(connection, table)}
    for word in ("rowid", "_rowid_", "oid"):
        if word not in taken:
            try:
                row = connection.execute(
                    f"SELECT typeof({word}) FROM {session.quote(table)} LIMIT 1"
                )
                found = row.fetchone()
            except sqlite3.OperationalError:
                return None
            return word if found is None or found[0] == "integer" else None
    return None


def columns_of(connection: Any, ask: Ask) -> list[Kept]:
    if ask.query is None:
        table = table_name(ask.table or "")
        if kind_of(connection, table) is None:
            raise missing_table(ask.who, table, table_names(connection))
        kept = columns(connection, table)
    else:
        kept = columns(connection, _QUERY)
        for each in kept:  # SQLite names the second `id` of a join `id:1`
            again = re.fullmatch(r"(.+):\d+", each.name)
            if again and any(other.name == again[1] for other in kept):
                raise HomeError(
                    f"{ask.who}: the query gives more than one column named '{again[1]}'",
                    "name each one: SELECT a.id AS a_id, b.id AS b_id",
                )
    return kept


_QUERY = "_hygge_query"


def source_of(connection: Any, ask: Ask) -> str:
    """What stands behind FROM; a query is a temporary view, so that it has columns like a table."""
    if ask.query is None:
        return session.quote(table_name(ask.table or ""))
    query = ask.query.strip().rstrip(";")
    connection.execute(f"CREATE TEMP VIEW IF NOT EXISTS {_QUERY} AS {query}")
    return f"temp.{_QUERY}"
