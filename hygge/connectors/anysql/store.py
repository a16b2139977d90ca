"""Write any database through SQLAlchemy Core.

Life of a run: `stage` fills a table per ticket in the target's schema; load and seal are one
transaction, so that a worker that dies leaves nothing half. Where making a table ends a transaction
(MySQL), it leaves an empty table, which the ledger knows. `commit` waits for other commits to the
table, holds the head's row, compares it, and moves rows and head in one transaction. What reads the
table then sees the old rows or the new ones at every level of isolation; but PostgreSQL's tables
made anew (a `replace` with other columns) are empty to a transaction of REPEATABLE READ that was
open before the commit and had not touched the table yet.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pyarrow as pa

from hygge.batches import plain, plain_schema
from hygge.changes import note_of
from hygge.connectors.anysql.evolving import evolution_of, follow
from hygge.connectors.anysql.kept import check_foreign_keys, check_replace, check_table, stays
from hygge.connectors.anysql.mysql_columns import check_floats
from hygge.connectors.anysql.publish import (
    TRANSACTIONAL_DDL,
    apply,
    check_identity,
    delete,
    emptied,
    winners,
    written_names,
)
from hygge.connectors.anysql.rights import check_rights, check_types, count_rows
from hygge.connectors.anysql.session import connected
from hygge.connectors.anysql.values import encode
from hygge.connectors.sql import frame, ledger
from hygge.connectors.sql.changes import are_changes, of_target
from hygge.connectors.sql.commit import (
    SQLPublisher,
    check,
    check_ours,
    check_staged,
    refuse_columns,
)
from hygge.connectors.sql.counting import state_of
from hygge.connectors.sql.errors import in_words
from hygge.connectors.sql.evolving import Evolution
from hygge.connectors.sql.frame import Published
from hygge.connectors.sql.goal import Goal
from hygge.connectors.sql.inheriting import check_inheriting
from hygge.connectors.sql.ledger import LEDGER, beating
from hygge.connectors.sql.own_columns import check_written, generated_note, gone_notes, own_notes
from hygge.connectors.sql.target import Target, exists, identity, reflected_columns, table_for
from hygge.errors import HyggeError, Rejected, StoreError, UnfitValue, one_of
from hygge.model import Commit, Head, Receipt, Run, TargetState, Ticket, Watermark

if TYPE_CHECKING:
    import sqlalchemy as sa

NEEDS: tuple[str, ...] = ()
"""Modules that the processes of a Store import, beside this one."""


def head(goal: Goal, flow: str) -> Head | None:
    """The head of `flow`, or None."""
    with _open(goal) as connection:
        return ledger.head_at(connection, goal, flow)


def prepare(goal: Goal, run: Run, schema: pa.Schema | None) -> None:
    """Refuse what can be refused; make the tables of heads and of the ledger."""
    with _open(goal) as connection:
        check_rights(connection, goal, run, schema)
        ledger.begin(connection, goal, run)
        with connection.begin():
            evolved = _check(connection, goal, run, schema)
        check_types(connection, goal, run, schema, evolved.dealt_with)
        ledger.sweep(connection, goal, run)


def examine(goal: Goal, run: Run, schema: pa.Schema | None) -> TargetState:
    """Refuse what `prepare` would, and change nothing; return what the target holds."""
    target = ledger.target_of(goal)
    with _open(goal) as connection:
        with connection.begin():
            _check_schema(connection, goal, target.schema)
        check_rights(connection, goal, run, schema)
        with connection.begin():
            evolved = _check(connection, goal, run, schema)
            if not exists(connection, target):
                return TargetState(exists=False)
            is_adopted = run.mode == "replace" and not ledger.is_made(connection, goal)
        check_types(connection, goal, run, schema, evolved.dealt_with)
        return state_of(count_rows(connection, target), evolved.shown, is_adopted)


def _check_schema(connection: sa.Connection, goal: Goal, schema: str | None) -> None:
    """Raise StoreError where the schema of the target is not there."""
    import sqlalchemy as sa

    schemas = sa.inspect(connection).get_schema_names() if schema else ()
    if schema and schema.lower() not in {name.lower() for name in schemas}:
        raise StoreError(
            f"{goal.who}: there is no schema '{schema}'", one_of("schemas", schema, schemas)
        )


def stage(
    goal: Goal, ticket: Ticket, schema: pa.Schema | None, batches: Iterator[pa.Table]
) -> Receipt:
    """Load the rows of one ticket into a table of their own, and seal it in the ledger."""
    table: Any = None
    rows = size = 0
    with _open(goal) as connection:
        with connection.begin():
            ledger.beat(connection, goal, ticket.run)
            earlier = ledger.sealed_before(connection, goal, ticket)
        if earlier is not None:
            return earlier
        with connection.begin():
            _allow_waiting(connection)
            if schema is not None:
                table = _make(connection, goal, ticket, plain_schema(schema))
            alive = beating(lambda: _beat(goal, ticket.run))
            for batch in batches:
                batch = plain(batch)
                check_floats(connection.dialect.name, batch, goal.who)
                if table is None:
                    schema = batch.schema
                    refuse_columns(goal, schema)
                    table = _make(connection, goal, ticket, schema)
                _insert(connection, table, batch, rows, goal)
                rows += batch.num_rows
                size += batch.nbytes
                del batch
                alive()
            ledger.seal(connection, goal, ticket, rows, size, schema)
    return Receipt(ticket, "", rows, size, parts=0 if table is None else 1)


def check_batch(goal: Goal, batch: pa.Table) -> None:
    """Raise UnfitValue for a value that a driver cannot be given."""
    check_floats(ledger.target_of(goal).dialect, batch, goal.who)
    for name, column in zip(batch.column_names, batch.columns, strict=True):
        try:
            if pa.types.is_temporal(column.type):
                encode(column, goal.who, name)
        except UnfitValue as error:
            raise error.at(name) from error


def resume(goal: Goal, run: Run, receipts: Sequence[Receipt]) -> list[Receipt]:
    """The receipts whose rows are sealed and complete; removes what else the run staged."""
    with _open(goal) as connection:
        with connection.begin():
            held = [each for each in receipts if _holds(connection, goal, each)]
        names = {ledger.run_table(each.ticket) for each in held}
        ledger.drop(connection, goal, run.id, keep={ledger.run_name(run.id), *names})
    return held


def commit(
    goal: Goal, run: Run, base: Head | None, receipts: Sequence[Receipt], watermark: Watermark
) -> Commit:
    """Compare the head, then move the rows and the head, in one transaction."""
    with _open(goal) as connection:
        return frame.commit(_Publisher(connection, goal, run, base, receipts), watermark)


def discard(goal: Goal, run: Run) -> None:
    """Drop the run's tables."""
    with _open(goal) as connection:
        if exists(connection, ledger.target_of(goal, LEDGER)):
            ledger.drop(connection, goal, run.id)


