"""Runs of MariaDB beside others: rival runs, locks, open readers, late tries, servers that end."""

from __future__ import annotations

import contextlib
import threading

import pyarrow as pa
import pymysql
import pytest

from hygge import Flow, SQLStore
from hygge.connectors.mariadb import ledger, publish
from hygge.connectors.mariadb import store as my_store
from hygge.connectors.sql import heads
from hygge.errors import (
    FlowFailed,
    HyggeError,
    Rejected,
    StoreError,
    Superseded,
    Transient,
    UnfitValue,
    Unknown,
)
from hygge.home import Home
from hygge.model import Column, Limits, Plan, Run, Split, Ticket
from hygge.store import new_run_id
from tests.connectors.mariadb.rows import ROWS, commit_run, store_at, table_names
from tests.connectors.mariadb.test_store_contract import TestMariaDBStore as Contract
from tests.servers.postgres import Proxy
from tests.waiting import LIMIT_S, until

pytest_plugins = ["tests.servers.mariadb"]


def test_flows_that_commit_at_once_lose_no_head_and_no_row(my, my_schema):
    problems = []

    def work(name, mode, table):
        try:
            for at in range(4):
                rows = pa.table({"id": [at], "v": [name]})

                def done(rows=rows):
                    with contextlib.suppress(Transient, Superseded):
                        return commit_run(
                            store_at(my, my_schema, table), rows, mode=mode, flow=name
                        )

                until(done, f"{name} is never let through")
        except Exception as error:
            problems.append(error)

    commit_run(store_at(my, my_schema, "both"), ROWS.slice(0, 0), mode="append", flow="first")
    jobs = [("a", "replace", "a"), ("b", "replace", "b"), ("c", "append", "both")]
    jobs += [("d", "append", "both"), ("e", "merge", "e")]
    threads = [threading.Thread(target=work, args=job) for job in jobs[:4]]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not problems
    heads = my.ask(f"SELECT flow, generation FROM {my_schema}._hygge_heads ORDER BY flow")
    assert heads == [("a", 4), ("b", 4), ("c", 4), ("d", 4), ("first", 1)]
    assert my.ask(f"SELECT COUNT(*) FROM {my_schema}.both") == [(8,)]
    assert my.ask(f"SELECT id FROM {my_schema}.a") == [(3,)]


def test_a_lock_of_somebody_else_is_waited_for_and_not_for_ever(my, my_schema, monkeypatch):
    store = store_at(my, my_schema)
    commit_run(store, ROWS)
    monkeypatch.setattr(publish, "_RENAME_WAIT_S", 1)
    with my.connect(database=my_schema) as other, other.cursor() as cursor:
        cursor.execute("START TRANSACTION")
        cursor.execute("SELECT * FROM t")
        with pytest.raises(Transient, match="Lock wait timeout") as caught:
            commit_run(store, pa.table({"id": [9], "v": ["x"]}))
        assert "another program holds" in caught.value.hint
        cursor.execute("SELECT COUNT(*) FROM t")
        assert cursor.fetchall() == ((3,),)
    assert commit_run(store, pa.table({"id": [9], "v": ["x"]})).head.generation == 2


def test_a_commit_that_waited_in_vain_can_be_tried_again(my, my_schema, monkeypatch):
    store = store_at(my, my_schema)
    commit_run(store, ROWS)
    run, base = Run(new_run_id(), "f", "replace"), store.head("f")
    store.prepare(run, ROWS.schema)
    receipt = store.stage(Ticket(run.id, 0), ROWS.schema, iter([ROWS.slice(1)]))
    monkeypatch.setattr(publish, "_RENAME_WAIT_S", 1)
    with my.connect(database=my_schema) as other, other.cursor() as cursor:
        cursor.execute("START TRANSACTION")
        cursor.execute("SELECT * FROM t")
        with pytest.raises(Transient):
            store.commit(run, base, [receipt], None)
    assert store.commit(run, base, [receipt], None).applied == 2
    assert my.ask(f"SELECT id FROM {my_schema}.t ORDER BY id") == [(2,), (3,)]


def test_rights_that_are_missing_are_said_before_rows_move(my, my_schema):
    my.ask("CREATE USER IF NOT EXISTS writer@127.0.0.1 IDENTIFIED BY 's3cret'")
    my.ask(f"GRANT SELECT, INSERT ON {my_schema}.* TO writer@127.0.0.1")
    store = SQLStore("t", connection=my.url(my_schema, "writer:s3cret"))
    with pytest.raises(StoreError, match="command denied to user 'writer'") as caught:
        store.prepare(Run(new_run_id(), "f", "append"), ROWS.schema)
    assert "GRANT" in caught.value.hint
    assert "s3cret" not in str(caught.value)


