"""One state for all splits, whatever others do to the database while a flow runs."""

from __future__ import annotations

import threading
import time

import psycopg
import pytest

from hygge import FlowFailed, ParquetHome, ParquetStore, SQLHome
from hygge.connectors.databases.connection import connection_url
from hygge.connectors.postgres import catalog
from hygge.connectors.postgres import home as pg_home
from hygge.connectors.postgres import snapshot as pg_snapshot
from hygge.errors import HomeError, SourceChanged, Transient
from tests.connectors.postgres.test_home import each_once, home_of, numbers, rows_of
from tests.servers.postgres import Heard, Proxy, flow
from tests.waiting import join, until

pytest_plugins = ["tests.servers.postgres"]


def wait_for(pg, sql, *values):
    until(lambda: pg.ask(sql, *values), f"never: {sql}")


def read(home, plan):
    return [row for split in plan.splits for each in home.read(split) for row in each.to_pylist()]


def must_wait(pg, change):
    with (
        pg.connect(options="-c lock_timeout=50ms") as other,
        pytest.raises(psycopg.errors.LockNotAvailable),
    ):
        other.execute(change)


STANDS = "CASE WHEN n % 10000 = 9000 THEN pg_advisory_xact_lock_shared(7) IS NOT NULL ELSE true END"
"""Of the rows of a split all are sent but the last ones, until nobody holds that lock."""


def hold(connection):
    connection.execute("SELECT pg_advisory_lock(7)")


def test_money_that_moves_meanwhile_is_neither_lost_nor_doubled(pg, schema):
    pg.ask(f"CREATE TABLE {schema}.accounts (id int PRIMARY KEY, money int)")
    pg.ask(f"INSERT INTO {schema}.accounts SELECT n, 100 FROM generate_series(0, 1999) n")
    pg.ask(f"ANALYZE {schema}.accounts")
    stop, moves = threading.Event(), [0]

    def write():
        with pg.connect() as connection:
            while not stop.wait(0.005):
                moves[0] += 1
                one, two = moves[0] * 7 % 2000, moves[0] * 13 % 2000
                connection.execute(
                    f"UPDATE {schema}.accounts SET money = money + CASE id WHEN {one} THEN -1 "
                    f"ELSE 1 END WHERE id IN ({one}, {two}) AND {one} <> {two}"
                )

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for settings in ({}, {"split_by": "id"}):
            home = home_of(pg, f"{schema}.accounts", 8, options={"batch_size": 50}, **settings)
            with home.open() as plan:
                assert len(plan.splits) > 3
                before, rows = moves[0], []
                for split in plan.splits:
                    for each in home.read(split):
                        rows += each.to_pylist()
                    until(lambda: moves[0] > before, "nobody can write")  # noqa: B023
            assert moves[0] > before
            assert len({row["id"] for row in rows}) == len(rows) == 2000
            assert sum(row["money"] for row in rows) == 200_000
    finally:
        stop.set()
        writer.join()


def test_nobody_writes_the_table_anew_while_a_run_holds_its_snapshot(pg, schema):
    wanted = numbers(pg, schema)
    home = home_of(pg, f"{schema}.t", 4)
    with home.open() as plan:
        for change in (f"TRUNCATE {schema}.t", f"VACUUM FULL {schema}.t", f"DROP TABLE {schema}.t"):
            must_wait(pg, change)
        pg.ask(f"UPDATE {schema}.t SET v = 'changed'")
        pg.ask(f"DELETE FROM {schema}.t WHERE n < 500")
        pg.ask(f"VACUUM {schema}.t")
        assert sorted((row["n"], row["v"]) for row in read(home, plan)) == sorted(wanted)
    pg.ask(f"TRUNCATE {schema}.t")
    each_once(home, [])


def only_some_columns(pg, schema):
    role = f"some{schema}"
    pg.ask(f"CREATE ROLE {role} LOGIN PASSWORD 'x'")
    pg.ask(f"GRANT USAGE ON SCHEMA {schema} TO {role}")
    pg.ask(f"GRANT SELECT (n, v) ON {schema}.t TO {role}")
    return f"postgresql://{role}:x@127.0.0.1:{pg.port}/postgres"


@pytest.mark.parametrize("rights", ["all", "some columns", "a view"])
def test_a_truncate_under_way_is_waited_for_and_its_rows_are_read(pg, schema, rights):
    numbers(pg, schema)
    home = home_of(pg, f"{schema}.t", 3)
    if rights == "some columns":  # who may not LOCK has a snapshot before the lock
        home = SQLHome(table=f"{schema}.t", connection=only_some_columns(pg, schema))
    if rights == "a view":
        pg.ask(f"CREATE VIEW {schema}.v AS SELECT * FROM {schema}.t")
        home = home_of(pg, f"{schema}.v")
    came = []
    with pg.connect() as other:
        other.execute("BEGIN")
        other.execute(f"TRUNCATE {schema}.t")
        other.execute(f"INSERT INTO {schema}.t SELECT n, 'new' FROM generate_series(1, 5) n")
        planning = threading.Thread(target=lambda: came.append(rows_of(home)))
        planning.start()
        wait_for(pg, "SELECT 1 FROM pg_locks WHERE relation = %s::regclass AND NOT granted",
                 f"{schema}.t")  # fmt: skip
        other.execute("COMMIT")
        join(planning)
    rows = [row for part in came[0][1] for row in part]
    assert sorted(row["n"] for row in rows) == [1, 2, 3, 4, 5]


