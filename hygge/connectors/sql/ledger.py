"""The two tables that hygge keeps beside its targets in a database: the heads and the ledger.

The ledger has a row for each active run, `_hygge_<run>`, and a row for each table that holds staged
rows of it, `_hygge_<run>_<split>_<epoch>_<n>`. Its row seals a table, in the transaction that
filled it. Sealing needs the row of the run: after `discard` removed that row, a paused attempt that
wakes leaves nothing behind. Each seal, and a heartbeat during long loads, refreshes `began` in the
row of the run. The next run of any flow in the schema removes what had no heartbeat for 25 hours.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from hygge.batches import plain_schema
from hygge.connectors.sql.ask import pack, unpack
from hygge.connectors.sql.connection import split_name
from hygge.connectors.sql.errors import in_words, state_of
from hygge.connectors.sql.goal import Goal
from hygge.connectors.sql.heads import HEADS, Heads, head_in, not_a_head, still, stored_heads
from hygge.connectors.sql.target import Target, exists, identity, table_for
from hygge.errors import StoreError, Transient
from hygge.model import Head, Receipt, Run, Ticket

if TYPE_CHECKING:
    import sqlalchemy as sa

LEDGER = "_hygge_ledger"
OLD_S = 25 * 3600
"""Staged rows are removed after this time without a heartbeat; a run resumes one hour less."""
BEAT_S = 600
"""The time between two heartbeats of a split that takes long."""
LOCK_WAIT = "30s"
"""How long a transaction waits for locks."""
PAUSE = "60s"
"""A driver that is paused for this long in the middle of a commit loses its transaction."""


def target_of(goal: Goal, name: str | None = None) -> Target:
    """The table of a goal, or another table in its schema."""
    from sqlalchemy.engine import make_url

    schema, table = split_name(goal.table)
    return Target(schema, name or table, make_url(goal.url).get_backend_name())


def heads_table(goal: Goal) -> sa.Table:
    """`_hygge_heads` in the schema of the goal."""
    return _heads_table(target_of(goal).schema)


@lru_cache(maxsize=64)
def _heads_table(schema: str | None) -> sa.Table:
    """The same object for each schema, since SQLAlchemy keeps the SQL that it made for it."""
    import sqlalchemy as sa
    from sqlalchemy.dialects.mysql import VARCHAR

    # Names that differ in case alone are two: MySQL's own collations would make them one.
    name = sa.String(255).with_variant(
        VARCHAR(255, charset="utf8mb4", collation="utf8mb4_bin"), "mysql", "mariadb"
    )
    return sa.Table(
        HEADS, sa.MetaData(),
        sa.Column("flow", name, primary_key=True),
        sa.Column("target", name, primary_key=True),
        sa.Column("format", sa.Integer, nullable=False),
        sa.Column("generation", sa.BigInteger, nullable=False),
        sa.Column("run", sa.String(64), nullable=False),
        sa.Column("rows", sa.BigInteger, nullable=False),
        sa.Column("watermark", sa.Text),
        sa.Column("cursor", sa.Text),
        sa.Column("columns", sa.Text, nullable=False),
        sa.Column("made", sa.Text),
        sa.Column("committed_at", sa.String(32), nullable=False),
        schema=schema,
    )  # fmt: skip


def ledger_table(goal: Goal) -> sa.Table:
    """`_hygge_ledger` in the schema of the goal."""
    return _ledger_table(target_of(goal).schema)


@lru_cache(maxsize=64)
def _ledger_table(schema: str | None) -> sa.Table:
    return new_ledger_table(schema)


def new_ledger_table(schema: str | None) -> sa.Table:
    """A new description of the ledger, to which columns may be added."""
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
        schema=schema,
    )  # fmt: skip


def run_name(run: str) -> str:
    """The name of a run in the ledger."""
    return f"_hygge_{hashlib.sha256(run.encode()).hexdigest()[:12]}"


def run_table(ticket: Ticket) -> str:
    """The name of the table of one attempt."""
    return f"{run_name(ticket.run)}_{ticket.split}_{ticket.epoch}_{ticket.n}"


def lock_in_postgres(connection: sa.Connection, target: Target) -> None:
    """Wait for other hygge transactions that make or change this table of PostgreSQL.

    The lock ends with the transaction. Elsewhere the row locks of the heads must do.
    """
    import sqlalchemy as sa

    pause = sa.func.set_config("idle_in_transaction_session_timeout", PAUSE, True)
    name = sa.func.concat(
        "hygge ", sa.func.coalesce(target.schema, sa.func.current_schema()), ".", target.name
    )
    key = sa.func.hashtextextended(name, 0)
    connection.execute(sa.select(pause, sa.func.pg_advisory_xact_lock(key)))


def bound_wait_in_postgres(connection: sa.Connection) -> None:
    """Bound the wait for locks in this transaction of PostgreSQL, unless the user set a bound."""
    import sqlalchemy as sa

    wait = sa.func.set_config("lock_timeout", LOCK_WAIT, True)
    unset = sa.func.current_setting("lock_timeout") == "0"
    connection.execute(sa.select(wait).where(unset))


def heads_at(connection: sa.Connection, goal: Goal, lock: bool = False) -> Heads:
    """The heads of the target; StoreError if they make no sense.

    None where there is no table of heads yet, as before the first run.
    """
    import sqlalchemy as sa
    from sqlalchemy.exc import ProgrammingError

    if not lock and not exists(connection, target_of(goal, HEADS)):
        return {}
    table, target = heads_table(goal), target_of(goal).name  # whose schema is that of the heads
    asked = sa.select(sa.text("*")).select_from(table).where(table.c.target == target)
    try:
        rows = connection.execute(asked.with_for_update() if lock else asked).mappings().all()
    except ProgrammingError as error:
        state = state_of(error.orig)
        if state in ("42703", "42883", "42809"):  # no such column, other types, no table
            raise not_a_head(goal.who, f"{error.orig}") from error
        raise
    return stored_heads([dict(row) for row in rows], goal.who)


def head_at(connection: sa.Connection, goal: Goal, flow: str) -> Head | None:
    """The head of `flow`; None also where there is no table of heads yet."""
    return head_in(heads_at(connection, goal), flow)


def is_made(connection: sa.Connection, goal: Goal) -> bool:
    """True if the existing table is one that hygge made."""
    return still(identity(connection, target_of(goal)), heads_at(connection, goal))


def begin(connection: sa.Connection, goal: Goal, run: Run) -> None:
    """Make both tables and the row of the run; a resumed run refreshes its row."""
    ledger = ledger_table(goal)
    with connection.begin():
        target = target_of(goal, LEDGER)
        if target.dialect == "postgresql":
            lock_in_postgres(connection, target)
        for table in (heads_table(goal), ledger):
            table.create(connection, checkfirst=True)
        if not refresh(connection, goal, run.id):
            row = row_of(goal, run.id, run_name(run.id))
            connection.execute(ledger.insert().values(row))


def beat(connection: sa.Connection, goal: Goal, run: str) -> None:
    """Refresh the row of the run; StoreError if it is gone."""
    if not refresh(connection, goal, run):
        raise StoreError(
            f"{goal.who}: run {run} is not prepared, or was discarded",
            "it was decided without this attempt; if it was not, run again",
        )


def remember(connection: sa.Connection, goal: Goal, run: str, name: str) -> None:
    """Note a table before it is made, so that `discard` finds it where DDL ends a transaction."""
    connection.execute(ledger_table(goal).insert().values(row_of(goal, run, name)))


def seal(
    connection: sa.Connection,
    goal: Goal,
    ticket: Ticket,
    rows: int,
    size: int,
    schema: pa.Schema | None,
) -> None:
    """Seal the table of a ticket: the last statements of the transaction that filled it."""
    ledger, name = ledger_table(goal), run_table(ticket)
    beat(connection, goal, ticket.run)
    connection.execute(ledger.delete().where(ledger.c.name == name))
    arrow = None if schema is None else pack(plain_schema(schema))
    row = row_of(goal, ticket.run, name) | {
        "sealed": 1,
        "rows": rows,
        "bytes": size,
        "arrow": arrow,
    }
    connection.execute(ledger.insert().values(row))


def sealed_before(connection: sa.Connection, goal: Goal, ticket: Ticket) -> Receipt | None:
    """The receipt of an earlier attempt at this split under the same plan, or None."""
    ledger = ledger_table(goal)
    alike = f"{run_name(ticket.run)}_{ticket.split}_{ticket.epoch}_"
    row = connection.execute(
        ledger.select()
        .where(ledger.c.name.startswith(alike, autoescape=True), ledger.c.sealed == 1)
        .order_by(ledger.c.name)
    ).first()
    if row is None:
        return None
    earlier = Ticket(ticket.run, ticket.split, ticket.epoch, int(row.name.removeprefix(alike)))
    return Receipt(earlier, "", row.rows, row.bytes, parts=0 if row.arrow is None else 1)


def staged_at(
    connection: sa.Connection, goal: Goal, ticket: Ticket
) -> tuple[int | None, int | None, pa.Schema | None]:
    """The rows of a ticket as sealed, as counted now, and their schema."""
    import sqlalchemy as sa

    ledger, name = ledger_table(goal), run_table(ticket)
    row = connection.execute(
        ledger.select().where(ledger.c.name == name, ledger.c.sealed == 1)
    ).one_or_none()
    if row is None or row.arrow is None:
        return None if row is None else row.rows, 0, None
    if not exists(connection, target_of(goal, name)):
        return row.rows, None, None
    schema = unpack(row.arrow)
    table = table_for(target_of(goal, name), schema, staged=True)
    counted = connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one()
    return row.rows, counted, schema


def drop(connection: sa.Connection, goal: Goal, run: str, keep: Collection[str] = ()) -> None:
    """Drop the run's tables and delete its rows of the ledger, except those named in `keep`."""
    import sqlalchemy as sa

    ledger = ledger_table(goal)
    # End the transaction of earlier reads, so that each drop has a transaction of its own.
    connection.rollback()
    with connection.begin():
        if run_name(run) not in keep:
            connection.execute(ledger.delete().where(ledger.c.name == run_name(run)))
    with connection.begin():
        asked = sa.select(ledger.c.name).where(ledger.c.run == run)
        names = [name for (name,) in connection.execute(asked) if name not in keep]
    for name in names:
        with connection.begin():
            table = target_of(goal, name)
            if table.dialect == "postgresql":
                lock_in_postgres(connection, table)  # two drivers may clean up after one run
                bound_wait_in_postgres(connection)
            sa.Table(name, sa.MetaData(), schema=table.schema).drop(connection, checkfirst=True)
            connection.execute(ledger.delete().where(ledger.c.name == name))


