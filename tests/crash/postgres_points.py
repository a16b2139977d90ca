"""Kill a run at each of its statements that change something in PostgreSQL, and run it again.

This is a process of its own, without Ray, that forks a driver for every point. The statements are
found by wrapping psycopg. The driver is killed before each of them, and also after each COMMIT,
before its answer is used: only a COMMIT leaves anything. Nothing is restored between two points:
the source grows and changes, so each point comes after all earlier deaths. Prints one line of JSON:
the number of points, and what went wrong. `HYGGE_CRASH=all` tries every point; otherwise every
third is tried, in each mode another third.

    python -m tests.crash.postgres_points <mode> <url> <schema> <folder> [head apart]
"""

from __future__ import annotations

import json
import os
import re
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import psycopg

from hygge import Flow, SQLHome, SQLStore
from hygge.connectors.sql import commit as sql_commit
from tests.crash.points import STEP

CHANGES = re.compile(r"\s*(INSERT|UPDATE|DELETE|CREATE|DROP|ALTER|COPY|GRANT|REVOKE|COMMENT)\b")
Rows = list[tuple[object, ...]]


class Source:
    """A table that grows and, for merges, changes; written with psycopg alone."""

    def __init__(self, mode: str, url: str, schema: str) -> None:
        self.mode, self.schema, self.last = mode, schema, 0
        self.connection = psycopg.connect(url, autocommit=True)
        self.connection.execute(
            f"CREATE TABLE {schema}.s (id bigint PRIMARY KEY, at bigint NOT NULL, v text, "
            "price numeric(20, 4), moment timestamptz)"
        )
        if mode == "changes":
            self.connection.execute(
                f"ALTER TABLE {schema}.s ADD _op text, DROP CONSTRAINT s_pkey, ADD PRIMARY KEY (at)"
            )
        if mode == "adopt":
            self.connection.execute(f"CREATE TABLE {schema}.t (LIKE {schema}.s INCLUDING ALL)")

    def grow(self) -> None:
        self.last += 3
        if self.mode == "changes":
            at = 10 * self.last
            self.connection.execute(
                f"INSERT INTO {self.schema}.s SELECT g, {at} + g % 3, 'v' || g, g / 7.0, now(), "
                f"'insert' FROM generate_series({self.last - 2}, {self.last}) g"
            )
            self.connection.execute(
                f"INSERT INTO {self.schema}.s (id, at, _op) VALUES ({self.last // 2}, {at + 3}, "
                f"'delete'), (-{self.last}, {at + 4}, 'insert'), (-{self.last}, {at + 5}, 'delete')"
            )
            return
        self.connection.execute(
            f"INSERT INTO {self.schema}.s SELECT g, g, nullif('v' || g, 'v2'), g / 7.0, "
            f"'2024-01-01 00:00:00.000001+00'::timestamptz + g * interval '1 day' "
            f"FROM generate_series({self.last - 2}, {self.last}) g"
        )
        if self.mode == "merge":
            self.connection.execute(
                f"UPDATE {self.schema}.s SET v = 'again', at = {self.last} "
                f"WHERE id = {self.last // 2}"
            )

    def rows(self, table: str = "s") -> Rows:
        asked = f"SELECT * FROM {self.schema}.{table} ORDER BY id, at"
        if self.mode == "changes" and table == "s":
            asked = (
                "SELECT id, at, v, price, moment FROM (SELECT DISTINCT ON (id) * FROM "
                f"{self.schema}.s ORDER BY id, at DESC) c WHERE _op <> 'delete' ORDER BY id, at"
            )
        return [tuple(row) for row in self.connection.execute(asked)]

    def leftovers(self) -> list[str]:
        asked = "SELECT tablename FROM pg_tables WHERE schemaname = %s"
        names = {name for (name,) in self.connection.execute(asked, [self.schema])}
        ledger = self.connection.execute(f"SELECT name FROM {self.schema}._hygge_ledger")
        return sorted(names - {"s", "t", "_hygge_heads", "_hygge_ledger"}) + [n for (n,) in ledger]


