"""The run table of MariaDB, and the two tables that hygge keeps beside its targets.

A run has one table, `_hygge_<run>_rows`, which all its splits load. One transaction loads a split:
its rows, which have the split's number in a column of their own, and its seal, a row of the ledger
that is unique for run, split and epoch. A second try that seals later finds the first one's seal,
and rolls back. Whoever seals must find the row of the run as `open`: once a commit or a `discard`
has closed it, a late try leaves nothing behind. When the table becomes the target, the extra column
is dropped in an instant.

Each table that a run will make is first named in the ledger. So the next run of any flow in that
schema finds the tables of a run that died. The heads are `_hygge_heads`, a row a flow and target.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, NamedTuple

import pyarrow as pa

from hygge.batches import plain_schema
from hygge.connectors.mariadb.load import SPLIT
from hygge.connectors.mariadb.session import (
    REFERRED_TO,
    execute,
    fetch_all,
    fetch_one,
    literal,
    number_of,
    quoted,
    session,
    table_names_fold,
)
from hygge.connectors.mariadb.target import (
    OPTIONS,
    TargetTable,
    create_run_table,
    exists,
    head_name,
    identity,
    quoted_table,
)
from hygge.connectors.mariadb.types import TEXT
from hygge.connectors.sql import pins
from hygge.connectors.sql.ask import pack, unpack
from hygge.connectors.sql.connection import split_name
from hygge.connectors.sql.goal import Goal
from hygge.connectors.sql.heads import HEADS, Heads, head_in, not_a_head, still, stored_heads
from hygge.connectors.sql.ledger import LEDGER, OLD_S, run_name
from hygge.errors import HyggeError, StoreError, Transient
from hygge.model import Head, Receipt, Ticket

if TYPE_CHECKING:
    from pymysql.connections import Connection

_WAIT_S = 30
_OPEN, _SEALED, _CLOSED = 0, 1, 2
_NO_TABLE = 1146
_DENIED = (1044, 1049, 1142)
"""Errors of a schema that is not there, or that is denied as its table is."""


class Seal(NamedTuple):
    """A sealed split in the ledger."""

    ticket: Ticket
    rows: int
    bytes: int


@contextmanager
def opened(goal: Goal) -> Iterator[Connection]:
    """Open a session that writes: in strict mode, and each statement sees what is committed."""
    with session(goal.url, goal.who, StoreError, goal.flow, load=True) as connection:
        execute(
            connection,
            f"SET sql_mode = '{pins.MARIADB_STRICT_MODE}', innodb_lock_wait_timeout = {_WAIT_S}",
        )
        execute(connection, "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED")
        yield connection


@contextmanager
def alone(connection: Connection, goal: Goal, what: str) -> Iterator[None]:
    """Hold the lock of `what` on the target, or on its schema for the heads.

    It ends with the connection at the latest. Raises Transient after waiting for another run.
    """
    import hashlib

    schema, table = split_name(goal.table)[0], head_name(connection, goal)
    schema = schema or str(fetch_one(connection, "SELECT DATABASE()")[0])
    key = f"{what} {schema}" if what == HEADS else f"{what} {schema}.{table}"
    # Names of locks are short, so they are hashed.
    name = literal(f"hygge {hashlib.sha256(key.encode()).hexdigest()[:32]}")
    if fetch_one(connection, f"SELECT GET_LOCK({name}, {_WAIT_S})")[0] != 1:
        raise Transient(f"{goal.who}: another run commits to it", "run again")
    try:
        yield
    finally:
        with suppress(Exception):
            fetch_all(connection, f"SELECT RELEASE_LOCK({name})")


def rows_table(run: str) -> str:
    """Return the name of the table that all splits of a run load."""
    return f"{run_name(run)}_rows"


def seal_name(ticket: Ticket) -> str:
    """Return the name of a split's seal: the same for all tries of one driver."""
    return f"{run_name(ticket.run)}_{ticket.split}_{ticket.epoch}"


def split_number(ticket: Ticket) -> int:
    """Return the number that a split's rows have: the same for all tries of one driver."""
    return ticket.epoch * 2**32 + ticket.split


