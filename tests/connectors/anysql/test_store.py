"""Any database through SQLAlchemy, proven on PostgreSQL through a driver without a fast path."""

from __future__ import annotations

import os
import signal
from concurrent.futures.process import BrokenProcessPool

import pytest

from hygge.connectors.anysql import store as sql_store
from hygge.connectors.databases.home import SQLHome
from hygge.connectors.databases.store import SQLStore
from hygge.connectors.postgres import store as pg_store
from hygge.errors import Superseded
from hygge.model import Run, Ticket
from hygge.testing import StoreContract
from hygge.testing.probes import in_worker
from tests.servers.postgres import (
    MORE,
    ROWS,
    Numbers,
    each_once,
    flow,
    moved,
    rows_of,
    seen,
    staged,
)

pytest_plugins = ["tests.servers.postgres"]


def generic(pg, schema, table="t"):
    url = pg.url.replace("postgresql:", "postgresql+psycopg2:")
    return SQLStore("t", table=f"{schema}.{table}", connection=url)


@pytest.fixture
def store(pg, schema):
    found = generic(pg, schema)
    assert found._verbs() is sql_store
    return found


class TestThroughAnotherDriver:
    """The promises that lean most on the database, of the suite that the fast path keeps too."""

    big_batches = 2

    @pytest.fixture(autouse=True)
    def _server(self, pg):
        self.server = pg

    def make(self, tmp_path):
        return generic(self.server, self.server.schema())

    def rows(self, store):
        return rows_of(self.server, store.table)

    make_exactly_once = StoreContract.make_exactly_once
    skip_without_mode = StoreContract.skip_without_mode
    assert_shows, assert_refused = StoreContract.assert_shows, StoreContract.assert_refused
    test_zombie = StoreContract.test_a_zombie_that_goes_on_after_the_commit_changes_nothing
    test_died = StoreContract.test_a_run_that_died_is_gone_on_with
    test_two = StoreContract.test_of_two_commits_at_once_one_wins
    test_merging = StoreContract.test_merging_updates_and_inserts
    test_past = StoreContract.test_a_run_of_the_past_cannot_commit_again
    test_reader = StoreContract.test_a_reader_sees_the_old_rows_or_the_new


@pytest.mark.parametrize("mode", ["replace", "append", "merge"])
def test_rows_are_moved_both_ways(pg, schema, store, mode):
    pg.ask(f"CREATE TABLE {schema}.s AS SELECT g AS id, 'v' || g AS v FROM generate_series(1, 9) g")
    home = SQLHome("s", table=f"{schema}.s", connection=store.settings.connection)
    for _ in range(2):
        report = flow(home, store, mode=mode, key=["id"] if mode == "merge" else []).run()
        assert report.rows == 9
    assert len(seen(pg, schema)) == (18 if mode == "append" else 9)


def kill_in_mid_load(store):
    def batches():
        yield ROWS
        os.kill(os.getpid(), signal.SIGKILL)

    store.stage(Ticket("r1", 0), ROWS.schema, batches())


def test_a_worker_that_is_killed_leaves_nothing(pg, schema, store):
    run = Run("r1", "f")
    store.prepare(run, ROWS.schema)
    with pytest.raises(BrokenProcessPool):
        in_worker(kill_in_mid_load, store)
    again = store.stage(Ticket("r1", 0, n=1), MORE.schema, iter([MORE]))
    assert again.ticket.n == 1
    assert store.commit(run, None, [again], None).applied == 2
    assert seen(pg, schema) == [(3, "c"), (4, "d")]


def test_both_paths_share_heads_ledger_and_tables(pg, schema, store):
    fast = SQLStore("t", table=f"{schema}.t", connection=pg.url)
    assert fast._verbs() is pg_store
    moved(store, Run("r0", "f"), ROWS)
    moved(fast, Run("r1", "f"), MORE)
    assert seen(pg, schema) == [(3, "c"), (4, "d")]
    base, runs = fast.head("f"), (Run("r2", "f"), Run("r3", "f"))
    assert base == store.head("f")
    receipts = [staged(store, runs[0], ROWS), staged(fast, runs[1], ROWS)]
    assert store.commit(runs[0], base, receipts[0], None).applied == 3
    with pytest.raises(Superseded):
        fast.commit(runs[1], base, receipts[1], None)
    fast.discard(runs[0])  # each can clean up after the other
    store.discard(runs[1])
    names = pg.ask("SELECT tablename FROM pg_tables WHERE schemaname = %s", schema)
    assert {name for (name,) in names} == {"t", "_hygge_heads", "_hygge_ledger"}
    assert pg.ask(f"SELECT * FROM {schema}._hygge_ledger") == []


def test_a_restart_in_mid_split_is_tried_again(pg, schema, store):
    done = []

    def once(split):
        if not done:
            done.append(pg.restart())

    report = flow(Numbers(during=once), store).run()
    assert (report.rows, report.retries) == (2000, 1)
    assert each_once(pg, schema)
