"""How a commit to MariaDB publishes: rows and head become visible together.

`replace`, and the first rows of a table: one RENAME TABLE puts the run table in the place of the
target, and a copy of `_hygge_heads` with the new head in the place of the old one. RENAME TABLE is
atomic, also when the server dies in it (MariaDB 10.6.1 and later). All other runs, and targets with
triggers or foreign keys: one transaction of InnoDB. Heads are only written while holding a lock of
their schema: for as long as it takes to copy them, or until the end of the transaction.

A driver that dies between two statements leaves the old target or the new one: the run table is
prepared before, in steps, and the next commit of the run finds out which of them were done.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import pyarrow as pa

from hygge.connectors.mariadb import kept, ledger
from hygge.connectors.mariadb.load import ROW, SPLIT
from hygge.connectors.mariadb.refusing import RowsOfMariaDB
from hygge.connectors.mariadb.session import (
    REFERRED_TO,
    execute,
    fetch_all,
    fetch_one,
    is_lost,
    literal,
    number_of,
    quoted,
    quoted_list,
)
from hygge.connectors.mariadb.target import (
    TargetTable,
    indexes,
    is_like,
    quoted_table,
    quoted_target,
)
from hygge.connectors.sql.commit import broken_rule, check_all_in, check_filled
from hygge.connectors.sql.goal import Goal
from hygge.connectors.sql.heads import HEADS
from hygge.connectors.sql.ledger import run_name
from hygge.connectors.sql.own_columns import generated_note
from hygge.connectors.sql.refusing import Range
from hygge.errors import HyggeError, UnfitValue
from hygge.model import Run

if TYPE_CHECKING:
    from pymysql.connections import Connection

_BROKEN_RULES = (1062, 1048, 1216, 1217, 1451, 1452, 1644, 4025)
"""Errors of rows that break a rule of their table: keys, NOT NULL, foreign keys, checks, SIGNAL."""
_ATOMIC_SINCE = (10, 6, 1)
_RENAME_WAIT_S = 10
_DENIED = 1142


def is_atomic(connection: Connection) -> bool:
    """Whether RENAME TABLE renames several tables in one step, also when the server dies in it."""
    version = str(fetch_one(connection, "SELECT VERSION()")[0])
    match = re.match(r"(\d+)\.(\d+)\.(\d+)", version)
    return match is not None and tuple(map(int, match.groups())) >= _ATOMIC_SINCE


def prepare_table(
    connection: Connection, goal: Goal, name: str, old: TargetTable | None, schema: pa.Schema
) -> None:
    """Make the run table what the target shall be: with the old indexes, without hygge's columns.

    A transaction of REPEATABLE READ that began before the rows were written, and opens the table
    only later, would see no rows. So the table is rebuilt (FORCE), which makes that an error
    (1412). Whether there is such a transaction is not asked: the server's list of transactions was
    seen to miss one under load.
    """
    table = quoted_table(goal, name)
    columns = {row[0] for row in fetch_all(connection, f"SHOW COLUMNS FROM {table}")}
    changes = []
    if old is not None and is_like(goal, old, schema):
        wanted, present = indexes(connection, quoted_target(goal)), indexes(connection, table)
        changes = [f"ADD {line}" for index, line in wanted.items() if index not in present]
    drops = [f"DROP COLUMN {quoted(column)}" for column in (SPLIT, ROW) if column in columns]
    with rejecting(goal):
        if drops and old is not None:
            execute(connection, f"ALTER TABLE {table} {', '.join([*drops, *changes])}, FORCE")
            return
        if changes:
            execute(connection, f"ALTER TABLE {table} {', '.join(changes)}")
        if drops:
            execute(connection, f"ALTER TABLE {table} {', '.join(drops)}, ALGORITHM=INSTANT")


def swap(
    connection: Connection,
    goal: Goal,
    run: Run,
    name: str,
    row: Mapping[str, object],
    old: TargetTable | None,
    check_head: Callable[[], None],
) -> None:
    """Put the table `name` and the head in their places, in one RENAME.

    `old` is the target that is there. `check_head` raises where another head was committed.
    """
    own = run_name(run.id)
    new_heads, old_heads, old_table = f"{own}_heads", f"{own}_heads_old", f"{own}_old"
    for table in (new_heads, old_heads, old_table):
        execute(connection, f"DROP TABLE IF EXISTS {quoted_table(goal, table)}")
        ledger.remember(connection, goal, run.id, table, None)
    with ledger.alone(connection, goal, HEADS):
        check_head()
        heads, copy = quoted_table(goal, HEADS), quoted_table(goal, new_heads)
        execute(connection, f"CREATE TABLE {copy} LIKE {heads}")
        is_replaced = _is_replaced(connection, goal, run, row)
        execute(connection, f"INSERT INTO {copy} SELECT * FROM {heads} WHERE NOT ({is_replaced})")
        execute(connection, _insert_head(copy, row))
        renames = []
        if old is not None:
            kept.check_hidden_keys(connection, goal)  # indexes may have taken hours
            renames.append(f"{quoted_target(goal)} TO {quoted_table(goal, old_table)}")
        renames += [
            f"{quoted_table(goal, name)} TO {quoted_target(goal)}",
            f"{heads} TO {quoted_table(goal, old_heads)}",
            f"{copy} TO {heads}",
        ]
        execute(connection, f"SET lock_wait_timeout = {_RENAME_WAIT_S}")
        execute(connection, f"RENAME TABLE {', '.join(renames)}")
        if old is not None:
            _drop_old(
                connection, goal, old_table, name, (heads, quoted_table(goal, old_heads), copy)
            )
    # It is committed: what cannot be dropped now, `discard` drops.
    with suppress(Exception):
        execute(connection, f"DROP TABLE IF EXISTS {quoted_table(goal, old_heads)}")


def _drop_old(
    connection: Connection, goal: Goal, old: str, new: str, of_heads: tuple[str, str, str]
) -> None:
    """Drop the old table; undo the exchange where a foreign key that this user cannot see keeps it.

    Only one that was made since `check_hidden_keys` can. It goes with the table that is renamed,
    and comes back with it; if this driver dies in between, `ledger.drop` says so. `of_heads`: the
    names of the heads, of the old ones and of the new ones, as SQL.
    """
    old_table, heads, old_heads, new_heads = quoted_table(goal, old), *of_heads
    try:
        execute(connection, f"DROP TABLE IF EXISTS {old_table}")
    except Exception as error:  # what cannot be dropped now, `discard` drops
        if number_of(error) not in REFERRED_TO:
            return
        target = quoted_target(goal)
        try:
            execute(
                connection,
                f"RENAME TABLE {target} TO {quoted_table(goal, new)}, {old_table} TO {target}, "
                f"{heads} TO {new_heads}, {old_heads} TO {heads}",
            )
        except Exception as undone:
            if is_lost(undone):
                raise
            return  # it stays committed
        raise kept.hidden_key(goal) from error


def check_nulls(
    connection: Connection, goal: Goal, target: TargetTable | None, name: str, schema: pa.Schema
) -> None:
    """Raise Rejected for NULLs in a column of the run table where the target writes own values."""
    for column, own in target.own.items() if target is not None else ():
        if own.fills_nulls and column in schema.names:
            (nulls,) = fetch_one(
                connection,
                f"SELECT COUNT(*) FROM {quoted_table(goal, name)} WHERE {quoted(column)} IS NULL",
            )
            check_filled(nulls, column, goal.who)


class AppendedRows(RowsOfMariaDB):
    """Rows of the run table that are inserted, in the caller's transaction."""

    def put(self, rows: Range | None) -> None:
        columns = quoted_list(self.columns)
        inserted = execute(
            self.connection,
            f"INSERT INTO {quoted_target(self.goal)} ({columns}) SELECT {columns} "
            f"FROM {self.table} s WHERE {self.condition(rows)}",
        )
        check_warnings(self.connection, self.goal)
        check_all_in(inserted, self.count(rows), self.who)


