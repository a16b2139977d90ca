"""SQLite as a Store: rows are staged in a file beside the database, published in one transaction.

Life of a run:
1. `prepare` makes the staging file, `.<database>.hygge/<run>.db`.
2. `stage` fills one table for each ticket there, in one short transaction for each batch, so that
   other attempts do not wait for a slow one. A row of the ledger seals the table, as the last
   statement: the table of a worker that died has no such row, and nobody reads it.
3. `commit` attaches that file, and moves rows and head in one transaction of the database. Until
   then the database is neither locked nor changed, so a flow may read the file that it writes to.

WAL is switched on only in a database file that hygge made.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, cast

import pyarrow as pa

from hygge.batches import plain
from hygge.changes import note_of
from hygge.connectors.sql import frame
from hygge.connectors.sql.ask import unpack
from hygge.connectors.sql.changes import are_changes, of_target, with_op_last
from hygge.connectors.sql.commit import check_staged
from hygge.connectors.sql.counting import count_sql, state_of
from hygge.connectors.sql.frame import Published, Publisher
from hygge.connectors.sql.goal import Goal
from hygge.connectors.sql.heads import lost_target, not_ours
from hygge.connectors.sql.ledger import ticket_name
from hygge.connectors.sql.own_columns import generated_note, gone_notes
from hygge.connectors.sqlite import catalog, ledger, session
from hygge.connectors.sqlite.aborting import aborting
from hygge.connectors.sqlite.database import table_name
from hygge.connectors.sqlite.errors import in_words
from hygge.connectors.sqlite.evolving import evolution_of, evolved_columns, follow
from hygge.connectors.sqlite.merge import OF_OP, merge
from hygge.connectors.sqlite.own_floats import check_floats
from hygge.connectors.sqlite.publish import append, delete_rows, put_in_place, refill, replace
from hygge.connectors.sqlite.refusing import AppendedRows, Source
from hygge.connectors.sqlite.session import fetch_value, path_of, quoted
from hygge.connectors.sqlite.target import (
    TargetColumn,
    check_replace,
    create_table,
    identity,
    must_stay,
    new_columns,
    target_columns,
)
from hygge.connectors.sqlite.values import encode
from hygge.errors import HyggeError, Rejected, StoreError
from hygge.formats import exact_text
from hygge.model import Commit, Head, Mode, Receipt, Run, TargetState, Ticket, Watermark

NEEDS: tuple[str, ...] = ()
"""Modules that its processes import, beside this one."""


def head(goal: Goal, flow: str) -> Head | None:
    """Return what is committed for `flow`."""
    path = path_of(goal.url)
    if not os.path.exists(path):
        return None
    with session.opened(path, goal.who, StoreError) as connection:
        return ledger.head_at(connection, goal, flow)


def prepare(goal: Goal, run: Run, schema: pa.Schema | None) -> None:
    """Raise what can be known before rows move, and make the run's staging file."""
    examine(goal, run, schema, count=False)
    path = path_of(goal.url)
    ledger.begin(path, run, goal.who)
    ledger.sweep(path)


def examine(goal: Goal, run: Run, schema: pa.Schema | None, count: bool = True) -> TargetState:
    """Raise what can be known before rows move; return what the target holds.

    Its rows are counted only where `count` says so.
    """
    path, schema = path_of(goal.url), of_target(schema)
    if schema is not None and not (goal.keeps_table(run.mode) and os.path.exists(path)):
        new_columns(schema)
    ledger.check_rights(path, goal.who)
    if not os.path.exists(path):
        return TargetState(exists=False)
    with session.opened(path, goal.who, StoreError) as connection:
        _check_ours(connection, goal, run)
        _check_target(connection, goal, run, schema)
        target = table_name(goal.table)
        if catalog.kind_of(connection, target) is None:
            return TargetState(exists=False)
        table = f"main.{quoted(target)}"
        rows = fetch_value(connection, count_sql(table)) if count else None
        changes = evolution_of(connection, goal, run, schema).shown
        is_adopted = run.mode == "replace" and not ledger.is_made(connection, goal)
        return state_of(rows, changes, is_adopted)


def stage(
    goal: Goal, ticket: Ticket, schema: pa.Schema | None, batches: Iterator[pa.Table]
) -> Receipt:
    """Write one ticket's rows into a table of the staging file, and seal it."""
    name = ticket_name(ticket)
    with ledger.opened(path_of(goal.url), ticket.run, goal.who) as connection:
        earlier = ledger.sealed_before(connection, ticket)
        if earlier is not None:
            return earlier
        # Batches need not be durable one by one: `seal` makes all of them so.
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("PRAGMA cache_size = -32768")
        mode = ledger.mode_of(connection)
        columns = None if schema is None else _columns_for(goal, mode, schema)
        rows = size = 0
        if columns is not None:
            create_table(connection, name, columns)
        for batch in batches:
            batch = plain(batch)
            if columns is None:
                schema = batch.schema
                columns = _columns_for(goal, mode, schema)
                create_table(connection, name, columns)
            check_floats(goal, batch)
            batch = with_op_last(batch)
            with in_words(goal.who, StoreError):
                _insert(connection, name, columns, batch, goal.options.batch_size)
            rows += batch.num_rows
            size += batch.nbytes
            del batch
        ledger.seal(connection, ticket, rows, size, schema, _declared(columns))
    return Receipt(ticket, "", rows, size, parts=1 if columns else 0)


