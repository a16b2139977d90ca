"""The staging file of a run, `.<database>.hygge/<run>.db`: its ledger, and how files come and go.

Whoever works on a run writes to its file, batch by batch, or touches it when it goes on with the
run: so the file's time is its sign of life. One that is older than 25 h is swept by the next run.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote as url_quote

import pyarrow as pa

from hygge.connectors.sql.ask import pack
from hygge.connectors.sql.goal import Goal
from hygge.connectors.sql.heads import HEADS, head_of, not_a_head, still
from hygge.connectors.sql.ledger import OLD_S, ticket_name
from hygge.connectors.sqlite import catalog, session
from hygge.connectors.sqlite.database import table_name
from hygge.connectors.sqlite.target import identity
from hygge.errors import StoreError
from hygge.model import Head, Receipt, Run, Ticket

_TRIES = 100


@dataclass(frozen=True)
class Entry:
    """What the ledger says of a ticket, and how many rows its table has; None: there is none."""

    sealed: int | None = None
    counted: int | None = None
    schema: str | None = None
    declared: str | None = None


def begin(path: str, run: Run, who: str) -> None:
    """Make the run's file beside the database, or show that the one that is there lives."""
    try:
        _make(path, run)
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
        if session.one(connection, "SELECT count(*) FROM run") == 0:
            connection.execute("INSERT INTO run VALUES (?)", [run.mode])


@contextmanager
def opened(path: str, run: str, who: str) -> Iterator[sqlite3.Connection]:
    """The run's file; StoreError where it is not there."""
    if not os.path.exists(_file(path, run)):
        raise StoreError(
            f"{who}: run {run} is not prepared on this disk, or was discarded",
            "it was decided without this attempt; if it was not, run again, where every node of "
            "the cluster sees the folder of the database",
        )
    with session.opened(_file(path, run), who, StoreError, "rw") as connection:
        yield connection


def attached(connection: sqlite3.Connection, path: str, run: Run) -> bool:
    """Attach the run's file as `staged`; False where it is gone. Never makes one."""
    try:
        connection.execute("ATTACH ? AS staged", [f"file:{url_quote(_file(path, run.id))}?mode=rw"])
    except sqlite3.OperationalError:
        if os.path.exists(_file(path, run.id)):
            raise
        return False
    return True


def sealed_before(connection: sqlite3.Connection, ticket: Ticket) -> Receipt | None:
    """The receipt of an earlier attempt at this split under the same plan, if one was sealed."""
    alike = ticket_name(ticket).rpartition("_")[0] + "_"
    row = connection.execute(
        "SELECT ticket, rows, bytes, schema FROM ledger WHERE ticket GLOB ? ORDER BY ticket",
        [alike + "*"],
    ).fetchone()
    if row is None:
        return None
    earlier = Ticket(ticket.run, ticket.split, ticket.epoch, int(row[0].removeprefix(alike)))
    return Receipt(earlier, "", row[1], row[2], parts=0 if row[3] is None else 1)


def seal(
    connection: sqlite3.Connection,
    ticket: Ticket,
    rows: int,
    size: int,
    schema: pa.Schema | None,
    declared: str | None,
) -> None:
    """The ledger row that makes a ticket's table count; what was written before is durable then."""
    connection.execute("PRAGMA synchronous = FULL")
    arrow = None if schema is None else pack(schema)
    values = (ticket_name(ticket), rows, size, arrow, declared)
    connection.execute("INSERT INTO ledger VALUES (?, ?, ?, ?, ?)", values)


def entry(connection: sqlite3.Connection, ticket: Ticket, place: str) -> Entry:
    """What there is of a ticket in the database `place` of this connection."""
    name = ticket_name(ticket)
    row = connection.execute(
        f"SELECT rows, schema, declared FROM {place}.ledger WHERE ticket = ?", [name]
    ).fetchone()
    if row is None:
        return Entry()
    rows, schema, declared = row
    if schema is None:
        return Entry(rows, 0)
    there = f"SELECT count(*) FROM {place}.sqlite_master WHERE type = 'table' AND name = ?"
    counted = None
    if session.one(connection, there, name):
        counted = session.one(connection, f"SELECT count(*) FROM {place}.{name}")
    return Entry(rows, counted, schema, declared)


