"""SQLite as a Store: staged in a file of its own beside the database, shown by one transaction.

Life of a run: `prepare` makes `.<database>.hygge/<run>.db`; `stage` fills a table per ticket there,
one short transaction a batch, so that neither readers nor other attempts wait, and seals it by a
row of the ledger, in the transaction that ends it; `commit` attaches that file and moves rows and
head together in one transaction of the database, which until then was neither locked nor changed.
So a flow may read from the file that it writes. WAL is switched on only in a file that hygge made.
"""

from __future__ import annotations

import json
import os
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress

import pyarrow as pa

from hygge.batches import plain
from hygge.errors import HyggeError, Rejected, StoreError
from hygge.io import sqlite
from hygge.io.sql import in_words, sqlite_path, sqlite_table, unknown_commit
from hygge.io.sql_ask import pack, unpack
from hygge.io.sql_goal import (
    HEAD_COLUMNS,
    HEADS,
    OLD_S,
    Goal,
    already,
    check_base,
    check_staged,
    head_of,
    head_values,
    lost_target,
    not_ours,
    still,
    ticket_name,
)
from hygge.io.sqlite_apply import append, merge, replace
from hygge.io.sqlite_target import Slot, existing, fresh
from hygge.io.sqlite_values import encode
from hygge.model import Commit, Head, Receipt, Run, Ticket, Watermark

_TRIES = 100
_HEADS_DDL = (
    f"CREATE TABLE IF NOT EXISTS main.{HEADS} (flow TEXT NOT NULL, target TEXT NOT NULL, "
    "generation INTEGER NOT NULL, run TEXT NOT NULL, rows INTEGER NOT NULL, watermark TEXT, "
    "cursor TEXT, columns TEXT NOT NULL, made TEXT, committed_at TEXT NOT NULL, "
    "PRIMARY KEY (flow, target))"
)


def head(goal: Goal, flow: str) -> Head | None:
    """What is committed for `flow`."""
    path = _path(goal)
    if not os.path.exists(path):
        return None
    with sqlite.opened(path, goal.who, StoreError) as connection:
        return _head(connection, goal, flow)


def prepare(goal: Goal, run: Run, schema: pa.Schema | None) -> None:
    """Refuse what can be refused, and make the run's staging file."""
    path, folder = _path(goal), os.path.dirname(_path(goal))
    if schema is not None and (run.mode == "replace" or not os.path.exists(path)):
        fresh(schema, goal.who)
    if os.path.exists(path):
        with sqlite.opened(path, goal.who, StoreError) as connection:
            _check_target(connection, goal, run, schema)
        if not os.access(path, os.W_OK):
            raise StoreError(f"{goal.who}: the file may not be written", "allow this user to")
    try:
        _begin(goal, run)
    except OSError as error:
        raise StoreError(
            f"{goal.who}: cannot stage in {folder}: {error.strerror}",
            "the run is staged beside the database; allow this user to write there",
        ) from error
    _sweep(goal)
    with sqlite.opened(_staged(goal, run.id), goal.who, StoreError, "rwc") as connection:
        connection.execute(
            "CREATE TABLE IF NOT EXISTS ledger (ticket TEXT PRIMARY KEY, rows INTEGER, "
            "bytes INTEGER, schema TEXT, declared TEXT)"
        )
        connection.execute("CREATE TABLE IF NOT EXISTS run (mode TEXT)")
        if sqlite.one(connection, "SELECT count(*) FROM run") == 0:
            connection.execute("INSERT INTO run VALUES (?)", [run.mode])


def stage(
    goal: Goal, ticket: Ticket, schema: pa.Schema | None, batches: Iterator[pa.Table]
) -> Receipt:
    """One ticket's rows into a table of the staging file, sealed by its ledger row."""
    path, name = _staged(goal, ticket.run), ticket_name(ticket)
    if not os.path.exists(path):
        raise StoreError(f"{goal.who}: run {ticket.run} is not prepared, or was discarded")
    with sqlite.opened(path, goal.who, StoreError, "rw") as connection:
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("PRAGMA cache_size = -32768")
        mode = sqlite.one(connection, "SELECT mode FROM run")
        slots = None if schema is None else _slots(goal, mode, schema)
        rows = size = 0
        if slots is not None:
            _make(connection, name, slots)
        for batch in batches:
            batch = plain(batch)
            if slots is None:
                schema = batch.schema
                slots = _slots(goal, mode, schema)
                _make(connection, name, slots)
            with in_words(goal.who, StoreError):
                _insert(connection, name, slots, batch, goal.options.batch_size)
            rows += batch.num_rows
            size += batch.nbytes
            del batch
        connection.execute("PRAGMA synchronous = FULL")
        sealed = (name, rows, size, pack(schema) if schema is not None else None, _declared(slots))
        connection.execute("INSERT INTO ledger VALUES (?, ?, ?, ?, ?)", sealed)
    return Receipt(ticket, "", rows, size, parts=1 if slots else 0)


