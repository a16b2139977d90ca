"""SQLite: a run that died is resumed, and heads and staging files are checked before use."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from contextlib import closing

import pyarrow as pa
import pytest

from hygge.connectors.databases.store import SQLStore
from hygge.connectors.sqlite import ledger
from hygge.errors import Rejected, StoreError, Superseded
from hygge.model import Receipt, Run, Ticket

ROWS = pa.table({"id": [1, 2, 3], "v": ["a", "b", None]})
MORE = pa.table({"id": [3, 4], "v": ["c", "d"]})


@pytest.fixture
def path(tmp_path):
    return tmp_path / "lake.db"


@pytest.fixture
def store(path):
    return SQLStore("t", connection=f"sqlite:///{path}")


def query(path, *statements):
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        return [connection.execute(sql).fetchall() for sql in statements][-1]


def staged(store, run, *splits, epoch=0):
    store.prepare(run, ROWS.schema)
    return [
        store.stage(Ticket(run.id, at, epoch), rows.schema, iter([rows]))
        for at, rows in enumerate(splits)
    ]


def commit_run(store, run, *splits):
    base = store.head(run.flow)
    commit = store.commit(run, base, staged(store, run, *splits), None)
    store.discard(run)
    return commit


def file_of(path, run):
    return path.parent / ".lake.db.hygge" / f"{run}.db"


def test_a_sealed_split_is_not_loaded_again_in_its_epoch(store):
    (first,) = staged(store, Run("r1", "f"), ROWS)

    def must_not_be_taken():
        raise AssertionError("loaded again")
        yield

    assert store.stage(Ticket("r1", 0, n=1), ROWS.schema, must_not_be_taken()) == first
    assert store.stage(Ticket("r1", 0, epoch=1), MORE.schema, iter([MORE])).rows == 2
    assert store.stage(Ticket("r1", 10), MORE.schema, iter([MORE])).rows == 2


def test_rows_of_a_load_that_broke_are_never_taken_for_staged(store):
    run = Run("r1", "f")
    store.prepare(run, ROWS.schema)

    def broken():
        yield ROWS
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        store.stage(Ticket("r1", 0), ROWS.schema, broken())
    promised = Receipt(Ticket("r1", 0), "", 3, 9)
    with pytest.raises(Rejected, match="but nothing can be found"):
        store.commit(run, None, [promised], None)
    assert store.resume(run, [promised]) == []


def test_a_run_that_is_gone_on_with_keeps_what_holds_and_drops_the_rest(path, store):
    run = Run("r1", "f", "append")
    commit_run(store, Run("r0", "f", "append"), ROWS)
    receipts = staged(store, run, ROWS, MORE, ROWS, ROWS)
    query(file_of(path, "r1"), "DELETE FROM t_1_0_0 WHERE id = 3", "DROP TABLE t_2_0_0")
    asking = [*receipts[:3], Receipt(Ticket("r1", 9), "", 3, 9)]
    for _ in range(2):
        store.prepare(run, ROWS.schema)
        assert store.resume(run, asking) == receipts[:1]
        found = query(file_of(path, "r1"), "SELECT name FROM sqlite_master WHERE name GLOB 't_*'")
        assert found == [("t_0_0_0",)]
    assert query(path, "SELECT count(*) FROM t") == [(3,)]
    again = store.stage(Ticket("r1", 1, epoch=1), MORE.schema, iter([MORE]))
    assert store.commit(run, store.head("f"), [receipts[0], again], None).applied == 5
    assert query(path, "SELECT count(*) FROM t") == [(8,)]


def test_rows_staged_for_other_columns_than_there_are_now_do_not_hold(path, store):
    query(path, "CREATE TABLE t (id BIGINT, v TEXT)")
    run = Run("r1", "f", "append")
    receipts = staged(store, run, ROWS)
    query(path, "DROP TABLE t", "CREATE TABLE t (id BIGINT, v VARCHAR)")
    store.prepare(run, ROWS.schema)
    assert store.resume(run, receipts) == []
    again = store.stage(Ticket("r1", 0, epoch=1), ROWS.schema, iter([ROWS]))
    assert store.commit(run, None, [again], None).applied == 3


def test_what_is_worked_on_or_gone_on_with_is_not_swept(path, store):
    old = time.time() - 25.1 * 3600
    receipts = {}
    for name in ("dead", "slow", "late"):
        receipts[name] = staged(store, Run(name, name), ROWS)
    for name in receipts:
        os.utime(file_of(path, name), (old, old))
    store.stage(Ticket("slow", 1), ROWS.schema, iter([ROWS]))
    store.prepare(Run("late", "late"), ROWS.schema)
    store.prepare(Run("other", "g"), ROWS.schema)
    left = sorted(os.listdir(path.parent / ".lake.db.hygge"))
    assert left == ["late.db", "other.db", "slow.db"]
    assert store.resume(Run("late", "late"), receipts["late"]) == receipts["late"]


@pytest.mark.parametrize("mode", ["replace", "append", "merge"])
def test_two_processes_that_commit_one_run_commit_it_once(path, store, mode):
    commit_run(store, Run("r0", "f", mode, ("id",)), ROWS)
    run, base = Run("r1", "f", mode, ("id",)), store.head("f")
    receipts, ended, together = staged(store, run, MORE), [], threading.Barrier(4)

    def commit():
        together.wait()
        try:
            ended.append(store.commit(run, base, receipts, None).head.generation)
            store.discard(run)
        except Exception as error:
            ended.append(error)

    threads = [threading.Thread(target=commit) for _ in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert ended == [2, 2, 2, 2]
    count = {"replace": 2, "append": 5, "merge": 4}[mode]
    assert query(path, "SELECT count(*) FROM t") == [(count,)]


def test_a_commit_that_another_process_does_in_this_moment_is_done(path, store, monkeypatch):
    run, others = Run("r1", "f", "append"), []
    receipts = staged(store, run, ROWS)
    real = ledger.attach

    def late(*given):
        if not others:
            others.append("first")
            others.append(store.commit(run, None, receipts, None))
            store.discard(run)
        return real(*given)

    monkeypatch.setattr(ledger, "attach", late)
    assert store.commit(run, None, receipts, None).head == others[1].head
    assert query(path, "SELECT count(*) FROM t") == [(3,)]


def test_a_staging_file_that_goes_is_not_made_anew_by_the_commit(path, store):
    run = Run("r1", "f")
    receipts = staged(store, run, ROWS)
    staged(store, Run("r2", "g"), ROWS)  # so that there is a folder
    store.discard(run)
    with pytest.raises(Rejected, match="is gone"):
        store.commit(run, None, receipts, None)
    assert not file_of(path, "r1").exists()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("UPDATE {} SET format = 99", "written by a newer hygge"),
        ("UPDATE {} SET format = 'x'", "format"),
        ("UPDATE {} SET generation = -1", "generation"),
        ("UPDATE {} SET rows = 'many'", "rows"),
        ("UPDATE {} SET columns = 'nonsense'", "Expecting value"),
        ("UPDATE {} SET watermark = '[1]'", "watermark"),
        ("ALTER TABLE {} DROP COLUMN format", "no column 'format'"),
        ("ALTER TABLE {} RENAME COLUMN target TO x", "target"),
    ],
)
def test_a_head_that_hygge_did_not_write_stops_everything(path, store, change, words):
    commit_run(store, Run("r0", "f", "append"), ROWS)
    run, base = Run("r1", "f", "append"), store.head("f")
    receipts = staged(store, run, MORE)
    query(path, change.format("_hygge_heads"))
    for verb in (
        lambda: store.head("f"),
        lambda: store.prepare(Run("r2", "f", "append"), ROWS.schema),
        lambda: store.commit(run, base, receipts, None),
    ):
        with pytest.raises(StoreError, match=words) as caught:
            verb()
        assert caught.value.hint
        assert not isinstance(caught.value, Rejected)
    assert query(path, "SELECT count(*) FROM t") == [(3,)]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("ALTER TABLE t DROP COLUMN v", "no column 'v'"),
        ("ALTER TABLE t ADD COLUMN w", "lack|staged"),
        ("DROP TABLE t", "is gone"),
    ],
)
@pytest.mark.parametrize("when", ["between runs", "in mid-run"])
def test_a_table_that_was_altered_is_an_error_and_stays(path, store, change, words, when):
    commit_run(store, Run("r0", "f", "append"), ROWS)
    before, run = store.head("f"), Run("r1", "f", "append")
    receipts = staged(store, run, MORE)
    query(path, change)
    with pytest.raises(StoreError, match=words) as caught:
        if when == "between runs":
            store.prepare(run, MORE.schema)
        else:
            store.commit(run, before, receipts, 4)
    assert caught.value.hint
    assert store.head("f") == before


def test_of_two_first_runs_the_slower_is_superseded(path, store):
    slow, quick = Run("r1", "f", "append"), Run("r2", "f", "append")
    receipts = staged(store, slow, MORE)
    commit_run(store, quick, ROWS)
    with pytest.raises(Superseded):
        store.commit(slow, None, receipts, None)
    assert query(path, "SELECT count(*) FROM t") == [(3,)]
