"""SQLStore on SQLite: invisible until the commit, exactly once, without touching others' tables."""

from __future__ import annotations

import os
import sqlite3
import time

import pyarrow as pa
import pytest

from hygge.connectors.databases.home import SQLHome
from hygge.connectors.databases.store import SQLStore
from hygge.connectors.sqlite import session, snapshot
from hygge.errors import (
    ConfigError,
    NotOurs,
    Rejected,
    StoreError,
    Superseded,
    Transient,
)
from hygge.model import Run, Ticket

THREE = pa.table({"id": [1, 2, 3], "name": ["a", "b", None]})


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "lake.db")


@pytest.fixture
def store(path):
    return SQLStore("users", connection=f"sqlite:///{path}")


def query(path, sql, *values):
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        return connection.execute(sql, values).fetchall()
    finally:
        connection.close()


def staged(store, run, *splits, schema=None):
    known = schema or next((t.schema for tables in splits for t in tables), None)
    store.prepare(run, known)
    return [
        store.stage(Ticket(run.id, index), known, iter(tables))
        for index, tables in enumerate(splits)
    ]


def commit_run(store, run, *splits, schema=None, watermark=None):
    base = store.head(run.flow)
    try:
        return store.commit(run, base, staged(store, run, *splits, schema=schema), watermark)
    finally:
        store.discard(run)


def test_nothing_is_visible_or_locked_before_the_commit(store, path):
    commit_run(store, Run("r1", "f"), [THREE])
    receipts = staged(store, Run("r2", "f"), [THREE, THREE])
    before = snapshot.version(path)
    assert query(path, "SELECT count(*) FROM users") == [(3,)]
    query(path, "CREATE TABLE other (x)")  # a writer of the target is not kept waiting
    assert before != snapshot.version(path)
    commit = store.commit(Run("r2", "f"), store.head("f"), receipts, 7)
    assert query(path, "SELECT count(*) FROM users") == [(6,)]
    assert (commit.applied, commit.head.generation, commit.head.watermark) == (6, 2, 7)
    assert store.head("f") == commit.head


def test_the_database_is_not_made_before_the_commit_and_then_keeps_a_log(store, path):
    receipts = staged(store, Run("r1", "f"), [THREE])
    assert not os.path.exists(path)
    assert store.head("f") is None
    store.commit(Run("r1", "f"), None, receipts, None)
    assert query(path, "PRAGMA journal_mode") == [("wal",)]


def test_a_database_of_others_keeps_its_journal_mode(store, path):
    query(path, "CREATE TABLE other (x)")
    commit_run(store, Run("r1", "f"), [THREE])
    assert query(path, "PRAGMA journal_mode") == [("delete",)]


def test_splits_settle_in_order_and_only_the_decided_tickets(store, path):
    run = Run("r1", "f")
    store.prepare(run, THREE.schema)
    for n in (0, 1):  # a zombie's attempt, and the one that counts
        receipt = store.stage(Ticket("r1", 0, n=n), THREE.schema, iter([THREE]))
    zombie = store.stage(Ticket("r1", 0, epoch=1), THREE.schema, iter([THREE, THREE]))
    other = store.stage(Ticket("r1", 1), THREE.schema, iter([THREE.slice(0, 1)]))
    commit = store.commit(run, None, [other, receipt], None)
    assert (commit.applied, zombie.rows) == (4, 6)
    assert query(path, "SELECT id FROM users ORDER BY rowid") == [(1,), (2,), (3,), (1,)]


def test_an_attempt_that_broke_leaves_nothing_to_commit(store):
    def broken():
        yield THREE
        raise RuntimeError("the lane died")

    run = Run("r1", "f")
    store.prepare(run, THREE.schema)
    with pytest.raises(RuntimeError):
        store.stage(Ticket("r1", 0), THREE.schema, broken())
    receipt = store.stage(Ticket("r1", 0, n=1), THREE.schema, iter([THREE]))
    assert store.commit(run, None, [receipt], None).applied == 3


def test_a_commit_repeated_is_done_already(store, path):
    run = Run("r1", "f", "append")
    receipts = staged(store, run, [THREE])
    first = store.commit(run, None, receipts, 5)
    store.discard(run)
    again = store.commit(run, None, receipts, 5)
    assert (again.head, again.applied) == (first.head, 3)
    assert query(path, "SELECT count(*) FROM users") == [(3,)]


