"""MariaDB as a Store: rows are loaded into a run table, which becomes the target or fills it.

Life of a run:
1. `prepare` raises what can be known before rows move, and makes the run table (`stage` makes it,
   if only the rows know their columns).
2. `stage` loads and seals a split in one transaction; see `ledger`.
3. `commit` closes the run, removes what other tickets than the decided ones have staged, counts the
   rows, and publishes them; see `publish`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from hygge.batches import again, plain
from hygge.changes import note_of
from hygge.connectors.mariadb import checking, kept, ledger, merge, publish
from hygge.connectors.mariadb.evolving import follow
from hygge.connectors.mariadb.fit import check_values
from hygge.connectors.mariadb.load import ROWS_PER_SPLIT, SPLIT, load_split
from hygge.connectors.mariadb.load import check_batch as check_batch
from hygge.connectors.mariadb.refusing import are_numbered, index_numbers, may_be_of_rows
from hygge.connectors.mariadb.rights import check_drops, check_renames, check_rights, count_rows
from hygge.connectors.mariadb.session import (
    execute,
    fetch_all,
    fetch_one,
    in_words,
    is_lost,
    quoted,
    transaction,
)
from hygge.connectors.mariadb.target import (
    exists,
    find_target,
    head_name,
    identity,
    in_target_schema,
    own_part,
    quoted_table,
    quoted_target,
)
from hygge.connectors.sql import frame
from hygge.connectors.sql.changes import DELETES, STAGED, are_changes, of_target
from hygge.connectors.sql.commit import check_staged
from hygge.connectors.sql.counting import state_of
from hygge.connectors.sql.frame import Published, Publisher
from hygge.connectors.sql.goal import Goal, stored
from hygge.connectors.sql.heads import HEADS
from hygge.connectors.sql.ledger import LEDGER, beating, run_name
from hygge.connectors.sql.own_columns import gone_notes
from hygge.connectors.sql.refusing import put_all
from hygge.errors import Rejected, StoreError, Transient
from hygge.model import Commit, Head, Receipt, Run, TargetState, Ticket, Watermark
from hygge.refused_rows import RefusedRows

if TYPE_CHECKING:
    from pymysql.connections import Connection

NEEDS = ("numpy", "pandas", "pyarrow.compute", "sqlalchemy.dialects.mysql.pymysql")
"""Modules that its processes import, beside this one."""
_PAUSE_S = 60
"""A driver that stands still for so long in the middle of a commit loses its session, and locks."""


def head(goal: Goal, flow: str) -> Head | None:
    """Return what is committed for `flow`."""
    with ledger.opened(goal) as connection:
        return ledger.head_at(connection, goal, flow)


def prepare(goal: Goal, run: Run, schema: pa.Schema | None) -> None:
    """Make heads, ledger and run table; raise what can be known before rows move."""
    written = None if schema is None else stored(goal, schema)
    with ledger.opened(goal) as connection:
        check_drops(connection, goal)
        ledger.begin(connection, goal, run.id, run.mode)
        table = find_target(connection, goal, run.mode == "replace")
        checking.check(connection, goal, run, of_target(written), table)
        if written is not None:
            ledger.make(connection, goal, run.id, run.mode, written)
        ledger.sweep(connection, goal, run.id)


def examine(goal: Goal, run: Run, schema: pa.Schema | None) -> TargetState:
    """Raise what `prepare` would, and change nothing; return what the target holds."""
    written = None if schema is None else stored(goal, schema)
    with ledger.opened(goal) as connection:
        check_rights(connection, goal)
        table = find_target(connection, goal, run.mode == "replace")
        if table is None or not goal.keeps_table(run.mode):
            check_renames(connection, goal)
        evolved = checking.check(connection, goal, run, of_target(written), table)
        if table is None:
            return TargetState(exists=False)
        is_adopted = run.mode == "replace" and not ledger.is_made(connection, goal, table)
        return state_of(count_rows(connection, quoted_target(goal)), evolved.shown, is_adopted)


def stage(
    goal: Goal, ticket: Ticket, schema: pa.Schema | None, batches: Iterator[pa.Table]
) -> Receipt:
    """Load one split's rows into the run table, and seal them."""
    with ledger.opened(goal) as connection:
        # By this comment a later try finds the session of an earlier one, and ends it.
        short = run_name(ticket.run).removeprefix("_hygge_")
        connection.comment = connection.comment.replace(" */ ", f"/{short}/{ticket.split} */ ")
        if ticket.n or ticket.epoch:
            ledger.kill(connection, ticket.run, ticket.split)
        ledger.beat(connection, goal, ticket.run)
        earlier = ledger.sealed_before(connection, goal, ticket)
        if earlier is not None:
            return earlier
        mode = ledger.mode_of(connection, goal, ticket.run)
        if schema is None:
            first = next(batches, None)
            if first is not None:
                schema, batches = plain(first).schema, again(first, batches)
        if schema is not None:
            schema = stored(goal, schema)
            ledger.make(connection, goal, ticket.run, mode, schema)
        with suppress(_SealedBefore), transaction(connection):
            rows, size = _load(connection, goal, ticket, schema, batches, mode)
            if not ledger.seal(connection, goal, ticket, rows, size):
                raise _SealedBefore  # rolls the rows back
        sealed = ledger.sealed_before(connection, goal, ticket)
    if sealed is None:
        raise StoreError(f"{goal.who}: the run was decided without this try", "run again")
    return sealed


