"""Replace and append in SQLite: from staged tables into the target.

The caller has begun the transaction and attached the staging file as `staged`. Where a staged
table and the target have the same columns, `INSERT INTO … SELECT *` copies whole records. The
number of changed rows is compared with the number of staged rows: a trigger may leave out rows
(`RAISE(IGNORE)`), and so may a column with ON CONFLICT IGNORE or REPLACE, which OR ABORT overrules.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Sequence

from hygge.connectors.sql.commit import broken_rule, check_filled, keeps_rows
from hygge.connectors.sql.refusing import put_all
from hygge.connectors.sqlite import catalog
from hygge.connectors.sqlite.refusing import AppendedRows
from hygge.connectors.sqlite.session import fetch_value, quoted
from hygge.connectors.sqlite.target import TargetColumn, create_table, key_index
from hygge.errors import Rejected
from hygge.refused_rows import RefusedRows


def replace(staged: AppendedRows, refused: RefusedRows | None) -> list[str]:
    """Make the target anew from the staged rows; return notes about what was not made again.

    People's indexes and triggers on the old table are made again. The unique index of a merge is
    not: the new rows may have another key.
    """
    connection, target = staged.connection, staged.target
    dependents = connection.execute(
        "SELECT name, sql FROM main.sqlite_master WHERE type IN ('index', 'trigger') "
        "AND lower(tbl_name) = lower(?) AND sql IS NOT NULL AND name <> ? ORDER BY type, name",
        [target, key_index(target)],
    ).fetchall()
    unique = []
    if refused is not None:  # they tell which rows are refused
        unique = [each for each in dependents if re.match(r"(?i)\s*CREATE\s+UNIQUE\b", each[1])]
    broken = _broken_views(connection)
    connection.execute(f"DROP TABLE IF EXISTS main.{quoted(target)}")
    create_table(connection, f"main.{quoted(target)}", staged.columns)
    notes = _make_again(connection, target, unique)
    append(staged, refused)
    notes += _make_again(connection, target, [each for each in dependents if each not in unique])
    for name, why in _broken_views(connection).items():
        if name not in broken:
            notes.append(f"the view '{name}' cannot be read any more: {why}")
    return notes


def _make_again(
    connection: sqlite3.Connection, target: str, dependents: Sequence[tuple[str, str]]
) -> list[str]:
    """Make indexes and triggers, by name and SQL; return notes about those that cannot be."""
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


def refill(staged: AppendedRows, refused: RefusedRows | None) -> None:
    """Put the staged rows in the place of the target's, in the table that is there.

    Its triggers are not run, as they are not where the table is made anew.
    """
    connection, target = staged.connection, staged.target
    triggers = connection.execute(
        "SELECT name, sql FROM main.sqlite_master WHERE type = 'trigger' "
        "AND lower(tbl_name) = lower(?)",
        [target],
    ).fetchall()
    for name, _ in triggers:
        connection.execute(f"DROP TRIGGER main.{quoted(name)}")
    connection.execute(f"DELETE FROM main.{quoted(target)}")
    append(staged, refused)
    for _, sql in triggers:
        connection.execute(sql)


def put_in_place(staged: AppendedRows, refused: RefusedRows | None) -> None:
    """Put the staged rows in the place of the target's, and run its triggers, as an append does."""
    delete_rows(staged.connection, staged.target, staged.who)
    append(staged, refused)


def delete_rows(connection: sqlite3.Connection, target: str, who: str) -> None:
    """Delete the target's rows; raise Rejected where a trigger keeps some."""
    try:
        connection.execute(f"DELETE FROM main.{quoted(target)}")
    except sqlite3.IntegrityError as error:
        raise broken_rule(str(error), who, merges=False) from error
    if connection.execute(f"SELECT 1 FROM main.{quoted(target)} LIMIT 1").fetchone():
        raise keeps_rows(who)


def append(staged: AppendedRows, refused: RefusedRows | None) -> None:
    """Add the staged rows to the target; `refused` takes those that break a rule of the table.

    Raises Rejected for such a row where there is no `refused`.
    """
    present = catalog.columns(staged.connection, staged.target)
    sources = [source.table for source in staged.sources]
    check_nulls(staged.connection, present, staged.columns, sources, staged.who)
    try:
        put_all(staged, refused)
    except sqlite3.IntegrityError as error:
        raise broken_rule(str(error), staged.who, merges=False) from error


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
