"""SQLStore on PostgreSQL: readers who look at the table again and again while it is replaced."""

from __future__ import annotations

import threading
import time

import psycopg
import pyarrow as pa
import pytest

from hygge.connectors.databases.home import SQLHome
from hygge.connectors.postgres import publish
from hygge.model import Run, Ticket
from tests.servers.postgres import flow, moved, store_at
from tests.waiting import LIMIT_S, join, until

pytest_plugins = ["tests.servers.postgres"]

LEVELS = ["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"]


def version(number, count=40):
    """Return the rows of one version of the table; their number tells the version, too."""
    return pa.table({"n": range(count + number), "version": [number] * (count + number)})


class Reader(threading.Thread):
    """Looks at a table in short transactions of one level of isolation, twice in each."""

    def __init__(self, pg, schema, level, pause):
        super().__init__(daemon=True)
        self.pg, self.table, self.level, self.pause = pg, f"{schema}.t", level, pause
        self.seen, self.wrong, self.done = set(), [], threading.Event()
        self.looks = 0

    def run(self):
        asked = f"SELECT version, count(*) FROM {self.table} GROUP BY version"
        with self.pg.connect() as connection:
            connection.prepare_threshold = 0  # plans are kept, as an application keeps them
            while not self.done.is_set():
                connection.execute(f"BEGIN ISOLATION LEVEL {self.level}")
                try:
                    connection.execute("SELECT 1 FROM pg_class LIMIT 1")  # takes the snapshot
                    time.sleep(self.pause)
                    first = connection.execute(asked).fetchall()
                    second = connection.execute(asked).fetchall()
                except psycopg.Error as error:
                    self.wrong.append(repr(error))
                    first = second = []
                connection.execute("ROLLBACK")
                time.sleep(0.03)
                for rows in (first, second):
                    if len(rows) != 1 or rows[0][1] != 40 + rows[0][0]:
                        self.wrong.append(f"{self.level} saw {rows}")
                    self.seen.update(rows)
                if self.level != "READ COMMITTED" and first != second:
                    self.wrong.append(f"{self.level} saw {first}, then {second}")
                self.looks += 1


def after(looks, *readers):
    """Until each of the readers has ended so many looks more."""
    wanted = [each.looks + looks for each in readers]
    seen = lambda: [each.looks for each in readers]  # noqa: E731
    until(lambda: all(n >= w for n, w in zip(seen(), wanted, strict=True)), lambda: str(seen()))


def test_whoever_looks_at_a_table_that_is_replaced_sees_one_version_of_it(pg, schema, monkeypatch):
    monkeypatch.setattr(publish, "SWAP_WAIT_MS", 100)
    store = store_at(pg.url, schema)
    moved(store, Run("r0", "f"), version(0))
    readers = [Reader(pg, schema, level, pause) for level in LEVELS for pause in (0, 0.4)]
    oids, oid = set(), f"SELECT '{schema}.t'::regclass::oid"
    for each in readers:
        each.start()
    number = 0
    over = time.monotonic() + LIMIT_S
    while number < 7 or (len(oids) == 1 and time.monotonic() < over):
        number += 1
        run, base, rows = Run(f"r{number}", "f"), store.head("f"), version(number)
        store.prepare(run, rows.schema)
        receipts = []
        for split in (0, 1):
            half = rows.slice(split * 20, 20 if split == 0 else None)
            receipts.append(store.stage(Ticket(run.id, split), rows.schema, iter([half])))
        if number % 2:
            after(1, *readers)  # who looked before the load is through: an exchange may be
        store.commit(run, base, receipts, None)
        store.discard(run)
        oids.add(pg.ask(oid)[0][0])
        if number < 4:
            after(2, *readers)  # the second look has begun after the commit
    for each in readers:
        each.done.set()
    join(*readers)
    assert [each.wrong[:2] for each in readers if each.wrong] == []
    assert len(oids) > 1, "it was never exchanged"
    assert all(len(each.seen) > 2 for each in readers), "they have seen too little to tell"


@pytest.mark.parametrize("mode", ["replace", "append"])
def test_the_snapshot_that_the_flow_itself_holds_is_no_reader(pg, schema, mode):
    """From one table to another of the same database; the flow's own snapshot is the oldest."""
    pg.ask(f"CREATE TABLE {schema}.s AS SELECT g AS n FROM generate_series(1, 100) g")
    home = SQLHome("s", table=f"{schema}.s", connection=pg.url)
    oids = []
    for _ in range(2):
        report = flow(home, store_at(pg.url, schema), mode=mode).run()
        assert report.rows == 100
        oids.append(pg.ask(f"SELECT '{schema}.t'::regclass::oid")[0][0])
    assert (oids[0] != oids[1]) is (mode == "replace")
    made = pg.ask(f"SELECT count(*) FROM {schema}.t")
    assert made == [(100 if mode == "replace" else 200,)]


def test_the_snapshot_of_another_flow_is_a_reader(pg, schema):
    store = store_at(pg.url, schema)
    moved(store, Run("r0", "f"), version(0))
    other = SQLHome("t", table=f"{schema}.t", connection=pg.url, options={"splits": 2})
    other.flow = "another"
    before = pg.ask(f"SELECT '{schema}.t'::regclass::oid")
    with other.open() as plan:
        rows = [table.num_rows for split in plan.splits[:1] for table in other.read(split)]
        moved(store, Run("r1", "f"), version(1))
        rows += [table.num_rows for split in plan.splits[1:] for table in other.read(split)]
    assert sum(rows) == 40
    assert pg.ask(f"SELECT '{schema}.t'::regclass::oid") == before
