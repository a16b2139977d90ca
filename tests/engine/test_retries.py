"""Errors that a retry may mend are retried a few times and reported; others stop at once."""

from __future__ import annotations

import signal
import sqlite3
import threading
from contextlib import closing, suppress

import psycopg
import pytest

from hygge.connectors.databases.home import SQLHome
from hygge.connectors.databases.store import SQLStore
from hygge.connectors.files.arrow import ArrowStore
from hygge.connectors.sqlite import session
from hygge.errors import FlowFailed, Transient
from hygge.model import Limits, Run
from hygge.run.flow import Flow
from tests.servers.postgres import QUICK, Heard, Numbers, Proxy, each_once, flow, seeded, store_at
from tests.waiting import until

pytest_plugins = ["tests.servers.postgres"]


def once(what):
    """Return a function that calls `what()` the first time, and then does nothing."""
    calls = []

    def during(*_):
        calls.append(1)
        if len(calls) == 1:
            what()

    return during


# The connection breaks


def test_a_connection_cut_while_staging_is_tried_again(pg, schema):
    heard = Heard()
    with Proxy(pg.port) as proxy:
        moving = flow(Numbers(during=once(proxy.cut)), store_at(proxy.url(), schema))
        report = moving.run(heard)
    assert (report.rows, report.retries) == (2000, 1)
    assert any("split 0 is tried again" in each for each in heard.words)
    assert each_once(pg, schema)


def test_a_server_that_crashes_while_staging_is_tried_again(pg, schema):
    heard = Heard()
    report = flow(Numbers(during=once(pg.restart)), store_at(pg.url, schema)).run(heard)
    assert (report.rows, report.retries) == (2000, 1)
    assert each_once(pg, schema)


def test_a_server_that_stops_while_staging_is_tried_again(pg, schema):
    def restart():
        pg.stop(signal.SIGINT)  # 57P01 to its clients
        pg.start()

    report = flow(Numbers(during=once(restart)), store_at(pg.url, schema)).run()
    assert (report.rows, report.retries) == (2000, 1)
    assert each_once(pg, schema)


def test_a_connection_cut_while_reading_is_tried_again(pg, schema, tmp_path):
    pg.ask(
        f"CREATE TABLE {schema}.s AS SELECT g AS id, repeat('x', 500) AS v "
        "FROM generate_series(1, 3000) g"
    )
    budgets = iter([None, 400_000, None, None])  # one holds the snapshot, one plans and reads
    with Proxy(pg.port, lambda: next(budgets)) as proxy:
        home = SQLHome("s", table=f"{schema}.s", connection=proxy.url())
        heard = Heard()
        report = flow(home, ArrowStore(path=tmp_path / "out")).run(heard)
    assert proxy.cuts == 1
    assert (report.rows, report.retries) == (3000, 1)
    assert "is tried again" in " ".join(heard.words)


@pytest.mark.parametrize("mode", ["replace", "append", "merge"])
@pytest.mark.parametrize("lost", ["the question", "the answer"])
def test_a_commit_whose_connection_breaks_is_settled_by_the_head(
    pg, schema, mode, lost, monkeypatch
):
    execute, commit = psycopg.Cursor.execute, psycopg.Connection.commit
    moving = []

    def watched(cursor, query, *more, **named):
        if "_hygge_heads" in str(query) and str(query).startswith("INSERT"):
            moving.append(cursor.connection)
        return execute(cursor, query, *more, **named)

    def cut(connection):
        if connection in moving and len(moving) == 1:
            moving.append("done")
            if lost == "the answer":
                proxy.next_answer_is_lost = True
            else:
                proxy.cut()
        commit(connection)

    monkeypatch.setattr(psycopg.Cursor, "execute", watched)
    monkeypatch.setattr(psycopg.Connection, "commit", cut)
    heard = Heard()
    with Proxy(pg.port) as proxy:
        key = {"key": ["id"]} if mode == "merge" else {}
        report = flow(Numbers(), store_at(proxy.url(), schema), mode=mode, **key).run(heard)
    assert "done" in moving
    assert report.rows == 2000
    assert each_once(pg, schema)
    done = lost == "the answer"
    assert ("settled by asking the head" in report.note) is done
    assert ("the commit is tried again" in " ".join(heard.words)) is not done


