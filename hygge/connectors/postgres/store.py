"""PostgreSQL as a Store: COPY into one run table, which takes the target's place or fills it.

Life of a run: `prepare` refuses what can be refused and makes the run table (`stage`, where only
the rows know the columns). `stage` loads and seals a split in one transaction. `commit` removes
what is sealed beside the decided tickets, builds the primary key, and then, in one transaction,
waits for other commits to the table, compares the head, counts the rows, publishes them and moves
the head. See `pg_ledger` for what names a split's rows, `pg_swap` for what readers see.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

import pyarrow as pa

from hygge.batches import again, plain, raw_format, raw_schema
from hygge.connectors.postgres import ledger as runs
from hygge.connectors.postgres import publish, session
from hygge.connectors.postgres.catalog import is_there
from hygge.connectors.postgres.load import loaded, passed
from hygge.connectors.postgres.merge import merged
from hygge.connectors.postgres.target import (
    Names,
    alike,
    check_children,
    check_deletes,
    check_rights,
    columns_of,
    found,
    names_of,
    rows_ddl,
)
from hygge.connectors.postgres.types import (
    RAW_TEXT_ONLY,
    about_of,
    are_known,
    column_names,
    key_in,
)
from hygge.connectors.sql import ledger
from hygge.connectors.sql.commit import check, move_head
from hygge.connectors.sql.errors import is_unknown, unknown_commit
from hygge.connectors.sql.goal import Goal, stored
from hygge.connectors.sql.heads import already, check_base, head_of, head_values
from hygge.connectors.sql.ledger import LEDGER, beating
from hygge.connectors.sql.target import exists, identity, table_for
from hygge.errors import Rejected, StoreError
from hygge.model import Commit, Head, Receipt, Run, Ticket, Watermark

NEEDS = ("pgpq", "psycopg", "sqlalchemy.dialects.postgresql")
"""What its processes import."""


def head(goal: Goal, flow: str) -> Head | None:
    """What is committed for `flow`."""
    with session.opened(goal) as connection:
        return ledger.head_at(connection, goal, flow)


def takes(goal: Goal, run: Run, raw: pa.Schema, schema: pa.Schema) -> pa.Schema | None:
    """COPY of another PostgreSQL, where every type is here, and the columns are the target's."""
    if raw_format(raw) != "pgcopy":
        return None
    about = about_of(raw)
    columns = tuple((each["name"], each["type"]) for each in about["columns"])
    if any(goal.on_value(name) == "as_text" for name, _ in columns):
        return None
    if [name for name, _ in columns] != schema.names:
        return None
    with session.opened(goal) as connection:
        names = names_of(connection, goal, run.id)
        if not are_known(connection, about["columns"]):
            return None
        there = columns_of(connection, names.schema, names.name)
    if there and not alike(there, columns):
        return None
    binary = all(
        each["builtin"] and each["type"].removesuffix("[]") not in RAW_TEXT_ONLY
        for each in about["columns"]
    )
    return raw_schema("pgcopy-binary" if binary else "pgcopy-text", json.dumps(about))


def prepare(goal: Goal, run: Run, schema: pa.Schema | None) -> None:
    """Refuse what can be refused; make the tables of heads and of the ledger, and the run table."""
    with session.opened(goal) as connection:
        runs.begin(connection, goal, run)
        with session.transaction(connection):
            _check(connection, goal, run, _written(goal, schema))
            if schema is not None:
                _make(connection, goal, run.id, schema, run.mode)
                _check_columns(connection, goal, run)
        runs.sweep(connection, goal, run)