def check_batch(goal: Goal, batch: pa.Table) -> None:
    """Raise UnfitValue for a value that SQLite does not hold."""
    exact_text.check_values(batch)
    check_floats(goal, batch)


def resume(goal: Goal, run: Run, receipts: Sequence[Receipt]) -> list[Receipt]:
    """Return the receipts whose rows are sealed, complete and still fit; remove all other rows."""
    with ledger.opened(path_of(goal.url), run.id, goal.who) as connection:
        held = [receipt for receipt in receipts if _is_held(connection, goal, run, receipt)]
        ledger.keep_only(connection, {ticket_name(receipt.ticket) for receipt in held})
    return held


def commit(
    goal: Goal, run: Run, base: Head | None, receipts: Sequence[Receipt], watermark: Watermark
) -> Commit:
    """Compare the head with `base`, and move the rows and the head, in one transaction."""
    path = path_of(goal.url)
    is_new = not os.path.exists(path) or os.path.getsize(path) == 0
    with session.opened(path, goal.who, StoreError, "rwc") as connection:
        if is_new:
            connection.execute("PRAGMA journal_mode = WAL")
        return frame.commit(_Publisher(connection, goal, run, base, receipts), watermark)


def discard(goal: Goal, run: Run) -> None:
    """Remove the run's staging file."""
    ledger.remove(path_of(goal.url), run)


class _Publisher(Publisher[sqlite3.Connection]):
    """The steps of a commit; `gather` attaches the staging file."""

    def head(self, lock: bool) -> Head | None:
        return ledger.head_at(self.connection, self.goal, self.run.flow)

    def rejecting(self) -> AbstractContextManager[None]:
        return in_words(self.goal.who, Rejected)

    def gather(self) -> None:
        self.is_attached = ledger.attach(self.connection, path_of(self.goal.url), self.run)

    def lock(self) -> None:
        self.connection.execute("BEGIN IMMEDIATE")
        ledger.create_heads(self.connection)

    def staged(self) -> pa.Schema | None:
        if not self.is_attached:
            raise Rejected(f"{self.goal.who}: what run {self.run.id} staged is gone", "run again")
        schema, self.declared, self.tables = _staged(self.connection, self.goal, self.receipts)
        self.are_changes = are_changes(schema)
        return of_target(schema)

    def check(self, schema: pa.Schema | None) -> bool:
        # What hygge made is still its own when the run has changed it.
        self.is_made = ledger.is_made(self.connection, self.goal)
        _check_ours(self.connection, self.goal, self.run)
        if schema is not None:
            self.evolution = follow(self.connection, self.goal, self.run, schema)
        _check_target(self.connection, self.goal, self.run, schema)
        return catalog.kind_of(self.connection, table_name(self.goal.table)) is not None

    def publish(self, schema: pa.Schema | None, exists: bool) -> Published:
        connection, goal, target = self.connection, self.goal, table_name(self.goal.table)
        made = not exists or self.is_made
        rows, notes = self.staged_rows, []
        if schema is not None:
            columns = evolved_columns(connection, goal, self.run, schema)
            staged = [*columns, OF_OP] if self.are_changes else columns
            if self.declared and _declared(staged) != self.declared:
                raise Rejected(
                    f"{goal.who} changed its columns while the run was staged", "run again"
                )
            if not exists and self.run.mode != "replace":
                create_table(connection, f"main.{quoted(target)}", columns)
            notes = [generated_note(column.name for column in columns if not column.is_written)]
            refused = None if self.are_changes else goal.refused
            sources = [Source(f"staged.{table}", split) for table, split in self.tables]
            moved = AppendedRows(connection, target, columns, sources, goal.who)
            moved.total = rows
            stays = goal.keeps_table(self.run.mode)
            with aborting(connection) if stays and refused is not None else nullcontext():
                if self.run.mode == "merge":
                    superseded, deleted = merge(
                        connection, target, columns, [each.table for each in sources], made,
                        self.run, goal.who, self.are_changes, refused,
                    )  # fmt: skip
                    rows -= superseded
                    notes += [note_of(rows - deleted, deleted)] if self.are_changes else []
                elif self.run.mode == "append":
                    append(moved, refused)
                elif exists and stays:
                    put_in_place(moved, refused)
                elif exists and must_stay(catalog.columns(connection, target), schema):
                    refill(moved, refused)
                else:
                    present = [column.name for column in catalog.columns(connection, target)]
                    notes += gone_notes(present, [column.name for column in columns])
                    notes += replace(moved, refused)
        elif exists and self.run.mode == "replace":
            delete_rows(connection, target, goal.who)
        made_as = identity(connection, target) if made else None
        return Published(rows, target.lower(), made_as, notes)

    def finish(self, row: dict[str, Any]) -> None:
        ledger.write_head(self.connection, row, self.run.mode)
        self.connection.execute("COMMIT")

    def is_committed(self, error: Exception) -> bool | None:
        if self.connection.in_transaction:
            return False
        try:
            now = head(self.goal, self.run.flow)
        except HyggeError:
            return None
        return now is not None and now.run == self.run.id

    def end(self) -> None:
        if self.connection.in_transaction:  # an error such as a full disk has ended it already
            self.connection.execute("ROLLBACK")


