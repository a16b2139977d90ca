"""The ledger of PostgreSQL: which runs are at work, and which rows of a run table count.

A run has one table, `_hygge_<run>_rows`, which all its splits load. For `replace` it has exactly
the target's columns, so that it can become the target. One transaction loads a split: its rows, and
its seal, a row of the ledger that is unique to run, split and epoch, and notes the number of the
transaction. So the rows of a split are those whose `xmin` is that number. A second try that seals
later finds the first one's seal, and rolls back. Such a transaction must have no subtransaction:
its rows would have another number.

A try that lost, or a driver that died, may have sealed rows beside the receipts that were decided
on. They are deleted by the number of their transaction, before anything is made of the table.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import pyarrow as pa

from hygge.batches import plain_schema, raw_format
from hygge.connectors.postgres import session
from hygge.connectors.postgres.catalog import has_relation
from hygge.connectors.postgres.session import opened, store_errors, transaction
from hygge.connectors.postgres.target import rows_table, schema_of
from hygge.connectors.postgres.types import passthrough_of
from hygge.connectors.sql import ledger as sql_ledger
from hygge.connectors.sql.ask import pack, unpack
from hygge.connectors.sql.goal import Goal
from hygge.connectors.sql.ledger import LEDGER, OLD_S
from hygge.errors import HyggeError, StoreError, Transient
from hygge.model import Receipt, Run, Ticket

if TYPE_CHECKING:
    import sqlalchemy as sa

_XID_CYCLE = 2**32
MAX_XID_AGE = 2**31 - 2**24
"""The age of a transaction at which `xmin` may soon mean another one: numbers repeat after 2³²."""


class Seal(NamedTuple):
    """The row of the ledger for a sealed split."""

    ticket: Ticket
    rows: int
    bytes: int
    xid: int

    @property
    def xmin(self) -> str:
        """The number of the loading transaction, as the system column `xmin` of its rows has it."""
        return str(self.xid % _XID_CYCLE)


def seal_name(ticket: Ticket) -> str:
    """Return the ledger's name for the seal of a split: one for all tries of one driver."""
    return f"{sql_ledger.run_name(ticket.run)}_{ticket.split}_{ticket.epoch}"


def session_suffixes(ticket: Ticket) -> tuple[str, int]:
    """Return how the application_name of a session ends that loads a split: run and split."""
    return sql_ledger.run_name(ticket.run).removeprefix("_hygge_"), ticket.split


def ledger_table(goal: Goal) -> sa.Table:
    """Return the ledger with the columns that only PostgreSQL has."""
    return _ledger_table(sql_ledger.target_of(goal).schema)


@lru_cache(maxsize=64)
def _ledger_table(schema: str | None) -> sa.Table:
    import sqlalchemy as sa

    table: sa.Table = sql_ledger.new_ledger_table(schema)
    table.append_column(sa.Column("n", sa.Integer))
    table.append_column(sa.Column("xid", sa.BigInteger))
    table.append_column(sa.Column("mode", sa.String(16)))
    return table


def begin(connection: sa.Connection, goal: Goal, run: Run) -> None:
    """Make both tables and the run's row; where the run has one already, show that it lives."""
    table = ledger_table(goal)
    schema = schema_of(connection, goal)
    with transaction(connection):
        sql_ledger.lock_in_postgres(connection, sql_ledger.target_of(goal, LEDGER))
        for metadata_table in (sql_ledger.heads_table(goal), table):
            metadata_table.create(connection, checkfirst=True)
        if not _has_own_columns(connection, schema):
            # The ledger was made through another driver, for any database.
            session.execute(
                connection,
                f"ALTER TABLE {session.quoted(schema, LEDGER)} ADD COLUMN IF NOT EXISTS n integer, "
                "ADD COLUMN IF NOT EXISTS xid bigint, ADD COLUMN IF NOT EXISTS mode varchar(16)",
            )
        if not sql_ledger.refresh(connection, goal, run.id):
            row = sql_ledger.row_of(goal, run.id, sql_ledger.run_name(run.id)) | {"mode": run.mode}
            connection.execute(table.insert().values(row))