def stage(
    goal: Goal, ticket: Ticket, schema: pa.Schema | None, batches: Iterator[pa.Table]
) -> Receipt:
    """One split's rows into the run table, sealed by its row of the ledger."""
    tail = runs.session_name(ticket)
    with session.opened(goal, *tail) as connection:
        with session.transaction(connection):
            if ticket.n or ticket.epoch:
                session.end_predecessors(
                    session.driver(connection), session.application(goal.flow, *tail)
                )
            ledger.beat(connection, goal, ticket.run)
            earlier = runs.sealed_before(connection, goal, ticket)
            mode = runs.mode_of(connection, goal, ticket.run)
        if earlier is not None:
            return earlier
        if schema is None:
            first = next(batches, None)
            if first is not None:
                schema, batches = plain(first).schema, again(first, batches)
                _refuse(goal, schema)
        if schema is not None:
            with session.transaction(connection):
                _make(connection, goal, ticket.run, schema, mode)
        with suppress(_SealedBefore), session.transaction(connection):
            # A transaction that waits for its next batch is no forgotten one.
            session.ask(connection, "SET LOCAL idle_in_transaction_session_timeout = 0")
            rows, size = _load(connection, goal, ticket, schema, batches, mode)
            if not runs.seal(connection, goal, ticket, rows, size):
                raise _SealedBefore  # takes its own rows back
        with session.transaction(connection):
            sealed = runs.sealed_before(connection, goal, ticket)
    if sealed is None:
        raise StoreError(f"{goal.who}: the run was decided without this try", "run again")
    return sealed


def resume(goal: Goal, run: Run, receipts: Sequence[Receipt]) -> list[Receipt]:
    """Which receipts' rows are sealed and all there; whatever else the run staged is removed."""
    with session.opened(goal) as connection:
        runs.end_sessions(connection, run.id)
        with session.transaction(connection):
            return runs.held(connection, goal, run, receipts)


def commit(
    goal: Goal, run: Run, base: Head | None, receipts: Sequence[Receipt], watermark: Watermark
) -> Commit:
    """Compare the head, move the rows and the head, in one transaction."""
    from sqlalchemy.exc import DBAPIError

    last = False  # only COMMIT is to come
    with session.opened(goal) as connection:
        with session.transaction(connection):
            now = ledger.head_at(connection, goal, run.flow)
            done = already(now, run, receipts)
            if done is not None:
                return done
            check_base(now, base, goal.who)
        runs.end_sessions(connection, run.id)
        runs.tidy(connection, goal, run, receipts)
        with session.transaction(connection):
            _build_key(connection, goal, run)
        try:
            with session.transaction(connection):
                done = _commit(connection, goal, run, base, receipts, watermark)
                last = True
        except DBAPIError as error:
            if last and is_unknown(error):
                raise unknown_commit(goal.who, error) from error
            raise
        return done


def discard(goal: Goal, run: Run) -> None:
    """Drop the run's tables."""
    with session.opened(goal) as connection:
        if not exists(connection, ledger.target_of(goal, LEDGER)):
            return
        if runs.is_ours(connection, goal):
            runs.drop(connection, goal, run.id)
        else:
            ledger.drop(connection, goal, run.id)


class _SealedBefore(Exception):
    """Another try at this split was quicker."""


def _written(goal: Goal, schema: pa.Schema | None) -> pa.Schema | None:
    """The columns as they will be in the database."""
    return schema if schema is None or raw_format(schema) else stored(goal, schema)


def _refuse(goal: Goal, schema: pa.Schema) -> None:
    from hygge.connectors.sql.commit import refuse_columns

    refuse_columns(goal, stored(goal, schema))


def _make(connection: Any, goal: Goal, run: str, schema: pa.Schema, mode: str) -> None:
    written = _written(goal, schema)
    assert written is not None
    names = names_of(connection, goal, run)
    runs.make(connection, goal, run, written, lambda: rows_ddl(connection, names, written, mode))


def _check(connection: Any, goal: Goal, run: Run, schema: pa.Schema | None) -> None:
    """What can be refused before a row moves, and again before they become visible."""
    raw = raw_format(schema) is not None
    target = ledger.target_of(goal)
    check(connection, goal, run, target, None if raw else schema)
    names = names_of(connection, goal, run.id)
    there = found(connection, names, () if schema is None else key_in(schema))
    if there is None:
        return
    columns = None if schema is None else column_names(schema)
    check_rights(connection, goal, run.mode, there, columns)
    if run.mode == "replace" and there.hangs:
        check_children(connection, goal, there)
        check_deletes(connection, goal, there)


def _check_columns(connection: Any, goal: Goal, run: Run) -> None:
    """Whether the run table's rows go into a table that cannot be made anew."""
    names = names_of(connection, goal, run.id)
    schema = runs.staged_schema(connection, goal, run.id)
    if run.mode == "replace" and schema is not None:
        there = found(connection, names, key_in(schema))
        rows = columns_of(connection, names.schema, names.rows_name)
        if there is not None and there.hangs and not alike(there.columns, rows):
            raise publish.has_other_columns(goal, there)


