"""Defects of the SQL connectors that a review proved, each as the promise that it broke."""

from __future__ import annotations

import os
import sqlite3
import threading

import pyarrow as pa
import pytest
from sqlalchemy.dialects import mssql, mysql

from hygge.connectors.anysql import store as sql_store
from hygge.connectors.databases.home import SQLHome
from hygge.connectors.databases.store import SQLStore
from hygge.connectors.postgres.database import POSTGRES
from hygge.connectors.sql import target
from hygge.connectors.sql.goal import Goal, SQLStoreOptions
from hygge.connectors.sql.types import column_for, refuse_inexact
from hygge.connectors.sqlite import session, snapshot
from hygge.errors import ConfigError, NotOurs, Rejected, Transient, UnfitValue, without_password
from hygge.model import Run, Ticket
from hygge.run.flow import Flow

ROWS = pa.table({"id": [1, 2], "name": ["a", "b"]})


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "lake.db")


@pytest.fixture
def store(path):
    return SQLStore("t", connection=f"sqlite:///{path}")


class Generic:
    """The verbs that every other database goes through, on a SQLite file."""

    def __init__(self, path):
        self.goal = Goal(f"sqlite:///{path}", "lake#t", "t", SQLStoreOptions())

    def __getattr__(self, verb):
        return lambda *given: getattr(sql_store, verb)(self.goal, *given)


@pytest.fixture(params=["sqlite", "generic"])
def either(request, path, store):
    return store if request.param == "sqlite" else Generic(path)


def asked(path, *statements):
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        return [connection.execute(sql).fetchall() for sql in statements][-1]
    finally:
        connection.close()


def moved(store, run, *tables, watermark=None):
    base = store.head(run.flow)
    store.prepare(run, tables[0].schema)
    try:
        receipt = store.stage(Ticket(run.id, 0), tables[0].schema, iter(tables))
        return store.commit(run, base, [receipt], watermark)
    finally:
        store.discard(run)


def test_a_replace_lets_the_other_flows_of_the_table_start_anew(either, path):
    moved(either, Run("r1", "a", "append", cursor="id"), ROWS, watermark=2)
    moved(either, Run("r2", "c", "append"), ROWS)
    assert (either.head("a").watermark, either.head("a").cursor) == (2, "id")
    moved(either, Run("r3", "b", "replace"), ROWS.slice(0, 1))
    assert either.head("a") is None
    assert either.head("c") is None
    moved(either, Run("r4", "a", "append", cursor="id"), ROWS, watermark=2)
    assert asked(path, "SELECT count(*) FROM t") == [(3,)]
    moved(either, Run("r5", "b", "replace"), ROWS)  # the table is still known as ours


def test_no_row_is_lost_between_a_flow_that_appends_and_one_that_replaces(path, tmp_path):
    asked(tmp_path / "a.db", "CREATE TABLE t (id INTEGER)", "INSERT INTO t VALUES (1), (2)")
    url = f"sqlite:///{tmp_path}/a.db"
    store = SQLStore("t", connection=f"sqlite:///{path}")

    def appended():
        home = SQLHome("t", connection=url, cursor="id")
        return Flow(home, store, name="a", mode="append", engine="inline").run().rows

    assert appended() == 2
    Flow(
        SQLHome("b", connection=url, table="t", where="id > 90"), store, name="b", engine="inline"
    ).run()
    asked(tmp_path / "a.db", "INSERT INTO t VALUES (3)")
    assert appended() == 3
    assert asked(path, "SELECT id FROM t ORDER BY id") == [(1,), (2,), (3,)]


def test_the_head_says_which_column_its_watermark_is_of(either):
    moved(either, Run("r1", "a", "append", cursor="at"), ROWS, watermark=2)
    assert either.head("a").cursor == "at"
    moved(either, Run("r2", "a", "append"), ROWS, watermark=2)  # took the watermark over
    assert either.head("a").cursor == "at"
    moved(either, Run("r3", "a", "append", cursor="id"), ROWS, watermark=9)
    assert either.head("a").cursor == "id"