def test_a_paused_run_cannot_commit_after_a_newer_one(store, path):
    old, new = Run("r1", "f", "append"), Run("r2", "f", "append")
    receipts = staged(store, old, [THREE])
    commit_run(store, new, [THREE])
    with pytest.raises(Superseded, match="r2 is committed"):
        store.commit(old, None, receipts, None)
    assert query(path, "SELECT count(*) FROM users") == [(3,)]


def test_staged_rows_that_are_gone_are_noticed(store, path, tmp_path):
    run = Run("r1", "f")
    receipts = staged(store, run, [THREE])
    query(str(tmp_path / ".lake.db.hygge" / "r1.db"), "DELETE FROM t_0_0_0 WHERE id = 2")
    with pytest.raises(Rejected, match="staged with 3 rows, but 2 rows"):
        store.commit(run, None, receipts, None)
    store.discard(run)
    with pytest.raises(Rejected, match="is gone"):
        store.commit(run, None, receipts, None)
    assert store.head("f") is None


def test_discard_removes_the_staging_is_safe_twice_and_ends_zombies(store, path, tmp_path):
    run = Run("r1", "f")
    staged(store, run, [THREE])
    assert ".lake.db.hygge" in os.listdir(tmp_path)
    store.discard(run)
    store.discard(run)
    assert os.listdir(tmp_path) == []
    with pytest.raises(StoreError, match="discarded"):
        store.stage(Ticket("r1", 0, n=1), THREE.schema, iter([THREE]))


def test_prepare_removes_what_died_more_than_a_day_ago(store, tmp_path):
    staged(store, Run("dead", "f"), [THREE])
    old = time.time() - 25 * 3600
    os.utime(tmp_path / ".lake.db.hygge" / "dead.db", (old, old))
    staged(store, Run("young", "f"), [THREE])
    assert os.listdir(tmp_path / ".lake.db.hygge") == ["young.db"]


def test_replace_refuses_a_table_that_hygge_did_not_make(store, path):
    query(path, "CREATE TABLE users (id INTEGER, name TEXT)")
    for schema in (THREE.schema, None):
        with pytest.raises(NotOurs, match="did not make it"):
            store.prepare(Run("r1", "f"), schema)
    commit_run(store, Run("r2", "f", "append"), [THREE])
    with pytest.raises(NotOurs):  # appending to it did not make it ours
        store.prepare(Run("r3", "f"), THREE.schema)
    assert query(path, "SELECT count(*) FROM users") == [(3,)]


def test_replace_takes_new_columns_and_keeps_peoples_indexes(store, path):
    commit_run(store, Run("r1", "f"), [THREE])
    query(path, "CREATE INDEX by_name ON users (name)")
    query(path, "CREATE INDEX by_both ON users (id, name)")
    commit_run(store, Run("r2", "f"), [THREE])
    assert len(query(path, "SELECT 1 FROM sqlite_master WHERE type = 'index' AND sql > ''")) == 2
    commit = commit_run(store, Run("r3", "f"), [pa.table({"name": ["x"], "new": [1.5]})])
    assert query(path, "SELECT name, new FROM users") == [("x", 1.5)]
    assert query(path, "SELECT name FROM sqlite_master WHERE type = 'index' AND sql > ''") == [
        ("by_name",)
    ]
    assert "by_both" in commit.note


def test_append_says_before_a_row_moves_what_does_not_fit(store, path):
    commit_run(store, Run("r1", "f", "append"), [THREE])
    for schema, words in (
        (pa.schema([("id", pa.int64()), ("nam", pa.string())]), "no column 'nam'"),
        (pa.schema([("id", pa.int64())]), "has column 'name', which the rows lack"),
        (pa.schema([("id", pa.string()), ("name", pa.string())]), "cannot keep string exactly"),
    ):
        with pytest.raises(StoreError, match=words):
            store.prepare(Run("r2", "f", "append"), schema)
    narrow = pa.table({"name": ["z"], "id": pa.array([9], pa.int8())})
    commit_run(store, Run("r3", "f", "append"), [narrow])
    assert query(path, "SELECT * FROM users WHERE id = 9") == [(9, "z")]


