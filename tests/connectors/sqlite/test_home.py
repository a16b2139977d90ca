"""SQLHome on SQLite: types, splits, cursors, and what is refused with which message."""

from __future__ import annotations

import json
import os
import pickle
import sqlite3
from decimal import Decimal

import pyarrow as pa
import pytest
import sqlalchemy as sa

from hygge.batches import reached_of
from hygge.connectors.databases.home import SQLHome
from hygge.connectors.sqlite import session
from hygge.errors import ConfigError, HomeError, SourceChanged, SourceMissing, UnfitValue


@pytest.fixture
def db(tmp_path):
    connection = sqlite3.connect(tmp_path / "shop.db", isolation_level=None)
    connection.execute("PRAGMA synchronous = OFF")
    yield connection
    connection.close()


@pytest.fixture
def url(tmp_path):
    return f"sqlite:///{tmp_path}/shop.db"


def rows_of(home, since=None):
    with home.open(since) as plan:
        tables = [table for split in plan.splits for table in home.read(split)]
    return plan, [row for table in tables for row in table.to_pylist()]


def create_table(db, rows, table="t"):
    db.execute(f"CREATE TABLE {table} (id INTEGER PRIMARY KEY, name TEXT, at INTEGER)")
    db.executemany(f"INSERT INTO {table} VALUES (?, ?, ?)", rows)


def test_a_table_comes_with_its_catalogs_types_and_key(db, url):
    db.execute(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, price NUMERIC(10,2) NOT NULL, at DATETIME, x)"
    )
    db.execute("INSERT INTO t VALUES (1, 10.25, '2024-01-01 00:00:00', 'a')")
    plan, rows = rows_of(SQLHome("t", connection=url))
    assert [(c.type, c.native, c.nullable) for c in plan.columns] == [
        (pa.int64(), "INTEGER", True),
        (pa.decimal128(10, 2), "NUMERIC(10,2)", False),
        (pa.timestamp("us"), "DATETIME", True),
        (pa.string(), None, True),
    ]
    assert plan.key == ("id",)
    assert rows[0]["price"] == Decimal("10.25")
    db.execute("CREATE TABLE u (a INT, b TEXT, PRIMARY KEY (a, b))")
    for row, key in (("1, 'x'", ("a", "b")), ("1, NULL", ())):  # SQLite takes NULL in such a key
        db.execute(f"INSERT INTO u VALUES ({row})")
        plan, _ = rows_of(SQLHome("u", connection=url))
        assert plan.key == key
    assert "its primary key is not kept: 'b' is NULL in some rows" in plan.reason


def test_splits_together_hold_every_row_once(db, url):
    create_table(db, [(i * 7, f"n{i}", None) for i in range(1000)])
    plan, rows = rows_of(SQLHome("t", connection=url, options={"splits": 7}))
    assert len(plan.splits) == 7
    assert sorted(row["id"] for row in rows) == [i * 7 for i in range(1000)]
    json.dumps([split.where for split in plan.splits])


def test_splits_are_about_even_where_keys_are_not(db, url):
    create_table(db, [*((i, "", 0) for i in range(999)), (10**15, "", 0)])
    home = SQLHome("t", connection=url, options={"splits": 4})
    with home.open() as plan:
        sizes = [sum(t.num_rows for t in home.read(split)) for split in plan.splits]
    assert sizes == [250] * 4


@pytest.mark.parametrize(
    "keys",
    [
        ["a", "B", "b", None, "", "Z", "é", "10", "9", None],
        [1, None, 2, 3, None, 4, 5],
        ["same"] * 20,
        [None] * 5,
        [],
        ["2024-01-01 00:00:00", None, "2025-01-01 00:00:00"],
    ],
)
@pytest.mark.parametrize("collation", ["BINARY", "NOCASE"])
def test_no_key_is_lost_or_read_twice_by_ranges(db, url, keys, collation):
    kind = "INTEGER" if 1 in keys else "TEXT"
    db.execute(f"CREATE TABLE t (k {kind} COLLATE {collation}, n INTEGER)")
    db.executemany("INSERT INTO t VALUES (?, ?)", [(key, n) for n, key in enumerate(keys)])
    home = SQLHome("t", connection=url, split_by="k", options={"splits": 3})
    _, rows = rows_of(home)
    assert sorted(row["n"] for row in rows) == list(range(len(keys)))