def test_a_table_that_is_written_anew_between_snapshot_and_lock_is_planned_again(
    pg, schema, monkeypatch
):
    numbers(pg, schema)
    home = SQLHome(table=f"{schema}.t", connection=only_some_columns(pg, schema))
    find, tries = catalog.find, []

    def first_truncated(connection, ask):
        inside = connection.info.transaction_status == psycopg.pq.TransactionStatus.INTRANS
        if inside and not any(tries):  # the snapshot is there, no lock is
            pg.ask(f"TRUNCATE {schema}.t")
            pg.ask(f"INSERT INTO {schema}.t SELECT n, 'new' FROM generate_series(1, 5) n")
        tries.append(inside)
        return find(connection, ask)

    monkeypatch.setattr(catalog, "find", first_truncated)
    _, parts = rows_of(home)
    assert sorted(row["n"] for part in parts for row in part) == [1, 2, 3, 4, 5]


def test_a_materialised_view_that_is_refreshed_meanwhile(pg, schema):
    wanted = numbers(pg, schema)
    pg.ask(f"CREATE MATERIALIZED VIEW {schema}.m AS SELECT * FROM {schema}.t")
    home = home_of(pg, f"{schema}.m", 3)
    with home.open() as plan:
        pg.ask(f"TRUNCATE {schema}.t")
        must_wait(pg, f"REFRESH MATERIALIZED VIEW {schema}.m")
        assert sorted((row["n"], row["v"]) for row in read(home, plan)) == sorted(wanted)


def test_who_holds_the_lock_is_named(pg, schema):
    numbers(pg, schema)
    home = SQLHome(
        table=f"{schema}.t", connection=pg.url + "?options=-c%20lock_timeout%3D200ms",
        options={"splits": 2},
    )  # fmt: skip
    with pg.connect(application_name="a nightly job") as other:
        other.execute("BEGIN")
        other.execute(f"LOCK TABLE {schema}.t")
        pid = other.info.backend_pid
        with pytest.raises(Transient, match=f"session {pid} \\(a nightly job\\) holds") as caught:
            home.open().__enter__()
        assert f"pg_terminate_backend({pid})" in caught.value.hint
    # Who waits for such a lock keeps later readers out, too.
    with home.open() as plan, pg.connect(application_name="waiting") as other:
        waiting = threading.Thread(target=lambda: refused(other, f"TRUNCATE {schema}.t"))
        waiting.start()
        wait_for(pg, "SELECT 1 FROM pg_locks WHERE relation = %s::regclass AND NOT granted",
                 f"{schema}.t")  # fmt: skip
        with pytest.raises(Transient, match="\\(waiting\\) waits for an exclusive lock"):
            read(home, plan)
        other.cancel()
        waiting.join()
        assert len(read(home, plan)) == 1000


def refused(connection, sql):
    with pytest.raises(psycopg.errors.QueryCanceled):
        connection.execute(sql)


def test_a_restart_of_the_server_ends_the_run_and_says_so(pg, schema):
    numbers(pg, schema, 30_000)
    home = home_of(pg, f"{schema}.t", 3, options={"batch_size": 100}, where=STANDS)
    with home.open() as plan, pg.connect() as holder:
        hold(holder)
        reading = home.read(plan.splits[1])
        next(reading)
        pg.restart()
        with pytest.raises(Transient):
            list(reading)
        with pytest.raises(SourceChanged, match="is gone") as caught:
            read(home, plan)
        assert "restarted" in caught.value.hint
    each_once(home, pg.ask(f"SELECT n, v FROM {schema}.t"))


def test_a_driver_that_lost_its_session_does_not_read_another_state(pg, schema):
    numbers(pg, schema)
    home = home_of(pg, f"{schema}.t", 3)
    home.flow = "lost"
    with home.open() as plan:
        pg.ask("SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
               "WHERE application_name = 'hygge/lost'")  # fmt: skip
        wait_for(pg, "SELECT 1 WHERE NOT EXISTS (SELECT FROM pg_stat_activity "
                     "WHERE application_name = 'hygge/lost')")  # fmt: skip
        pg.ask(f"DELETE FROM {schema}.t WHERE n = 1")
        with pytest.raises(SourceChanged, match="session of the driver"):
            read(home, plan)


def test_what_fails_while_the_snapshot_is_held_is_not_blamed_on_the_home(pg, schema):
    numbers(pg, schema)
    theirs = psycopg.errors.LockNotAvailable("of a store that somebody wrote")
    with (
        pytest.raises(psycopg.errors.LockNotAvailable) as caught,
        home_of(pg, f"{schema}.t").open(),
    ):
        raise theirs
    assert caught.value is theirs


