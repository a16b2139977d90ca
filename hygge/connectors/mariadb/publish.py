"""What a commit to MariaDB shows, and when: rows and head move together.

`replace`, and the first rows of a table: one RENAME TABLE puts the run table in the place of the
target, and a copy of `_hygge_heads` that has the new head in the place of the old one. It is one
step, also when the server dies in it (MariaDB 10.6.1 and later). Everything else, and a target that
triggers or foreign keys hang on: one transaction of InnoDB. Heads are only written under a lock of
this schema, held for as long as a head takes to be copied, or for the end of a transaction.

A driver that dies between two statements leaves the target as it was, or as it is to be: the run
table is made ready before, in steps that the next commit of this run finds done or not done.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from hygge.connectors.mariadb import ledger
from hygge.connectors.mariadb.load import ROW, SPLIT
from hygge.connectors.mariadb.session import execute, listed, literal, number_of, one, quoted, rows
from hygge.connectors.mariadb.target import (
    There,
    indexes,
    is_like,
    quoted_table,
    quoted_target,
)
from hygge.connectors.sql.commit import check_all_in
from hygge.connectors.sql.goal import Goal
from hygge.connectors.sql.heads import HEADS, already, check_base, head_of
from hygge.connectors.sql.ledger import run_name
from hygge.errors import HyggeError, Rejected, StoreError, UnfitValue
from hygge.model import Commit, Head, Receipt, Run

_BREAKS = (1062, 1048, 1216, 1217, 1451, 1452, 4025)
"""Rules of a table that rows may break: keys, NOT NULL, foreign keys, checks."""
_ATOMIC = (10, 6, 1)
_RENAME_WAIT_S = 10


def is_atomic(connection: Any) -> bool:
    """Whether a RENAME of several tables is one step, also when the server dies in it."""
    found = re.match(r"(\d+)\.(\d+)\.(\d+)", str(one(connection, "SELECT VERSION()")[0]))
    return found is not None and tuple(map(int, found.groups())) >= _ATOMIC


def ready(connection: Any, goal: Goal, name: str, old: There | None, schema: pa.Schema) -> None:
    """The run table as the target shall be: with the old one's indexes, without what is ours.

    A transaction of REPEATABLE READ that is older than the rows, and opens the table only later,
    would see none of them: the table is built anew, which makes that an error (1412). Who is there
    to see it is not asked: the list of transactions was seen to miss one on a busy server.
    """
    table = quoted_table(goal, name)
    columns = {row[0] for row in rows(connection, f"SHOW COLUMNS FROM {table}")}
    changes = []
    if old is not None and is_like(goal, old, schema):
        had, has = indexes(connection, quoted_target(goal)), indexes(connection, table)
        changes = [f"ADD {line}" for index, line in had.items() if index not in has]
    ours = [f"DROP COLUMN {quoted(each)}" for each in (SPLIT, ROW) if each in columns]
    with breaking(goal):
        if ours and old is not None:
            execute(connection, f"ALTER TABLE {table} {', '.join([*ours, *changes])}, FORCE")
            return
        if changes:
            execute(connection, f"ALTER TABLE {table} {', '.join(changes)}")
        if ours:
            execute(connection, f"ALTER TABLE {table} {', '.join(ours)}, ALGORITHM=INSTANT")


def swapped(
    connection: Any,
    goal: Goal,
    run: Run,
    base: Head | None,
    receipts: Sequence[Receipt],
    name: str,
    row: dict[str, Any],
    there: bool,
) -> Commit | None:
    """The table `name` and the head, in one RENAME; what is done already if this run has won."""
    mine = run_name(run.id)
    fresh, stale, old = f"{mine}_heads", f"{mine}_heads_old", f"{mine}_old"
    for each in (fresh, stale, old):
        execute(connection, f"DROP TABLE IF EXISTS {quoted_table(goal, each)}")
        ledger.remember(connection, goal, run.id, each, None)
    with ledger.alone(connection, goal, HEADS):
        now, _ = ledger.heads_at(connection, goal).get(run.flow, (None, None))
        done = already(now, run, receipts)
        if done is not None:
            return done
        check_base(now, base, goal.who)
        heads, copy = quoted_table(goal, HEADS), quoted_table(goal, fresh)
        execute(connection, f"CREATE TABLE {copy} LIKE {heads}")
        execute(
            connection,
            f"INSERT INTO {copy} SELECT * FROM {heads} WHERE NOT ({_replaced(run, row)})",
        )
        execute(connection, _insertion(copy, row))
        moves = [f"{quoted_target(goal)} TO {quoted_table(goal, old)}"] if there else []
        moves += [
            f"{quoted_table(goal, name)} TO {quoted_target(goal)}",
            f"{heads} TO {quoted_table(goal, stale)}",
            f"{copy} TO {heads}",
        ]
        execute(connection, f"SET lock_wait_timeout = {_RENAME_WAIT_S}")
        execute(connection, f"RENAME TABLE {', '.join(moves)}")
    for each in (stale, old):
        execute(connection, f"DROP TABLE IF EXISTS {quoted_table(goal, each)}")
    return None


def filled(connection: Any, goal: Goal, name: str, schema: pa.Schema, wanted: int) -> None:
    """The run table's rows into the target; within the caller's transaction."""
    columns = listed(schema.names)
    with breaking(goal):
        count = execute(
            connection,
            f"INSERT INTO {quoted_target(goal)} ({columns}) SELECT {columns} "
            f"FROM {quoted_table(goal, name)}",
        )
    no_warning(connection, goal)
    check_all_in(count, wanted, goal.who)


def emptied(connection: Any, goal: Goal) -> None:
    """The target without its rows; within the caller's transaction, so never TRUNCATE."""
    with breaking(goal):
        execute(connection, f"DELETE FROM {quoted_target(goal)}")


