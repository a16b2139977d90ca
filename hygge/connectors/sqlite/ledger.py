"""The two places where hygge keeps its own rows for SQLite: a run's staging file, and the heads.

The staging file is `.<database>.hygge/<run>.db`. It holds a table for each ticket, and the ledger:
one row for each sealed ticket. Whoever works on the run writes to the file batch by batch, or
touches it when it resumes the run; so the file's modification time shows that the run is alive. The
next run removes files older than 25 h.

The heads are `_hygge_heads` in the database itself, one row for each flow and target.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from urllib.parse import quote as url_quote

import pyarrow as pa

from hygge.connectors.sql.ask import pack
from hygge.connectors.sql.goal import Goal
from hygge.connectors.sql.heads import (
    HEAD_COLUMNS,
    HEADS,
    Heads,
    head_in,
    not_a_head,
    still,
    stored_heads,
)
from hygge.connectors.sql.ledger import OLD_S, ticket_name
from hygge.connectors.sqlite import catalog, session
from hygge.connectors.sqlite.database import table_name
from hygge.connectors.sqlite.session import Value, fetch_value, quoted
from hygge.connectors.sqlite.target import identity
from hygge.errors import StoreError
from hygge.model import Head, Receipt, Run, Ticket
from hygge.places import durable

_TRIES = 100
_HEADS_DDL = (
    f"CREATE TABLE IF NOT EXISTS main.{HEADS} (flow TEXT NOT NULL, target TEXT NOT NULL, "
    "format INTEGER NOT NULL, generation INTEGER NOT NULL, run TEXT NOT NULL, "
    "rows INTEGER NOT NULL, watermark TEXT, cursor TEXT, columns TEXT NOT NULL, made TEXT, "
    "committed_at TEXT NOT NULL, "
    "PRIMARY KEY (flow, target))"
)


@dataclass(frozen=True)
class Entry:
    """What the staging file holds of a ticket; a field is None where there is nothing."""

    sealed: int | None = None
    """Rows, as the ledger says."""
    counted: int | None = None
    """Rows that are in the ticket's table now."""
    schema: str | None = None
    declared: str | None = None


def begin(path: str, run: Run, who: str) -> None:
    """Make the run's staging file, or touch the one that is there."""
    try:
        _create_file(path, run)
        os.utime(_file(path, run.id))
    except OSError as error:
        raise StoreError(
            f"{who}: cannot stage in {os.path.dirname(path)}: {error.strerror}",
            "the run is staged beside the database; allow this user to write there",
        ) from error
    with session.opened(_file(path, run.id), who, StoreError, "rwc") as connection:
        connection.execute(
            "CREATE TABLE IF NOT EXISTS ledger (ticket TEXT PRIMARY KEY, rows INTEGER, "
            "bytes INTEGER, schema TEXT, declared TEXT)"
        )
        connection.execute("CREATE TABLE IF NOT EXISTS run (mode TEXT)")
        if fetch_value(connection, "SELECT count(*) FROM run") == 0:
            connection.execute("INSERT INTO run VALUES (?)", [run.mode])


def check_rights(path: str, who: str) -> None:
    """Raise StoreError where this user may not write the database, or stage beside it."""
    if os.path.exists(path) and not os.access(path, os.W_OK):
        raise StoreError(f"{who}: the file may not be written", "allow this user to")
    try:
        folder, name = os.path.split(path)
        durable.check_rights(folder, f".{name}.hygge")
    except OSError as error:
        raise StoreError(
            f"{who}: cannot stage in {error.filename}: {error.strerror}",
            "the run is staged beside the database; allow this user to write there",
        ) from error


@contextmanager
def opened(path: str, run: str, who: str) -> Iterator[sqlite3.Connection]:
    """Open the run's staging file; raise StoreError if it is missing."""
    if not os.path.exists(_file(path, run)):
        raise StoreError(
            f"{who}: run {run} is not prepared on this disk, or was discarded",
            "it was decided without this attempt; if it was not, run again, where every node of "
            "the cluster sees the folder of the database",
        )
    with session.opened(_file(path, run), who, StoreError, "rw") as connection:
        yield connection


def attach(connection: sqlite3.Connection, path: str, run: Run) -> bool:
    """Attach the run's staging file as `staged`; return False if it is missing."""
    try:
        # `mode=rw`: otherwise ATTACH would create an empty file.
        connection.execute("ATTACH ? AS staged", [f"file:{url_quote(_file(path, run.id))}?mode=rw"])
    except sqlite3.OperationalError:
        if os.path.exists(_file(path, run.id)):
            raise
        return False
    return True


def mode_of(connection: sqlite3.Connection) -> str:
    """Return the mode that the run was prepared for."""
    return str(fetch_value(connection, "SELECT mode FROM run"))


def sealed_before(connection: sqlite3.Connection, ticket: Ticket) -> Receipt | None:
    """Return the receipt of an earlier attempt at this split and epoch, if one was sealed."""
    prefix = ticket_name(ticket).rpartition("_")[0] + "_"
    row = connection.execute(
        "SELECT ticket, rows, bytes, schema FROM ledger WHERE ticket GLOB ? ORDER BY ticket",
        [prefix + "*"],
    ).fetchone()
    if row is None:
        return None
    name, rows, size, schema = row
    earlier = Ticket(ticket.run, ticket.split, ticket.epoch, int(name.removeprefix(prefix)))
    return Receipt(earlier, "", rows, size, parts=0 if schema is None else 1)