def _staged(
    connection: sqlite3.Connection, goal: Goal, receipts: Sequence[Receipt]
) -> tuple[pa.Schema | None, str | None, list[tuple[str, int]]]:
    """Return the schema that was staged, its declared types, the tables of rows, and their splits.

    Raises Rejected if a receipt's rows are missing, or splits were staged with other columns.
    """
    schema, declared = None, None
    tables: list[tuple[str, int]] = []
    for receipt in receipts:
        entry = ledger.entry(connection, receipt.ticket, "staged")
        check_staged(receipt, entry.sealed, entry.counted, goal.who)
        if entry.schema is not None:
            if declared not in (None, entry.declared):
                raise Rejected(f"{goal.who}: the splits were staged with different columns")
            schema, declared = unpack(entry.schema), entry.declared
            tables.append((ticket_name(receipt.ticket), receipt.ticket.split))
    return schema, declared, tables


def _is_held(connection: sqlite3.Connection, goal: Goal, run: Run, receipt: Receipt) -> bool:
    """Whether a receipt's rows are all in the staging file, in columns that still fit."""
    entry = ledger.entry(connection, receipt.ticket, "main")
    if not entry.sealed == entry.counted == receipt.rows:
        return False
    columns = None
    if entry.schema:
        columns = _columns_for(goal, run.mode, unpack(entry.schema))
    return entry.declared == _declared(columns)


def _check_ours(connection: sqlite3.Connection, goal: Goal, run: Run) -> None:
    """Raise NotOurs for a `replace` of a table that hygge did not make, and may not adopt."""
    if run.mode != "replace" or goal.options.adopt or ledger.is_made(connection, goal):
        return
    if catalog.kind_of(connection, table_name(goal.table)) == "table":
        raise not_ours(goal.who)


def _check_target(
    connection: sqlite3.Connection, goal: Goal, run: Run, schema: pa.Schema | None
) -> None:
    """Raise if the target is a view, was dropped, or does not fit."""
    target = table_name(goal.table)
    kind, heads = catalog.kind_of(connection, target), ledger.heads_at(connection, goal)
    if kind == "view":
        raise StoreError(f"{goal.who} is a view", "name a table")
    if kind is None and catalog.is_index(connection, target):
        raise StoreError(
            f"{goal.who} is an index: no table of this name can be made", "choose another name"
        )
    if not goal.keeps_table(run.mode):
        if kind is not None and schema is not None:
            present = catalog.columns(connection, target)
            check_replace(present, schema, [stored.head for stored in heads.values()], goal.who)
            target_columns(connection, target, False, schema, goal.who)
        return
    is_lost = kind is None and run.mode != "replace"
    if is_lost and run.flow in heads and heads[run.flow].head.columns:
        raise lost_target(goal.who, run.flow)
    if schema is not None:
        evolved_columns(connection, goal, run, schema)


def _columns_for(goal: Goal, mode: str, schema: pa.Schema) -> list[TargetColumn]:
    """Return the columns that are staged: those of the target, and what tells changes."""
    there = of_target(schema)
    assert there is not None
    columns = _target_columns_for(goal, mode, there)
    return [*columns, OF_OP] if are_changes(schema) else columns


def _target_columns_for(goal: Goal, mode: str, schema: pa.Schema) -> list[TargetColumn]:
    """Return the target's columns, read on a connection of its own."""
    path = path_of(goal.url)
    if not os.path.exists(path):
        return new_columns(schema)
    with session.opened(path, goal.who, StoreError) as connection:
        return evolved_columns(
            connection, goal, Run("", goal.flow or "", cast("Mode", mode)), schema
        )


def _declared(columns: Sequence[TargetColumn] | None) -> str | None:
    """Return the names and types of columns as text: equal while staged rows fit the target."""
    if columns is None:
        return None
    return json.dumps([[each.name, each.declared, str(each.type)] for each in columns])


def _insert(
    connection: sqlite3.Connection,
    table: str,
    columns: Sequence[TargetColumn],
    batch: pa.Table,
    step: int,
) -> None:
    """Insert a batch in one transaction; `step` rows at a time become Python objects."""
    marks = ", ".join("?" * len(columns))
    connection.execute("BEGIN IMMEDIATE")
    try:
        for start in range(0, batch.num_rows, step):
            piece = batch.slice(start, step)
            values = [
                encode(column.name, piece.column(at), column.type)
                for at, column in enumerate(columns)
            ]
            rows = zip(*values, strict=True)
            connection.executemany(f"INSERT INTO {table} VALUES ({marks})", rows)
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