def resume(goal: Goal, run: Run, receipts: Sequence[Receipt]) -> list[Receipt]:
    """Return the receipts whose rows are sealed and complete; remove all other rows of the run."""
    with ledger.opened(goal) as connection:
        ledger.kill(connection, run.id)
        ledger.reopen(connection, goal, run.id)
        counted = _counted_by_split(connection, goal, run)
        seals = ledger.seals(connection, goal, run.id)
        held = []
        for receipt in receipts:
            seal = seals.get((receipt.ticket.split, receipt.ticket.epoch))
            number = ledger.split_number(receipt.ticket)
            if (
                seal is not None
                and seal.ticket == receipt.ticket
                and seal.rows == receipt.rows == counted.get(number, 0)
            ):
                held.append(receipt)
        _keep_only(connection, goal, run, held)
    return held


def commit(
    goal: Goal, run: Run, base: Head | None, receipts: Sequence[Receipt], watermark: Watermark
) -> Commit:
    """Compare the head with `base`, and move the rows and the head, in one step."""
    with ledger.opened(goal) as connection:
        return frame.commit(_Publisher(connection, goal, run, base, receipts), watermark)


def discard(goal: Goal, run: Run) -> None:
    """Drop the run's tables."""
    with ledger.opened(goal) as connection:
        if exists(connection, goal, LEDGER):
            ledger.drop(connection, goal, run.id)


class _SealedBefore(Exception):
    """Another try at this split was quicker."""


def _load(
    connection: Connection,
    goal: Goal,
    ticket: Ticket,
    schema: pa.Schema | None,
    batches: Iterator[pa.Table],
    mode: str,
) -> tuple[int, int]:
    """Load a split's batches; return their rows and bytes."""
    if schema is None:
        return 0, 0
    name = ledger.rows_table(ticket.run)
    return load_split(
        connection,
        goal,
        quoted_table(goal, name),
        schema,
        batches,
        ledger.split_number(ticket),
        ticket.split * ROWS_PER_SPLIT if are_numbered(connection, goal, name) else None,
        beating(lambda: ledger.beat_apart(goal, ticket.run)),
        merges=mode == "merge",
    )


def _keep_only(connection: Connection, goal: Goal, run: Run, receipts: Sequence[Receipt]) -> None:
    """Remove, for good, what tickets without one of these receipts have sealed."""
    kept = {receipt.ticket for receipt in receipts}
    seals = ledger.seals(connection, goal, run.id).values()
    with transaction(connection):
        ledger.unseal(connection, goal, [seal for seal in seals if seal.ticket not in kept])