def test_rows_that_tie_with_the_watermark_are_announced_and_can_be_read(path):
    asked(path, "CREATE TABLE s (id INTEGER PRIMARY KEY, at TEXT)")
    asked(path, "INSERT INTO s VALUES (1, '10:00'), (2, '10:00')")  # 2 came after the first run
    seen = {}
    for ties in ("skip", "read"):
        options = {"cursor_ties": ties}
        home = SQLHome("s", connection=f"sqlite:///{path}", cursor="at", options=options)
        with home.open("10:00") as plan:
            tables = [table for split in plan.splits for table in home.read(split)]
            rows = [row["id"] for table in tables for row in table.to_pylist()]
        seen[ties] = (rows, "rows that get 'at' 10:00 later" in plan.reason)
    assert seen == {"skip": ([], True), "read": ([1, 2], False)}


@pytest.mark.parametrize("mode", ["append", "merge"])
def test_a_trigger_that_leaves_rows_out_is_noticed(either, path, mode):
    asked(
        path,
        "CREATE TABLE t (id BIGINT, name TEXT)",
        "CREATE TRIGGER x BEFORE INSERT ON t WHEN new.id = 1 BEGIN SELECT RAISE(IGNORE); END",
    )
    with pytest.raises(Rejected, match="took 1 of 2 rows"):
        moved(either, Run("r1", "f", mode, ("id",)), ROWS)
    assert asked(path, "SELECT count(*) FROM t") == [(0,)]
    assert either.head("f") is None


def test_a_trigger_that_leaves_updates_out_is_noticed(either, path):
    asked(
        path,
        "CREATE TABLE t (id BIGINT, name TEXT)",
        "INSERT INTO t VALUES (2, 'old')",
        "CREATE TRIGGER x BEFORE UPDATE ON t BEGIN SELECT RAISE(IGNORE); END",
    )
    with pytest.raises(Rejected, match="took 0 of 1 rows"):
        moved(either, Run("r1", "f", "merge", ("id",)), ROWS)
    assert asked(path, "SELECT * FROM t") == [(2, "old")]


@pytest.mark.parametrize("rule", ["IGNORE", "REPLACE"])
def test_a_rule_that_drops_rows_in_silence_is_overruled(store, path, rule):
    asked(path, f"CREATE TABLE t (id INTEGER UNIQUE ON CONFLICT {rule}, name TEXT)")
    asked(path, "INSERT INTO t VALUES (1, 'old')")
    with pytest.raises(Rejected, match="break a rule"):
        moved(store, Run("r1", "f", "append"), ROWS)
    assert asked(path, "SELECT * FROM t") == [(1, "old")]


def test_triggers_that_write_elsewhere_and_foreign_keys_twice_there_are_no_matter(either, path):
    asked(
        path,
        "CREATE TABLE log (id)",
        "CREATE TABLE t (id BIGINT, name TEXT)",
        "INSERT INTO t VALUES (2, 'x'), (2, 'y')",
        "CREATE TRIGGER x AFTER INSERT ON t BEGIN "
        "INSERT INTO log VALUES (new.id), (new.id), (new.id); END",
    )
    commit = moved(either, Run("r1", "f", "merge", ("id",)), ROWS)
    assert commit.applied == 2
    assert asked(path, "SELECT * FROM t ORDER BY id") == [(1, "a"), (2, "b"), (2, "b")]
    assert asked(path, "SELECT count(*) FROM log") == [(3,)]


@pytest.mark.parametrize(
    "declared",
    ["k TEXT COLLATE NOCASE", "[k] TEXT COLLATE nocase PRIMARY KEY", "k TEXT COLLATE RTRIM"],
)
def test_a_key_is_one_where_the_table_says_so(store, path, declared):
    asked(path, f"CREATE TABLE t ({declared}, v BIGINT)", "INSERT INTO t VALUES ('a', 0)")
    rows = pa.table({"k": ["a", "a " if "RTRIM" in declared else "A"], "v": [1, 2]})
    with pytest.raises(Rejected, match=r"the merge key \(.*\) is not unique: 1 row too many"):
        moved(store, Run("r1", "f", "merge", ("k",)), rows)
    commit = moved(store, Run("r2", "f", "merge", ("k",), cursor="v"), rows)
    assert (commit.applied, commit.superseded) == (1, 1)
    assert asked(path, "SELECT v FROM t") == [(2,)]


