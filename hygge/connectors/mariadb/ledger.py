"""The run table of MariaDB, and what the ledger says of the rows in it.

A run has one table, `_hygge_<run>_rows`, which all its splits load. One transaction loads a split:
its rows, which bear the split's number in a column of their own, and its seal, a row of the ledger
that is unique to run, split and epoch. So a second try that seals later finds the first one's seal,
and rolls back. Whoever seals must find the row of the run as `open`: once a commit or a `discard`
has closed it, no zombie leaves anything behind. The extra column is dropped, in an instant, when
the table becomes the target.

Whatever is made for a run is named in the ledger before, so that the next run of any flow in that
schema finds what one that died has left.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

import pyarrow as pa

from hygge.batches import plain_schema
from hygge.connectors.mariadb.load import ROW, SPLIT
from hygge.connectors.mariadb.session import execute, literal, number_of, one, quoted, rows, session
from hygge.connectors.mariadb.target import (
    OPTIONS,
    There,
    found,
    identity,
    indexes,
    is_like,
    is_there,
    quoted_table,
    quoted_target,
    written_key,
)
from hygge.connectors.mariadb.types import TEXT, column_ddl
from hygge.connectors.sql.ask import pack, unpack
from hygge.connectors.sql.connection import split_name
from hygge.connectors.sql.goal import Goal
from hygge.connectors.sql.heads import HEADS, head_of, not_a_head, still
from hygge.connectors.sql.ledger import LEDGER, OLD_S, run_name
from hygge.errors import HyggeError, StoreError, Transient
from hygge.model import Head, Receipt, Ticket

_MODE = "STRICT_ALL_TABLES,NO_AUTO_VALUE_ON_ZERO,NO_ENGINE_SUBSTITUTION"
_WAIT_S = 30
_OPEN, _SEALED, _CLOSED = 0, 1, 2


class Seal(NamedTuple):
    """What the ledger says of one sealed split."""

    ticket: Ticket
    rows: int
    bytes: int


@contextmanager
def opened(goal: Goal) -> Iterator[Any]:
    """A session that writes: strict, and each statement sees what is committed."""
    with session(goal.url, goal.who, StoreError, goal.flow, load=True) as connection:
        execute(connection, f"SET sql_mode = '{_MODE}', innodb_lock_wait_timeout = {_WAIT_S}")
        execute(connection, "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED")
        yield connection


@contextmanager
def transaction(connection: Any, *, serial: bool = False) -> Iterator[None]:
    """One transaction; of what goes wrong in it, the first error is the one to tell.

    `serial`: what it has read, or has not found, stays so to its end.
    """
    if serial:
        execute(connection, "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE")
    execute(connection, "START TRANSACTION")
    try:
        yield
    except BaseException:
        with suppress(Exception):
            execute(connection, "ROLLBACK")
        raise
    execute(connection, "COMMIT")


@contextmanager
def alone(connection: Any, goal: Goal, what: str) -> Iterator[None]:
    """Nobody else of hygge does `what` to this table; ends with the connection at the latest."""
    import hashlib

    schema, table = split_name(goal.table)
    place = schema or str(one(connection, "SELECT DATABASE()")[0])
    told = f"{what} {place}" if what == HEADS else f"{what} {place}.{table}"
    name = literal(f"hygge {hashlib.sha256(told.encode()).hexdigest()[:32]}")
    if one(connection, f"SELECT GET_LOCK({name}, {_WAIT_S})")[0] != 1:
        raise Transient(f"{goal.who}: another run commits to it", "run again")
    try:
        yield
    finally:
        with suppress(Exception):
            rows(connection, f"SELECT RELEASE_LOCK({name})")


def rows_table(run: str) -> str:
    """The table that all splits of a run load."""
    return f"{run_name(run)}_rows"


def seal_name(ticket: Ticket) -> str:
    """What the ledger calls the seal of a split: one for all tries of one driver."""
    return f"{run_name(ticket.run)}_{ticket.split}_{ticket.epoch}"


def split_number(ticket: Ticket) -> int:
    """What the rows of a split bear: one number for all tries of one driver."""
    return ticket.epoch * 2**32 + ticket.split


def begin(connection: Any, goal: Goal, run: str, mode: str) -> None:
    """Make both tables, and the run's row; a run that is gone on with shows that it lives."""
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
    known = rows(connection, f"SHOW COLUMNS FROM {quoted_table(goal, LEDGER)} LIKE 'mode'")
    if not known:  # written by the generic path until now
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


