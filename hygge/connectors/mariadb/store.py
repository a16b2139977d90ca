"""MariaDB as a Store: rows are loaded into a run table, which becomes the target or fills it.

Life of a run: `prepare` refuses what can be refused and makes the run table (`stage`, where only
the rows know the columns). `stage` loads and seals a split in one transaction. `commit` closes the
run, removes what is sealed beside the decided tickets, counts the rows, and publishes. See
`my_ledger` for what names a split's rows, `my_publish` for what readers see.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pyarrow as pa

from hygge.batches import again, key_of, plain
from hygge.connectors.mariadb import ledger, merge, publish
from hygge.connectors.mariadb.load import SPLIT, loaded
from hygge.connectors.mariadb.session import (
    execute,
    is_lost,
    one,
    quoted,
    rows,
)
from hygge.connectors.mariadb.target import (
    There,
    check_engine,
    check_fit,
    found,
    identity,
    is_there,
    quoted_table,
    same_columns,
)
from hygge.connectors.mariadb.types import column_ddl
from hygge.connectors.sql.commit import check_staged
from hygge.connectors.sql.connection import split_name
from hygge.connectors.sql.errors import unknown_commit
from hygge.connectors.sql.goal import Goal, stored
from hygge.connectors.sql.heads import (
    HEADS,
    already,
    check_base,
    head_values,
    lost_target,
    not_ours,
)
from hygge.connectors.sql.ledger import LEDGER, beating, run_name
from hygge.errors import HyggeError, Rejected, StoreError, Transient
from hygge.model import Commit, Head, Receipt, Run, Ticket, Watermark

_ROWS_PER_SPLIT = 2**40

NEEDS = ("numpy", "pyarrow.compute", "sqlalchemy.dialects.mysql.pymysql")
"""What its processes import."""


def head(goal: Goal, flow: str) -> Head | None:
    """What is committed for `flow`."""
    with ledger.opened(goal) as connection:
        if not is_there(connection, goal, HEADS):
            return None
        return ledger.heads_at(connection, goal).get(flow, (None, None))[0]


def prepare(goal: Goal, run: Run, schema: pa.Schema | None) -> None:
    """Refuse what can be refused; make the tables of heads and of the ledger, and the run table."""
    written = None if schema is None else stored(goal, schema)
    with ledger.opened(goal) as connection:
        ledger.begin(connection, goal, run.id, run.mode)
        _check(connection, goal, run, written, found(connection, goal, run.mode == "replace"))
        if written is not None:
            ledger.make(connection, goal, run.id, run.mode, written)
        ledger.sweep(connection, goal, run.id)


def stage(
    goal: Goal, ticket: Ticket, schema: pa.Schema | None, batches: Iterator[pa.Table]
) -> Receipt:
    """One split's rows into the run table, sealed by its row of the ledger."""
    with ledger.opened(goal) as connection:
        short = run_name(ticket.run).removeprefix("_hygge_")
        connection.hygge = connection.hygge.replace(" */ ", f"/{short}/{ticket.split} */ ")
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
        with suppress(_SealedBefore), ledger.transaction(connection):
            count, size = _load(connection, goal, ticket, schema, batches, mode)
            if not ledger.seal(connection, goal, ticket, count, size):
                raise _SealedBefore  # takes its own rows back
        sealed = ledger.sealed_before(connection, goal, ticket)
    if sealed is None:
        raise StoreError(f"{goal.who}: the run was decided without this try", "run again")
    return sealed


def resume(goal: Goal, run: Run, receipts: Sequence[Receipt]) -> list[Receipt]:
    """Which receipts' rows are sealed and all there; whatever else the run staged is removed."""
    with ledger.opened(goal) as connection:
        ledger.kill(connection, run.id)
        ledger.reopen(connection, goal, run.id)
        name = ledger.rows_table(run.id)
        counted: dict[int, int] = {}
        if is_there(connection, goal, name):
            table = quoted_table(goal, name)
            if not rows(connection, f"SHOW COLUMNS FROM {table} LIKE '{SPLIT}'"):
                raise StoreError(
                    f"{goal.who}: run {run.id} was about to be committed",
                    "commit it, or run again with --fresh",
                )
            counted = dict(
                rows(connection, f"SELECT {quoted(SPLIT)}, COUNT(*) FROM {table} GROUP BY 1")
            )
        sealed = ledger.seals(connection, goal, run.id)
        held = []
        for receipt in receipts:
            seal = sealed.get((receipt.ticket.split, receipt.ticket.epoch))
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
    """Compare the head, move the rows and the head, in one step."""
    with ledger.opened(goal) as connection:
        now, _ = ledger.heads_at(connection, goal).get(run.flow, (None, None))
        done = already(now, run, receipts)
        if done is not None:
            return done
        check_base(now, base, goal.who)
        with ledger.alone(connection, goal, "table"):
            ledger.close(connection, goal, run.id)
            ledger.kill(connection, run.id)
            _keep_only(connection, goal, run, receipts)
            schema = _counted(connection, goal, run, receipts)
            # A driver that stands still for a minute lets the others go on.
            execute(connection, "SET wait_timeout = 60")
            return _commit(connection, goal, run, base, receipts, watermark, schema)


def discard(goal: Goal, run: Run) -> None:
    """Drop the run's tables."""
    with ledger.opened(goal) as connection:
        if is_there(connection, goal, LEDGER):
            ledger.drop(connection, goal, run.id)


