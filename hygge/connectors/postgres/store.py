"""PostgreSQL as a Store: COPY into one run table, which takes the target's place or fills it.

Life of a run: `prepare` refuses what can be refused and makes the run table (`stage` makes it where
only the rows know the columns). `stage` loads and seals a split in one transaction. `commit`
deletes what is sealed beside the decided tickets and builds the primary key. Then, in one
transaction, it waits for other commits to the table, compares the head, checks that all rows are
there (see `counting`), publishes them, and moves the head. `ledger` tells which rows a split has,
`publish` what readers see.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING

import pyarrow as pa

from hygge.batches import again, plain, raw_format
from hygge.changes import note_of
from hygge.connectors.postgres import choosing, ledger, publish, rights, session, staying, target
from hygge.connectors.postgres.catalog import has_relation
from hygge.connectors.postgres.counting import count_staged, report
from hygge.connectors.postgres.evolving import evolution_of, plain_columns
from hygge.connectors.postgres.kept import check_columns
from hygge.connectors.postgres.load import check_batch as check_batch
from hygge.connectors.postgres.load import load, load_passthrough
from hygge.connectors.postgres.merge import merge
from hygge.connectors.postgres.target import Names, columns_of, names_of
from hygge.connectors.postgres.typed_load import load_typed
from hygge.connectors.postgres.types import column_names, key_in, passthrough_of
from hygge.connectors.sql import frame
from hygge.connectors.sql import ledger as sql_ledger
from hygge.connectors.sql.changes import are_changes, of_target
from hygge.connectors.sql.commit import SQLPublisher, check, refuse_columns
from hygge.connectors.sql.counting import count_sql, state_of
from hygge.connectors.sql.evolving import Evolution
from hygge.connectors.sql.frame import Published
from hygge.connectors.sql.goal import Goal, stored
from hygge.connectors.sql.inheriting import check_inheriting
from hygge.connectors.sql.ledger import LEDGER, beating
from hygge.connectors.sql.own_columns import check_identity, check_written, own_columns, own_notes
from hygge.connectors.sql.target import exists, identity
from hygge.errors import Rejected, StoreError
from hygge.model import Commit, Head, Receipt, Run, TargetState, Ticket, Watermark

if TYPE_CHECKING:
    import sqlalchemy as sa

NEEDS = ("pgpq", "psycopg", "sqlalchemy.dialects.postgresql")
"""Modules that its processes import."""


def head(goal: Goal, flow: str) -> Head | None:
    """Return what is committed for `flow`."""
    with session.opened(goal) as connection:
        return sql_ledger.head_at(connection, goal, flow)


def takes(goal: Goal, run: Run, raw: pa.Schema, schema: pa.Schema) -> pa.Schema | None:
    """Choose the form of rows from another PostgreSQL, column by column: see `choosing`."""
    if raw_format(raw) != "pgcopy":
        return None
    with session.opened(goal) as connection:
        names = names_of(connection, goal, run.id)
        present, is_kept = choosing.present_columns(connection, goal, run, names, raw)
        return choosing.choose(connection, goal, run, raw, schema, present, is_kept)


def prepare(goal: Goal, run: Run, schema: pa.Schema | None) -> None:
    """Refuse what can be refused; make the tables of heads and of the ledger, and the run table."""
    with session.opened(goal) as connection:
        ledger.begin(connection, goal, run)
        with session.transaction(connection):
            _check(connection, goal, run, _stored_schema(goal, schema))
            if schema is not None:
                choosing.create_types(connection, goal, schema)
                _make_rows_table(connection, goal, run.id, schema, run.mode)
                _check_columns(connection, goal, run)
        ledger.sweep(connection, goal, run)


def examine(goal: Goal, run: Run, schema: pa.Schema | None) -> TargetState:
    """Refuse what `prepare` would, and change nothing; return what the target holds."""
    with session.opened(goal) as connection, session.transaction(connection):
        names = names_of(connection, goal, run.id)
        rights.check_schema_rights(connection, goal, names)
        evolved = _check(connection, goal, run, _stored_schema(goal, schema))
        if not exists(connection, sql_ledger.target_of(goal)):
            return TargetState(exists=False)
        rows = rights.count_rows(connection, count_sql(names.target), names.target)
        is_adopted = run.mode == "replace" and not sql_ledger.is_made(connection, goal)
        return state_of(rows, evolved.shown, is_adopted)


def stage(
    goal: Goal, ticket: Ticket, schema: pa.Schema | None, batches: Iterator[pa.Table]
) -> Receipt:
    """Load one split's rows into the run table, and seal it with a row of the ledger.

    Where another try has sealed the split, its receipt is returned. Raises StoreError where the
    run was discarded.
    """
    suffixes = ledger.session_suffixes(ticket)
    with session.opened(goal, *suffixes) as connection:
        with session.transaction(connection):
            if ticket.n or ticket.epoch:
                session.end_predecessors(
                    session.driver_connection(connection),
                    session.application_name(goal.flow, *suffixes),
                )
            sql_ledger.beat(connection, goal, ticket.run)
            earlier = ledger.sealed_before(connection, goal, ticket)
            mode = ledger.mode_of(connection, goal, ticket.run)
        if earlier is not None:
            return earlier
        if schema is None:
            first = next(batches, None)
            if first is not None:
                schema, batches = plain(first).schema, again(first, batches)
                refuse_columns(goal, stored(goal, schema))
        if schema is not None:
            with session.transaction(connection):
                _make_rows_table(connection, goal, ticket.run, schema, mode)
        with suppress(_SealedBefore), session.transaction(connection):
            # The transaction may be idle for long while it waits for its next batch.
            session.execute(connection, "SET LOCAL idle_in_transaction_session_timeout = 0")
            rows, size = _load(connection, goal, ticket, schema, batches, mode)
            if not ledger.seal(connection, goal, ticket, rows, size):
                raise _SealedBefore  # rolls back its own rows
        with session.transaction(connection):
            receipt = ledger.sealed_before(connection, goal, ticket)
            report(connection)
    if receipt is None:
        raise StoreError(f"{goal.who}: the run was decided without this try", "run again")
    return receipt


def resume(goal: Goal, run: Run, receipts: Sequence[Receipt]) -> list[Receipt]:
    """Return the receipts whose rows are sealed and all there; delete what else the run staged."""
    with session.opened(goal) as connection:
        ledger.end_sessions(connection, run.id)
        with session.transaction(connection):
            return ledger.keep_only(connection, goal, run, receipts)


def commit(
    goal: Goal, run: Run, base: Head | None, receipts: Sequence[Receipt], watermark: Watermark
) -> Commit:
    """Compare the head, and move the rows and the head, in one transaction.

    Raises Superseded where the head is not `base`, Unknown where the answer to COMMIT was lost.
    """
    with session.opened(goal) as connection:
        return frame.commit(_Publisher(connection, goal, run, base, receipts), watermark)


def discard(goal: Goal, run: Run) -> None:
    """Drop the run's tables."""
    with session.opened(goal) as connection:
        if not exists(connection, sql_ledger.target_of(goal, LEDGER)):
            return
        if ledger.is_own(connection, goal):
            ledger.drop(connection, goal, run.id)
        else:
            sql_ledger.drop(connection, goal, run.id)


