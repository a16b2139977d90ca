"""Which rows of a run table count: those of the receipts that were decided on, and no others.

A try that lost, or a driver that died, may have sealed rows beside them. They are removed by the
number of their transaction, before anything is made of the table.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from hygge.connectors.postgres import ledger as runs
from hygge.connectors.postgres import session
from hygge.connectors.sql import ledger
from hygge.connectors.sql.commit import check_staged
from hygge.connectors.sql.goal import Goal
from hygge.errors import Rejected, Transient
from hygge.model import Receipt, Run

FAR = 2**31 - 2**24
"""Transactions after which a row's `xmin` may mean another one; with room to come to an end."""


def check(connection: Any, goal: Goal, run: Run, receipts: Sequence[Receipt], table: str) -> int:
    """Whether the run table holds the rows of these receipts, all and no others; how many.

    The caller holds a lock on it that nobody can load under. Rejected where a receipt's rows are
    not there, Transient where rows are that no receipt knows: they are to be removed first.
    """
    sealed = runs.seals(connection, goal, run.id)
    there = runs.is_there(connection, runs.schema_of(connection, goal), runs.rows_table(run.id))
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
        counted = int(session.ask(connection, f"SELECT count(*) FROM {table}")[0][0])
        if counted != wanted:
            raise Rejected(
                f"{goal.who}: {wanted:,} rows were staged, but {counted:,} rows can be found",
                "its staging was changed; run again",
            )
    return wanted


def tidy(connection: Any, goal: Goal, run: Run, receipts: Sequence[Receipt]) -> None:
    """Remove what is sealed beside the receipts that were decided on, for good."""
    decided = {receipt.ticket for receipt in receipts}
    with session.transaction(connection):
        other = [
            s for s in runs.seals(connection, goal, run.id).values() if s.ticket not in decided
        ]
        if other:
            _forget(connection, goal, run.id, other)


def held(connection: Any, goal: Goal, run: Run, receipts: Sequence[Receipt]) -> list[Receipt]:
    """Those of `receipts` whose rows are in the run table; whatever else is in it is removed."""
    table = session.quoted(runs.schema_of(connection, goal), runs.rows_table(run.id))
    sealed = runs.seals(connection, goal, run.id)
    there = runs.is_there(connection, runs.schema_of(connection, goal), runs.rows_table(run.id))
    counted: dict[str, int] = {}
    if there:
        ledger.bound_lock_wait(connection, ledger.target_of(goal))
        session.ask(connection, f"LOCK TABLE {table} IN SHARE MODE")
        sealed = runs.seals(connection, goal, run.id)
        counted = dict(
            session.ask(connection, f"SELECT xmin::text, count(*) FROM {table} GROUP BY 1")
        )
    far = any(runs.now(connection) - seal.xid > FAR for seal in sealed.values() if seal.rows)
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
    rows = session.changed(
        connection, f"DELETE FROM {table} WHERE NOT (xmin = ANY (%s::text[]::xid[]))", list(keep)
    )
    if rows:
        _note(connection, goal, run)


def _forget(connection: Any, goal: Goal, run: str, other: Sequence[runs.Seal]) -> None:
    where = runs.schema_of(connection, goal)
    table = session.quoted(where, runs.rows_table(run))
    if runs.is_there(connection, where, runs.rows_table(run)):
        ledger.bound_lock_wait(connection, ledger.target_of(goal))
        session.ask(connection, f"LOCK TABLE {table} IN SHARE MODE")
        numbers = [each.xmin for each in other]
        if session.changed(
            connection, f"DELETE FROM {table} WHERE xmin = ANY (%s::text[]::xid[])", numbers
        ):
            _note(connection, goal, run)
    _unseal(connection, goal, other)


def _unseal(connection: Any, goal: Goal, gone: Sequence[runs.Seal]) -> None:
    table = runs.ledger_table(goal)
    names = [runs.seal_name(each.ticket) for each in gone]
    if names:
        connection.execute(table.delete().where(table.c.name.in_(names)))


def _note(connection: Any, goal: Goal, run: str) -> None:
    """Who changed the run table last, besides those who sealed."""
    table = runs.ledger_table(goal)
    mine = table.update().where(table.c.name == ledger.run_name(run))
    connection.execute(mine.values(xid=runs.now(connection)))


def newest(connection: Any, goal: Goal, run: Run) -> int | None:
    """The last transaction that changed the run table: who sees it sees all of it."""
    row = runs.row_named(connection, goal, ledger.run_name(run.id))
    numbers = [each.xid for each in runs.seals(connection, goal, run.id).values() if each.rows]
    numbers += [row.xid] if row is not None and row.xid else []
    return max(numbers, default=None)