class _SealedBefore(Exception):
    """Another try at this split was quicker."""


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
    table = quoted_table(goal, ledger.rows_table(ticket.run))
    first = ticket.split * _ROWS_PER_SPLIT if mode == "merge" else None
    return loaded(
        connection,
        goal,
        table,
        schema,
        batches,
        ledger.split_number(ticket),
        first,
        beating(lambda: ledger.beat_apart(goal, ticket.run)),
    )


def _check(
    connection: Any, goal: Goal, run: Run, schema: pa.Schema | None, there: There | None
) -> None:
    """What can be refused before a row moves, and again before they become visible."""
    for each in schema or ():
        column_ddl(goal, each, each.name in run.key)
    if there is not None:
        check_engine(goal, there, run)
    if run.mode == "replace":
        if there is not None and not ledger.is_made(connection, goal, there):
            raise not_ours(goal.who)
        if schema is None or there is None or not there.hangs:
            return
        if not same_columns(goal, there, schema, key_of(schema)):
            raise publish.has_other_columns(goal, there)
        return
    heads = ledger.heads_at(connection, goal)
    if there is None and run.flow in heads and heads[run.flow][0].columns:
        raise lost_target(goal.who, run.flow)
    if schema is not None and there is not None:
        check_fit(goal, there, schema)


def _keep_only(connection: Any, goal: Goal, run: Run, receipts: Sequence[Receipt]) -> None:
    """Remove what is sealed beside these receipts, for good."""
    decided = {receipt.ticket for receipt in receipts}
    sealed = ledger.seals(connection, goal, run.id).values()
    with ledger.transaction(connection):
        ledger.unseal(connection, goal, [each for each in sealed if each.ticket not in decided])


def _counted(
    connection: Any, goal: Goal, run: Run, receipts: Sequence[Receipt]
) -> pa.Schema | None:
    """The schema that was staged; Rejected where the run table has not just the receipts' rows."""
    name = ledger.rows_table(run.id)
    sealed = ledger.seals(connection, goal, run.id)
    there = is_there(connection, goal, name)
    wanted = 0
    for receipt in receipts:
        seal = sealed.get((receipt.ticket.split, receipt.ticket.epoch))
        told = seal.rows if seal is not None and seal.ticket == receipt.ticket else None
        check_staged(receipt, told, told if there or not told else None, goal.who)
        wanted += receipt.rows
    if not there:
        return None
    (counted,) = one(connection, f"SELECT COUNT(*) FROM {quoted_table(goal, name)}")
    if counted != wanted:
        raise Rejected(
            f"{goal.who}: {wanted:,} rows were staged, but {counted:,} rows can be found",
            "its staging was changed; run again",
        )
    return ledger.staged_schema(connection, goal, run.id)


def _commit(
    connection: Any,
    goal: Goal,
    run: Run,
    base: Head | None,
    receipts: Sequence[Receipt],
    watermark: Watermark,
    schema: pa.Schema | None,
) -> Commit:
    there = found(connection, goal, run.mode == "replace")
    _check(connection, goal, run, schema, there)
    made = there is None or ledger.is_made(connection, goal, there)
    count = kept = sum(receipt.rows for receipt in receipts)
    name, note = ledger.rows_table(run.id), ""
    if schema is None:
        note = "nothing to move"
        if there is None:
            note += ", and no schema: no table was made"
        elif run.mode == "replace":
            note += ": the table is now empty and keeps its columns"
    elif run.mode == "merge":
        name, kept = merge.winners(connection, goal, run, name, schema, there)
    if schema is not None and not count:
        note = "nothing to move"
    anew = schema is not None and (there is None or run.mode == "replace")
    if there is not None and (there.hangs or not publish.is_atomic(connection)):
        anew = False
    if anew:
        publish.ready(connection, goal, name, there, schema)
        fresh = found(connection, replace(goal, table=_beside(goal, name)))
    made_as = identity(fresh if anew else there) if made else None
    table = split_name(goal.table)[1]
    row = head_values(run, table, base, kept, watermark, schema, made_as)
    try:
        if anew:
            done = publish.swapped(
                connection, goal, run, base, receipts, name, row, there is not None
            )
        else:
            done = _transacted(connection, goal, run, base, receipts, schema, name, row, there)
    except HyggeError:
        raise
    except Exception as error:
        if is_lost(error):
            raise unknown_commit(goal.who, error) from error
        raise
    return done or publish.head_commit(goal, row, kept, count, note)


def _beside(goal: Goal, name: str) -> str:
    schema, _ = split_name(goal.table)
    return name if schema is None else f'"{schema.replace(chr(34), chr(34) * 2)}".{name}'


def _transacted(
    connection: Any,
    goal: Goal,
    run: Run,
    base: Head | None,
    receipts: Sequence[Receipt],
    schema: pa.Schema | None,
    name: str,
    row: dict[str, Any],
    there: There | None,
) -> Commit | None:
    """Rows into the table that is there, and the head, in one transaction."""
    kept = row["rows"]
    with ledger.transaction(connection, serial=run.mode == "merge"):
        if run.mode == "replace" and there is not None:
            publish.emptied(connection, goal)
        if schema is not None and run.mode == "merge":
            merge.merged(connection, goal, run, name, schema, kept)
        elif schema is not None:
            publish.filled(connection, goal, name, schema, kept)
        with ledger.alone(connection, goal, HEADS):
            done = publish.move_head(connection, goal, run, base, receipts, row)
            if done is not None:
                raise Transient(f"{goal.who}: this run was committed in this moment", "run again")
            execute(connection, "COMMIT")
    return None
