"""The run table of PostgreSQL, and what the ledger says of the rows in it.

A run has one table, `_hygge_<run>_rows`, which all its splits load; for `replace` it has exactly
the target's columns, so that it can become the target. One transaction loads a split: its rows, and
its seal, a row of the ledger that is unique to run, split and epoch and notes the transaction's
number. So the rows of a split are those whose `xmin` is that number, whoever sealed; a second try
that seals later finds the first one's seal, and rolls back. Nothing in such a transaction may be a
subtransaction: its rows would have another number.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import lru_cache
from typing import Any, NamedTuple

import pyarrow as pa

from hygge.batches import plain_schema, raw_format
from hygge.connectors.postgres import session
from hygge.connectors.postgres.catalog import is_there
from hygge.connectors.postgres.session import ask, changed, goal_words, opened, transaction
from hygge.connectors.postgres.target import rows_table, schema_of
from hygge.connectors.sql import ledger
from hygge.connectors.sql.ask import pack, unpack
from hygge.connectors.sql.commit import check_staged
from hygge.connectors.sql.goal import Goal
from hygge.connectors.sql.ledger import LEDGER, OLD_S
from hygge.errors import HyggeError, Rejected, StoreError, Transient
from hygge.model import Receipt, Run, Ticket

_XID = 2**32
FAR = 2**31 - 2**24
"""Transactions after which a row's `xmin` may mean another one; with room to come to an end."""


class Seal(NamedTuple):
    """What the ledger says of one sealed split."""

    ticket: Ticket
    rows: int
    bytes: int
    xid: int

    @property
    def xmin(self) -> str:
        """How the rows of this split show who wrote them."""
        return str(self.xid % _XID)


def seal_name(ticket: Ticket) -> str:
    """What the ledger calls the seal of a split: one for all tries of one driver."""
    return f"{ledger.run_name(ticket.run)}_{ticket.split}_{ticket.epoch}"


def session_name(ticket: Ticket) -> tuple[str, int]:
    """What the name of a session that loads a split ends with."""
    return ledger.run_name(ticket.run).removeprefix("_hygge_"), ticket.split


def ledger_table(goal: Goal) -> Any:
    """The ledger with what only PostgreSQL notes there."""
    return _ledger_table(ledger.target_of(goal).schema)


@lru_cache(maxsize=64)
def _ledger_table(schema: str | None) -> Any:
    import sqlalchemy as sa

    table = ledger.new_ledger_table(schema)
    table.append_column(sa.Column("n", sa.Integer))
    table.append_column(sa.Column("xid", sa.BigInteger))
    table.append_column(sa.Column("mode", sa.String(16)))
    return table


def begin(connection: Any, goal: Goal, run: Run) -> None:
    """Make both tables, and the run's row; a run that is gone on with shows that it lives."""
    table = ledger_table(goal)
    where = schema_of(connection, goal)
    with transaction(connection):
        ledger.lock_table_name(connection, ledger.target_of(goal, LEDGER))
        for each in (ledger.heads_table(goal), table):
            each.create(connection, checkfirst=True)
        known = ask(
            connection,
            "SELECT 1 FROM information_schema.columns "
            "WHERE table_schema = %s AND table_name = %s AND column_name = 'mode'",
            where, LEDGER,
        )  # fmt: skip
        if not known:  # of a database that was written through another driver until now
            ask(
                connection,
                f"ALTER TABLE {session.quoted(where, LEDGER)} ADD COLUMN IF NOT EXISTS n integer, "
                "ADD COLUMN IF NOT EXISTS xid bigint, ADD COLUMN IF NOT EXISTS mode varchar(16)",
            )
        if not ledger.refresh(connection, goal, run.id):
            row = ledger.row_of(goal, run.id, ledger.run_name(run.id)) | {"mode": run.mode}
            connection.execute(table.insert().values(row))