def flow(mode: str, url: str, schema: str, folder: Path) -> Flow:
    cursor = None if mode in ("replace", "adopt") else "at"
    changes = mode == "changes"
    home = SQLHome("s", table=f"{schema}.s", connection=url, cursor=cursor, changes=changes)
    adopt = {"adopt": mode == "adopt"}
    store = SQLStore("t", table=f"{schema}.t", connection=url, options=adopt)
    mode = {"adopt": "replace", "changes": "merge"}.get(mode, mode)
    key = ["id"] if mode == "merge" else []
    return Flow(home, store, name="f", mode=mode, key=key, engine="inline", state=folder / "state")


def forked(work: Callable[[], object]) -> int:
    """Run `work` in a child process; return its exit code, negative for a signal."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        except BaseException as error:
            sys.stderr.write(repr(error))
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def dying(moving: Flow, point: int) -> Callable[[], object]:
    """Return the work of a run that is killed at the point of this number."""
    number, open_changes = 0, set()

    def reached() -> None:
        nonlocal number
        if number == point:
            os.kill(os.getpid(), signal.SIGKILL)
        number += 1

    def watched(real: Callable[..., object]) -> Callable[..., object]:
        def called(cursor: psycopg.Cursor, query: object, *more: object, **named: object) -> object:
            if CHANGES.match(str(query)):
                reached()
                open_changes.add(cursor.connection)
            return real(cursor, query, *more, **named)

        return called

    def commit(connection: psycopg.Connection) -> None:
        changed = connection in open_changes
        open_changes.discard(connection)
        if changed:
            reached()
        real_commit(connection)
        if changed:
            reached()

    real_commit = psycopg.Connection.commit

    def work() -> None:
        psycopg.Cursor.execute = watched(psycopg.Cursor.execute)
        psycopg.Cursor.executemany = watched(psycopg.Cursor.executemany)
        psycopg.Cursor.copy = watched(psycopg.Cursor.copy)
        psycopg.Connection.commit = commit
        moving.run()

    return work


def head_apart() -> None:
    """Break the store: commit the rows first, and move the head in a transaction of its own."""
    real = sql_commit.move_head

    def apart(connection: object, *given: object) -> None:
        connection.connection.dbapi_connection.commit()
        real(connection, *given)

    sql_commit.move_head = apart


Dying = Callable[[Flow, int], Callable[[], object]]


def kill_at_each(source: Source, moving: Flow, dying: Dying, point: int, step: int) -> None:
    """Kill the run at each point, and run it again; print the number of points and what is wrong.

    `dying` gives the work of a run that is killed at the point of a number.
    """
    os.fsync = lambda file: None  # processes die here, never the machine
    wrong = []
    source.grow()
    moving.run()  # here, so that no child has to import anything
    while True:
        old = source.rows("t")
        source.grow()
        new = source.rows()
        ended = forked(dying(moving, point))
        seen = source.rows("t")
        if seen not in (old, new):
            wrong.append(f"point {point}: a reader saw {len(seen)} rows after the death")
        if forked(moving.run) != 0:
            wrong.append(f"point {point}: the next run failed")
        elif source.rows("t") != new:
            wrong.append(f"point {point}: {len(source.rows('t'))} rows, {len(new)} are due")
        if source.leftovers():
            wrong.append(f"point {point}: {source.leftovers()} is left")
        if ended != -signal.SIGKILL or (wrong and len(sys.argv) > 5):  # enough for a twin
            if ended not in (0, -signal.SIGKILL):
                wrong.append(f"point {point}: ended with {ended}")
            break
        point += step
    sys.stdout.write(json.dumps({"points": point, "wrong": wrong}))


def main(dying: Dying, through: str = "postgresql:") -> None:
    """Kill a run at its points as the command line says; its URL begins with `through`."""
    # What stands before the commit is the same in every mode: tried in one of them.
    first, step = (
        {
            "append": 0,
            "replace": 10,
            "merge": 8,
            "adopt": 12,
            "changes": 9,
        }[sys.argv[1]],
        STEP,
    )
    if sys.argv[5:] == ["head apart"]:
        head_apart()
        first, step = 10, 1
    mode, url, schema, folder = sys.argv[1:5]
    moving = flow(mode, url.replace("postgresql:", through), schema, Path(folder))
    kill_at_each(Source(mode, url, schema), moving, dying, first, step)


if __name__ == "__main__":
    main(dying)
