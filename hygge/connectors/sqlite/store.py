"""SQLite as a Store: staged in a file of its own beside the database, shown by one transaction.

Life of a run: `prepare` makes `.<database>.hygge/<run>.db`; `stage` fills a table per ticket there,
one short transaction a batch, so that other attempts do not wait for a slow one, and seals it by a
row of the ledger, the last of all: rows of a worker that died have none, and nobody takes them;
`commit` attaches that file and moves rows and head together in one transaction of the database,
which until then was neither locked nor changed. So a flow may read from the file that it writes.
WAL is switched on only in a file that hygge made.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterator, Sequence

import pyarrow as pa

from hygge.batches import plain
from hygge.connectors.sql.ask import unpack
from hygge.connectors.sql.commit import check_staged
from hygge.connectors.sql.errors import unknown_commit
from hygge.connectors.sql.goal import Goal
from hygge.connectors.sql.heads import (
    HEAD_COLUMNS,
    HEADS,
    already,
    check_base,
    head_of,
    head_values,
    lost_target,
    not_ours,
)
from hygge.connectors.sql.ledger import ticket_name
from hygge.connectors.sqlite import catalog, ledger, session
from hygge.connectors.sqlite.database import table_name
from hygge.connectors.sqlite.errors import in_words
from hygge.connectors.sqlite.merge import merge
from hygge.connectors.sqlite.publish import append, replace
from hygge.connectors.sqlite.session import path_of
from hygge.connectors.sqlite.target import Slot, existing, fresh, identity
from hygge.connectors.sqlite.values import encode
from hygge.errors import HyggeError, Rejected, StoreError
from hygge.model import Commit, Head, Receipt, Run, Ticket, Watermark

NEEDS: tuple[str, ...] = ()
"""Modules that its processes import, beside this one."""


def head(goal: Goal, flow: str) -> Head | None:
    """What is committed for `flow`."""
    path = path_of(goal.url)
    if not os.path.exists(path):
        return None
    with session.opened(path, goal.who, StoreError) as connection:
        return ledger.head_of_flow(connection, goal, flow)


def prepare(goal: Goal, run: Run, schema: pa.Schema | None) -> None:
    """Refuse what can be refused, and make the run's staging file."""
    path = path_of(goal.url)
    if schema is not None and (run.mode == "replace" or not os.path.exists(path)):
        fresh(schema, goal.who)
    if os.path.exists(path):
        with session.opened(path, goal.who, StoreError) as connection:
            _check_target(connection, goal, run, schema)
        if not os.access(path, os.W_OK):
            raise StoreError(f"{goal.who}: the file may not be written", "allow this user to")
    ledger.begin(path, run, goal.who)
    ledger.sweep(path)


def stage(
    goal: Goal, ticket: Ticket, schema: pa.Schema | None, batches: Iterator[pa.Table]
) -> Receipt:
    """One ticket's rows into a table of the staging file, sealed by its ledger row."""
    name = ticket_name(ticket)
    with ledger.opened(path_of(goal.url), ticket.run, goal.who) as connection:
        earlier = ledger.sealed_before(connection, ticket)
        if earlier is not None:
            return earlier
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("PRAGMA cache_size = -32768")
        mode = session.one(connection, "SELECT mode FROM run")
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
        ledger.seal(connection, ticket, rows, size, schema, _declared(slots))
    return Receipt(ticket, "", rows, size, parts=1 if slots else 0)


def resume(goal: Goal, run: Run, receipts: Sequence[Receipt]) -> list[Receipt]:
    """Which receipts' rows are sealed and all there, in columns that still fit; drop the rest."""
    with ledger.opened(path_of(goal.url), run.id, goal.who) as connection:
        held = [each for each in receipts if _holds(connection, goal, run, each)]
        ledger.keep_only(connection, {ticket_name(each.ticket) for each in held})
    return held


def commit(
    goal: Goal, run: Run, base: Head | None, receipts: Sequence[Receipt], watermark: Watermark
) -> Commit:
    """Compare the head, move the rows and the head, in one transaction."""
    path = path_of(goal.url)
    new = not os.path.exists(path) or os.path.getsize(path) == 0
    with session.opened(path, goal.who, StoreError, "rwc") as connection:
        if new:
            connection.execute("PRAGMA journal_mode = WAL")
        now = ledger.head_of_flow(connection, goal, run.flow)
        done = already(now, run, receipts)
        if done is not None:
            return done
        if not ledger.attached(connection, path, run):
            done = already(ledger.head_of_flow(connection, goal, run.flow), run, receipts)
            if done is not None:  # by another process, just now
                return done
            raise Rejected(f"{goal.who}: what run {run.id} staged is gone", "run again")
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
    ledger.remove(path_of(goal.url), run)