def _counted_by_split(connection: Connection, goal: Goal, run: Run) -> dict[int, int]:
    """Return the number of rows in the run table, by the split's number."""
    name = ledger.rows_table(run.id)
    if not exists(connection, goal, name):
        return {}
    table = quoted_table(goal, name)
    if not fetch_all(connection, f"SHOW COLUMNS FROM {table} LIKE '{SPLIT}'"):
        raise StoreError(
            f"{goal.who}: run {run.id} was about to be committed",
            "commit it, or run again with --fresh",
        )
    counted = f"SELECT {quoted(SPLIT)}, COUNT(*) FROM {table} GROUP BY 1"
    return dict(fetch_all(connection, counted))


def _staged_schema(
    connection: Connection, goal: Goal, run: Run, receipts: Sequence[Receipt]
) -> pa.Schema | None:
    """Return the schema that was staged; None if there is no run table.

    Raises Rejected if the run table does not hold exactly the receipts' rows.
    """
    name = ledger.rows_table(run.id)
    seals = ledger.seals(connection, goal, run.id)
    has_table = exists(connection, goal, name)
    wanted = 0
    for receipt in receipts:
        seal = seals.get((receipt.ticket.split, receipt.ticket.epoch))
        sealed = seal.rows if seal is not None and seal.ticket == receipt.ticket else None
        # Rows are counted below, in one statement for all splits.
        counted = None if sealed and not has_table else sealed
        check_staged(receipt, sealed, counted, goal.who)
        wanted += receipt.rows
    if not has_table:
        return None
    (rows,) = fetch_one(connection, f"SELECT COUNT(*) FROM {quoted_table(goal, name)}")
    if rows != wanted:
        raise Rejected(
            f"{goal.who}: {wanted:,} rows were staged, but {rows:,} rows can be found",
            "its staging was changed; run again",
        )
    return ledger.staged_schema(connection, goal, run.id)