def test_a_database_behind_a_link_is_watched_and_staged_beside_itself(tmp_path):
    (tmp_path / "real").mkdir()
    db = sqlite3.connect(tmp_path / "real" / "a.db", isolation_level=None)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("CREATE TABLE t (id INTEGER)")
    os.symlink(tmp_path / "real" / "a.db", tmp_path / "link.db")
    home = SQLHome("t", connection=f"sqlite:///{tmp_path}/link.db")
    assert home.settings.connection.endswith("real/a.db")
    before = snapshot.version(session.path_of(home.settings.connection))
    db.execute("INSERT INTO t VALUES (1)")
    assert snapshot.version(session.path_of(home.settings.connection)) != before
    db.close()
    store = SQLStore("u", connection=f"sqlite:///{tmp_path}/link.db")
    store.prepare(Run("r1", "f"), ROWS.schema)
    assert (tmp_path / "real" / ".a.db.hygge").is_dir()


def test_a_table_that_somebody_made_anew_is_theirs(either, path):
    moved(either, Run("r1", "f"), ROWS)
    moved(either, Run("r2", "g", "append"), ROWS)
    asked(path, "DROP TABLE t", "CREATE TABLE t (precious TEXT)", "INSERT INTO t VALUES ('mine')")
    with pytest.raises(NotOurs, match="did not make it"):
        either.prepare(Run("r3", "f"), ROWS.schema)
    assert asked(path, "SELECT * FROM t") == [("mine",)]


def test_a_table_of_ours_with_a_column_added_is_ours(either, path):
    moved(either, Run("r1", "f"), ROWS)
    asked(path, "ALTER TABLE t ADD COLUMN more TEXT DEFAULT ''")
    moved(either, Run("r2", "g", "append"), ROWS)
    either.prepare(Run("r3", "f"), ROWS.schema)


@pytest.mark.parametrize(
    "url",
    [
        "mssql+pyodbc:///?odbc_connect=DRIVER%3D%7Bx%7D%3BUID%3Du%3BPWD%3Dgeheim%3B",
        "postgresql://u:geheim@h/d?options=-c%20x%3Dgeheim",
        "postgresql://u:ge/geheim@h/d",
    ],
)
def test_what_stands_behind_the_question_mark_is_never_shown(url):
    assert "geheim" not in SQLHome("t", connection=url).describe()
    assert "?" not in SQLHome("t", connection=url).describe()


@pytest.mark.parametrize(
    "url", ["u:geheim@host/db", "postgresql//u:geheim@h/db", "postgresql://u:geheim@h:port/db"]
)
def test_what_is_no_url_is_not_printed_at_all(url):
    with pytest.raises(ConfigError, match="is not a database URL") as caught:
        SQLHome("t", connection=url)
    assert "geheim" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


@pytest.mark.parametrize(
    "text",
    [
        "u:pa/geheim@h",
        "postgresql://u:p@/geheim@h/d",
        "redis://:geheim@h",
        'failed: {"password": "geheim"}',
        "{'db_password': 'geheim', 'x': 1}",
        '{\\"token\\": \\"geheim\\"}',
        "PASSWORD='a geheim'",
        "x PWD={a;geheim};y",
        "PWD%3Dgeheim%3B",
        "password: geheim",
        "Authorization: Bearer geheim",
    ],
)
def test_a_password_is_hidden_in_every_form(text):
    assert "geheim" not in without_password(text)
    assert "***" in without_password(text)


def test_words_that_are_no_secret_stay():
    for text in (
        "check user, password, host and database",
        "unexpected token: }",
        "at 10:00:00 by joe@x.org",
        'password authentication failed for user "u"',
        "postgresql://u@h:5432/d",
    ):
        assert without_password(text) == text