def commit(
    goal: Goal, run: Run, base: Head | None, receipts: Sequence[Receipt], watermark: Watermark
) -> Commit:
    """Compare the head, move the rows and the head, in one transaction."""
    path = _path(goal)
    new = not os.path.exists(path) or os.path.getsize(path) == 0
    with sqlite.opened(path, goal.who, StoreError, "rwc") as connection:
        if new:
            connection.execute("PRAGMA journal_mode = WAL")
        now = _head(connection, goal, run.flow)
        done = already(now, run, receipts)
        if done is not None:
            return done
        staged = _staged(goal, run.id)
        if not os.path.exists(staged):
            raise Rejected(f"{goal.who}: what run {run.id} staged is gone", "run again")
        connection.execute("ATTACH ? AS staged", [staged])
        connection.execute("BEGIN IMMEDIATE")
        try:
            done = _commit(connection, goal, run, base, receipts, watermark)
        except BaseException:
            if connection.in_transaction:  # a full disk has ended it already
                connection.execute("ROLLBACK")
            raise
        try:
            connection.execute("COMMIT")
        except sqlite3.Error as error:
            return _after_failure(connection, goal, run, done, error)
        return done


def discard(goal: Goal, run: Run) -> None:
    """Remove the run's staging file."""
    _remove(_staged(goal, run.id))
    with suppress(OSError):
        os.rmdir(_staging(goal))  # stays while other runs are in there


def _commit(
    connection: sqlite3.Connection,
    goal: Goal,
    run: Run,
    base: Head | None,
    receipts: Sequence[Receipt],
    watermark: Watermark,
) -> Commit:
    connection.execute(_HEADS_DDL)
    now = _head(connection, goal, run.flow)
    done = already(now, run, receipts)
    if done is not None:
        return done
    check_base(now, base, goal.who)
    target = sqlite_table(goal.table)
    ordered = sorted(receipts, key=lambda receipt: receipt.ticket.split)
    schema, declared, tables = _check_ledger(connection, goal, ordered)
    _check_target(connection, goal, run, schema)
    exists = sqlite.kind_of(connection, target) is not None
    made = not exists or _made(connection, target)
    notes: list[str] = []
    rows, superseded = sum(receipt.rows for receipt in receipts), 0
    if schema is None:
        if exists and run.mode == "replace":
            connection.execute(f"DELETE FROM main.{sqlite.quote(target)}")
            notes.append("nothing to move: the table is now empty and keeps its columns")
        else:
            notes.append(
                "nothing to move, and no schema: no table was made"
                if not exists
                else "nothing to move"
            )
    else:
        slots = _slots_of(connection, target, run.mode, schema, goal.who)
        if declared and _declared(slots) != declared:
            raise Rejected(f"{goal.who} changed its columns while the run was staged", "run again")
        if run.mode == "replace":
            notes += replace(connection, target, slots, tables, rows, goal.who)
        elif run.mode == "append":
            append(connection, target, slots, tables, exists, rows, goal.who)
        else:
            superseded = merge(connection, target, slots, tables, exists, made, run, goal.who)
        if not rows:
            notes.append(
                "nothing to move"
                if exists and run.mode != "replace"
                else "nothing to move: the table is empty"
            )
    if run.mode == "replace":
        others = f"DELETE FROM main.{HEADS} WHERE target = ? AND flow <> ?"
        connection.execute(others, [target.lower(), run.flow])
    name = _identity(connection, target) if made else None
    row = head_values(run, target.lower(), base, rows - superseded, watermark, schema, name)
    marks = ", ".join("?" * len(HEAD_COLUMNS))
    connection.execute(
        f"INSERT OR REPLACE INTO main.{HEADS} ({', '.join(HEAD_COLUMNS)}) VALUES ({marks})",
        [row[name] for name in HEAD_COLUMNS],
    )
    return Commit(head_of(row), rows - superseded, superseded, note="; ".join(notes))


def _after_failure(
    connection: sqlite3.Connection, goal: Goal, run: Run, done: Commit, error: sqlite3.Error
) -> Commit:
    """COMMIT gave an error; the head says what happened."""
    if connection.in_transaction:
        connection.execute("ROLLBACK")
        raise error
    try:
        now = head(goal, run.flow)
    except HyggeError:
        raise unknown_commit(goal.who, error) from error
    if now is not None and now.run == run.id:
        return done
    raise error


def _check_ledger(
    connection: sqlite3.Connection, goal: Goal, receipts: Sequence[Receipt]
) -> tuple[pa.Schema | None, str | None, list[str]]:
    """The one schema that was staged, its declared types, and the tables that hold it, in order."""
    schema, declared, tables = None, None, []
    for receipt in receipts:
        name = ticket_name(receipt.ticket)
        row = connection.execute(
            "SELECT rows, schema, declared FROM staged.ledger WHERE ticket = ?", [name]
        ).fetchone()
        counted = 0 if row and row[1] is None else None
        if row and row[1] is not None:
            counted = sqlite.one(connection, f"SELECT count(*) FROM staged.{name}")
            if declared not in (None, row[2]):
                raise Rejected(f"{goal.who}: the splits were staged with different columns")
            schema, declared = unpack(row[1]), row[2]
            tables.append(name)
        check_staged(receipt, row and row[0], counted, goal.who)
    return schema, declared, tables


