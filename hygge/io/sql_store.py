"""Any database as a Store, through SQLAlchemy Core; PostgreSQL first.

Life of a run: `stage` fills a table per ticket in the target's schema, in short transactions, and
seals it in `_hygge_ledger`; `commit` holds the head's row, and moves rows and head in one
transaction. Tables of a run are found through the ledger, where they are named before they are
made, so that `discard` misses none.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pyarrow as pa

from hygge.batches import plain, plain_schema
from hygge.errors import Rejected, StoreError, Superseded
from hygge.io.sql import connected, in_words, split_name, unknown_commit
from hygge.io.sql_apply import Target, apply, check_fit, exists, identity, table_for, winners
from hygge.io.sql_ask import pack, unpack
from hygge.io.sql_goal import (
    HEADS,
    LEDGER,
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
)
from hygge.io.sql_types import encode, refuse_inexact
from hygge.model import Commit, Head, Receipt, Run, Ticket, Watermark


def head(goal: Goal, flow: str) -> Head | None:
    """What is committed for `flow`."""
    with _open(goal) as connection:
        if not _has(connection, goal, HEADS):
            return None
        return _head(connection, goal, flow)


def prepare(goal: Goal, run: Run, schema: pa.Schema | None) -> None:
    """Refuse what can be refused; make the tables of heads and of the ledger."""
    with _open(goal) as connection:
        with connection.begin():
            for table in (_heads(goal), _ledger(goal)):
                table.create(connection, checkfirst=True)
        target = _target(goal)
        with connection.begin():
            _check(connection, goal, run, target, schema)
        old = _ledger(goal)
        stale = old.select().with_only_columns(old.c.run).where(old.c.began < time.time() - OLD_S)
        for run_id in {row.run for row in connection.execute(stale.where(old.c.run != run.id))}:
            _drop(connection, goal, run_id)


def stage(
    goal: Goal, ticket: Ticket, schema: pa.Schema | None, batches: Iterator[pa.Table]
) -> Receipt:
    """One ticket's rows into a table of its own, sealed by its row of the ledger."""
    ledger, name = _ledger(goal), _run_table(ticket)
    table: Any = None
    rows = size = 0
    with _open(goal) as connection:
        who = goal.who
        begun = {
            "name": name,
            "run": ticket.run,
            "target": goal.table,
            "began": time.time(),
            "sealed": 0,
        }
        with connection.begin():
            connection.execute(ledger.insert().values(begun))
        if schema is not None:
            table = _make(connection, goal, name, plain_schema(schema))
        for batch in batches:
            batch = plain(batch)
            if table is None:
                schema = batch.schema
                _refuse_inexact(goal, schema)
                table = _make(connection, goal, name, schema)
            with in_words(who, StoreError), connection.begin():
                _insert(connection, table, batch, rows, goal)
            rows += batch.num_rows
            size += batch.nbytes
            del batch
        sealed = {
            "sealed": 1,
            "rows": rows,
            "bytes": size,
            "arrow": None if schema is None else pack(plain_schema(schema)),
        }
        with connection.begin():
            connection.execute(ledger.update().where(ledger.c.name == name).values(sealed))
    return Receipt(ticket, "", rows, size, parts=0 if table is None else 1)


def commit(
    goal: Goal, run: Run, base: Head | None, receipts: Sequence[Receipt], watermark: Watermark
) -> Commit:
    """Compare the head, move the rows and the head, in one transaction."""
    from sqlalchemy.exc import DBAPIError

    with _open(goal) as connection:
        with connection.begin():
            now = _head(connection, goal, run.flow)
            done = already(now, run, receipts)
            if done is not None:
                return done
            check_base(now, base, goal.who)
        schema, staged = _staged(connection, goal, receipts)
        target = _target(goal)
        rows = sum(receipt.rows for receipt in receipts)
        if schema is not None and run.mode == "merge":
            name = _run_name(run.id) + "_w"
            with connection.begin():
                _remember(connection, goal, run, name)
            with connection.begin():
                staged, kept = winners(connection, target, name, schema, staged, run, goal.who)
        else:
            kept = rows
        transaction = connection.begin()
        try:
            moved, note = _commit(
                connection, goal, run, base, target, schema, staged, kept, watermark
            )
        except BaseException:
            transaction.rollback()
            raise
        try:
            transaction.commit()
        except DBAPIError as error:
            if error.connection_invalidated:
                raise unknown_commit(goal.who, error) from error
            raise
        return Commit(moved, kept, rows - kept, note=note)