def remember(connection: Any, goal: Goal, run: str, name: str, schema: pa.Schema | None) -> None:
    """Note a table before it is made."""
    arrow = literal(None if schema is None else pack(schema))
    execute(
        connection,
        f"REPLACE INTO {quoted_table(goal, LEDGER)} "
        "(name, run, target, began, sealed, arrow) VALUES "
        f"({literal(name)}, {literal(run)}, {literal(goal.table)}, {time.time()}, 0, {arrow})",
    )


def beat(connection: Any, goal: Goal, run: str) -> None:
    """A sign of life; StoreError where the run is closed: nobody waits for its rows any more."""
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
    """A sign of life in the middle of a load, whose own transaction nobody sees yet."""
    with suppress(HyggeError), opened(goal) as connection:
        beat(connection, goal, run)


def close(connection: Any, goal: Goal, run: str) -> None:
    """From here on nobody seals."""
    execute(
        connection,
        f"UPDATE {quoted_table(goal, LEDGER)} SET sealed = {_CLOSED} "
        f"WHERE name = {literal(run_name(run))}",
    )


def reopen(connection: Any, goal: Goal, run: str) -> None:
    """A driver goes on with a run."""
    execute(
        connection,
        f"UPDATE {quoted_table(goal, LEDGER)} SET sealed = {_OPEN} "
        f"WHERE name = {literal(run_name(run))}",
    )


def mode_of(connection: Any, goal: Goal, run: str) -> str:
    """The mode that a run was prepared for."""
    asked = f"SELECT mode FROM {quoted_table(goal, LEDGER)} WHERE name = {literal(run_name(run))}"
    return next((str(mode) for (mode,) in rows(connection, asked)), "")


def staged_schema(connection: Any, goal: Goal, run: str) -> pa.Schema | None:
    """The schema that the run table was made for; None: it was not made yet."""
    asked = (
        f"SELECT arrow FROM {quoted_table(goal, LEDGER)} WHERE name = {literal(rows_table(run))}"
    )
    return next((unpack(text) for (text,) in rows(connection, asked)), None)


def seals(connection: Any, goal: Goal, run: str) -> dict[tuple[int, int], Seal]:
    """What is sealed of a run, by split and epoch."""
    sealed = {}
    for name, count, size, n in rows(
        connection,
        f"SELECT name, `rows`, bytes, n FROM {quoted_table(goal, LEDGER)} "
        f"WHERE run = {literal(run)} AND sealed = {_SEALED}",
    ):
        split, epoch = map(int, name.split("_")[-2:])
        sealed[split, epoch] = Seal(Ticket(run, split, epoch, n), count, size)
    return sealed


def sealed_before(connection: Any, goal: Goal, ticket: Ticket) -> Receipt | None:
    """The receipt of an earlier try at this split under the same plan, if one was sealed."""
    seal = seals(connection, goal, ticket.run).get((ticket.split, ticket.epoch))
    if seal is None:
        return None
    return Receipt(seal.ticket, "", seal.rows, seal.bytes, parts=1 if seal.rows else 0)


def seal(connection: Any, goal: Goal, ticket: Ticket, count: int, size: int) -> bool:
    """The last statements of the transaction that loaded a split; False: another try was first."""
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


def unseal(connection: Any, goal: Goal, gone: Sequence[Seal]) -> None:
    """Remove seals, and the rows that they are of."""
    if not gone:
        return
    run = gone[0].ticket.run
    numbers = ", ".join(str(split_number(each.ticket)) for each in gone)
    names = ", ".join(literal(seal_name(each.ticket)) for each in gone)
    if any(each.rows for each in gone) and is_there(connection, goal, rows_table(run)):
        execute(
            connection,
            f"DELETE FROM {quoted_table(goal, rows_table(run))} "
            f"WHERE {quoted(SPLIT)} IN ({numbers})",
        )
    execute(connection, f"DELETE FROM {quoted_table(goal, LEDGER)} WHERE name IN ({names})")


def make(connection: Any, goal: Goal, run: str, mode: str, schema: pa.Schema) -> None:
    """Make the run table, once; for other columns only while no split is sealed in it."""
    name = rows_table(run)
    with alone(connection, goal, name):
        there = staged_schema(connection, goal, run)
        if there is not None and not plain_schema(there).equals(plain_schema(schema)):
            if seals(connection, goal, run):
                raise StoreError(
                    f"{goal.who}: this run was begun with other columns than it has now",
                    "the source changed while the run went on; run again with --fresh",
                )
            there = None
            execute(connection, f"DROP TABLE IF EXISTS {quoted_table(goal, name)}")
        if there is not None and is_there(connection, goal, name):
            return
        remember(connection, goal, run, name, schema)
        _create(connection, goal, quoted_table(goal, name), mode, schema)