def _commit(
    connection: sqlite3.Connection,
    goal: Goal,
    run: Run,
    base: Head | None,
    receipts: Sequence[Receipt],
    watermark: Watermark,
) -> Commit:
    connection.execute(ledger.HEADS_DDL)
    now = ledger.head_of_flow(connection, goal, run.flow)
    done = already(now, run, receipts)
    if done is not None:
        return done
    check_base(now, base, goal.who)
    target = table_name(goal.table)
    ordered = sorted(receipts, key=lambda receipt: receipt.ticket.split)
    schema, declared, tables = _check_ledger(connection, goal, ordered)
    _check_target(connection, goal, run, schema)
    exists = catalog.kind_of(connection, target) is not None
    made = not exists or ledger.is_made(connection, goal)
    notes: list[str] = []
    rows, superseded = sum(receipt.rows for receipt in receipts), 0
    if schema is None:
        if exists and run.mode == "replace":
            connection.execute(f"DELETE FROM main.{session.quote(target)}")
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
    name = identity(connection, target) if made else None
    row = head_values(run, target.lower(), base, rows - superseded, watermark, schema, name)
    marks = ", ".join("?" * len(HEAD_COLUMNS))
    connection.execute(
        f"INSERT OR REPLACE INTO main.{HEADS} ({', '.join(HEAD_COLUMNS)}) VALUES ({marks})",
        [row[name] for name in HEAD_COLUMNS],
    )
    return Commit(head_of(row, goal.who), rows - superseded, superseded, note="; ".join(notes))


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
        found = ledger.entry(connection, receipt.ticket, "staged")
        check_staged(receipt, found.sealed, found.counted, goal.who)
        if found.schema is not None:
            if declared not in (None, found.declared):
                raise Rejected(f"{goal.who}: the splits were staged with different columns")
            schema, declared = unpack(found.schema), found.declared
            tables.append(ticket_name(receipt.ticket))
    return schema, declared, tables


def _holds(connection: sqlite3.Connection, goal: Goal, run: Run, receipt: Receipt) -> bool:
    found = ledger.entry(connection, receipt.ticket, "main")
    if not found.sealed == found.counted == receipt.rows:
        return False
    slots = found.schema and _slots(goal, run.mode, unpack(found.schema))
    return found.declared == _declared(slots or None)


def _check_target(
    connection: sqlite3.Connection, goal: Goal, run: Run, schema: pa.Schema | None
) -> None:
    target = table_name(goal.table)
    kind, heads = catalog.kind_of(connection, target), ledger.heads_at(connection, goal)
    if kind == "view":
        raise StoreError(f"{goal.who} is a view", "name a table")
    if run.mode == "replace":
        if kind is not None and not ledger.is_made(connection, goal):
            raise not_ours(goal.who)
        return
    if kind is None and run.flow in heads and heads[run.flow][0].columns:
        raise lost_target(goal.who, run.flow)
    if schema is not None:
        _slots_of(connection, target, run.mode, schema, goal.who)


def _slots(goal: Goal, mode: str, schema: pa.Schema) -> list[Slot]:
    path = path_of(goal.url)
    if mode == "replace" or not os.path.exists(path):
        return fresh(schema, goal.who)
    with session.opened(path, goal.who, StoreError) as connection:
        return _slots_of(connection, table_name(goal.table), mode, schema, goal.who)


def _slots_of(
    connection: sqlite3.Connection, target: str, mode: str, schema: pa.Schema, who: str
) -> list[Slot]:
    kept = [] if mode == "replace" else catalog.columns(connection, target)
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
    marks = ", ".join("?" * len(slots))
    connection.execute("BEGIN IMMEDIATE")
    try:
        for start in range(0, batch.num_rows, step):  # so few are Python objects at a time
            piece = batch.slice(start, step)
            columns = [encode(piece.column(at), slot.type) for at, slot in enumerate(slots)]
            rows = zip(*columns, strict=True)
            connection.executemany(f"INSERT INTO {name} VALUES ({marks})", rows)
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