def discard(goal: Goal, run: Run) -> None:
    """Drop the run's tables."""
    with _open(goal) as connection:
        if _has(connection, goal, LEDGER):
            _drop(connection, goal, run.id)


def _commit(
    connection: Any,
    goal: Goal,
    run: Run,
    base: Head | None,
    target: Target,
    schema: pa.Schema | None,
    staged: Sequence[Any],
    kept: int,
    watermark: Watermark,
) -> tuple[Head, str]:
    from sqlalchemy.exc import IntegrityError

    heads = _heads(goal)
    _one_at_a_time(connection, target)
    check_base(_head(connection, goal, run.flow, lock=True), base, goal.who)
    _check(connection, goal, run, target, schema)
    there = exists(connection, target)
    made = not there or _made(connection, goal, target)
    if run.mode == "replace":
        others = (heads.c.flow != run.flow) & (heads.c.target == target.name)
        connection.execute(heads.delete().where(others))
    note = ""
    if schema is not None:
        apply(connection, target, schema, staged, run, there, kept, goal.who)
    elif there and run.mode == "replace":
        connection.execute(table_for(target, None).delete())
        note = "nothing to move: the table is now empty and keeps its columns"
    if not kept and not note:
        note = (
            "nothing to move"
            if schema is not None or there
            else ("nothing to move, and no schema: no table was made")
        )
    name = identity(connection, target) if made else None
    row = head_values(run, target.name, base, kept, watermark, schema, name)
    mine = (heads.c.flow == run.flow) & (heads.c.target == target.name)
    if base is None:
        try:
            connection.execute(heads.insert().values(row))
        except IntegrityError as error:
            raise Superseded(
                f"{goal.who}: another run of this flow committed first", "run it again"
            ) from error
    else:
        changed = connection.execute(
            heads.update().where(mine, heads.c.run == base.run).values(row)
        )
        if changed.rowcount != 1:
            raise Superseded(f"{goal.who}: another run committed first", "run it again")
    return head_of(row), note


def _staged(
    connection: Any, goal: Goal, receipts: Sequence[Receipt]
) -> tuple[pa.Schema | None, list[Any]]:
    """The one schema that was staged, and the tables that hold it, in split order."""
    import sqlalchemy as sa

    ledger, schema, tables = _ledger(goal), None, []
    for receipt in sorted(receipts, key=lambda receipt: receipt.ticket.split):
        name = _run_table(receipt.ticket)
        with connection.begin():
            row = connection.execute(
                ledger.select().where(ledger.c.name == name, ledger.c.sealed == 1)
            ).one_or_none()
            counted = None if row is None else 0
            if row is not None and row.arrow is not None:
                found = unpack(row.arrow)
                if schema is not None and not found.equals(schema):
                    raise Rejected(f"{goal.who}: the splits were staged with different columns")
                schema = found
                table = table_for(_target(goal, name), schema, staged=True)
                tables.append(table)
                counted = connection.execute(
                    sa.select(sa.func.count()).select_from(table)
                ).scalar_one()
        check_staged(receipt, None if row is None else row.rows, counted, goal.who)
    return schema, tables


def _check(connection: Any, goal: Goal, run: Run, target: Target, schema: pa.Schema | None) -> None:
    """What can be refused before a row moves."""
    there = exists(connection, target)
    if schema is not None:
        _refuse_inexact(goal, plain_schema(schema))
    if run.mode == "replace":
        if there and not _made(connection, goal, target):
            raise not_ours(goal.who)
        if schema is not None:
            table_for(target._replace(dialect=connection.dialect.name), schema)
        return
    if not there:
        found = _head(connection, goal, run.flow)
        if found is not None and found.columns:
            raise lost_target(goal.who, run.flow)
    if schema is not None:
        check_fit(connection, target, plain_schema(schema), there, goal.who)


@contextmanager
def _open(goal: Goal) -> Iterator[Any]:
    with connected(goal.url, goal.who, StoreError) as connection:
        yield connection


def _target(goal: Goal, name: str | None = None) -> Target:
    from sqlalchemy.engine import make_url

    schema, table = split_name(goal.table)
    return Target(schema, name or table, make_url(goal.url).get_backend_name())