def _check_target(
    connection: sqlite3.Connection, goal: Goal, run: Run, schema: pa.Schema | None
) -> None:
    target = sqlite_table(goal.table)
    kind = sqlite.kind_of(connection, target)
    if kind == "view":
        raise StoreError(f"{goal.who} is a view", "name a table")
    if run.mode == "replace":
        if kind is not None and not _made(connection, target):
            raise not_ours(goal.who)
        return
    if kind is None:
        found = _head(connection, goal, run.flow)
        if found is not None and found.columns:
            raise lost_target(goal.who, run.flow)
    if schema is not None:
        _slots_of(connection, target, run.mode, schema, goal.who)


def _slots(goal: Goal, mode: str, schema: pa.Schema) -> list[Slot]:
    path = _path(goal)
    if mode == "replace" or not os.path.exists(path):
        return fresh(schema, goal.who)
    with sqlite.opened(path, goal.who, StoreError) as connection:
        return _slots_of(connection, sqlite_table(goal.table), mode, schema, goal.who)


def _slots_of(
    connection: sqlite3.Connection, target: str, mode: str, schema: pa.Schema, who: str
) -> list[Slot]:
    kept = [] if mode == "replace" else sqlite.columns(connection, target)
    return existing(kept, schema, who) if kept else fresh(schema, who)


def _declared(slots: Sequence[Slot] | None) -> str | None:
    """Names and types that a staged table was written for; equal where the target still fits."""
    if slots is None:
        return None
    return json.dumps([[each.name, each.declared, str(each.type)] for each in slots])


def _make(connection: sqlite3.Connection, name: str, slots: Sequence[Slot]) -> None:
    connection.execute(f"CREATE TABLE {name} ({', '.join(slot.ddl() for slot in slots)})")


def _insert(
    connection: sqlite3.Connection, name: str, slots: Sequence[Slot], batch: pa.Table, step: int
) -> None:
    columns = [encode(batch.column(at), slot.type) for at, slot in enumerate(slots)]
    marks = ", ".join("?" * len(slots))
    connection.execute("BEGIN IMMEDIATE")
    try:
        connection.executemany(f"INSERT INTO {name} VALUES ({marks})", zip(*columns, strict=True))
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _head(connection: sqlite3.Connection, goal: Goal, flow: str) -> Head | None:
    if sqlite.kind_of(connection, HEADS) is None:
        return None
    row = connection.execute(
        f"SELECT {', '.join(HEAD_COLUMNS)} FROM main.{HEADS} WHERE flow = ? AND target = ?",
        [flow, sqlite_table(goal.table).lower()],
    ).fetchone()
    return head_of(dict(zip(HEAD_COLUMNS, row, strict=True))) if row else None


def _made(connection: sqlite3.Connection, target: str) -> bool:
    """Whether the table that is there now is one that hygge made."""
    if sqlite.kind_of(connection, HEADS) is None:
        return False
    found = connection.execute(f"SELECT made FROM main.{HEADS} WHERE target = ?", [target.lower()])
    return still(_identity(connection, target), [name for (name,) in found])


def _identity(connection: sqlite3.Connection, target: str) -> str | None:
    """What names a table as it is: its CREATE without the last bracket, or None."""
    asked = "SELECT sql FROM main.sqlite_master WHERE type = 'table' AND lower(name) = lower(?)"
    sql = sqlite.one(connection, asked, target)
    return None if sql is None else str(sql).removesuffix(")")


def _path(goal: Goal) -> str:
    path = sqlite_path(goal.url)
    assert path is not None  # SQLStore sends other databases elsewhere
    return path


def _staging(goal: Goal) -> str:
    folder, name = os.path.split(_path(goal))
    return os.path.join(folder, f".{name}.hygge")


def _begin(goal: Goal, run: Run) -> None:
    """Make the run's file, in a folder that another run may be removing as it ends."""
    for turn in range(_TRIES):
        try:
            os.makedirs(_staging(goal), exist_ok=True)
            # Only ever made here, not opened: closing a descriptor would end SQLite's own locks.
            os.close(os.open(_staged(goal, run.id), os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        except (FileExistsError, FileNotFoundError):
            if os.path.exists(_staged(goal, run.id)):
                return
            if turn == _TRIES - 1:
                raise
        else:
            return


def _staged(goal: Goal, run: str) -> str:
    return os.path.join(_staging(goal), f"{run}.db")


def _remove(path: str) -> None:
    for each in (path, f"{path}-journal", f"{path}-wal", f"{path}-shm"):
        with suppress(FileNotFoundError):
            os.unlink(each)


def _sweep(goal: Goal) -> None:
    """Remove what runs left behind that died more than a day ago."""
    for name in os.listdir(_staging(goal)):
        path = os.path.join(_staging(goal), name)
        with suppress(FileNotFoundError):
            if name.endswith(".db") and time.time() - os.stat(path).st_mtime > OLD_S:
                _remove(path)