def seal(
    connection: sqlite3.Connection,
    ticket: Ticket,
    rows: int,
    size: int,
    schema: pa.Schema | None,
    declared: str | None,
) -> None:
    """Write the ledger row that makes a ticket's table count.

    With `synchronous = FULL` this commit also makes the batches before it durable.
    """
    connection.execute("PRAGMA synchronous = FULL")
    packed = None if schema is None else pack(schema)
    values: tuple[Value, ...] = (ticket_name(ticket), rows, size, packed, declared)
    connection.execute("INSERT INTO ledger VALUES (?, ?, ?, ?, ?)", values)


def entry(connection: sqlite3.Connection, ticket: Ticket, database: str) -> Entry:
    """Return what the staging file holds of a ticket; `database` is its name in `connection`."""
    name = ticket_name(ticket)
    row = connection.execute(
        f"SELECT rows, schema, declared FROM {database}.ledger WHERE ticket = ?", [name]
    ).fetchone()
    if row is None:
        return Entry()
    rows, schema, declared = row
    if schema is None:
        return Entry(rows, 0)
    exists = f"SELECT count(*) FROM {database}.sqlite_master WHERE type = 'table' AND name = ?"
    counted = None
    if fetch_value(connection, exists, name):
        counted = fetch_value(connection, f"SELECT count(*) FROM {database}.{name}")
    return Entry(rows, counted, schema, declared)


def keep_only(connection: sqlite3.Connection, names: Collection[str]) -> None:
    """Remove the tables and ledger rows of all tickets but these."""
    connection.execute("BEGIN IMMEDIATE")
    tables = connection.execute("SELECT name FROM sqlite_master WHERE name GLOB 't_*'").fetchall()
    sealed = connection.execute("SELECT ticket FROM ledger").fetchall()
    for name in {name for (name,) in [*tables, *sealed]} - set(names):
        connection.execute("DELETE FROM ledger WHERE ticket = ?", [name])
        connection.execute(f"DROP TABLE IF EXISTS {quoted(name)}")
    connection.execute("COMMIT")


def remove(path: str, run: Run) -> None:
    """Remove the run's staging file, and the folder if it was the last one."""
    _unlink(_file(path, run.id))
    with suppress(OSError):
        os.rmdir(_folder(path))  # fails while other runs have files in it


def sweep(path: str) -> None:
    """Remove the staging files of runs that show no sign of life."""
    for name in os.listdir(_folder(path)):
        file = os.path.join(_folder(path), name)
        with suppress(FileNotFoundError):
            if name.endswith(".db") and time.time() - os.stat(file).st_mtime > OLD_S:
                _unlink(file)


def _folder(path: str) -> str:
    folder, name = os.path.split(path)
    return os.path.join(folder, f".{name}.hygge")


def _file(path: str, run: str) -> str:
    return os.path.join(_folder(path), f"{run}.db")


def _create_file(path: str, run: Run) -> None:
    """Create the run's file; try again while another run, which ends, removes the folder."""
    for turn in range(_TRIES):
        try:
            os.makedirs(_folder(path), exist_ok=True)
            # A file that exists is never opened here: closing it would end SQLite's own locks.
            os.close(os.open(_file(path, run.id), os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        except (FileExistsError, FileNotFoundError):
            if os.path.exists(_file(path, run.id)):
                return
            if turn == _TRIES - 1:
                raise
        else:
            return


def _unlink(path: str) -> None:
    for file in (path, f"{path}-journal", f"{path}-wal", f"{path}-shm"):
        with suppress(FileNotFoundError):
            os.unlink(file)


def create_heads(connection: sqlite3.Connection) -> None:
    """Create the table of heads, if it does not exist."""
    connection.execute(_HEADS_DDL)


def heads_at(connection: sqlite3.Connection, goal: Goal) -> Heads:
    """Return the heads of the target, by flow.

    Raises StoreError if the table holds what hygge would not write.
    """
    if catalog.kind_of(connection, HEADS) is None:
        return {}
    select = f"SELECT * FROM main.{HEADS} WHERE target = ?"
    try:
        cursor = connection.execute(select, [table_name(goal.table).lower()])
    except sqlite3.OperationalError as error:
        if "no such column" in str(error):
            raise not_a_head(goal.who, str(error)) from error
        raise
    names = [column[0] for column in cursor.description]
    rows = [dict(zip(names, row, strict=True)) for row in cursor]
    return stored_heads(rows, goal.who)


def head_at(connection: sqlite3.Connection, goal: Goal, flow: str) -> Head | None:
    """Return the head of one flow on the target."""
    return head_in(heads_at(connection, goal), flow)


def is_made(connection: sqlite3.Connection, goal: Goal) -> bool:
    """Whether hygge made the table that is there now."""
    return still(identity(connection, table_name(goal.table)), heads_at(connection, goal))


def write_head(connection: sqlite3.Connection, row: dict[str, Value], mode: str) -> None:
    """Write a head; `replace` also removes the heads of other flows, whose rows are gone."""
    if mode == "replace":
        others = f"DELETE FROM main.{HEADS} WHERE target = ? AND flow <> ?"
        connection.execute(others, [row["target"], row["flow"]])
    marks = ", ".join("?" * len(HEAD_COLUMNS))
    connection.execute(
        f"INSERT OR REPLACE INTO main.{HEADS} ({', '.join(HEAD_COLUMNS)}) VALUES ({marks})",
        [row[name] for name in HEAD_COLUMNS],
    )