class _SealedBefore(Exception):
    """Another try at this split has sealed it first."""


def _stored_schema(goal: Goal, schema: pa.Schema | None) -> pa.Schema | None:
    """Return the columns as the database will have them; a passthrough as it is."""
    if schema is None or raw_format(schema):
        return schema
    return choosing.with_types_of(schema, stored(goal, schema))


def _make_rows_table(
    connection: sa.Connection, goal: Goal, run: str, schema: pa.Schema, mode: str
) -> None:
    written = _stored_schema(goal, schema)
    assert written is not None
    names = names_of(connection, goal, run)
    ledger.make_rows_table(
        connection, goal, run, written,
        lambda: target.create_sql(connection, names, written, mode),
    )  # fmt: skip


def _check(
    connection: sa.Connection, goal: Goal, run: Run, schema: pa.Schema | None, deletes: bool = False
) -> Evolution:
    """Raise what can be known before a row moves; called again before rows become visible.

    Returns what is still to be done to the target's columns. `deletes`: they are changes.
    """
    deletes, schema = deletes or are_changes(schema), of_target(schema)
    choosing.check_types(goal, schema)
    names = names_of(connection, goal, run.id)
    present = choosing.target_columns(connection, names)
    evolved = evolution_of(connection, goal, run, schema)
    check(
        connection, goal, run, sql_ledger.target_of(goal),
        None if schema is None else plain_columns(schema),
        lambda field: choosing.misfit(schema, field, present.get(field.name)),
        evolved.dealt_with,
    )  # fmt: skip
    old = target.existing(connection, names, () if schema is None else key_in(schema))
    if old is None:
        return evolved
    own = own_columns(connection, sql_ledger.target_of(goal))
    listed = None if schema is None else own.written(column_names(schema))
    target.check_rights(connection, goal, run.mode, old, listed, deletes)
    if deletes:
        target.check_deletes(connection, goal, old)
    check_identity(own, listed or (), run, goal.who)
    if listed is not None:
        check_written(listed, goal.who)
    if run.mode == "replace" and goal.options.adopt:
        staying.check_table(connection, goal, old)
    if run.mode == "replace":
        check_inheriting(connection, sql_ledger.target_of(goal), goal.who)
    if run.mode == "replace" and (old.hangs or goal.keeps_table(run.mode)):
        target.check_foreign_keys(connection, goal, old)
        target.check_deletes(connection, goal, old)
    return evolved