def is_ours(connection: Any, goal: Goal) -> bool:
    """Whether the ledger has what only PostgreSQL notes there."""
    found = ask(
        connection,
        "SELECT 1 FROM information_schema.columns "
        "WHERE table_schema = %s AND table_name = %s AND column_name = 'mode'",
        schema_of(connection, goal), LEDGER,
    )  # fmt: skip
    return bool(found)


def row_named(connection: Any, goal: Goal, name: str) -> Any:
    """A row of the ledger, or None."""
    table = ledger_table(goal)
    return connection.execute(table.select().where(table.c.name == name)).one_or_none()


def mode_of(connection: Any, goal: Goal, run: str) -> str:
    """The mode that a run was prepared for."""
    row = row_named(connection, goal, ledger.run_name(run))
    return "" if row is None else str(row.mode)


def staged_schema(connection: Any, goal: Goal, run: str) -> pa.Schema | None:
    """The schema that the run table was made for; None: it was not made yet."""
    row = row_named(connection, goal, rows_table(run))
    return None if row is None else unpack(row.arrow)


def make(connection: Any, goal: Goal, run: str, schema: pa.Schema, ddl: Callable[[], str]) -> None:
    """Make the run table; the caller's transaction is all that it does.

    One that is there for other columns is made anew while no split is sealed in it.
    """
    name, table = rows_table(run), ledger_table(goal)
    ledger.lock_table_name(connection, ledger.target_of(goal, name))
    there = staged_schema(connection, goal, run)
    if there is not None:
        if alike(there, schema):
            return
        if seals(connection, goal, run):
            raise StoreError(
                f"{goal.who}: this run was begun with other columns than it has now",
                "the source changed while the run went on; run again with --fresh",
            )
    ledger.bound_lock_wait(connection, ledger.target_of(goal))
    ask(connection, f"DROP TABLE IF EXISTS {session.quoted(schema_of(connection, goal), name)}")
    ask(connection, ddl())
    connection.execute(table.delete().where(table.c.name == name))
    row = ledger.row_of(goal, run, name) | {"arrow": pack(schema)}
    connection.execute(table.insert().values(row))


def alike(one: pa.Schema, two: pa.Schema) -> bool:
    """Whether rows of one schema go into a run table made for the other."""
    if raw_format(one) or raw_format(two):
        return bool(one.metadata == two.metadata)
    return bool(plain_schema(one).equals(plain_schema(two)))


def seals(connection: Any, goal: Goal, run: str) -> dict[tuple[int, int], Seal]:
    """What is sealed of a run, by split and epoch."""
    table = ledger_table(goal)
    found = connection.execute(
        table.select().where(table.c.run == run, table.c.sealed == 1).order_by(table.c.name)
    )
    sealed = {}
    for row in found:
        split, epoch = map(int, row.name.split("_")[-2:])
        ticket = Ticket(run, split, epoch, row.n or 0)
        sealed[split, epoch] = Seal(ticket, row.rows, row.bytes, row.xid or 0)
    return sealed


def sealed_before(connection: Any, goal: Goal, ticket: Ticket) -> Receipt | None:
    """The receipt of an earlier try at this split under the same plan, if one was sealed."""
    row = row_named(connection, goal, seal_name(ticket))
    if row is None:
        return None
    earlier = Ticket(ticket.run, ticket.split, ticket.epoch, row.n)
    return Receipt(earlier, "", row.rows, row.bytes, parts=1 if row.rows else 0)


def seal(connection: Any, goal: Goal, ticket: Ticket, rows: int, size: int) -> bool:
    """The last statements of the transaction that loaded a split; False: another try was first."""
    from sqlalchemy.dialects.postgresql import insert

    ledger.beat(connection, goal, ticket.run)
    row = ledger.row_of(goal, ticket.run, seal_name(ticket)) | {
        "sealed": 1, "rows": rows, "bytes": size, "n": ticket.n, "xid": now(connection),
    }  # fmt: skip
    insertion = insert(ledger_table(goal)).values(row)
    insertion = insertion.on_conflict_do_nothing(index_elements=["name"])
    made = connection.execute(insertion.execution_options(preserve_rowcount=True))
    return bool(made.rowcount == 1)