def begin(connection: Connection, goal: Goal, run: str, mode: str) -> None:
    """Make heads and ledger, and the run's row; the row of a run that goes on is refreshed."""
    execute(
        connection,
        f"CREATE TABLE IF NOT EXISTS {quoted_table(goal, HEADS)} ("
        "flow varchar(255), target varchar(255), format int NOT NULL, "
        "generation bigint NOT NULL, run varchar(64) NOT NULL, `rows` bigint NOT NULL, "
        "watermark longtext, `cursor` longtext, columns longtext NOT NULL, made longtext, "
        f"committed_at varchar(32) NOT NULL, "
        f"PRIMARY KEY (flow, target)) {OPTIONS}",
    )
    execute(
        connection,
        f"CREATE TABLE IF NOT EXISTS {quoted_table(goal, LEDGER)} (name varchar(63) PRIMARY KEY, "
        "run varchar(64) NOT NULL, target varchar(255) NOT NULL, began double NOT NULL, "
        f"sealed smallint NOT NULL, `rows` bigint, bytes bigint, arrow longtext {TEXT}, "
        f"n int, mode varchar(16)) {OPTIONS}",
    )
    has_mode = fetch_all(connection, f"SHOW COLUMNS FROM {quoted_table(goal, LEDGER)} LIKE 'mode'")
    if not has_mode:  # it was made through SQLAlchemy, which knows no such columns
        execute(
            connection,
            f"ALTER TABLE {quoted_table(goal, LEDGER)} ADD COLUMN IF NOT EXISTS n int, "
            "ADD COLUMN IF NOT EXISTS mode varchar(16)",
        )
    execute(
        connection,
        f"INSERT INTO {quoted_table(goal, LEDGER)} (name, run, target, began, sealed, mode) VALUES "
        f"({literal(run_name(run))}, {literal(run)}, {literal(goal.table)}, {time.time()}, "
        f"{_OPEN}, {literal(mode)}) ON DUPLICATE KEY UPDATE began = VALUES(began)",
    )


def remember(
    connection: Connection, goal: Goal, run: str, name: str, schema: pa.Schema | None
) -> None:
    """Name a table in the ledger, before it is made."""
    packed = literal(None if schema is None else pack(schema))
    execute(
        connection,
        f"REPLACE INTO {quoted_table(goal, LEDGER)} "
        "(name, run, target, began, sealed, arrow) VALUES "
        f"({literal(name)}, {literal(run)}, {literal(goal.table)}, {time.time()}, 0, {packed})",
    )


def beat(connection: Connection, goal: Goal, run: str) -> None:
    """Refresh the run's row as a sign of life; raise StoreError if the run is closed."""
    if not execute(
        connection,
        f"UPDATE {quoted_table(goal, LEDGER)} SET began = {time.time()} "
        f"WHERE name = {literal(run_name(run))} AND sealed = {_OPEN}",
    ):
        raise StoreError(
            f"{goal.who}: run {run} is not at work here any more",
            "it was decided, or given up for another one; run again",
        )


def beat_apart(goal: Goal, run: str) -> None:
    """Give a sign of life on another session: a load's own transaction is not committed yet."""
    with suppress(HyggeError), opened(goal) as connection:
        beat(connection, goal, run)


def close(connection: Connection, goal: Goal, run: str) -> None:
    """Close the run: from here on nobody can seal."""
    execute(
        connection,
        f"UPDATE {quoted_table(goal, LEDGER)} SET sealed = {_CLOSED} "
        f"WHERE name = {literal(run_name(run))}",
    )


def reopen(connection: Connection, goal: Goal, run: str) -> None:
    """Open the run again, for a driver that resumes it."""
    execute(
        connection,
        f"UPDATE {quoted_table(goal, LEDGER)} SET sealed = {_OPEN} "
        f"WHERE name = {literal(run_name(run))}",
    )