def test_a_table_without_a_key_is_split_by_its_rowid(db, url):
    db.execute("CREATE TABLE t (name TEXT, rowid TEXT)")
    db.executemany("INSERT INTO t VALUES (?, 'x')", [(f"n{i}",) for i in range(100)])
    plan, rows = rows_of(SQLHome("t", connection=url, options={"splits": 3}))
    assert len(plan.splits) == 3
    assert len(rows) == 100


def test_a_table_without_rowid_is_split_by_its_key(db, url):
    db.execute("CREATE TABLE t (k TEXT PRIMARY KEY) WITHOUT ROWID")
    db.executemany("INSERT INTO t VALUES (?)", [(f"n{i:03}",) for i in range(100)])
    plan, rows = rows_of(SQLHome("t", connection=url, options={"splits": 3}))
    assert len(plan.splits) == 3
    assert len(rows) == 100


@pytest.mark.parametrize("journal", ["WAL", "DELETE"])
def test_a_write_after_the_plan_is_noticed_by_every_split(db, url, journal):
    db.execute(f"PRAGMA journal_mode = {journal}")
    create_table(db, [(i, "", 0) for i in range(100)])
    home = SQLHome("t", connection=url, options={"splits": 3})
    with home.open() as plan:
        assert sum(t.num_rows for split in plan.splits for t in home.read(split)) == 100
        db.execute("UPDATE t SET name = 'changed' WHERE id = 99")
        for split in plan.splits:
            with pytest.raises(SourceChanged, match="written to after the run was planned"):
                list(home.read(split))


def test_a_plan_keeps_no_writer_waiting(db, url):
    create_table(db, [(i, "", 0) for i in range(10)])
    db.execute("PRAGMA busy_timeout = 0")
    with SQLHome("t", connection=url).open():
        db.execute("DELETE FROM t")


def test_a_split_that_is_not_read_to_its_end_lets_go(db, url):
    create_table(db, [(i, "", 0) for i in range(1000)])
    home = SQLHome("t", connection=url, options={"batch_size": 10})
    with home.open() as plan:
        tables = home.read(plan.splits[0])
        assert next(tables).num_rows == 10
        tables.close()
    db.execute("PRAGMA busy_timeout = 0")
    db.execute("DELETE FROM t")


def test_a_batch_is_bounded_by_rows_and_by_bytes(db, url):
    db.execute("CREATE TABLE t (v TEXT)")
    db.executemany("INSERT INTO t VALUES (?)", [("x" * 10_000,)] * 300)
    small = {"batch_bytes": 100_000}
    home = SQLHome("t", connection=url, options=small)
    with home.open() as plan:
        sizes = [t.nbytes for split in plan.splits for t in home.read(split)]
    assert max(sizes) < 400_000
    home = SQLHome("t", connection=url, options={"batch_size": 70})
    with home.open() as plan:
        counts = [t.num_rows for split in plan.splits for t in home.read(split)]
    assert counts == [70, 70, 70, 70, 20]


def test_a_cursor_reads_what_is_beyond_and_ties_come_together(db, url):
    create_table(db, [(1, "", 5), (2, "", 7), (3, "", 7)])
    home = SQLHome("t", connection=url, cursor="at")
    plan, rows = rows_of(home)
    assert (plan.watermark, len(rows)) == (7, 3)
    db.execute("INSERT INTO t VALUES (4, '', 8), (5, '', 8)")
    with home.open(7) as plan:
        db.execute("INSERT INTO t VALUES (6, '', 9)")  # after the plan, and before it is read
        tables = list(home.read(plan.splits[0]))
    rows = [row["id"] for table in tables for row in table.to_pylist()]
    assert (plan.watermark, rows) == (8, [4, 5, 6])
    assert reached_of(tables[-1]) == {"watermark": 9}
    db.execute("DELETE FROM t WHERE at > 6")
    plan, rows = rows_of(home, 9)
    assert (plan.watermark, rows) == (9, [])