def now(connection: Any) -> int:
    """The full number of this transaction."""
    return int(ask(connection, "SELECT txid_current()")[0][0])


def end_sessions(connection: Any, run: str) -> None:
    """End whoever still loads a split of this run: nobody waits for it any more."""
    tail = ledger.run_name(run).removeprefix("_hygge_")
    with transaction(connection):
        ask(
            connection,
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name ~ %s "
            "AND usename = current_user AND pid <> pg_backend_pid()",
            f"^hygge/.*/{tail}/[0-9]+$",
        )


def drop(connection: Any, goal: Goal, run: str) -> None:
    """Remove the run's tables and its rows of the ledger."""
    table = ledger_table(goal)
    connection.rollback()
    with transaction(connection):  # from here on no zombie can seal
        connection.execute(table.delete().where(table.c.name == ledger.run_name(run)))
    with transaction(connection):
        asked = table.select().where(table.c.run == run)
        left = [(row.name, row.xid) for row in connection.execute(asked)]
    if not left:
        return
    end_sessions(connection, run)
    where = schema_of(connection, goal)
    with transaction(connection):
        ledger.lock_table_name(connection, ledger.target_of(goal, rows_table(run)))
        ledger.bound_lock_wait(connection, ledger.target_of(goal))
        for name, xid in left:
            if xid is None:  # else it is a seal
                ask(connection, f"DROP TABLE IF EXISTS {session.quoted(where, name)}")
        connection.execute(table.delete().where(table.c.run == run))


def sweep(connection: Any, goal: Goal, run: Run) -> None:
    """Drop what runs left that show no sign of life; what cannot be dropped now stays."""
    import sqlalchemy as sa

    table = ledger_table(goal)
    with transaction(connection):
        asked = sa.select(table.c.run).group_by(table.c.run)
        asked = asked.having(sa.func.max(table.c.began) < time.time() - OLD_S)
        dead = connection.execute(asked).scalars().all()
    for each in dead:
        if each != run.id:
            with suppress(StoreError, Transient), goal_words(goal):
                drop(connection, goal, each)


def beat(goal: Goal, run: str) -> None:
    """A sign of life in the middle of a load, whose own transaction nobody sees yet."""
    with suppress(HyggeError), opened(goal) as connection, transaction(connection):
        ledger.beat(connection, goal, run)


def check(connection: Any, goal: Goal, run: Run, receipts: Sequence[Receipt], table: str) -> int:
    """Whether the run table holds the rows of these receipts, all and no others; how many.

    The caller holds a lock on it that nobody can load under. Rejected where a receipt's rows are
    not there, Transient where rows are that no receipt knows: they are to be removed first.
    """
    sealed = seals(connection, goal, run.id)
    there = is_there(connection, schema_of(connection, goal), rows_table(run.id))
    wanted = 0
    for receipt in receipts:
        found = sealed.pop((receipt.ticket.split, receipt.ticket.epoch), None)
        told = found.rows if found and found.ticket == receipt.ticket else None
        check_staged(receipt, told, told if there or not told else None, goal.who)
        wanted += receipt.rows
    if any(each.rows for each in sealed.values()):
        raise Transient(
            f"{goal.who}: a try that nobody waits for sealed its rows in this moment",
            "its rows are removed, and the commit is tried again",
        )
    if there:
        counted = int(ask(connection, f"SELECT count(*) FROM {table}")[0][0])
        if counted != wanted:
            raise Rejected(
                f"{goal.who}: {wanted:,} rows were staged, but {counted:,} rows can be found",
                "its staging was changed; run again",
            )
    return wanted