def move_head(
    connection: Any,
    goal: Goal,
    run: Run,
    base: Head | None,
    receipts: Sequence[Receipt],
    row: dict[str, Any],
) -> Commit | None:
    """The head of a transaction that is about to end; what is done already if this run has won.

    The caller holds the lock of the heads.
    """
    heads = quoted_table(goal, HEADS)
    now, _ = ledger.heads_at(connection, goal, lock=True).get(run.flow, (None, None))
    done = already(now, run, receipts)
    if done is not None:
        return done
    check_base(now, base, goal.who)
    execute(connection, f"DELETE FROM {heads} WHERE {_replaced(run, row)}")
    execute(connection, _insertion(heads, row))
    return None


def _replaced(run: Run, row: dict[str, Any]) -> str:
    """Heads that the new one takes the place of: a `replace` leaves no rows of other flows."""
    mine = "TRUE" if run.mode == "replace" else f"flow = {literal(row['flow'])}"
    return f"target = {literal(row['target'])} AND {mine}"


def _insertion(table: str, row: dict[str, Any]) -> str:
    values = ", ".join(literal(value) for value in row.values())
    return f"INSERT INTO {table} ({listed(list(row))}) VALUES ({values})"


def head_commit(goal: Goal, row: dict[str, Any], kept: int, staged: int, note: str) -> Commit:
    """How the commit ended."""
    return Commit(head_of(row, goal.who), kept, staged - kept, note=note)


class breaking:
    """Rows that break a rule of the table: Rejected, in the table's words."""

    def __init__(self, goal: Goal) -> None:
        self.goal = goal

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        if isinstance(error, HyggeError) or number_of(error) not in _BREAKS if error else True:
            return
        raise Rejected(
            f"the rows break a rule of {self.goal.who}: {error.args[1]}",
            "use `mode: merge` with a key, or leave these rows out with `where`",
        ) from error


def no_warning(connection: Any, goal: Goal) -> None:
    found = rows(connection, "SHOW WARNINGS LIMIT 1")
    if found:
        raise UnfitValue(f"{goal.who}: {found[0][2]}", "widen the column in the database")


def has_other_columns(goal: Goal, there: There) -> StoreError:
    """A table that cannot be made anew, and does not fit."""
    return StoreError(
        f"{goal.who} has other columns than the rows, and {there.hangs} hangs on it, which would "
        "go with the table",
        "drop it, alter the table's columns yourself, or keep the columns with `columns`",
    )