class _Publisher(Publisher["Connection"]):
    """The steps of a commit, all of them under a lock: another try at it may not change the table.

    `publish` makes the run table ready; `finish` moves rows and head in one RENAME or transaction.
    """

    def __init__(self, connection: Connection, goal: Goal, run: Run, *of_run: Any) -> None:
        super().__init__(connection, goal, run, *of_run)
        self.name = ledger.rows_table(run.id)
        self.notes: list[str] = []
        self._locks = ExitStack()

    def head(self, lock: bool) -> Head | None:
        return ledger.head_at(self.connection, self.goal, self.run.flow, lock)

    def rejecting(self) -> AbstractContextManager[None]:
        return in_words(self.goal.who, Rejected)

    def lock(self) -> None:
        self._locks.enter_context(ledger.alone(self.connection, self.goal, "table"))

    def staged(self) -> pa.Schema | None:
        connection, goal, run = self.connection, self.goal, self.run
        ledger.close(connection, goal, run.id)
        ledger.kill(connection, run.id)
        _keep_only(connection, goal, run, self.receipts)
        schema = _staged_schema(connection, goal, run, self.receipts)
        self.are_changes = are_changes(schema)
        execute(connection, f"SET wait_timeout = {_PAUSE_S}")
        return of_target(schema)

    def check(self, schema: pa.Schema | None) -> bool:
        connection, goal, run = self.connection, self.goal, self.run
        table = find_target(connection, goal, run.mode == "replace")
        checking.check_ours(connection, goal, run, table)
        self.evolution = follow(connection, goal, run, schema, table)
        if self.evolution.statements:
            table = find_target(connection, goal, run.mode == "replace")
        self.table = table
        checking.check(connection, goal, run, schema, table)
        if schema is not None and table is not None and goal.keeps_table(run.mode):
            written = [column for column in table.columns if column.name not in table.generated]
            which = f"NOT {STAGED} {DELETES}" if self.are_changes else "TRUE"
            check_values(connection, goal, quoted_table(goal, self.name), written, schema, which)
        return table is not None

    def publish(self, schema: pa.Schema | None, exists: bool) -> Published:
        connection, goal, run, table = self.connection, self.goal, self.run, self.table
        made = table is None or ledger.is_made(connection, goal, table)
        rows = self.staged_rows
        if schema is not None and run.mode == "merge":
            of_run = connection, goal, run, self.name, schema, self.are_changes
            self.kept = merge.keep_last(*of_run, self._refused is not None)
            self.name, rows = self.kept.name, self.kept.rows + self.kept.deleted
            if self.are_changes:
                self.notes.append(note_of(self.kept.rows, self.kept.deleted))
        self.schema, self.swaps, published = schema, False, table
        if schema is not None and (table is None or not goal.keeps_table(run.mode)):
            self.swaps = table is None or (
                not own_part(table, schema) and publish.is_atomic(connection)
            )
        if schema is not None and self.swaps:
            try:
                publish.prepare_table(connection, goal, self.name, table, schema)
            except Rejected:  # a row breaks a unique index of the old table
                if self._refused is None or table is None:
                    raise
                self.swaps = False
        if schema is not None and self.swaps:
            published = find_target(
                connection, replace(goal, table=in_target_schema(goal, self.name))
            )
        elif schema is not None and table is not None:
            self.notes += publish.own_notes(connection, goal, table, self.name, schema.names)
        made_as = identity(published) if made else None
        return Published(rows, head_name(connection, goal), made_as, self.notes)

    def finish(self, row: dict[str, Any]) -> None:
        connection, goal, table, schema = self.connection, self.goal, self.table, self.schema
        if not self.swaps:
            self._transact(row)
            return
        publish.swap(connection, goal, self.run, self.name, row, table, self._recheck)
        if table is not None and schema is not None:
            self.notes += gone_notes([column.name for column in table.columns], schema.names)
            self.notes += kept.broken_views(connection, goal)

    @property
    def _refused(self) -> RefusedRows | None:
        """What takes rows that the table refuses; a row that changes something is never left."""
        return None if self.are_changes else self.goal.refused

    def _transact(self, row: dict[str, Any]) -> None:
        """Move the rows into the table that is there, and the head, in one transaction.

        Where the table refuses a row, all begins anew, now piece by piece.
        """
        refused = self._refused
        if refused is None or not are_numbered(self.connection, self.goal, self.name):
            self._move(row, None)
            return
        try:
            self._move(row, None)
        except Exception as error:
            if not may_be_of_rows(error):
                raise
            index_numbers(self.connection, self.goal, self.name)
            self._move(row, refused)

    def _move(self, row: dict[str, Any], refused: RefusedRows | None) -> None:
        connection, goal, table, schema = self.connection, self.goal, self.table, self.schema
        mode, name, names = self.run.mode, self.name, [] if schema is None else schema.names
        names = names if table is None else table.written(names)
        with transaction(connection, serial=mode != "append"):
            if mode == "replace" and table is not None:
                publish.empty(connection, goal)
            if schema is not None:
                publish.check_nulls(connection, goal, table, name, schema)
            if schema is not None and mode == "merge":
                if self.kept.deleted_name is not None:
                    merge.delete(connection, goal, self.run, self.kept.deleted_name)
                merged = merge.MergedRows(connection, goal, name, names, self.kept.rows)
                merged.key = self.run.key
                with publish.rejecting(goal, merges=True):
                    put_all(merged, refused)
            elif schema is not None:
                appended = publish.AppendedRows(connection, goal, name, names, row["rows"])
                with publish.rejecting(goal):
                    put_all(appended, refused)
            self.note_refused(row)
            with ledger.alone(connection, goal, HEADS):
                publish.move_head(connection, goal, self.run, row, self._recheck)
                execute(connection, "COMMIT")  # while the lock of the heads is held

    def _recheck(self) -> None:
        """Raise unless the head is still the same: the lock of the target may have been lost."""
        if self.compare(lock=True) is not None:
            raise Transient(f"{self.goal.who}: this run was committed in this moment", "run again")

    def is_committed(self, error: Exception) -> bool | None:
        return None if is_lost(error) else False

    def end(self) -> None:
        self._locks.close()
