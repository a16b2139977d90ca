"""Replace, append and merge in SQLite: from staged tables into the target, in one transaction.

The caller holds the transaction; `staged` is the attached staging file. Where a staged table and
the target have the same columns, `INSERT INTO … SELECT *` copies whole records. What a statement
changed is compared with what it was handed: a trigger may leave out rows (`RAISE(IGNORE)`), and a
rule of the table may say ON CONFLICT IGNORE or REPLACE, which OR ABORT overrules.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from hygge.connectors.sql.commit import check_all_in, check_merge
from hygge.connectors.sqlite import session
from hygge.connectors.sqlite.target import Slot
from hygge.errors import Rejected
from hygge.model import Run

_ALL = "temp._hygge_all"


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
        [target, _key_index(target)],
    ).fetchall()
    connection.execute(f"DROP TABLE IF EXISTS main.{session.quote(target)}")
    _make(connection, target, slots)
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
        _make(connection, target, slots)
    try:
        check_all_in(_insert(connection, target, slots, tables), rows, who)
    except sqlite3.IntegrityError as error:
        raise Rejected(
            f"the new rows break a rule of '{target}': {error}",
            "use `mode: merge` with a key, or leave these rows out with `where`",
        ) from error


def merge(
    connection: sqlite3.Connection,
    target: str,
    slots: Sequence[Slot],
    tables: Sequence[str],
    exists: bool,
    made: bool,
    run: Run,
    who: str,
) -> int:
    """Staged rows update those of the same key, or are added; gives how many were superseded.

    Of staged rows that share a key, the one with the highest cursor counts; of equal ones the last.
    """
    if not exists:
        _make(connection, target, slots)
    key = [session.quote(_name_of(slots, name)) for name in run.key]
    columns = [session.quote(slot.name) for slot in slots]
    # With the target's collations, so that a key here is a key there: 'a' and 'A' under NOCASE.
    collations = session.collations(connection, target)
    ddl = ", ".join(f"{slot.ddl()} COLLATE {collations[slot.name]}" for slot in slots)
    connection.execute(f"CREATE TEMP TABLE _hygge_all ({ddl})")
    for table in tables:
        connection.execute(f"INSERT INTO {_ALL} SELECT * FROM staged.{table}")
    null = " OR ".join(f"{name} IS NULL" for name in key)
    rows = session.one(connection, f"SELECT count(*) FROM {_ALL}")
    nulls = session.one(connection, f"SELECT count(*) FROM {_ALL} WHERE {null}")
    distinct = session.one(
        connection, f"SELECT count(*) FROM (SELECT DISTINCT {', '.join(key)} FROM {_ALL})"
    )
    check_merge(rows, nulls, distinct, run, who)
    if rows != distinct:
        _keep_last(connection, slots, key, session.quote(_name_of(slots, run.cursor or "")))
    connection.execute(f"CREATE INDEX temp._hygge_all_key ON _hygge_all ({', '.join(key)})")
    _index_key(connection, target, key, made, who)
    same = " AND ".join(f"t.{name} = s.{name}" for name in key)
    changed = ", ".join(f"{name} = s.{name}" for name in columns if name not in key)
    quoted = f"main.{session.quote(target)}"
    there, met = connection.execute(
        f"SELECT count(*), count(DISTINCT s.{_rowid(slots)}) FROM {quoted} AS t "
        f"JOIN {_ALL} AS s ON {same}"
    ).fetchone()
    listed = ", ".join(columns)
    try:
        if changed:
            done = connection.execute(
                f"UPDATE OR ABORT {quoted} AS t SET {changed} FROM {_ALL} AS s WHERE {same}"
            )
            check_all_in(done.rowcount, there, who)
        done = connection.execute(
            f"INSERT OR ABORT INTO {quoted} ({listed}) SELECT {listed} FROM {_ALL} AS s "
            f"WHERE NOT EXISTS (SELECT 1 FROM {quoted} AS t WHERE {same})"
        )
        check_all_in(done.rowcount, distinct - met, who)
    except sqlite3.IntegrityError as error:
        raise Rejected(f"the merged rows break a rule of '{target}': {error}") from error
    connection.execute(f"DROP TABLE {_ALL}")
    return int(rows - distinct)


def _keep_last(
    connection: sqlite3.Connection, slots: Sequence[Slot], key: Sequence[str], cursor: str
) -> None:
    rowid = _rowid(slots)
    connection.execute(
        f"DELETE FROM {_ALL} WHERE {rowid} IN (SELECT r FROM (SELECT {rowid} AS r, row_number() "
        f"OVER (PARTITION BY {', '.join(key)} ORDER BY {cursor} IS NULL, {cursor} DESC, "
        f"{rowid} DESC) AS n FROM {_ALL}) WHERE n > 1)"
    )


def _index_key(
    connection: sqlite3.Connection, target: str, key: Sequence[str], made: bool, who: str
) -> None:
    """A table that hygge made keeps its key unique from its first merge on."""
    if not made:
        return
    try:
        connection.execute(
            f"CREATE UNIQUE INDEX IF NOT EXISTS main.{session.quote(_key_index(target))} "
            f"ON {session.quote(target)} ({', '.join(key)})"
        )
    except sqlite3.IntegrityError as error:
        raise Rejected(
            f"{who} already holds several rows of one key ({', '.join(key)})",
            "move it once with `mode: replace`, or use another key",
        ) from error


def _key_index(target: str) -> str:
    return f"_hygge_key_{target}"


def _make(connection: sqlite3.Connection, target: str, slots: Sequence[Slot]) -> None:
    ddl = ", ".join(slot.ddl() for slot in slots)
    connection.execute(f"CREATE TABLE main.{session.quote(target)} ({ddl})")


def _insert(
    connection: sqlite3.Connection, target: str, slots: Sequence[Slot], tables: Sequence[str]
) -> int:
    """How many rows came in."""
    kept = session.columns(connection, target)
    same = [(k.name, k.declared) for k in kept] == [(s.name, s.declared) for s in slots]
    columns = ", ".join(session.quote(slot.name) for slot in slots)
    quoted, count = f"main.{session.quote(target)}", 0
    for table in tables:
        which = f"{quoted} SELECT *" if same else f"{quoted} ({columns}) SELECT {columns}"
        count += connection.execute(f"INSERT OR ABORT INTO {which} FROM staged.{table}").rowcount
    return count


def _name_of(slots: Sequence[Slot], name: str) -> str:
    """The column as the table writes it; SQLite's names do not distinguish case."""
    for slot in slots:
        if slot.name.lower() == name.lower():
            return slot.name
    raise Rejected(f"the rows have no column '{name}'", "check `key` and `cursor`")


def _rowid(slots: Sequence[Slot]) -> str:
    taken = {slot.name.lower() for slot in slots}
    return next(word for word in ("rowid", "_rowid_", "oid") if word not in taken)