def is_own(connection: sa.Connection, goal: Goal) -> bool:
    """True if the ledger has the columns that only PostgreSQL has."""
    return _has_own_columns(connection, schema_of(connection, goal))


def _has_own_columns(connection: sa.Connection, schema: str) -> bool:
    columns = session.fetch_all(
        connection,
        "SELECT 1 FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_class c ON c.oid = a.attrelid "
        "JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace "
        "WHERE n.nspname = %s AND c.relname = %s AND a.attname = 'mode'",
        schema, LEDGER,
    )  # fmt: skip
    return bool(columns)


def row_named(connection: sa.Connection, goal: Goal, name: str) -> sa.Row[Any] | None:
    """Return a row of the ledger, or None."""
    table = ledger_table(goal)
    return connection.execute(table.select().where(table.c.name == name)).one_or_none()


def mode_of(connection: sa.Connection, goal: Goal, run: str) -> str:
    """Return the mode that a run was prepared for; empty where it has no row."""
    row = row_named(connection, goal, sql_ledger.run_name(run))
    return "" if row is None else str(row.mode)


def staged_schema(connection: sa.Connection, goal: Goal, run: str) -> pa.Schema | None:
    """Return the schema that the run table was made for; None where it was not made yet."""
    row = row_named(connection, goal, rows_table(run))
    return None if row is None else unpack(row.arrow)


def make_rows_table(
    connection: sa.Connection, goal: Goal, run: str, schema: pa.Schema, ddl: Callable[[], str]
) -> None:
    """Make the run table, in a transaction of the caller that does nothing else.

    One that was made for other columns is made anew while no split is sealed in it.
    """
    name, table = rows_table(run), ledger_table(goal)
    sql_ledger.lock_in_postgres(connection, sql_ledger.target_of(goal, name))
    made_for = staged_schema(connection, goal, run)
    if made_for is not None:
        if _are_alike(made_for, schema):
            return
        if seals(connection, goal, run):
            raise StoreError(
                f"{goal.who}: this run was begun with other columns than it has now",
                "the source changed while the run went on; run again with --fresh",
            )
    sql_ledger.bound_wait_in_postgres(connection)
    quoted = session.quoted(schema_of(connection, goal), name)
    session.execute(connection, f"DROP TABLE IF EXISTS {quoted}")
    session.execute(connection, ddl())
    connection.execute(table.delete().where(table.c.name == name))
    row = sql_ledger.row_of(goal, run, name) | {"arrow": pack(schema)}
    connection.execute(table.insert().values(row))


def _are_alike(made_for: pa.Schema, schema: pa.Schema) -> bool:
    """True if rows of a schema go into a run table for the other one; `key_of` does not count."""
    form = raw_format(schema)
    if raw_format(made_for) != form:
        return False
    if form is not None:
        return passthrough_of(made_for) == passthrough_of(schema)
    return bool(plain_schema(made_for).equals(plain_schema(schema)))


def seals(connection: sa.Connection, goal: Goal, run: str) -> dict[tuple[int, int], Seal]:
    """Return the seals of a run, by split and epoch."""
    table = ledger_table(goal)
    rows = connection.execute(
        table.select().where(table.c.run == run, table.c.sealed == 1).order_by(table.c.name)
    )
    by_split = {}
    for row in rows:
        split, epoch = map(int, row.name.split("_")[-2:])
        ticket = Ticket(run, split, epoch, row.n or 0)
        by_split[split, epoch] = Seal(ticket, row.rows, row.bytes, row.xid or 0)
    return by_split


def sealed_before(connection: sa.Connection, goal: Goal, ticket: Ticket) -> Receipt | None:
    """Return the receipt of the try at this split, under the same plan, that is sealed, if any."""
    row = row_named(connection, goal, seal_name(ticket))
    if row is None:
        return None
    earlier = Ticket(ticket.run, ticket.split, ticket.epoch, row.n)
    return Receipt(earlier, "", row.rows, row.bytes, parts=1 if row.rows else 0)