def _check_columns(connection: sa.Connection, goal: Goal, run: Run) -> None:
    """Raise Rejected where the rows have other columns than a table that must not be made anew."""
    names = names_of(connection, goal, run.id)
    schema = ledger.staged_schema(connection, goal, run.id)
    if goal.keeps_table(run.mode) or schema is None:
        return
    old = target.existing(connection, names, key_in(schema))
    columns = columns_of(connection, names.schema, names.rows_name)
    if old is not None:
        check_columns(connection, goal, old, columns)


def _load(
    connection: sa.Connection,
    goal: Goal,
    ticket: Ticket,
    schema: pa.Schema | None,
    batches: Iterator[pa.Table],
    mode: str,
) -> tuple[int, int]:
    """Load the rows of a split; return rows and bytes."""
    if schema is None:
        return 0, 0
    beat = beating(lambda: ledger.beat_apart(goal, ticket.run))
    table = names_of(connection, goal, ticket.run).rows
    if mode == "merge":
        # The default of the column that tells which split a row is of.
        session.execute(connection, f"SET LOCAL hygge.split = {ticket.split}")
    if raw_format(schema):
        names = column_names(schema)
        return load_passthrough(connection, goal, table, names, schema, batches, beat)
    written = _stored_schema(goal, schema)
    assert written is not None
    if choosing.is_typed_arrow(written):
        return load_typed(connection, goal, table, written, batches, beat)
    return load(connection, goal, table, written, batches, beat)


def _build_key(connection: sa.Connection, goal: Goal, run: Run) -> None:
    """Build the primary key that the run table needs if it is to become the target."""
    names, schema = names_of(connection, goal, run.id), None
    if not goal.keeps_table(run.mode) and has_relation(connection, names.schema, names.rows_name):
        schema = ledger.staged_schema(connection, goal, run.id)
    if schema is None or not key_in(schema):
        return
    old = target.existing(connection, names, key_in(schema))
    if old is None or not old.hangs:
        publish.build_key(connection, goal, names, key_in(schema))