class _Publisher(SQLPublisher):
    """The steps of a commit, which are those of `frame`."""

    def rejecting(self) -> AbstractContextManager[None]:
        return in_words(self.goal.who, Rejected)

    def staged(self) -> pa.Schema | None:
        connection, goal, run = self.connection, self.goal, self.run
        schema, self.tables = _staged(connection, goal, self.receipts)
        self.rows = self.staged_rows
        self.are_changes = are_changes(schema)
        if schema is not None and run.mode == "merge":
            copy = f"{ledger.run_name(run.id)}_w{uuid4().hex[:8]}"
            ledger.remember(connection, goal, run.id, copy)
            self.tables, self.rows = winners(
                connection, self.target, copy, schema, self.tables, run, goal.who
            )
            # Making that table has ended the transaction.
            self.has_let_go = self.target.dialect not in TRANSACTIONAL_DDL
        schema = of_target(schema)
        if self.tables:
            if self.target.dialect == "postgresql":
                ledger.bound_wait_in_postgres(connection)
            check_ours(connection, goal, run)
            self.evolution = follow(connection, goal, run, schema, self.tables[0].name)
            ends = bool(self.evolution.statements) and self.target.dialect not in TRANSACTIONAL_DDL
            self.has_let_go = self.has_let_go or ends
        return schema

    def check(self, schema: pa.Schema | None) -> bool:
        if self.target.dialect == "postgresql":
            ledger.bound_wait_in_postgres(self.connection)
        _check(self.connection, self.goal, self.run, schema)
        return exists(self.connection, self.target)

    def publish(self, schema: pa.Schema | None, exists: bool) -> Published:
        connection, goal, run, target = self.connection, self.goal, self.run, self.target
        made = not exists or ledger.is_made(connection, goal)
        notes: list[str] = []
        if schema is not None:
            is_kept = exists and (goal.keeps_table(run.mode) or stays(connection, target, schema))
            if exists and not is_kept:
                present = [column["name"] for column in reflected_columns(connection, target)]
                notes += gone_notes(present, schema.names)
            deleted = 0
            if self.are_changes:
                deleted = delete(connection, target, self.tables, schema, run, exists, goal.who)
                notes.append(note_of(self.rows - deleted, deleted))
            apply(
                connection, target, schema, self.tables, run, exists, self.rows - deleted,
                goal.who, is_kept,
            )  # fmt: skip
            notes += _own_notes(connection, target, schema, self.tables)
        elif exists and run.mode == "replace":
            emptied(connection, target, table_for(target, None), True, goal.who)
        name = identity(connection, target) if made else None
        return Published(self.rows, target.name, name, notes)