def _create(connection: Any, goal: Goal, name: str, mode: str, schema: pa.Schema) -> None:
    old = found(connection, goal, hanging=mode == "replace")
    extra = f"{quoted(SPLIT)} bigint NOT NULL"
    if mode == "replace" and old is not None and is_like(goal, old, schema):
        execute(connection, f"CREATE TABLE {name} LIKE {quoted_target(goal)}")
        changes = [f"ADD COLUMN {extra}"]
        if "auto_increment" not in str(one(connection, f"SHOW CREATE TABLE {name}")[1]).lower():
            # They are built at once when the rows are there.
            changes += [f"DROP INDEX {quoted(each)}" for each in indexes(connection, name)]
        execute(connection, f"ALTER TABLE {name} {', '.join(changes)}")
        return
    key = written_key(schema, mode, ()) if mode == "replace" or old is None else ()
    parts = [column_ddl(goal, each, each.name in key) for each in schema]
    parts.append(extra)
    if mode == "merge":
        parts.append(f"{quoted(ROW)} bigint NOT NULL")
    if key:
        parts.append(f"PRIMARY KEY ({', '.join(map(quoted, key))})")
    execute(connection, f"CREATE TABLE {name} ({', '.join(parts)}) {OPTIONS}")


def kill(connection: Any, run: str, split: int | None = None) -> None:
    """End whoever still loads a split of this run: nobody waits for it any more."""
    number = "%" if split is None else str(split)
    alike = literal(f"/* hygge/%/{run_name(run).removeprefix('_hygge_')}/{number} */%")
    asked = (
        "SELECT id FROM information_schema.processlist "
        f"WHERE info LIKE {alike} AND id <> CONNECTION_ID()"
    )
    for (number_of_session,) in rows(connection, asked):
        with suppress(Exception):
            execute(connection, f"KILL {number_of_session}")


def drop(connection: Any, goal: Goal, run: str) -> None:
    """Remove the run's tables and its rows of the ledger."""
    table = quoted_table(goal, LEDGER)
    execute(connection, f"DELETE FROM {table} WHERE name = {literal(run_name(run))}")
    left = rows(connection, f"SELECT name, sealed FROM {table} WHERE run = {literal(run)}")
    if not left:
        return
    kill(connection, run)
    for name, sealed in left:
        if sealed != _SEALED:
            execute(connection, f"DROP TABLE IF EXISTS {quoted_table(goal, name)}")
    execute(connection, f"DELETE FROM {table} WHERE run = {literal(run)}")


def sweep(connection: Any, goal: Goal, run: str) -> None:
    """Drop what runs left that show no sign of life; what cannot be dropped now stays."""
    dead = rows(
        connection,
        f"SELECT run FROM {quoted_table(goal, LEDGER)} GROUP BY run "
        f"HAVING MAX(began) < {time.time() - OLD_S}",
    )
    for (each,) in dead:
        if each != run:
            with suppress(Exception):
                drop(connection, goal, each)


def heads_at(connection: Any, goal: Goal, lock: bool = False) -> dict[str, tuple[Head, Any]]:
    """By flow: what is committed to the target, and what `made` says; nonsense is an error."""
    cursor = connection.cursor()
    _, table = split_name(goal.table)
    try:
        cursor.execute(
            f"{connection.hygge}SELECT * FROM {quoted_table(goal, HEADS)} "
            f"WHERE target = {literal(table)}{' FOR UPDATE' * lock}"
        )
    except Exception as error:
        if number_of(error) in (1054, 1347, 1356):  # no such column, a view
            raise not_a_head(goal.who, str(error.args[1])) from error
        raise
    names = [each[0] for each in cursor.description]
    told = [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
    heads = {row["flow"]: (head_of(row, goal.who), row["made"]) for row in told}
    if len(heads) < len(told):
        raise not_a_head(goal.who, "there are two heads of one flow")
    return heads


def is_made(connection: Any, goal: Goal, there: There | None) -> bool:
    """Whether the table that is there now is one that hygge made."""
    return still(identity(there), [made for _, made in heads_at(connection, goal).values()])