def test_append_fits_into_a_table_of_others_by_its_types(store, path):
    query(path, "CREATE TABLE users (id INTEGER PRIMARY KEY, v NUMERIC, s STRING, n DECIMAL(9,2))")
    text = pa.schema([("v", pa.int64()), ("s", pa.string()), ("n", pa.decimal128(9, 2))])
    with pytest.raises(StoreError, match="'STRING', which cannot keep string"):
        store.prepare(Run("r1", "f", "append"), text)
    query(path, "ALTER TABLE users DROP COLUMN s")
    rows = pa.table({"v": [1], "n": pa.array(["1.10"]).cast(pa.decimal128(9, 2))})
    commit_run(store, Run("r2", "f", "append"), [rows])
    assert query(path, "SELECT * FROM users") == [(1, 1, 1.1)]


def test_append_does_not_go_on_where_its_table_was_dropped(store, path):
    commit_run(store, Run("r1", "f", "append"), [THREE], watermark=3)
    query(path, "DROP TABLE users")
    with pytest.raises(StoreError, match="is gone"):
        store.prepare(Run("r2", "f", "append"), THREE.schema)


def test_merge_updates_adds_and_counts(store, path):
    run = Run("r1", "f", "merge", ("id",))
    commit_run(store, run, [THREE])
    changed = pa.table({"id": [2, 4], "name": ["B", "d"]})
    commit = commit_run(store, Run("r2", "f", "merge", ("id",)), [changed])
    assert query(path, "SELECT * FROM users ORDER BY id") == [
        (1, "a"), (2, "B"), (3, None), (4, "d"),
    ]  # fmt: skip
    assert (commit.applied, commit.superseded) == (2, 0)
    with pytest.raises(sqlite3.IntegrityError):
        query(path, "INSERT INTO users VALUES (1, 'twice')")


def test_merge_with_a_cursor_takes_the_last_of_a_key(store, path):
    table = pa.table({"id": [1, 1, 1, 2, 2], "at": [5, 9, 9, None, 1], "v": list("abcde")})
    run = Run("r1", "f", "merge", ("id",), "at")
    commit = commit_run(store, run, [table.slice(0, 2)], [table.slice(2)])
    assert query(path, "SELECT id, v FROM users ORDER BY id") == [(1, "c"), (2, "e")]
    assert (commit.applied, commit.superseded) == (2, 3)


def test_merge_refuses_keys_that_are_null_or_twice_there(store, path):
    run = Run("r1", "f", "merge", ("id",))
    with pytest.raises(Rejected, match=r"the merge key \(.*\) is not unique: 1 row too many"):
        commit_run(store, run, [THREE, THREE.slice(0, 1)])
    with pytest.raises(Rejected, match=r"the merge key \(.*\) is NULL in 1 row"):
        commit_run(store, Run("r2", "f", "merge", ("name",)), [THREE])
    assert store.head("f") is None


def test_nothing_to_move_is_said(store, path):
    commit = commit_run(store, Run("r0", "f"), [])
    assert "no table was made" in commit.note
    commit = commit_run(store, Run("r1", "f"), [], schema=THREE.schema)
    assert "the table is empty" in commit.note
    assert query(path, "SELECT count(*) FROM users") == [(0,)]
    commit_run(store, Run("r2", "f"), [THREE])
    commit = commit_run(store, Run("r3", "f"), [])
    assert "keeps its columns" in commit.note
    assert len(query(path, "PRAGMA table_info(users)")) == 2
    assert query(path, "SELECT count(*) FROM users") == [(0,)]


def test_a_schema_that_only_the_rows_know_is_kept_with_them(store, path):
    run = Run("r1", "f")
    store.prepare(run, None)
    receipt = store.stage(Ticket("r1", 0), None, iter([THREE]))
    assert store.commit(run, None, [receipt], None).head.columns == (
        ("id", "int64"), ("name", "string"),
    )  # fmt: skip