def test_rows_without_a_cursor_come_first_and_then_stop_the_run_until_decided(db, url):
    create_table(db, [(1, "", None), (2, "", 7)])
    plan, rows = rows_of(SQLHome("t", connection=url, cursor="at"))
    assert len(rows) == 2
    assert "'at' is NULL in 1 row:" in plan.reason
    with pytest.raises(HomeError, match="'at' is NULL in 1 row,") as caught:
        rows_of(SQLHome("t", connection=url, cursor="at"), 7)
    assert "null_cursor" in caught.value.hint
    for word, ids in (("skip", []), ("read", [1])):
        home = SQLHome("t", connection=url, cursor="at", options={"null_cursor": word})
        assert [row["id"] for row in rows_of(home, 7)[1]] == ids


def test_a_cursor_of_moments_in_two_forms_is_refused(db, url):
    db.execute("CREATE TABLE t (at TIMESTAMP)")
    db.execute("INSERT INTO t VALUES ('2024-01-01 10:00:00'), ('2024-01-01T11:00:00')")
    with pytest.raises(HomeError, match="2 forms"):
        rows_of(SQLHome("t", connection=url, cursor="at"))


def test_columns_where_and_query_choose(db, url):
    create_table(db, [(i, f"n:{i}", i) for i in range(10)])
    home = SQLHome("t", connection=url, columns=["at", "id"], where="name = 'n:3' OR id = 4")
    assert rows_of(home)[1] == [{"at": 3, "id": 3}, {"at": 4, "id": 4}]
    home = SQLHome(
        connection=url, query="SELECT id AS k, name || '%' AS p FROM t WHERE id < 2;",
        split_by="k", options={"splits": 2},
    )  # fmt: skip
    plan, rows = rows_of(home)
    assert rows == [{"k": 0, "p": "n:0%"}, {"k": 1, "p": "n:1%"}]
    assert [c.native for c in plan.columns] == ["INTEGER", None]


def test_a_query_with_two_columns_of_one_name_is_refused(db, url):
    create_table(db, [(1, "", 1)])
    home = SQLHome(connection=url, query="SELECT a.id, b.id FROM t a JOIN t b USING (id)")
    with pytest.raises(HomeError, match="more than one column named 'id'"):
        rows_of(home)


def test_a_query_that_does_not_read_is_refused_and_changes_nothing(db, url):
    create_table(db, [(1, "", 1)])
    with pytest.raises(HomeError):
        rows_of(SQLHome(connection=url, query="DELETE FROM t RETURNING id"))
    assert db.execute("SELECT count(*) FROM t").fetchone() == (1,)


@pytest.mark.parametrize("name", ['we"ird', "a b", "x.y", "100%", "größe", "select", "a'b"])
def test_odd_names_are_names(db, url, name):
    quoted = session.quoted(name)
    db.execute(f"CREATE TABLE {quoted} ({quoted} INTEGER)")
    db.execute(f"INSERT INTO {quoted} VALUES (1), (2)")
    home = SQLHome(name, connection=url, columns=[name], cursor=name, options={"splits": 2})
    assert rows_of(home)[1] == [{name: 1}, {name: 2}]


def test_what_is_missing_is_named_with_the_nearest(db, url, tmp_path):
    create_table(db, [(1, "", 1)], "users")
    with pytest.raises(SourceMissing, match="no table 'user'") as caught:
        rows_of(SQLHome("user", connection=url))
    assert "did you mean 'users'" in caught.value.hint
    with pytest.raises(SourceMissing, match="no column 'nam'") as caught:
        rows_of(SQLHome("users", connection=url, columns=["nam"]))
    assert "did you mean 'name'" in caught.value.hint
    with pytest.raises(SourceMissing, match="no SQLite database"):
        rows_of(SQLHome("users", connection=f"sqlite:///{tmp_path}/nope.db"))
    assert not os.path.exists(tmp_path / "nope.db")


def test_a_column_that_vanished_is_an_error_and_not_its_own_name(db, url):
    create_table(db, [(1, "", 1)])
    home = SQLHome("t", connection=url)
    with home.open() as plan:
        db.execute("ALTER TABLE t DROP COLUMN name")
        with pytest.raises(SourceMissing, match="name"):
            list(home.read(plan.splits[0]))