def tidy(connection: Any, goal: Goal, run: Run, receipts: Sequence[Receipt]) -> None:
    """Remove what is sealed beside the receipts that were decided on, for good."""
    decided = {receipt.ticket for receipt in receipts}
    with transaction(connection):
        other = [s for s in seals(connection, goal, run.id).values() if s.ticket not in decided]
        if other:
            _forget(connection, goal, run.id, other)


def held(connection: Any, goal: Goal, run: Run, receipts: Sequence[Receipt]) -> list[Receipt]:
    """Those of `receipts` whose rows are in the run table; whatever else is in it is removed."""
    table = session.quoted(schema_of(connection, goal), rows_table(run.id))
    sealed = seals(connection, goal, run.id)
    there = is_there(connection, schema_of(connection, goal), rows_table(run.id))
    counted: dict[str, int] = {}
    if there:
        ledger.bound_lock_wait(connection, ledger.target_of(goal))
        ask(connection, f"LOCK TABLE {table} IN SHARE MODE")
        sealed = seals(connection, goal, run.id)
        counted = dict(ask(connection, f"SELECT xmin::text, count(*) FROM {table} GROUP BY 1"))
    far = any(now(connection) - seal.xid > FAR for seal in sealed.values() if seal.rows)
    kept: list[Receipt] = []
    for receipt in receipts:
        found = sealed.get((receipt.ticket.split, receipt.ticket.epoch))
        if found is None or found.ticket != receipt.ticket or found.rows != receipt.rows:
            continue
        if counted.get(found.xmin, 0) == found.rows and not far:
            kept.append(receipt)
    tickets = {receipt.ticket for receipt in kept}
    gone = [seal for seal in sealed.values() if seal.ticket not in tickets]
    if there and (gone or not kept):
        keep = [seal.xmin for seal in sealed.values() if seal.ticket in tickets]
        _clean(connection, goal, run.id, table, keep)
    _unseal(connection, goal, gone)
    return kept


def _clean(connection: Any, goal: Goal, run: str, table: str, keep: Iterable[str]) -> None:
    """Leave only rows of these transactions; the run notes who removed the others."""
    rows = changed(
        connection, f"DELETE FROM {table} WHERE NOT (xmin = ANY (%s::text[]::xid[]))", list(keep)
    )
    if rows:
        _note(connection, goal, run)


def _forget(connection: Any, goal: Goal, run: str, other: Sequence[Seal]) -> None:
    where = schema_of(connection, goal)
    table = session.quoted(where, rows_table(run))
    if is_there(connection, where, rows_table(run)):
        ledger.bound_lock_wait(connection, ledger.target_of(goal))
        ask(connection, f"LOCK TABLE {table} IN SHARE MODE")
        numbers = [each.xmin for each in other]
        if changed(
            connection, f"DELETE FROM {table} WHERE xmin = ANY (%s::text[]::xid[])", numbers
        ):
            _note(connection, goal, run)
    _unseal(connection, goal, other)


def _unseal(connection: Any, goal: Goal, gone: Sequence[Seal]) -> None:
    table = ledger_table(goal)
    names = [seal_name(each.ticket) for each in gone]
    if names:
        connection.execute(table.delete().where(table.c.name.in_(names)))


def _note(connection: Any, goal: Goal, run: str) -> None:
    """Who changed the run table last, besides those who sealed."""
    table = ledger_table(goal)
    mine = table.update().where(table.c.name == ledger.run_name(run))
    connection.execute(mine.values(xid=now(connection)))


def newest(connection: Any, goal: Goal, run: Run) -> int | None:
    """The last transaction that changed the run table: who sees it sees all of it."""
    row = row_named(connection, goal, ledger.run_name(run.id))
    numbers = [each.xid for each in seals(connection, goal, run.id).values() if each.rows]
    numbers += [row.xid] if row is not None and row.xid else []
    return max(numbers, default=None)