def empty(connection: Connection, goal: Goal) -> None:
    """Delete the target's rows, in the caller's transaction: TRUNCATE would end it."""
    with rejecting(goal):
        execute(connection, f"DELETE FROM {quoted_target(goal)}")


def move_head(
    connection: Connection,
    goal: Goal,
    run: Run,
    row: Mapping[str, object],
    check_head: Callable[[], None],
) -> None:
    """Write the head, in the caller's transaction and under the caller's lock of the heads.

    `check_head` raises where another head was committed.
    """
    heads = quoted_table(goal, HEADS)
    check_head()
    execute(connection, f"DELETE FROM {heads} WHERE {_is_replaced(connection, goal, run, row)}")
    execute(connection, _insert_head(heads, row))


def _is_replaced(connection: Connection, goal: Goal, run: Run, row: Mapping[str, object]) -> str:
    """Return the condition of heads that the new one replaces.

    `replace` leaves no rows of other flows, so their heads go too.
    """
    flows = "TRUE" if run.mode == "replace" else f"flow = {literal(row['flow'])}"
    return f"{ledger.is_of_target(connection, goal)} AND {flows}"


def _insert_head(table: str, row: Mapping[str, object]) -> str:
    values = ", ".join(literal(value) for value in row.values())
    return f"INSERT INTO {table} ({quoted_list(list(row))}) VALUES ({values})"


@contextmanager
def rejecting(goal: Goal, merges: bool = False) -> Iterator[None]:
    """Raise Rejected, with the server's message, if rows break a rule of the table."""
    try:
        yield
    except Exception as error:
        if isinstance(error, HyggeError) or number_of(error) not in _BROKEN_RULES:
            raise
        raise broken_rule(str(error.args[1]), goal.who, merges) from error


def check_warnings(connection: Connection, goal: Goal) -> None:
    """Raise UnfitValue if the last statement gave a warning: a value was changed."""
    warnings = fetch_all(connection, "SHOW WARNINGS LIMIT 1")
    if warnings:
        raise UnfitValue(f"{goal.who}: {warnings[0][2]}", "widen the column in the database")


def own_notes(
    connection: Connection, goal: Goal, target: TargetTable, name: str, names: Sequence[str]
) -> list[str]:
    """Move the sequences behind the columns `names` past the rows of the run table `name`.

    Returns what there is to say of columns. SETVAL never goes back.
    """
    from pymysql.err import MySQLError

    note = generated_note(column for column in names if column in target.generated)
    notes = [note] if note else []
    for column in target.written(names):
        sequence = target.own[column].sequence
        if not sequence:
            continue
        (number,) = fetch_one(
            connection, f"SELECT MAX({quoted(column)}) FROM {quoted_table(goal, name)}"
        )
        if number is None:
            continue
        try:
            moved = fetch_one(connection, f"SELECT SETVAL({sequence}, {int(number)})")[0]
        except MySQLError as error:
            if number_of(error) != _DENIED:
                raise
            notes.append(
                f"the sequence {sequence} stays where it is, since this user has no right INSERT "
                f"on it: it may give numbers up to {int(number)} once more"
            )
        else:
            notes += [f"the sequence {sequence} goes on after {int(number)}"] * (moved is not None)
    return notes