def test_the_driver_waits_in_its_transaction_for_as_long_as_it_takes(pg, schema):
    wanted = numbers(pg, schema)
    short = (
        "?options=-c%20idle_in_transaction_session_timeout%3D100ms%20-c%20transaction_timeout%3D1s"
    )
    home = SQLHome(table=f"{schema}.t", connection=pg.url + short, options={"splits": 2})
    with home.open() as plan:
        time.sleep(1.3)
        assert len(read(home, plan)) == len(wanted)


def test_cut_connections_are_tried_again_and_every_row_comes_once(pg, schema, tmp_path):
    wanted = numbers(pg, schema, 5000)
    count = [0]

    def budget():  # the driver's connection lives; the second one is cut, and each third after it
        count[0] += 1
        return None if count[0] % 3 != 2 else 40_000 + count[0] * 1000

    with Proxy(pg.port, budget) as proxy:
        home = SQLHome(table=f"{schema}.t", connection=proxy.url(), options={"splits": 6})
        heard = Heard()
        report = flow(home, ParquetStore(path=tmp_path / "out")).run(heard)
        assert proxy.cuts > 0
    assert report.retries > 0
    assert report.rows == 5000
    _, parts = rows_of(ParquetHome(path=tmp_path / "out"))
    assert sorted((row["n"], row["v"]) for part in parts for row in part) == sorted(wanted)


def test_a_retried_split_ends_the_session_of_its_dead_predecessor_and_no_other(pg, schema):
    numbers(pg, schema, 30_000)
    home = home_of(pg, f"{schema}.t", 3, options={"batch_size": 100}, where=STANDS)
    home.flow = "x" * 80
    with home.open() as plan, pg.connect() as holder:
        hold(holder)
        dead, other = home.read(plan.splits[0]), home.read(plan.splits[1])
        next(dead)
        next(other)
        again = home.read(plan.splits[0])
        rows = next(again).num_rows
        holder.execute("SELECT pg_advisory_unlock(7)")
        assert rows + sum(each.num_rows for each in again) > 9000
        with pytest.raises(Transient):
            list(dead)
        assert sum(each.num_rows for each in other) > 9000


def test_reading_that_is_given_up_stops_at_the_server(pg, schema):
    home = home_of(pg, query="SELECT n, pg_sleep(n / 1000) FROM generate_series(1, 99999) n",
                   options={"batch_size": 10})  # fmt: skip
    home.flow = "given up"
    with home.open() as plan:
        reading = home.read(plan.splits[0])
        next(reading)
        reading.close()
        wait_for(pg, "SELECT 1 WHERE NOT EXISTS (SELECT FROM pg_stat_activity "
                     "WHERE application_name LIKE 'hygge/given up/%%' AND %s = 1)", 1)  # fmt: skip


def test_many_tables_share_one_snapshot_that_somebody_holds(pg, schema):
    for name in ("a", "b"):
        pg.ask(f"CREATE TABLE {schema}.{name} (n int)")
        pg.ask(f"INSERT INTO {schema}.{name} VALUES (1)")
    tables, url = [f"{schema}.a", f"{schema}.b"], connection_url(pg.url, "test")
    with pg_home.held(url, "all tables", "f", tables, lambda: 2) as (snapshot, _):
        for name in tables:
            pg.ask(f"INSERT INTO {name} VALUES (2)")
            must_wait(pg, f"TRUNCATE {name}")
        for name in tables:
            home = home_of(pg, name)
            home.snapshot = snapshot
            plan = each_once(home, [(1,)], 1)
            assert snapshot in plan.snapshot
    wait_for(pg, "SELECT 1 WHERE NOT EXISTS (SELECT FROM pg_stat_activity "
                 "WHERE application_name LIKE 'hygge/%%' AND %s = 1)", 1)  # fmt: skip
    with pytest.raises(SourceChanged, match="is gone"):
        home.open().__enter__()
    missing = pg_home.held(url, "all", "f", ["nowhere"], lambda: 2)
    with pytest.raises(HomeError, match="nowhere"), missing:
        pass


def test_a_conflict_on_a_replica_is_tried_again_with_a_hint(pg):
    said = "canceling statement due to conflict with recovery"
    url = connection_url(pg.url, "test")
    with (
        pytest.raises(Transient, match="conflict with recovery") as caught,
        pg_snapshot.reading(url, "who", "hygge/f"),
    ):
        raise psycopg.errors.SerializationFailure(said)
    assert "hot_standby_feedback" in caught.value.hint


def test_a_flow_whose_snapshot_is_lost_fails_with_its_reason(pg, schema, tmp_path):
    numbers(pg, schema, 5000)
    home = home_of(pg, f"{schema}.t", 3)
    read_one = home.read

    def reads(split):
        if split.index == 1:
            pg.restart()
        return read_one(split)

    home.read = reads
    with pytest.raises(FlowFailed, match="snapshot .* is gone"):
        flow(home, ParquetStore(path=tmp_path / "out")).run(Heard())
    assert not list((tmp_path / "out").glob("*.parquet"))