def mode_of(connection: Connection, goal: Goal, run: str) -> str:
    """Return the mode that a run was prepared for; empty if the run is unknown."""
    select = f"SELECT mode FROM {quoted_table(goal, LEDGER)} WHERE name = {literal(run_name(run))}"
    return next((str(mode) for (mode,) in fetch_all(connection, select)), "")


def staged_schema(connection: Connection, goal: Goal, run: str) -> pa.Schema | None:
    """Return the schema that the run table was made for; None if it was not made yet."""
    select = (
        f"SELECT arrow FROM {quoted_table(goal, LEDGER)} WHERE name = {literal(rows_table(run))}"
    )
    return next((unpack(text) for (text,) in fetch_all(connection, select)), None)


def seals(connection: Connection, goal: Goal, run: str) -> dict[tuple[int, int], Seal]:
    """Return the seals of a run, by split and epoch."""
    sealed = {}
    for name, count, size, n in fetch_all(
        connection,
        f"SELECT name, `rows`, bytes, n FROM {quoted_table(goal, LEDGER)} "
        f"WHERE run = {literal(run)} AND sealed = {_SEALED}",
    ):
        split, epoch = map(int, name.split("_")[-2:])
        sealed[split, epoch] = Seal(Ticket(run, split, epoch, n), count, size)
    return sealed


def sealed_before(connection: Connection, goal: Goal, ticket: Ticket) -> Receipt | None:
    """Return the receipt of an earlier try at this split and epoch, if one was sealed."""
    seal = seals(connection, goal, ticket.run).get((ticket.split, ticket.epoch))
    if seal is None:
        return None
    return Receipt(seal.ticket, "", seal.rows, seal.bytes, parts=1 if seal.rows else 0)


def seal(connection: Connection, goal: Goal, ticket: Ticket, count: int, size: int) -> bool:
    """Seal a split, at the end of its transaction; return False if another try was first."""
    beat(connection, goal, ticket.run)
    try:
        execute(
            connection,
            f"INSERT INTO {quoted_table(goal, LEDGER)} "
            "(name, run, target, began, sealed, `rows`, bytes, n) VALUES "
            f"({literal(seal_name(ticket))}, {literal(ticket.run)}, {literal(goal.table)}, "
            f"{time.time()}, {_SEALED}, {count}, {size}, {ticket.n})",
        )
    except Exception as error:
        if number_of(error) == 1062:
            return False
        raise
    return True


def unseal(connection: Connection, goal: Goal, removed: Sequence[Seal]) -> None:
    """Remove seals, and their rows."""
    if not removed:
        return
    run = removed[0].ticket.run
    numbers = ", ".join(str(split_number(seal.ticket)) for seal in removed)
    names = ", ".join(literal(seal_name(seal.ticket)) for seal in removed)
    if any(seal.rows for seal in removed) and exists(connection, goal, rows_table(run)):
        execute(
            connection,
            f"DELETE FROM {quoted_table(goal, rows_table(run))} "
            f"WHERE {quoted(SPLIT)} IN ({numbers})",
        )
    execute(connection, f"DELETE FROM {quoted_table(goal, LEDGER)} WHERE name IN ({names})")


def make(connection: Connection, goal: Goal, run: str, mode: str, schema: pa.Schema) -> None:
    """Make the run table, once for all splits.

    It is made again for other columns only while no split is sealed in it; later they raise
    StoreError.
    """
    name = rows_table(run)
    with alone(connection, goal, name):
        made_for = staged_schema(connection, goal, run)
        if made_for is not None and not plain_schema(made_for).equals(plain_schema(schema)):
            if seals(connection, goal, run):
                raise StoreError(
                    f"{goal.who}: this run was begun with other columns than it has now",
                    "the source changed while the run went on; run again with --fresh",
                )
            made_for = None
            execute(connection, f"DROP TABLE IF EXISTS {quoted_table(goal, name)}")
        if made_for is not None and exists(connection, goal, name):
            return
        remember(connection, goal, run, name, schema)
        create_run_table(connection, goal, name, mode, schema)