def test_flows_that_end_do_not_take_the_folder_from_those_that_begin(path):
    wrong = []

    def begin_and_end(table):
        store = SQLStore(table, connection=f"sqlite:///{path}")
        for number in range(40):
            run = Run(f"{table}{number}", table)
            try:
                store.prepare(run, ROWS.schema)
            except Exception as error:
                wrong.append(error)
            store.discard(run)

    threads = [threading.Thread(target=begin_and_end, args=(name,)) for name in "abc"]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert wrong == []
    assert os.listdir(os.path.dirname(path)) == []


@pytest.mark.parametrize("mode", ["replace", "append", "merge"])
def test_a_commit_that_had_to_wait_may_be_called_again(store, path, mode, monkeypatch):
    monkeypatch.setattr(session, "BUSY_S", 0.02)
    run = Run("r1", "f", mode, ("id",))
    store.prepare(run, ROWS.schema)
    receipt = store.stage(Ticket("r1", 0), ROWS.schema, iter([ROWS]))
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    for _ in range(2):
        with pytest.raises(Transient):
            store.commit(run, None, [receipt], 2)
    holder.execute("ROLLBACK")
    holder.close()
    assert store.commit(run, None, [receipt], 2).applied == 2
    assert store.commit(run, None, [receipt], 2).applied == 2
    assert asked(path, "SELECT count(*) FROM t") == [(2,)]
    assert asked(path, "PRAGMA journal_mode") == [("wal",)]  # still the file that hygge made


@pytest.mark.parametrize(
    ("kind", "fits"),
    [
        (pa.timestamp("us", "UTC"), True),
        (pa.timestamp("us"), True),
        (pa.timestamp("us", "Europe/Berlin"), False),
        (pa.timestamp("ms", "+02:00"), False),
        (pa.uint64(), True),
        (pa.uint32(), True),
        (pa.binary(4), False),
    ],
)
def test_what_postgresql_would_give_back_otherwise_is_declared_and_refused(kind, fits):
    schema = pa.schema([("v", kind)])
    declared = any(str(kind).startswith(each) for each in POSTGRES.store_lossy)
    assert declared is not fits
    traits = SQLStore("t", connection="postgresql://h/d").traits
    assert set(POSTGRES.store_lossy) <= set(traits.lossy)
    if fits:
        refuse_inexact(schema, "postgresql", "db#t", zones=True)
        return
    with pytest.raises(UnfitValue, match=r"db#t: column 'v' is") as caught:
        refuse_inexact(schema, "postgresql", "db#t", zones=True)
    assert caught.value.hint


def test_a_zone_may_be_given_up_and_mysql_has_unsigned_numbers(path):
    refuse_inexact(pa.schema([("v", pa.timestamp("us", "Asia/Tokyo"))]), "postgresql", "t", False)
    refuse_inexact(pa.schema([("v", pa.uint64())]), "mysql", "t", zones=True)
    assert column_for(pa.uint64(), "mysql", "v").unsigned
    store = Generic(path)
    schema = pa.schema([("v", pa.uint64())])
    with pytest.raises(UnfitValue, match="uint64"):
        store.prepare(Run("r1", "f"), schema)
    store.prepare(Run("r2", "f"), None)
    with pytest.raises(UnfitValue, match="uint64"):
        store.stage(Ticket("r2", 0), None, iter([pa.table({"v": pa.array([1], pa.uint64())})]))


@pytest.mark.parametrize(
    ("kind", "dialect", "unit", "fits"),
    [
        (mysql.DATETIME(), "mysql", "us", False),
        (mysql.DATETIME(), "mysql", "s", True),
        (mysql.DATETIME(fsp=6), "mysql", "us", True),
        (mysql.DATETIME(fsp=3), "mysql", "us", False),
        (mssql.DATETIME(), "mssql", "ms", False),
        (mssql.DATETIME2(6), "mssql", "us", True),
        (mssql.DATETIME2(3), "mssql", "us", False),
    ],
)
def test_a_column_that_would_round_moments_is_refused_through_sqlalchemy(kind, dialect, unit, fits):
    column, field = {"name": "v", "type": kind}, pa.field("v", pa.timestamp(unit))
    assert (target.misfit_of(column, field, target.Target(None, "t", dialect)) == ()) is fits