def test_a_flow_may_read_from_the_file_that_it_writes(store, path):
    query(path, "CREATE TABLE people (id INTEGER, name TEXT)")
    query(path, "INSERT INTO people VALUES (1, 'a'), (2, 'b')")
    home = SQLHome("people", connection=f"sqlite:///{path}", options={"splits": 2})
    run = Run("r1", "f")
    with home.open() as plan:
        schema = pa.schema([(each.name, each.type) for each in plan.columns])
        store.prepare(run, schema)
        receipts = [
            store.stage(Ticket("r1", split.index), schema, home.read(split))
            for split in plan.splits
        ]
        store.commit(run, None, receipts, None)
    assert query(path, "SELECT * FROM users") == [(1, "a"), (2, "b")]


def test_a_locked_database_is_worth_another_try(store, path, monkeypatch):
    monkeypatch.setattr(session, "BUSY_S", 0.05)
    receipts = staged(store, Run("r1", "f"), [THREE])
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("CREATE TABLE other (x)")
    holder.execute("BEGIN EXCLUSIVE")
    with pytest.raises(Transient, match="locked") as caught:
        store.commit(Run("r1", "f"), None, receipts, None)
    assert caught.value.hint
    holder.execute("ROLLBACK")
    assert store.commit(Run("r1", "f"), None, receipts, None).applied == 3
    holder.close()


def test_a_full_database_leaves_the_old_rows_and_says_so(store, path, monkeypatch):
    commit_run(store, Run("r1", "f"), [THREE])
    real = sqlite3.connect

    def small(*given, **named):
        connection = real(*given, **named)
        connection.execute("PRAGMA max_page_count = 20")
        return connection

    big = pa.table({"id": [1], "name": ["x" * 500_000]})
    receipts = staged(store, Run("r2", "f"), [big])
    monkeypatch.setattr(sqlite3, "connect", small)
    with pytest.raises(StoreError, match="full") as caught:
        store.commit(Run("r2", "f"), store.head("f"), receipts, None)
    assert "room" in caught.value.hint
    monkeypatch.undo()
    assert query(path, "SELECT count(*) FROM users") == [(3,)]
    assert store.head("f").run == "r1"


@pytest.mark.parametrize("name", ['we"ird', "x.y", "100%", "größe", "select", "a'b;--"])
def test_odd_names_are_names(path, name):
    store = SQLStore(name, connection=f"sqlite:///{path}")
    table = pa.table({name: [1, 2], 'v "%s" :x': ["a", "b"]})
    for mode in ("replace", "append", "merge"):
        run = Run(f"r-{mode}", mode, mode, (name,) if mode == "merge" else ())
        if mode == "merge":
            query(path, f"DELETE FROM {session.quoted(name)}")
        commit_run(store, run, [table])
    assert query(path, f"SELECT * FROM {session.quoted(name)}") == [(1, "a"), (2, "b")]


def test_columns_that_differ_in_case_only_are_refused(store):
    with pytest.raises(StoreError, match="differ in case"):
        store.prepare(Run("r1", "f"), pa.schema([("a", pa.int64()), ("A", pa.int64())]))


def test_a_view_and_a_reserved_name_are_refused(store, path):
    query(path, "CREATE VIEW users AS SELECT 1 AS id")
    with pytest.raises(StoreError, match="is a view"):
        store.prepare(Run("r1", "f"), THREE.schema)
    with pytest.raises(ConfigError, match="reserved"):
        SQLStore("_hygge_heads", connection=f"sqlite:///{path}")


def test_sqlite_takes_one_lane_and_other_databases_several(store):
    assert store.traits.max_lanes == 1
    assert SQLStore("t", connection="postgresql://h/d").traits.max_lanes is None
    assert SQLStore.traits.modes == ("replace", "append", "merge")


def test_two_flows_have_heads_of_their_own(store):
    commit_run(store, Run("r1", "f", "append"), [THREE])
    commit_run(store, Run("r2", "g", "append"), [THREE])
    assert (store.head("f").run, store.head("g").run) == ("r1", "r2")
    commit_run(store, Run("r3", "g"), [THREE])


def test_batches_written_by_hand_append(store, path):
    import asyncio

    asyncio.run(store.write(THREE))
    asyncio.run(store.write(THREE.to_pandas()))
    assert query(path, "SELECT count(*) FROM users") == [(6,)]