def kill(connection: Connection, run: str, split: int | None = None) -> None:
    """End the sessions that still load this split of a run, or any: nobody waits for them."""
    number = "%" if split is None else str(split)
    comment = literal(f"/* hygge/%/{run_name(run).removeprefix('_hygge_')}/{number} */%")
    sessions = fetch_all(
        connection,
        "SELECT id FROM information_schema.processlist "
        f"WHERE info LIKE {comment} AND id <> CONNECTION_ID()",
    )
    for (session_id,) in sessions:
        with suppress(Exception):
            execute(connection, f"KILL {session_id}")


def drop(connection: Connection, goal: Goal, run: str) -> None:
    """Remove the run's tables and its rows of the ledger.

    Raises StoreError where a foreign key came to refer to the old table in the moment in which a
    driver exchanged it, and that driver died before it saw this.
    """
    table = quoted_table(goal, LEDGER)
    execute(connection, f"DELETE FROM {table} WHERE name = {literal(run_name(run))}")
    left = fetch_all(connection, f"SELECT name, sealed FROM {table} WHERE run = {literal(run)}")
    if not left:
        return
    kill(connection, run)
    for name, sealed in left:
        if sealed != _SEALED:
            try:
                execute(connection, f"DROP TABLE IF EXISTS {quoted_table(goal, name)}")
            except Exception as error:
                if number_of(error) not in REFERRED_TO:
                    raise
                raise StoreError(
                    f"{goal.who} was replaced, and a foreign key of a table that this user cannot "
                    f"see was made in that moment: it refers to '{name}', which has the old rows",
                    f"drop that key, and make it anew for {goal.table}; then run again",
                ) from error
    execute(connection, f"DELETE FROM {table} WHERE run = {literal(run)}")


def sweep(connection: Connection, goal: Goal, run: str) -> None:
    """Drop what runs without a sign of life left; what cannot be dropped now stays."""
    dead = fetch_all(
        connection,
        f"SELECT run FROM {quoted_table(goal, LEDGER)} GROUP BY run "
        f"HAVING MAX(began) < {time.time() - OLD_S}",
    )
    for (other,) in dead:
        if other != run:
            with suppress(Exception):
                drop(connection, goal, other)


def is_of_target(connection: Connection, goal: Goal) -> str:
    """Return the condition of the heads of the target.

    Where case does not count, an older hygge may have written the name otherwise.
    """
    column = "LOWER(target)" if table_names_fold(connection) else "target"
    return f"{column} = {literal(head_name(connection, goal))}"


def heads_at(connection: Connection, goal: Goal, lock: bool = False) -> Heads:
    """Return the heads of the target, by flow; `lock` keeps them for this transaction.

    Raises StoreError if the table holds what hygge would not write.

    Whether there are heads is not asked of the catalog first: to a session that holds a lock, as a
    commit does, it leaves out a table that another commit renames (warning 1684). A SELECT waits.
    """
    cursor = connection.cursor()
    try:
        cursor.execute(
            f"{connection.comment}SELECT * FROM {quoted_table(goal, HEADS)} "
            f"WHERE {is_of_target(connection, goal)}{' FOR UPDATE' * lock}"
        )
    except Exception as error:
        if not lock and _has_no_heads(connection, goal, number_of(error)):
            return {}  # before the first run
        if number_of(error) in (1054, 1347, 1356):  # no such column, a view
            raise not_a_head(goal.who, str(error.args[1])) from error
        raise
    names = [column[0] for column in cursor.description]
    rows = [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
    return stored_heads(rows, goal.who)


def _has_no_heads(connection: Connection, goal: Goal, number: int) -> bool:
    """Whether an error of this number says that there is no table of heads.

    A user without rights on the schema is denied it, or the schema, where there is none, too.
    """
    return number == _NO_TABLE or (number in _DENIED and not exists(connection, goal, HEADS))


def head_at(connection: Connection, goal: Goal, flow: str, lock: bool = False) -> Head | None:
    """Return the head of one flow on the target."""
    return head_in(heads_at(connection, goal, lock), flow)


def is_made(connection: Connection, goal: Goal, table: TargetTable | None) -> bool:
    """Whether hygge made the table that is there now."""
    return still(identity(table), heads_at(connection, goal))
