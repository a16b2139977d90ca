"""Replace and append in SQLite: from staged tables into the target.

The caller has begun the transaction and attached the staging file as `staged`. Where a staged
table and the target have the same columns, `INSERT INTO … SELECT *` copies whole records. The
number of changed rows is compared with the number of staged rows: a trigger may leave out rows
(`RAISE(IGNORE)`), and so may a column with ON CONFLICT IGNORE or REPLACE, which OR ABORT overrules.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from hygge.connectors.sql.commit import broken_rule, check_all_in, check_filled, keeps_rows
from hygge.connectors.sqlite import catalog
from hygge.connectors.sqlite.session import fetch_value, quoted
from hygge.connectors.sqlite.target import TargetColumn, create_table, key_index
from hygge.errors import Rejected


def replace(
    connection: sqlite3.Connection,
    target: str,
    columns: Sequence[TargetColumn],
    tables: Sequence[str],
    rows: int,
    who: str,
) -> list[str]:
    """Make the target anew from the staged tables; return notes about what was not made again.

    People's indexes and triggers on the old table are made again. The unique index of a merge is
    not: the new rows may have another key.
    """
    dependents = connection.execute(
        "SELECT name, sql FROM main.sqlite_master WHERE type IN ('index', 'trigger') "
        "AND lower(tbl_name) = lower(?) AND sql IS NOT NULL AND name <> ? ORDER BY type, name",
        [target, key_index(target)],
    ).fetchall()
    broken = _broken_views(connection)
    connection.execute(f"DROP TABLE IF EXISTS main.{quoted(target)}")
    create_table(connection, f"main.{quoted(target)}", columns)
    check_all_in(_insert(connection, target, columns, tables, who), rows, who)
    notes = []
    for name, sql in dependents:
        try:
            connection.execute(sql)
        except sqlite3.IntegrityError as error:
            raise Rejected(
                f"the new rows of '{target}' break its index '{name}': {error}",
                "drop the index, or leave these rows out with `where`",
            ) from error
        except sqlite3.OperationalError as error:
            notes.append(f"'{name}' was not made again: {error}")
    for name, why in _broken_views(connection).items():
        if name not in broken:
            notes.append(f"the view '{name}' cannot be read any more: {why}")
    return notes


def _broken_views(connection: sqlite3.Connection) -> dict[str, str]:
    """Return the views that cannot be read, and why."""
    views = connection.execute("SELECT name FROM main.sqlite_master WHERE type = 'view'").fetchall()
    broken = {}
    for (name,) in views:
        try:
            connection.execute(f"SELECT * FROM main.{quoted(name)} LIMIT 0")
        except sqlite3.OperationalError as error:
            broken[name] = str(error)
    return broken


def refill(
    connection: sqlite3.Connection,
    target: str,
    columns: Sequence[TargetColumn],
    tables: Sequence[str],
    rows: int,
    who: str,
) -> None:
    """Put the staged rows in the place of the target's, in the table that is there.

    Its triggers are not run, as they are not where the table is made anew.
    """
    triggers = connection.execute(
        "SELECT name, sql FROM main.sqlite_master WHERE type = 'trigger' "
        "AND lower(tbl_name) = lower(?)",
        [target],
    ).fetchall()
    for name, _ in triggers:
        connection.execute(f"DROP TRIGGER main.{quoted(name)}")
    connection.execute(f"DELETE FROM main.{quoted(target)}")
    append(connection, target, columns, tables, rows, who)
    for _, sql in triggers:
        connection.execute(sql)


def put_in_place(
    connection: sqlite3.Connection,
    target: str,
    columns: Sequence[TargetColumn],
    tables: Sequence[str],
    rows: int,
    who: str,
) -> None:
    """Put the staged rows in the place of the target's, and run its triggers, as an append does."""
    delete_rows(connection, target, who)
    append(connection, target, columns, tables, rows, who)


def delete_rows(connection: sqlite3.Connection, target: str, who: str) -> None:
    """Delete the target's rows; raise Rejected where a trigger keeps some."""
    try:
        connection.execute(f"DELETE FROM main.{quoted(target)}")
    except sqlite3.IntegrityError as error:
        raise broken_rule(str(error), who, merges=False) from error
    if connection.execute(f"SELECT 1 FROM main.{quoted(target)} LIMIT 1").fetchone():
        raise keeps_rows(who)


def append(
    connection: sqlite3.Connection,
    target: str,
    columns: Sequence[TargetColumn],
    tables: Sequence[str],
    rows: int,
    who: str,
) -> None:
    """Add the staged rows to the target; raise Rejected if they break a rule of the table."""
    try:
        check_all_in(_insert(connection, target, columns, tables, who), rows, who)
    except sqlite3.IntegrityError as error:
        raise broken_rule(str(error), who, merges=False) from error


def check_nulls(
    connection: sqlite3.Connection,
    present: Sequence[catalog.Column],
    columns: Sequence[TargetColumn],
    sources: Sequence[str],
    who: str,
) -> None:
    """Raise Rejected for NULLs in the place of which SQLite would write a number of its own."""
    written = {column.name for column in columns}
    for column in present:
        if column.is_rowid and column.name in written:
            is_null = f"WHERE {quoted(column.name)} IS NULL"
            nulls = sum(
                fetch_value(connection, f"SELECT count(*) FROM {source} {is_null}")
                for source in sources
            )
            check_filled(nulls, column.name, who)


def _insert(
    connection: sqlite3.Connection,
    target: str,
    columns: Sequence[TargetColumn],
    tables: Sequence[str],
    who: str,
) -> int:
    """Insert the staged tables; return the number of rows that came in."""
    present = catalog.columns(connection, target)
    check_nulls(connection, present, columns, [f"staged.{table}" for table in tables], who)
    names_and_types = [(column.name, column.declared) for column in present]
    is_same = names_and_types == [(column.name, column.declared) for column in columns]
    is_same = is_same and not any(column.generated for column in present)
    names = ", ".join(quoted(column.name) for column in columns if column.is_written)
    into = f"INSERT OR ABORT INTO main.{quoted(target)}"
    count = 0
    for table in tables:
        if is_same:
            sql = f"{into} SELECT * FROM staged.{table}"
        else:
            sql = f"{into} ({names}) SELECT {names} FROM staged.{table}"
        count += connection.execute(sql).rowcount
    return count