def test_a_server_that_takes_no_local_files_says_so(my, my_schema):
    my.ask("SET GLOBAL local_infile = 0")
    try:
        with pytest.raises(StoreError) as caught:
            commit_run(store_at(my, my_schema), ROWS)
    finally:
        my.ask("SET GLOBAL local_infile = 1")
    assert "SET GLOBAL local_infile = ON" in caught.value.hint
    assert table_names(my, my_schema) == []


def test_a_second_try_ends_the_first_one(my, my_schema):
    store = store_at(my, my_schema)
    run = Run(new_run_id(), "f", "replace")
    store.prepare(run, ROWS.schema)
    begun, go_on, ended = threading.Event(), threading.Event(), []

    def slow():
        yield ROWS
        begun.set()
        go_on.wait(LIMIT_S)
        yield ROWS

    def zombie():
        try:
            store.stage(Ticket(run.id, 0), ROWS.schema, slow())
        except HyggeError as error:
            ended.append(error)

    thread = threading.Thread(target=zombie)
    thread.start()
    assert begun.wait(LIMIT_S)
    receipt = store.stage(Ticket(run.id, 0, 0, 1), ROWS.schema, iter([ROWS]))
    assert receipt.ticket.n == 1
    my.sessions(my_schema, 0)  # the first try's has been ended
    go_on.set()
    thread.join()
    assert isinstance(ended[0], Transient)
    store.commit(run, None, [receipt], None)
    assert my.ask(f"SELECT COUNT(*) FROM {my_schema}.t") == [(3,)]


def numbers(during):
    """A Home whose `during(split)` happens between the two batches of a split."""

    class Numbered(Home):
        def open(self, since=None):
            columns = (Column("id", pa.int64()), Column("v", pa.string()))
            return contextlib.nullcontext(Plan(columns, tuple(Split(at, "") for at in range(2))))

        def read(self, split):
            for half in (0, 500):
                ids = range(split.index * 1000 + half, split.index * 1000 + half + 500)
                yield pa.table({"id": list(ids), "v": [str(n) for n in ids]})
                if half == 0:
                    during(split.index)

    return Numbered("numbers")


@pytest.mark.parametrize("what", ["the server is restarted", "the session is killed"])
def test_what_breaks_in_the_middle_is_tried_again(what, my, my_schema):
    times = []

    def during(split):
        if len(times) < 1:
            times.append(split)
            if "server" in what:
                my.restart()
                return
            asked = "SELECT id FROM information_schema.processlist WHERE info LIKE '%LOAD DATA%'"
            for (number,) in my.ask(f"{asked} AND id <> CONNECTION_ID()"):
                my.ask(f"KILL {number}")

    store = store_at(my, my_schema)
    report = Flow(
        numbers(during), store, name="f", engine="inline", limits=Limits(retries=3), mode="append"
    ).run()
    assert (report.rows, report.retries) == (2000, 1)
    rows = my.ask(f"SELECT id, v FROM {my_schema}.t ORDER BY id")
    assert rows == [(n, str(n)) for n in range(2000)]
    assert table_names(my, my_schema) == ["t"]


def test_a_home_that_fails_leaves_nothing(my, my_schema):
    def during(split):
        raise UnfitValue("no such number")

    with pytest.raises(FlowFailed, match="no such number"):
        Flow(numbers(during), store_at(my, my_schema), name="f", engine="inline").run()
    assert table_names(my, my_schema) == []


def test_what_a_dead_run_has_left_is_swept(my, my_schema):
    store = store_at(my, my_schema)
    run = Run(new_run_id(), "dead", "replace")
    store.prepare(run, ROWS.schema)
    store.stage(Ticket(run.id, 0), ROWS.schema, iter([ROWS]))
    assert len(table_names(my, my_schema)) == 1
    commit_run(store_at(my, my_schema, "u"), ROWS)
    assert len(table_names(my, my_schema)) == 2  # it may still be alive
    my.ask(f"UPDATE {my_schema}._hygge_ledger SET began = began - 26 * 3600")
    commit_run(store_at(my, my_schema, "u"), ROWS)
    assert table_names(my, my_schema) == ["u"]
    with pytest.raises(StoreError, match="not at work here any more"):
        store.stage(Ticket(run.id, 1), ROWS.schema, iter([ROWS]))