def test_a_file_that_is_no_database_is_said_so(tmp_path):
    (tmp_path / "x.db").write_text("certainly not a database file, but long enough to look at" * 20)
    with pytest.raises(HomeError, match="not a database"):
        rows_of(SQLHome("t", connection=f"sqlite:///{tmp_path}/x.db"))


def test_a_misfit_names_table_column_value_and_the_remedy_works(db, url):
    db.execute("CREATE TABLE t (n INTEGER)")
    db.execute("INSERT INTO t VALUES (1), ('many')")
    with pytest.raises(UnfitValue, match=r"shop.db#t: column 'n' is int64, but holds the text"):
        rows_of(SQLHome("t", connection=url))
    home = SQLHome("t", connection=url, options={"types": {"n": "string"}})
    assert [row["n"] for row in rows_of(home)[1]] == ["1", "many"]


def test_an_engine_or_connection_becomes_its_url(url):
    engine = sa.create_engine(url)
    with engine.connect() as connection:
        homes = [SQLHome("t", connection=each) for each in (engine, connection, url)]
    assert len({home.describe() for home in homes}) == 1
    assert len({home.place() for home in homes}) == 1
    assert pickle.loads(pickle.dumps(homes[0])).place() == homes[2].place()
    engine.dispose()


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: "sqlite://", "in-memory"),
        (lambda: "sqlite:///:memory:", "in-memory"),
        (lambda: "sqlite:///file:x?mode=memory&uri=true", "in-memory"),
        (lambda: sa.create_engine("sqlite:///x.db", creator=lambda: None), "creator"),
        (lambda: sa.create_engine("sqlite:///x.db", poolclass=sa.StaticPool), "StaticPool"),
        (
            lambda: sa.create_engine(
                "postgresql+psycopg://u:geheim@h/d", connect_args={"options": "-c x=geheim"}
            ),
            "connect_args options",
        ),
        (lambda: "no url", "not a database URL"),
        (lambda: 7, "connection is a int"),
    ],
)
def test_a_connection_that_cannot_travel_is_refused_in_a_sentence(make, words):
    with pytest.raises(ConfigError, match=words) as caught:
        SQLHome("t", connection=make())
    assert caught.value.hint
    assert "geheim" not in str(caught.value)


def test_the_environment_gives_the_connection_or_the_error_names_it(monkeypatch, url):
    monkeypatch.delenv("HYGGE_DATABASE_URL", raising=False)
    with pytest.raises(ConfigError, match="HYGGE_DATABASE_URL"):
        SQLHome("users")
    monkeypatch.setenv("HYGGE_DATABASE_URL", url)
    assert SQLHome("users").describe().endswith("shop.db#users")


def test_a_relative_file_is_the_same_from_every_directory(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert str(tmp_path) in SQLHome("t", connection="sqlite:///x.db").describe()


def test_a_password_is_never_shown():
    home = SQLHome("public.users", connection="postgres://app:geheim@DB/shop?sslpassword=geheim2")
    shown = f"{home!r} {home.settings!r} {home.describe()} {home.place()} {home._ask()!r}"
    assert "geheim" not in shown
    assert home.describe().startswith("postgresql://app:***@DB/shop")
    assert home.settings.connection.startswith("postgresql+psycopg://app:geheim@")
    other = SQLHome("users", connection="postgresql+psycopg2://me@db:5432/shop")
    assert home.place() == other.place()


def test_wrong_settings_are_refused_with_the_nearest(url):
    with pytest.raises(ConfigError, match="tabel") as caught:
        SQLHome("t", connection=url, tabel="x")
    assert "did you mean 'table'" in caught.value.hint
    with pytest.raises(ConfigError, match="a table and a query"):
        SQLHome(connection=url, table="t", query="SELECT 1")
    with pytest.raises(ConfigError, match="neither a table nor a query"):
        SQLHome(connection=url)
    with pytest.raises(ConfigError, match="there is no type 'strin'"):
        SQLHome("t", connection=url, options={"types": {"a": "strin"}})
