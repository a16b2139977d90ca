"""Kill a run at each of its statements that change something in MariaDB, and run it again.

This is a process of its own, without Ray: it forks a driver for each point. The statements are
found by interposition on pymysql, not by hand; a driver that dies before a statement has died after
the one before it. Nothing is reset between two points: the source grows and changes, so each point
is reached after a history of deaths. Prints one JSON line: the number of points, and what went
wrong. `HYGGE_CRASH=all` tries each point; otherwise every third is tried, in each mode another
third.

    python -m tests.crash.mariadb_points <mode> <url> <schema> <folder> [head apart]
"""

from __future__ import annotations

import json
import os
import re
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pymysql
from pymysql.connections import Connection
from sqlalchemy.engine import make_url

from hygge import Flow, SQLHome, SQLStore
from hygge.connectors.mariadb import publish
from tests.crash.points import STEP
from tests.crash.postgres_points import forked

CHANGES = re.compile(
    r"\s*(/\*.*?\*/)?\s*"
    r"(INSERT|REPLACE|UPDATE|DELETE|CREATE|DROP|ALTER|RENAME|LOAD|COMMIT|ROLLBACK)\b"
)
Rows = list[tuple[object, ...]]


class Source:
    """A table that grows and, for merges, changes; by pymysql alone, without hygge."""

    def __init__(self, mode: str, url: str, schema: str) -> None:
        parsed = make_url(url)
        self.mode, self.schema, self.last = mode, schema, 0
        self.connection = pymysql.connect(
            host=parsed.host, port=parsed.port, user=parsed.username, database=schema,
            autocommit=True, charset="utf8mb4",
        )  # fmt: skip
        self.ask(
            "CREATE TABLE s (id bigint PRIMARY KEY, at bigint NOT NULL, v varchar(20), "
            "price decimal(20, 4), moment datetime(6)) ENGINE = InnoDB"
        )
        if mode == "adopt":
            self.ask("CREATE TABLE t LIKE s")
        if mode == "changes":
            self.ask("ALTER TABLE s ADD _op varchar(9), DROP PRIMARY KEY, ADD PRIMARY KEY (at)")

    def ask(self, sql: str) -> Rows:
        with self.connection.cursor() as cursor:
            cursor.execute(sql)
            return [tuple(row) for row in cursor.fetchall()]

    def grow(self) -> None:
        self.last += 3
        if self.mode == "changes":
            at = 10 * self.last
            self.ask(
                f"INSERT INTO s SELECT seq, {at} + seq % 3, CONCAT('v', seq), seq / 7, NULL, "
                f"'insert' FROM seq_{self.last - 2}_to_{self.last}"
            )
            self.ask(
                f"INSERT INTO s (id, at, _op) VALUES ({self.last // 2}, {at + 3}, 'delete'), "
                f"(-{self.last}, {at + 4}, 'insert'), (-{self.last}, {at + 5}, 'delete')"
            )
            return
        self.ask(
            "INSERT INTO s SELECT seq, seq, NULLIF(CONCAT('v', seq), 'v2'), seq / 7, "
            "TIMESTAMP'2024-01-01 00:00:00.000001' + INTERVAL seq DAY "
            f"FROM seq_{self.last - 2}_to_{self.last}"
        )
        if self.mode == "merge":
            self.ask(f"UPDATE s SET v = 'again', at = {self.last} WHERE id = {self.last // 2}")

    def rows(self, table: str = "s") -> Rows:
        if self.mode == "changes" and table == "s":
            last = "at = (SELECT MAX(at) FROM s l WHERE l.id = s.id)"
            return self.ask(
                "SELECT id, at, v, price, moment FROM s "
                f"WHERE _op <> 'delete' AND {last} ORDER BY id, at"
            )
        return self.ask(f"SELECT * FROM {table} ORDER BY id, at")

    def leftovers(self) -> list[str]:
        names = {name for (name,) in self.ask("SHOW TABLES")}
        ledger = [str(name) for (name,) in self.ask("SELECT name FROM _hygge_ledger")]
        return sorted(names - {"s", "t", "_hygge_heads", "_hygge_ledger"}) + ledger