def test_a_flow_whose_connections_are_cut_at_random_ends_with_every_row_once(pg, schema):
    pg.ask(f"CREATE TABLE {schema}.s (id bigint, v text)")
    cuts, before, seed = 0, 0, 7
    for grown in (600, 900):
        pg.ask(
            f"INSERT INTO {schema}.s SELECT g, g::text FROM "
            f"generate_series({before + 1}, {grown}) g"
        )
        before = grown
        for mode in ("append", "replace", "merge"):
            seed += 1
            with Proxy(pg.port, seeded(seed, 2_000, 90_000)) as proxy:
                report = ended(pg, schema, proxy, mode)
                cuts += proxy.cuts
            rows = pg.ask(f"SELECT id, v FROM {schema}.{mode} ORDER BY id")
            assert rows == [(n, str(n)) for n in range(1, grown + 1)], report
    assert cuts >= 4


def ended(pg, schema, proxy, mode):
    """Run it until it ends well: a flow gives up after a few tries, people run it again."""
    home = SQLHome(
        "s", table=f"{schema}.s", connection=proxy.url(), split_by="id", options={"splits": 3},
        cursor=None if mode == "replace" else "id",
    )  # fmt: skip
    store = SQLStore("t", table=f"{schema}.{mode}", connection=proxy.url())
    key = {"key": ["id"]} if mode == "merge" else {}
    for _ in range(20):
        try:
            # A name a mode: each has a watermark of its own.
            return Flow(
                home, store, name=mode, mode=mode, engine="inline", limits=QUICK, **key
            ).run()
        except FlowFailed as failed:
            if not isinstance(failed.__cause__, Transient):
                raise
    raise AssertionError("it never ended")


# Locks and limits


def test_a_deadlock_is_tried_again(pg, schema):
    """Our commit of a merge and a writer of the table each wait for what the other holds.

    Ours is the last to wait, so that it is the one that finds the circle.
    """
    pg.ask(f"CREATE TABLE {schema}.t (id bigint PRIMARY KEY, v text)")
    pg.ask(f"CREATE TABLE {schema}.other (x int)")
    pg.ask(
        f"CREATE FUNCTION {schema}.touch() RETURNS trigger LANGUAGE plpgsql AS "
        f"$$BEGIN WHILE EXISTS (SELECT FROM pg_locks WHERE relation = '{schema}.other'::regclass) "
        f"AND NOT EXISTS (SELECT FROM pg_locks WHERE relation = '{schema}.t'::regclass "
        f"AND NOT granted) LOOP PERFORM pg_sleep(0.01); END LOOP; "
        f"LOCK TABLE {schema}.other; RETURN NEW; END$$"
    )
    pg.ask(
        f"CREATE TRIGGER x BEFORE INSERT ON {schema}.t FOR EACH STATEMENT "
        f"EXECUTE FUNCTION {schema}.touch()"
    )
    heard, state = Heard(), []
    with pg.connect() as foreign:
        foreign.execute("SET deadlock_timeout = '1h'")
        foreign.execute("BEGIN")
        foreign.execute(f"LOCK TABLE {schema}.other")

        def wait_for_each_other():
            ours = (
                f"SELECT 1 FROM pg_locks WHERE relation = '{schema}.t'::regclass "
                "AND mode = 'RowExclusiveLock' AND granted"
            )
            until(lambda: pg.ask(ours), "our commit does not write into the table")
            state.append(1)
            foreign.execute(f"LOCK TABLE {schema}.t IN EXCLUSIVE MODE")
            foreign.execute("COMMIT")

        waiting = threading.Thread(target=wait_for_each_other)
        waiting.start()
        report = flow(Numbers(), store_at(pg.url, schema), mode="merge", key=["id"]).run(heard)
        waiting.join()
    assert "deadlock detected" in " ".join(heard.words)
    assert report.rows == 2000
    assert each_once(pg, schema)


def test_a_lock_that_is_held_too_long_is_tried_again(pg, schema):
    pg.ask(f"CREATE TABLE {schema}.t (id bigint, v text)")
    heard = Heard()
    url = pg.url + "?options=-c%20lock_timeout%3D100ms"
    with pg.connect() as foreign:
        foreign.execute("BEGIN")
        foreign.execute(f"LOCK TABLE {schema}.t")
        heard.said = lambda flow, text: (heard.words.append(text), foreign.execute("COMMIT"))
        report = flow(Numbers(), store_at(url, schema), mode="append").run(heard)
    assert any("lock timeout" in each for each in heard.words)
    assert report.rows == 2000
    assert each_once(pg, schema)