@pytest.mark.parametrize(
    "promise",
    [
        Contract.test_a_superseded_run_cannot_commit,
        Contract.test_a_run_of_the_past_cannot_commit_again,
        Contract.test_of_two_commits_at_once_one_wins,
    ],
)
def test_a_head_that_is_not_compared_is_caught(promise, my, tmp_path, monkeypatch):
    monkeypatch.setattr(heads, "check_base", lambda *_: None)
    suite = Contract()
    suite.server = my
    with pytest.raises(AssertionError):
        promise(suite, tmp_path)


def test_rows_of_a_try_that_lost_are_caught_where_they_are_not_removed(my, tmp_path, monkeypatch):
    real = ledger.unseal
    monkeypatch.setattr(ledger, "unseal", lambda *_: None)
    store = store_at(my, my.schema())
    run = Run(new_run_id(), "f", "replace")
    store.prepare(run, ROWS.schema)
    store.stage(Ticket(run.id, 0, 0), ROWS.schema, iter([ROWS]))
    second = store.stage(Ticket(run.id, 0, 1), ROWS.schema, iter([ROWS]))
    with pytest.raises(Rejected, match="3 rows were staged, but 6 rows"):
        store.commit(run, None, [second], None)
    monkeypatch.setattr(ledger, "unseal", real)
    assert store.commit(run, None, [second], None).applied == 3


@pytest.mark.parametrize("when", ["before it is prepared", "before a row is staged", "staged"])
@pytest.mark.parametrize("old", [ROWS, pa.table({"other": [1]})], ids=["same", "other"])
def test_a_transaction_that_is_open_never_sees_an_empty_table(when, old, my, my_schema):
    store = store_at(my, my_schema)
    commit_run(store, old)
    run, base = Run(new_run_id(), "f", "replace"), store.head("f")
    with my.connect(database=my_schema) as other, other.cursor() as cursor:
        begin = "START TRANSACTION WITH CONSISTENT SNAPSHOT"
        if when == "before it is prepared":
            cursor.execute(begin)
        store.prepare(run, ROWS.schema)
        if when == "before a row is staged":
            cursor.execute(begin)
        receipt = store.stage(Ticket(run.id, 0), ROWS.schema, iter([ROWS]))
        if when == "staged":
            cursor.execute(begin)
        store.commit(run, base, [receipt], None)
        try:
            cursor.execute("SELECT * FROM t")
        except pymysql.OperationalError as error:
            assert "Table definition has changed" in str(error)  # noqa: PT017
        else:
            assert len(cursor.fetchall()) == 3, "it sees a table that was never there"
        cursor.execute("COMMIT")
        cursor.execute("SELECT COUNT(*) FROM t")
        assert cursor.fetchall() == ((3,),)


@pytest.mark.parametrize(
    ("mode", "module", "last"),
    [("replace", publish, "RENAME"), ("append", my_store, "COMMIT")],
)
def test_a_commit_whose_answer_is_lost_is_unknown_and_done_once(
    mode, module, last, my, my_schema, monkeypatch
):
    commit_run(store_at(my, my_schema), ROWS, mode=mode)
    with Proxy(my.port) as proxy:
        url = my.url(my_schema).replace(str(my.port), str(proxy.port))
        store = SQLStore("t", connection=url)
        run, base = Run(new_run_id(), "f", mode), store.head("f")
        store.prepare(run, ROWS.schema)
        receipt = store.stage(Ticket(run.id, 0), ROWS.schema, iter([ROWS]))
        real = module.execute

        def lost(connection, sql):
            if sql.startswith(last):
                proxy.next_answer_is_lost = True
            return real(connection, sql)

        monkeypatch.setattr(module, "execute", lost)
        with pytest.raises(Unknown) as caught:
            store.commit(run, base, [receipt], None)
        assert "the head in the database says" in caught.value.hint
        monkeypatch.setattr(module, "execute", real)
        # The server may still be at it.
        until(lambda: store.head("f").run == run.id, "it is not committed")
        commit = store.commit(run, base, [receipt], None)
        assert commit.note == "it was committed before"
        store.discard(run)
    assert my.ask(f"SELECT COUNT(*) FROM {my_schema}.t") == [(3 if mode == "replace" else 6,)]
    assert table_names(my, my_schema) == ["t"]