def flow(mode: str, url: str, folder: Path) -> Flow:
    cursor = None if mode in ("replace", "adopt") else "at"
    home = SQLHome("s", connection=url, cursor=cursor, changes=mode == "changes")
    store = SQLStore("t", connection=url, options={"adopt": mode == "adopt"})
    mode = {"adopt": "replace", "changes": "merge"}.get(mode, mode)
    key = ["id"] if mode == "merge" else []
    return Flow(home, store, name="f", mode=mode, key=key, engine="inline", state=folder / "state")


def dying(flow: Flow, point: int) -> Callable[[], object]:
    """Return a run that kills itself at the point of that number."""
    number = 0
    real = Connection._execute_command

    def command(connection: Connection, kind: int, sql: str | bytes) -> None:
        nonlocal number
        text = sql if isinstance(sql, str) else sql.decode("latin1")
        if CHANGES.match(text):
            if number == point:
                os.kill(os.getpid(), signal.SIGKILL)
            number += 1
        real(connection, kind, sql)

    def work() -> None:
        Connection._execute_command = command
        flow.run()

    return work


def move_head_apart() -> None:
    """Break the commit: the rows are committed, and then the head moves."""
    real = publish.move_head

    def apart(connection: Connection, *given: object) -> object:
        publish.execute(connection, "COMMIT")
        return real(connection, *given)

    publish.move_head = apart


def rename_heads_apart() -> None:
    """Break the commit: the table and the heads are renamed one after the other."""
    real = publish.execute

    def apart(connection: Connection, sql: str) -> int:
        if sql.startswith("RENAME"):
            *rows, old, new = sql.removeprefix("RENAME TABLE ").split(", ")
            real(connection, f"RENAME TABLE {', '.join(rows)}")
            return real(connection, f"RENAME TABLE {old}, {new}")
        return real(connection, sql)

    publish.execute = apart


def main(mode: str, url: str, schema: str, folder: Path, point: int, step: int) -> None:
    os.fsync = lambda file: None  # processes die here, never the machine
    source, wrong, twin = Source(mode, url, schema), [], len(sys.argv) > 5
    work = flow(mode, url, folder)
    source.grow()
    work.run()  # here, so that no child has to import anything
    while True:
        old = source.rows("t")
        source.grow()
        new = source.rows()
        ended = forked(dying(work, point))
        seen = source.rows("t")
        if seen not in (old, new):
            wrong.append(f"point {point}: a reader saw {len(seen)} rows after the death")
        if mode in ("replace", "adopt") and source.ask("SELECT `rows` FROM _hygge_heads") != [
            (len(seen),)
        ]:
            wrong.append(f"point {point}: the head is of other rows than the {len(seen)} there")
        if forked(work.run) != 0:
            wrong.append(f"point {point}: the next run failed")
        elif source.rows("t") != new:
            wrong.append(f"point {point}: {len(source.rows('t'))} rows, {len(new)} are due")
        if source.leftovers():
            wrong.append(f"point {point}: {source.leftovers()} is left")
        if ended != -signal.SIGKILL or (wrong and twin):  # enough for a twin
            if ended not in (0, -signal.SIGKILL):
                wrong.append(f"point {point}: ended with {ended}")
            break
        point += step
    sys.stdout.write(json.dumps({"points": point, "wrong": wrong}))


if __name__ == "__main__":
    # For a twin, where its commit begins: what stands before is as it is.
    modes = ("append", "replace", "merge", "adopt", "changes")
    first, step = modes.index(sys.argv[1]) % STEP, STEP
    if sys.argv[5:] == ["head apart"]:
        move_head_apart()
        first, step = 12, 1
    if sys.argv[5:] == ["rename apart"]:
        rename_heads_apart()
        first, step = 24, 1
    main(sys.argv[1], sys.argv[2], sys.argv[3], Path(sys.argv[4]), first, step)