def seal(connection: sa.Connection, goal: Goal, ticket: Ticket, rows: int, size: int) -> bool:
    """Seal a split, at the end of the transaction that loaded it; False: another try was first."""
    from sqlalchemy.dialects.postgresql import insert

    sql_ledger.beat(connection, goal, ticket.run)
    row = sql_ledger.row_of(goal, ticket.run, seal_name(ticket)) | {
        "sealed": 1, "rows": rows, "bytes": size, "n": ticket.n,
        "xid": transaction_number(connection),
    }  # fmt: skip
    insertion = insert(ledger_table(goal)).values(row)
    insertion = insertion.on_conflict_do_nothing(index_elements=["name"])
    result = connection.execute(insertion.execution_options(preserve_rowcount=True))
    return bool(result.rowcount == 1)


def transaction_number(connection: sa.Connection) -> int:
    """Return the number of this transaction, with 64 bits."""
    return int(session.fetch_one(connection, "SELECT txid_current()")[0])


def end_sessions(connection: sa.Connection, run: str) -> None:
    """End the sessions that still load splits of this run: nobody waits for them any more."""
    suffix = sql_ledger.run_name(run).removeprefix("_hygge_")
    with transaction(connection):
        session.fetch_all(
            connection,
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name ~ %s "
            "AND usename = current_user AND pid <> pg_backend_pid()",
            f"^hygge/.*/{suffix}/[0-9]+$",
        )


def drop(connection: sa.Connection, goal: Goal, run: str) -> None:
    """Remove the run's tables and its rows of the ledger."""
    table = ledger_table(goal)
    connection.rollback()  # what was read before has begun a transaction
    with transaction(connection):  # from here on no zombie can seal
        connection.execute(table.delete().where(table.c.name == sql_ledger.run_name(run)))
    with transaction(connection):
        query = table.select().where(table.c.run == run)
        left = [(row.name, row.xid) for row in connection.execute(query)]
    if not left:
        return
    end_sessions(connection, run)
    schema = schema_of(connection, goal)
    with transaction(connection):
        sql_ledger.lock_in_postgres(connection, sql_ledger.target_of(goal, rows_table(run)))
        sql_ledger.bound_wait_in_postgres(connection)
        for name, xid in left:
            is_seal = xid is not None
            if not is_seal:
                session.execute(connection, f"DROP TABLE IF EXISTS {session.quoted(schema, name)}")
        connection.execute(table.delete().where(table.c.run == run))


def sweep(connection: sa.Connection, goal: Goal, run: Run) -> None:
    """Drop what runs left that gave no sign of life for 25 h; what cannot be dropped now stays."""
    import sqlalchemy as sa

    table = ledger_table(goal)
    with transaction(connection):
        query = sa.select(table.c.run).group_by(table.c.run)
        query = query.having(sa.func.max(table.c.began) < time.time() - OLD_S)
        dead_runs = connection.execute(query).scalars().all()
    for dead_run in dead_runs:
        if dead_run != run.id:
            with suppress(StoreError, Transient), store_errors(goal):
                drop(connection, goal, dead_run)


def beat_apart(goal: Goal, run: str) -> None:
    """Give a sign of life in a session of its own: others do not see the loading transaction."""
    with suppress(HyggeError), opened(goal) as connection, transaction(connection):
        sql_ledger.beat(connection, goal, run)


def tidy(connection: sa.Connection, goal: Goal, run: Run, receipts: Sequence[Receipt]) -> None:
    """Delete rows and seals beside the receipts that were decided on, in its own transaction."""
    decided = {receipt.ticket for receipt in receipts}
    with transaction(connection):
        others = [
            other
            for other in seals(connection, goal, run.id).values()
            if other.ticket not in decided
        ]
        if others:
            _delete_sealed(connection, goal, run.id, others)