def _heads(goal: Goal) -> Any:
    import sqlalchemy as sa

    return sa.Table(
        HEADS, sa.MetaData(),
        sa.Column("flow", sa.String(255), primary_key=True),
        sa.Column("target", sa.String(255), primary_key=True),
        sa.Column("generation", sa.BigInteger, nullable=False),
        sa.Column("run", sa.String(64), nullable=False),
        sa.Column("rows", sa.BigInteger, nullable=False),
        sa.Column("watermark", sa.Text),
        sa.Column("cursor", sa.Text),
        sa.Column("columns", sa.Text, nullable=False),
        sa.Column("made", sa.Text),
        sa.Column("committed_at", sa.String(32), nullable=False),
        schema=_target(goal).schema,
    )  # fmt: skip


def _ledger(goal: Goal) -> Any:
    import sqlalchemy as sa

    return sa.Table(
        LEDGER, sa.MetaData(),
        sa.Column("name", sa.String(63), primary_key=True),
        sa.Column("run", sa.String(64), nullable=False),
        sa.Column("target", sa.String(255), nullable=False),
        sa.Column("began", sa.Double, nullable=False),
        sa.Column("sealed", sa.SmallInteger, nullable=False),
        sa.Column("rows", sa.BigInteger),
        sa.Column("bytes", sa.BigInteger),
        sa.Column("arrow", sa.Text),
        schema=_target(goal).schema,
    )  # fmt: skip


def _has(connection: Any, goal: Goal, name: str) -> bool:
    return exists(connection, _target(goal, name))


def _head(connection: Any, goal: Goal, flow: str, lock: bool = False) -> Head | None:
    heads = _heads(goal)
    target = _target(goal).name  # its schema is that of the heads
    asked = heads.select().where(heads.c.flow == flow, heads.c.target == target)
    row = connection.execute(asked.with_for_update() if lock else asked).mappings().one_or_none()
    return None if row is None else head_of(dict(row))


def _made(connection: Any, goal: Goal, target: Target) -> bool:
    """Whether the table that is there now is one that hygge made."""
    import sqlalchemy as sa

    heads = _heads(goal)
    asked = sa.select(heads.c.made).where(heads.c.target == target.name)
    return still(identity(connection, target), connection.execute(asked).scalars())


def _one_at_a_time(connection: Any, target: Target) -> None:
    """Commits to one table wait for each other, or a `replace` could miss rows just appended."""
    import sqlalchemy as sa

    if target.dialect == "postgresql":
        name = hashlib.sha256(f"hygge {target.schema or 'public'}.{target.name}".encode()).digest()
        key = int.from_bytes(name[:8], "big", signed=True)
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(key)))


def _refuse_inexact(goal: Goal, schema: pa.Schema) -> None:
    refuse_inexact(schema, _target(goal).dialect, goal.who, zones=goal.options.zones == "error")


def _run_name(run: str) -> str:
    return f"_hygge_{hashlib.sha256(run.encode()).hexdigest()[:12]}"


def _run_table(ticket: Ticket) -> str:
    return f"{_run_name(ticket.run)}_{ticket.split}_{ticket.epoch}_{ticket.n}"


def _make(connection: Any, goal: Goal, name: str, schema: pa.Schema) -> Any:
    table = table_for(_target(goal, name), schema, staged=True)
    with connection.begin():
        table.create(connection)
    return table


def _remember(connection: Any, goal: Goal, run: Run, name: str) -> None:
    ledger = _ledger(goal)
    connection.execute(ledger.delete().where(ledger.c.name == name))
    row = {"name": name, "run": run.id, "target": goal.table, "began": time.time(), "sealed": 0}
    connection.execute(ledger.insert().values(row))


def _insert(connection: Any, table: Any, batch: pa.Table, before: int, goal: Goal) -> None:
    step = goal.options.batch_size
    keys = [column.key for column in table.columns]
    for start in range(0, batch.num_rows, step):
        piece = batch.slice(start, step)
        columns = [
            encode(piece.column(at), goal.who, name) for at, name in enumerate(piece.schema.names)
        ]
        numbers = range(before + start, before + start + piece.num_rows)
        rows = [dict(zip(keys, row, strict=True)) for row in zip(*columns, numbers, strict=True)]
        connection.execute(table.insert(), rows)


def _drop(connection: Any, goal: Goal, run: str) -> None:
    import sqlalchemy as sa

    ledger = _ledger(goal)
    # Whatever was read before this has ended its transaction, so each drop is one of its own.
    connection.rollback()
    with connection.begin():
        asked = sa.select(ledger.c.name).where(ledger.c.run == run)
        names = [name for (name,) in connection.execute(asked)]
    for name in names:
        with connection.begin():
            found = _target(goal, name)
            sa.Table(name, sa.MetaData(), schema=found.schema).drop(connection, checkfirst=True)
            connection.execute(ledger.delete().where(ledger.c.name == name))