class _Publisher(SQLPublisher):
    """The steps of a commit, which are those of `frame`."""

    def rejecting(self) -> AbstractContextManager[None]:
        return session.store_errors(self.goal, Rejected)

    def gather(self) -> None:
        ledger.end_sessions(self.connection, self.run.id)
        ledger.tidy(self.connection, self.goal, self.run, self.receipts)
        with session.transaction(self.connection):
            _build_key(self.connection, self.goal, self.run)

    def staged(self) -> pa.Schema | None:
        connection, goal, run = self.connection, self.goal, self.run
        sql_ledger.bound_wait_in_postgres(connection)
        # Rows that row security hides from this user are an error, and not left out.
        session.execute(connection, "SET LOCAL row_security = off")
        self.names = names_of(connection, goal, run.id)
        schema = _lock_staged(connection, goal, run, self.names)
        self.are_changes = are_changes(schema)
        self.rows = count_staged(connection, goal, run, self.receipts, self.names.rows)
        return of_target(schema)

    def check(self, schema: pa.Schema | None) -> bool:
        self.evolution = evolution_of(self.connection, self.goal, self.run, schema)
        for statement in self.evolution.statements:
            session.execute(self.connection, statement)
        _check(self.connection, self.goal, self.run, schema, self.are_changes)
        is_there = exists(self.connection, self.target)
        if schema is not None and is_there and self.goal.keeps_table(self.run.mode):
            choosing.check_texts(self.connection, self.goal, self.names)
        return is_there

    def publish(self, schema: pa.Schema | None, exists: bool) -> Published:
        connection, goal, run, names = self.connection, self.goal, self.run, self.names
        if self.are_changes:  # a row that changes something is never left out
            goal = replace(goal, refused=None)
        if goal.refused is not None and run.mode != "replace":
            # Else rules that may wait would be looked at in COMMIT, which nothing undoes.
            session.execute(connection, "SET CONSTRAINTS ALL IMMEDIATE")
        is_made = not exists or sql_ledger.is_made(connection, goal)
        rows, notes = self.rows, []
        if schema is not None and run.mode == "merge":
            of_run = connection, goal, run, names, schema, exists, self.are_changes
            rows, deleted = merge(*of_run)
            notes = [note_of(rows - deleted, deleted)] if self.are_changes else []
        elif schema is not None and exists and goal.keeps_table(run.mode):
            if run.mode == "replace":
                staying.delete_rows(connection, goal, names)
            publish.convert_texts(connection, goal, run, names)
            taken = 0 if goal.refused is None else goal.refused.rows
            publish.insert(connection, goal, run, names, rows - taken)
        elif schema is not None:
            key = key_in(schema) if run.mode == "replace" else ()
            last_change = ledger.last_change(connection, goal, run)
            notes = publish.replace(connection, goal, run, names, key, rows, last_change)
        elif exists and run.mode == "replace":
            staying.delete_rows(connection, goal, names)
        if schema is not None and exists:
            notes = [*notes, *self._own_notes(schema)]
        made = identity(connection, self.target) if is_made else None
        return Published(rows, self.target.name, made, notes, _head_columns(schema))

    def _own_notes(self, schema: pa.Schema) -> list[str]:
        import sqlalchemy as sa

        columns = column_names(schema)
        rows = sa.table(self.names.rows_name, *map(sa.column, columns), schema=self.names.schema)
        return own_notes(self.connection, self.target, columns, [rows])


def _head_columns(schema: pa.Schema | None) -> list[tuple[str, str]] | None:
    """Return the columns of a passthrough for the head; None for those of Arrow."""
    if schema is None or raw_format(schema) is None:
        return None
    return [(column["name"], column["type"]) for column in passthrough_of(schema)["columns"]]


def _lock_staged(connection: sa.Connection, goal: Goal, run: Run, names: Names) -> pa.Schema | None:
    """Lock the run table, so that nobody loads or changes it any more; return its schema.

    None where there is no run table: the run has no rows and no schema.
    """
    if not has_relation(connection, names.schema, names.rows_name):
        return None
    session.execute(connection, f"LOCK TABLE {names.rows} IN ACCESS EXCLUSIVE MODE")
    schema = ledger.staged_schema(connection, goal, run.id)
    if schema is None:
        raise Rejected(f"{goal.who}: nobody knows what {names.rows_name} holds", "run again")
    return schema