def test_a_serialization_failure_while_reading_is_tried_again(pg, schema, tmp_path):
    """A standby raises it; here a function does, while nobody holds a lock."""
    pg.ask(
        f"CREATE FUNCTION {schema}.v(n bigint) RETURNS text LANGUAGE plpgsql AS $$BEGIN "
        "IF n = 500 AND pg_try_advisory_xact_lock(42) THEN "
        "RAISE 'conflict with recovery' USING ERRCODE = '40001'; END IF; RETURN n; END$$"
    )
    query = f"SELECT n AS id, {schema}.v(n) AS v FROM generate_series(1::bigint, 1000) n"
    pg.ask(f"CREATE VIEW {schema}.s AS {query}")
    heard = Heard()
    with pg.connect() as holder:
        held = "SELECT pg_advisory_lock(42)"
        heard.said = lambda flow, text: (heard.words.append(text), holder.execute(held))
        home = SQLHome("s", table=f"{schema}.s", connection=pg.url)
        report = flow(home, ArrowStore(path=tmp_path / "out")).run(heard)
    assert (report.rows, report.retries) == (1000, 1)
    assert "conflict with recovery" in heard.words[0]


@pytest.mark.parametrize("state", ["40001", "40P01", "55P03", "53300", "57P03", "08006"])
def test_what_the_server_says_of_itself_while_committing_is_tried_again(pg, schema, state):
    pg.ask(f"CREATE TABLE {schema}.t (id bigint, v text)")
    pg.ask(f"CREATE SEQUENCE {schema}.turns")
    pg.ask(
        f"CREATE FUNCTION {schema}.once() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN "
        f"IF nextval('{schema}.turns') = 1 THEN RAISE 'not now' USING ERRCODE = '{state}'; END IF; "
        "RETURN NULL; END$$"
    )
    pg.ask(
        f"CREATE CONSTRAINT TRIGGER x AFTER INSERT ON {schema}.t DEFERRABLE INITIALLY DEFERRED "
        f"FOR EACH ROW WHEN (NEW.id = 7) EXECUTE FUNCTION {schema}.once()"
    )  # raised by COMMIT itself
    heard = Heard()
    report = flow(Numbers(), store_at(pg.url, schema), mode="append").run(heard)
    assert any("the commit is tried again" in each for each in heard.words)
    assert report.rows == 2000
    assert each_once(pg, schema)


def test_too_many_connections_is_tried_again(pg, schema):
    heard = Heard()
    pg.ask(f"CREATE ROLE few{schema} LOGIN PASSWORD 'p' CONNECTION LIMIT 1")
    pg.ask(f"GRANT ALL ON SCHEMA {schema} TO few{schema}")
    url = f"postgresql://few{schema}:p@127.0.0.1:{pg.port}/postgres"
    store = store_at(url, schema)
    holder = []
    moving = Numbers(during=once(lambda: None))
    store.prepare(Run("r", "other"), None)

    def take():  # the server's end of a connection goes a moment after ours
        def taken():
            with suppress(psycopg.OperationalError):
                holder.append(psycopg.connect(url))
            return holder

        until(taken, "the only connection is not to be had")

    def said(flow, text):
        heard.words.append(text)
        while holder:
            holder.pop().close()

    heard.said = said
    take()
    report = flow(moving, store).run(heard)
    assert any("too many connections" in each for each in heard.words)
    assert report.rows == 2000
    assert each_once(pg, schema)


def test_a_sqlite_database_that_another_process_holds_is_tried_again(tmp_path, monkeypatch):
    monkeypatch.setattr(session, "BUSY_S", 0.05)
    heard = Heard()
    with closing(sqlite3.connect(tmp_path / "t.db", isolation_level=None)) as holder:
        holder.execute("CREATE TABLE other (x)")

        def hold():
            holder.execute("BEGIN EXCLUSIVE")

        heard.said = lambda flow, text: (heard.words.append(text), holder.execute("ROLLBACK"))
        store = SQLStore("t", connection=f"sqlite:///{tmp_path}/t.db")
        report = flow(Numbers(splits=1, during=once(hold)), store).run(heard)
        assert report.rows == 1000
        assert "locked" in " ".join(heard.words)
        assert holder.execute("SELECT count(*), count(DISTINCT id) FROM t").fetchone() == (
            1000,
            1000,
        )


def test_what_a_retry_does_not_mend_in_the_end_is_bounded_and_keeps_its_cause(pg, schema):
    tries = []
    with Proxy(pg.port) as proxy:
        store = store_at(proxy.url(), schema)
        cut = lambda split: (tries.append(split), proxy.cut())  # noqa: E731
        with pytest.raises(FlowFailed) as failed:
            Flow(Numbers(1, cut), store, name="f", engine="inline", limits=Limits(retries=1)).run()
    assert tries == [0, 0]
    assert isinstance(failed.value.__cause__, Transient)
    assert failed.value.hint