def _load(
    connection: Any,
    goal: Goal,
    ticket: Ticket,
    schema: pa.Schema | None,
    batches: Iterator[pa.Table],
    mode: str,
) -> tuple[int, int]:
    if schema is None:
        return 0, 0
    alive = beating(lambda: runs.beat(goal, ticket.run))
    table = names_of(connection, goal, ticket.run).rows
    if mode == "merge":
        session.ask(connection, f"SET LOCAL hygge.split = {ticket.split}")
    if raw_format(schema):
        return passed(connection, goal, table, column_names(schema), schema, batches, alive)
    return loaded(connection, goal, table, stored(goal, schema), batches, alive)


def _build_key(connection: Any, goal: Goal, run: Run) -> None:
    """The primary key that the run table needs if it becomes the target."""
    names, schema = names_of(connection, goal, run.id), None
    if run.mode == "replace" and is_there(connection, names.schema, names.rows_name):
        schema = runs.staged_schema(connection, goal, run.id)
    if schema is None or not key_in(schema):
        return
    there = found(connection, names, key_in(schema))
    if there is None or not there.hangs:
        publish.add_key(connection, goal, names, key_in(schema))


def _commit(
    connection: Any,
    goal: Goal,
    run: Run,
    base: Head | None,
    receipts: Sequence[Receipt],
    watermark: Watermark,
) -> Commit:
    target, names = ledger.target_of(goal), names_of(connection, goal, run.id)
    ledger.lock_table_name(connection, target)
    now, _ = ledger.heads_at(connection, goal, lock=True).get(run.flow, (None, None))
    done = already(now, run, receipts)
    if done is not None:
        return done
    check_base(now, base, goal.who)
    ledger.bound_lock_wait(connection, target)
    session.ask(connection, "SET LOCAL row_security = off")  # what is hidden is an error
    schema = _held_rows(connection, goal, run, names)
    rows = kept = runs.check(connection, goal, run, receipts, names.rows)
    _check(connection, goal, run, schema)
    there = exists(connection, target)
    made = not there or ledger.is_made(connection, goal)
    note = ""
    if schema is not None and run.mode == "merge":
        kept = merged(connection, goal, run, names, schema, there)
    elif schema is not None and run.mode == "append" and there:
        publish.turned(connection, names)
        publish.appended(connection, goal, names, rows)
    elif schema is not None:
        key = key_in(schema) if run.mode == "replace" else ()
        newest = runs.newest(connection, goal, run)
        publish.replaced(connection, goal, names, key, rows, newest)
    elif there and run.mode == "replace":
        connection.execute(table_for(target, None).delete())
        note = "nothing to move: the table is now empty and keeps its columns"
    heads = ledger.heads_table(goal)
    if run.mode == "replace":  # their rows are gone, so they start anew
        others = (heads.c.flow != run.flow) & (heads.c.target == target.name)
        connection.execute(heads.delete().where(others))
    if not kept and not note:
        note = "nothing to move"
        if schema is None and not there:
            note += ", and no schema: no table was made"
    name = identity(connection, target) if made else None
    row = head_values(run, target.name, base, kept, watermark, _told(schema), name)
    if schema is not None and raw_format(schema):
        columns = [[each["name"], each["type"]] for each in about_of(schema)["columns"]]
        row["columns"] = json.dumps(columns)
    move_head(connection, goal, base, row)
    return Commit(head_of(row, goal.who), kept, rows - kept, note=note)


def _told(schema: pa.Schema | None) -> pa.Schema | None:
    return None if raw_format(schema) else schema


def _held_rows(connection: Any, goal: Goal, run: Run, names: Names) -> pa.Schema | None:
    """The schema that was staged; from here on nobody loads or changes what is."""
    if not is_there(connection, names.schema, names.rows_name):
        return None
    session.ask(connection, f"LOCK TABLE {names.rows} IN ACCESS EXCLUSIVE MODE")
    schema = runs.staged_schema(connection, goal, run.id)
    if schema is None:
        raise Rejected(f"{goal.who}: nobody knows what {names.rows_name} holds", "run again")
    return schema
