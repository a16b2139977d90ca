"""Replace, append and merge in SQLite: from staged tables into the target, in one transaction.

The caller holds the transaction; `staged` is the attached staging file. Where a staged table and
the target have the same columns, `INSERT INTO … SELECT *` copies whole records. What a statement
changed is compared with what it was handed: a trigger may leave out rows (`RAISE(IGNORE)`), and a
rule of the table may say ON CONFLICT IGNORE or REPLACE, which OR ABORT overrules.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from hygge.connectors.sql.commit import check_all_in
from hygge.connectors.sqlite import catalog, session
from hygge.connectors.sqlite.target import Slot, create_table, key_index
from hygge.errors import Rejected


def replace(
    connection: sqlite3.Connection,
    target: str,
    slots: Sequence[Slot],
    tables: Sequence[str],
    rows: int,
    who: str,
) -> list[str]:
    """A new table in the place of the old one; indexes and triggers that people made are kept."""
    kept = connection.execute(
        "SELECT name, sql FROM main.sqlite_master WHERE type IN ('index', 'trigger') "
        "AND lower(tbl_name) = lower(?) AND sql IS NOT NULL AND name <> ? ORDER BY type, name",
        [target, key_index(target)],
    ).fetchall()
    connection.execute(f"DROP TABLE IF EXISTS main.{session.quote(target)}")
    create_table(connection, target, slots)
    check_all_in(_insert(connection, target, slots, tables), rows, who)
    notes = []
    for name, sql in kept:
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


def append(
    connection: sqlite3.Connection,
    target: str,
    slots: Sequence[Slot],
    tables: Sequence[str],
    exists: bool,
    rows: int,
    who: str,
) -> None:
    """Staged rows behind those that are there."""
    if not exists:
        create_table(connection, target, slots)
    try:
        check_all_in(_insert(connection, target, slots, tables), rows, who)
    except sqlite3.IntegrityError as error:
        raise Rejected(
            f"the new rows break a rule of '{target}': {error}",
            "use `mode: merge` with a key, or leave these rows out with `where`",
        ) from error


def _insert(
    connection: sqlite3.Connection, target: str, slots: Sequence[Slot], tables: Sequence[str]
) -> int:
    """How many rows came in."""
    kept = catalog.columns(connection, target)
    same = [(k.name, k.declared) for k in kept] == [(s.name, s.declared) for s in slots]
    columns = ", ".join(session.quote(slot.name) for slot in slots)
    quoted, count = f"main.{session.quote(target)}", 0
    for table in tables:
        which = f"{quoted} SELECT *" if same else f"{quoted} ({columns}) SELECT {columns}"
        count += connection.execute(f"INSERT OR ABORT INTO {which} FROM staged.{table}").rowcount
    return count