def sweep(connection: sa.Connection, goal: Goal, run: Run) -> None:
    """Drop what runs without a heartbeat left; what cannot be dropped now stays."""
    import sqlalchemy as sa

    ledger = ledger_table(goal)
    last = sa.func.max(ledger.c.began)
    with connection.begin():
        asked = sa.select(ledger.c.run).group_by(ledger.c.run)
        dead = connection.execute(asked.having(last < time.time() - OLD_S)).scalars().all()
    for other in dead:
        if other != run.id:
            with suppress(StoreError, Transient), in_words(goal.who, StoreError):
                drop(connection, goal, other)


def row_of(goal: Goal, run: str, name: str) -> dict[str, Any]:
    """The columns that each row of the ledger begins with."""
    return {"name": name, "run": run, "target": goal.table, "began": time.time(), "sealed": 0}


def refresh(connection: sa.Connection, goal: Goal, run: str) -> bool:
    """Refresh the heartbeat of a run; False if the run has no row."""
    ledger = ledger_table(goal)
    mine = ledger.update().where(ledger.c.name == run_name(run)).values(began=time.time())
    return bool(connection.execute(mine).rowcount)


def ticket_name(ticket: Ticket) -> str:
    """Names the table of a ticket within its run."""
    return f"t_{ticket.split}_{ticket.epoch}_{ticket.n}"


def beating(beat: Callable[[], None]) -> Callable[[], None]:
    """What calls `beat` once in BEAT_S, however often it is called itself."""
    seen = time.monotonic()

    def alive() -> None:
        nonlocal seen
        if time.monotonic() - seen > BEAT_S:
            seen = time.monotonic()
            beat()

    return alive