def keep_only(
    connection: sa.Connection, goal: Goal, run: Run, receipts: Sequence[Receipt]
) -> list[Receipt]:
    """Return those of `receipts` whose rows are all in the run table; delete what else is in it."""
    schema, name = schema_of(connection, goal), rows_table(run.id)
    table = session.quoted(schema, name)
    sealed = seals(connection, goal, run.id)
    has_table = has_relation(connection, schema, name)
    rows_by_xmin: dict[str, int] = {}
    if has_table:
        sql_ledger.bound_wait_in_postgres(connection)
        # It waits for loads that are not committed, and what they sealed is read again.
        session.execute(connection, f"LOCK TABLE {table} IN SHARE MODE")
        sealed = seals(connection, goal, run.id)
        rows_by_xmin = dict(
            session.fetch_all(connection, f"SELECT xmin::text, count(*) FROM {table} GROUP BY 1")
        )
    is_too_old = any(
        transaction_number(connection) - other.xid > MAX_XID_AGE
        for other in sealed.values()
        if other.rows
    )
    kept: list[Receipt] = []
    for receipt in receipts:
        match = sealed.get((receipt.ticket.split, receipt.ticket.epoch))
        if match is None or match.ticket != receipt.ticket or match.rows != receipt.rows:
            continue
        if rows_by_xmin.get(match.xmin, 0) == match.rows and not is_too_old:
            kept.append(receipt)
    tickets = {receipt.ticket for receipt in kept}
    gone = [other for other in sealed.values() if other.ticket not in tickets]
    if has_table and (gone or not kept):
        xmins = [other.xmin for other in sealed.values() if other.ticket in tickets]
        _delete_unsealed(connection, goal, run.id, table, xmins)
    _unseal(connection, goal, gone)
    return kept


def _delete_unsealed(
    connection: sa.Connection, goal: Goal, run: str, table: str, xmins: Iterable[str]
) -> None:
    """Delete all rows but those of these transactions."""
    sql = f"DELETE FROM {table} WHERE NOT (xmin = ANY (%s::text[]::xid[]))"
    if session.execute(connection, sql, list(xmins)):
        _note_change(connection, goal, run)


def _delete_sealed(connection: sa.Connection, goal: Goal, run: str, others: Sequence[Seal]) -> None:
    """Delete the rows of these seals, and the seals."""
    schema, name = schema_of(connection, goal), rows_table(run)
    table = session.quoted(schema, name)
    if has_relation(connection, schema, name):
        sql_ledger.bound_wait_in_postgres(connection)
        session.execute(connection, f"LOCK TABLE {table} IN SHARE MODE")
        sql = f"DELETE FROM {table} WHERE xmin = ANY (%s::text[]::xid[])"
        if session.execute(connection, sql, [other.xmin for other in others]):
            _note_change(connection, goal, run)
    _unseal(connection, goal, others)


def _unseal(connection: sa.Connection, goal: Goal, gone: Sequence[Seal]) -> None:
    table = ledger_table(goal)
    names = [seal_name(other.ticket) for other in gone]
    if names:
        connection.execute(table.delete().where(table.c.name.in_(names)))


def _note_change(connection: sa.Connection, goal: Goal, run: str) -> None:
    """Note in the run's row that this transaction deleted rows of the run table."""
    table = ledger_table(goal)
    mine = table.update().where(table.c.name == sql_ledger.run_name(run))
    connection.execute(mine.values(xid=transaction_number(connection)))


def last_change(connection: sa.Connection, goal: Goal, run: Run) -> int | None:
    """Return the last transaction that changed the run table: who sees it sees all of its rows."""
    row = row_named(connection, goal, sql_ledger.run_name(run.id))
    numbers = [sealed.xid for sealed in seals(connection, goal, run.id).values() if sealed.rows]
    numbers += [row.xid] if row is not None and row.xid else []
    return max(numbers, default=None)
