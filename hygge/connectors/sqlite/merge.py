"""Merges into SQLite: staged rows update those of the same key, or are added."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from hygge.connectors.sql.commit import check_all_in, check_merge
from hygge.connectors.sqlite import catalog, session
from hygge.connectors.sqlite.target import Slot, create_table, key_index
from hygge.errors import Rejected
from hygge.model import Run

_ALL = "temp._hygge_all"


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
        create_table(connection, target, slots)
    key = [session.quote(_name_of(slots, name)) for name in run.key]
    columns = [session.quote(slot.name) for slot in slots]
    # With the target's collations, so that a key here is a key there: 'a' and 'A' under NOCASE.
    collations = catalog.collations(connection, target)
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
            f"CREATE UNIQUE INDEX IF NOT EXISTS main.{session.quote(key_index(target))} "
            f"ON {session.quote(target)} ({', '.join(key)})"
        )
    except sqlite3.IntegrityError as error:
        raise Rejected(
            f"{who} already holds several rows of one key ({', '.join(key)})",
            "move it once with `mode: replace`, or use another key",
        ) from error


def _name_of(slots: Sequence[Slot], name: str) -> str:
    """The column as the table writes it; SQLite's names do not distinguish case."""
    for slot in slots:
        if slot.name.lower() == name.lower():
            return slot.name
    raise Rejected(f"the rows have no column '{name}'", "check `key` and `cursor`")


def _rowid(slots: Sequence[Slot]) -> str:
    taken = {slot.name.lower() for slot in slots}
    return next(word for word in ("rowid", "_rowid_", "oid") if word not in taken)