def keep_only(connection: sqlite3.Connection, names: Collection[str]) -> None:
    """Remove every other ticket's table and row."""
    connection.execute("BEGIN IMMEDIATE")
    found = connection.execute("SELECT name FROM sqlite_master WHERE name GLOB 't_*'").fetchall()
    sealed = connection.execute("SELECT ticket FROM ledger").fetchall()
    for name in {name for (name,) in [*found, *sealed]} - set(names):
        connection.execute("DELETE FROM ledger WHERE ticket = ?", [name])
        connection.execute(f"DROP TABLE IF EXISTS {session.quote(name)}")
    connection.execute("COMMIT")


def remove(path: str, run: Run) -> None:
    """Remove the run's file, and the folder after the last one."""
    _unlink(_file(path, run.id))
    with suppress(OSError):
        os.rmdir(_folder(path))  # stays while other runs are in there


def sweep(path: str) -> None:
    """Remove what runs left behind that show no sign of life."""
    for name in os.listdir(_folder(path)):
        each = os.path.join(_folder(path), name)
        with suppress(FileNotFoundError):
            if name.endswith(".db") and time.time() - os.stat(each).st_mtime > OLD_S:
                _unlink(each)


def _folder(path: str) -> str:
    folder, name = os.path.split(path)
    return os.path.join(folder, f".{name}.hygge")


def _file(path: str, run: str) -> str:
    return os.path.join(_folder(path), f"{run}.db")


def _make(path: str, run: Run) -> None:
    """Make the run's file, in a folder that another run may be removing as it ends."""
    for turn in range(_TRIES):
        try:
            os.makedirs(_folder(path), exist_ok=True)
            # Only ever made here, not opened: closing a descriptor would end SQLite's own locks.
            os.close(os.open(_file(path, run.id), os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        except (FileExistsError, FileNotFoundError):
            if os.path.exists(_file(path, run.id)):
                return
            if turn == _TRIES - 1:
                raise
        else:
            return


def _unlink(path: str) -> None:
    for each in (path, f"{path}-journal", f"{path}-wal", f"{path}-shm"):
        with suppress(FileNotFoundError):
            os.unlink(each)


HEADS_DDL = (
    f"CREATE TABLE IF NOT EXISTS main.{HEADS} (flow TEXT NOT NULL, target TEXT NOT NULL, "
    "format INTEGER NOT NULL, generation INTEGER NOT NULL, run TEXT NOT NULL, "
    "rows INTEGER NOT NULL, watermark TEXT, cursor TEXT, columns TEXT NOT NULL, made TEXT, "
    "committed_at TEXT NOT NULL, "
    "PRIMARY KEY (flow, target))"
)


def heads_at(connection: sqlite3.Connection, goal: Goal) -> dict[str, tuple[Head, Any]]:
    """By flow: what is committed to the target, and what `made` says; nonsense is an error."""
    if catalog.kind_of(connection, HEADS) is None:
        return {}
    asked = f"SELECT * FROM main.{HEADS} WHERE target = ?"
    try:
        cursor = connection.execute(asked, [table_name(goal.table).lower()])
    except sqlite3.OperationalError as error:
        if "no such column" in str(error):
            raise not_a_head(goal.who, str(error)) from error
        raise
    names = [each[0] for each in cursor.description]
    rows = [dict(zip(names, row, strict=True)) for row in cursor]
    found = [(head_of(row, goal.who), row["made"]) for row in rows]
    heads = {head.flow: (head, made) for head, made in found}
    if len(heads) < len(found):
        raise not_a_head(goal.who, "there are two heads of one flow")
    return heads


def head_of_flow(connection: sqlite3.Connection, goal: Goal, flow: str) -> Head | None:
    return heads_at(connection, goal).get(flow, (None, None))[0]


def is_made(connection: sqlite3.Connection, goal: Goal) -> bool:
    """Whether the table that is there now is one that hygge made."""
    made = [each for _, each in heads_at(connection, goal).values()]
    return still(identity(connection, table_name(goal.table)), made)