def _check(connection: sa.Connection, goal: Goal, run: Run, schema: pa.Schema | None) -> Evolution:
    """Raise what can be known before a row moves; called again before rows become visible.

    Returns what is still to be done to the target's columns.
    """
    target, schema = ledger.target_of(goal), of_target(schema)
    evolved = evolution_of(connection, goal, run, schema)
    check(connection, goal, run, target, schema, dealt_with=evolved.dealt_with)
    if run.mode == "replace":
        check_inheriting(connection, target, goal.who)
        check_foreign_keys(connection, target, goal.who)
        if goal.options.adopt:
            check_table(connection, target, goal.who)
    if schema is not None and exists(connection, target):
        check_identity(connection, target, schema, goal.who)
        check_written(written_names(connection, target, schema), goal.who)
        if not goal.keeps_table(run.mode):
            heads = [head for head, _ in ledger.heads_at(connection, goal).values()]
            check_replace(connection, target, schema, heads, goal.who)
    return evolved


def _own_notes(
    connection: sa.Connection, target: Target, schema: pa.Schema, staged: Sequence[Any]
) -> list[str]:
    """Move the sequences that are known; return what there is to say of columns."""
    if target.dialect == "postgresql":
        return own_notes(connection, target, schema.names, staged)
    written = written_names(connection, target, schema)
    note = generated_note(name for name in schema.names if name not in written)
    return [note] if note else []


def _staged(
    connection: sa.Connection, goal: Goal, receipts: Sequence[Receipt]
) -> tuple[pa.Schema | None, list[Any]]:
    """The schema of the staged rows, and the tables that hold them, in split order."""
    schema, tables = None, []
    for receipt in receipts:
        sealed, counted, found = ledger.staged_at(connection, goal, receipt.ticket)
        check_staged(receipt, sealed, counted, goal.who)
        if found is not None:
            if schema is not None and not found.equals(schema):
                raise Rejected(f"{goal.who}: the splits were staged with different columns")
            schema = found
            name = ledger.run_table(receipt.ticket)
            tables.append(table_for(ledger.target_of(goal, name), schema, staged=True))
    return schema, tables


def _holds(connection: sa.Connection, goal: Goal, receipt: Receipt) -> bool:
    sealed, counted, _ = ledger.staged_at(connection, goal, receipt.ticket)
    return sealed == counted == receipt.rows


@contextmanager
def _open(goal: Goal) -> Iterator[sa.Connection]:
    # Each statement of a commit must see what the commit it waited for has done.
    known = ledger.target_of(goal).dialect == "postgresql"
    options = {"isolation_level": "READ COMMITTED"} if known else {}
    with connected(goal.url, goal.who, StoreError, **options) as connection:
        yield connection


def _allow_waiting(connection: sa.Connection) -> None:
    """Let the transaction wait for its next batch as long as it takes (PostgreSQL)."""
    import sqlalchemy as sa

    if connection.dialect.name == "postgresql":
        connection.execute(sa.text("SET LOCAL idle_in_transaction_session_timeout = 0"))


def _beat(goal: Goal, run: str) -> None:
    """Send a heartbeat by a second connection, since the load's transaction is not visible yet."""
    with suppress(HyggeError), _open(goal) as connection, connection.begin():
        ledger.beat(connection, goal, run)


def _make(connection: sa.Connection, goal: Goal, ticket: Ticket, schema: pa.Schema) -> Any:
    name = ledger.run_table(ticket)
    ledger.remember(connection, goal, ticket.run, name)
    table = table_for(ledger.target_of(goal, name), schema, staged=True)
    table.create(connection)
    return table


def _insert(
    connection: sa.Connection, table: Any, batch: pa.Table, before: int, goal: Goal
) -> None:
    from sqlalchemy.exc import DataError

    step = goal.options.batch_size
    keys = [column.key for column in table.columns]
    for start in range(0, batch.num_rows, step):
        piece = batch.slice(start, step)
        columns = [
            encode(piece.column(at), goal.who, name, connection.dialect.driver)
            for at, name in enumerate(piece.schema.names)
        ]
        numbers = range(before + start, before + start + piece.num_rows)
        rows = [dict(zip(keys, row, strict=True)) for row in zip(*columns, numbers, strict=True)]
        try:
            connection.execute(table.insert(), rows)
        except (DataError, ValueError) as error:  # psycopg2 refuses NUL by itself
            # The table was made for these types, so it is a value that its type does not show.
            for name, values in zip(piece.schema.names, columns, strict=True):
                if any(type(value) is str and "\0" in value for value in values):
                    raise UnfitValue(
                        f"{goal.who}: column '{name}' holds the character NUL, which a text of "
                        f"{connection.dialect.name} cannot keep",
                        "take it out before, or make the column binary",
                    ) from error
            raise
