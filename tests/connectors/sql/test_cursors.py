"""Cursors of every database: rows at the watermark, and values that no cursor can follow."""

from __future__ import annotations

import sqlite3
from contextlib import contextmanager
from itertools import count

import pytest

from hygge import Flow, SQLHome, SQLStore
from hygge.connectors.mariadb import snapshot
from hygge.errors import ConfigError, HomeError

pytest_plugins = ["tests.servers.postgres", "tests.servers.mariadb"]


class Source:
    """One database to read from: its URL, and a way to write to it."""

    def __init__(self, name, url, table, ask):
        self.name, self.url, self.table, self.ask = name, url, table, ask

    def home(self, cursor, **more):
        return SQLHome("t", table=self.table, connection=self.url, cursor=cursor, **more)


@pytest.fixture(params=["postgres", "mariadb", "sqlite", "anysql"])
def source(request, tmp_path):
    name = request.param
    if name == "sqlite":
        path = tmp_path / "source.db"

        def ask(sql):
            connection = sqlite3.connect(path, isolation_level=None)
            connection.execute(sql)
            connection.close()

        return Source(name, f"sqlite:///{path}", "t", ask)
    if name == "mariadb":
        my, schema = request.getfixturevalue("my"), request.getfixturevalue("my_schema")
        return Source(
            name, my.url(schema), "t", lambda sql: my.ask(sql.replace(" t ", f" {schema}.t "))
        )
    pg, schema = request.getfixturevalue("pg"), request.getfixturevalue("schema")
    url = pg.url
    if name == "anysql":
        url = url.replace("postgresql:", "postgresql+psycopg2:")
    return Source(name, url, f"{schema}.t", lambda sql: pg.ask(sql.replace(" t ", f" {schema}.t ")))


def moved(source, tmp_path, mode, cursor="at", **options):
    """Run the flow of `source` into a SQLite file; return its report, and the rows there."""
    target = tmp_path / "target.db"
    report = Flow(
        source.home(cursor, options=options), SQLStore("t", connection=f"sqlite:///{target}"),
        name=f"f_{mode}", mode=mode, key=("id",) if mode == "merge" else (), engine="inline",
        state=tmp_path / "state",
    ).run()  # fmt: skip
    connection = sqlite3.connect(target)
    rows = connection.execute("SELECT id, v FROM t ORDER BY id").fetchall()
    connection.close()
    return report, rows


def test_merge_reads_rows_at_the_watermark_again(source, tmp_path):
    source.ask("CREATE TABLE t (id int PRIMARY KEY, at int, v int)")
    source.ask("INSERT INTO t VALUES (1, 10, 1), (2, 20, 1)")
    assert moved(source, tmp_path, "merge")[1] == [(1, 1), (2, 1)]
    source.ask("INSERT INTO t VALUES (3, 20, 1)")
    source.ask("UPDATE t SET v = 2 WHERE id = 2")
    report, rows = moved(source, tmp_path, "merge")
    assert rows == [(1, 1), (2, 2), (3, 1)]
    assert report.rows == 2
    source.ask("UPDATE t SET v = 3 WHERE id = 2")
    assert moved(source, tmp_path, "merge", cursor_ties="skip")[1] == [(1, 1), (2, 2), (3, 1)]


def test_append_adds_new_rows_at_the_watermark_and_leaves_out_those_that_came(source, tmp_path):
    source.ask("CREATE TABLE t (id int, at int, v int)")
    source.ask("INSERT INTO t VALUES (1, 10, 1), (2, 20, 1), (2, 20, 1), (2, 20, NULL)")
    rows = [(1, 1), (2, None), (2, 1), (2, 1)]
    for _ in range(2):
        assert sorted_rows(moved(source, tmp_path, "append")) == rows
    source.ask("INSERT INTO t VALUES (3, 20, 1), (2, 20, 1)")  # equal rows are counted
    rows = [(1, 1), (2, None), (2, 1), (2, 1), (2, 1), (3, 1)]
    for _ in range(2):
        assert sorted_rows(moved(source, tmp_path, "append")) == rows
    source.ask("INSERT INTO t VALUES (4, 20, 1), (5, 21, 1), (6, 21, 1)")
    report, found = moved(source, tmp_path, "append")
    assert (report.rows, report.applied) == (3, 3)
    assert sorted_rows((report, found)) == [*rows, (4, 1), (5, 1), (6, 1)]
    source.ask("INSERT INTO t VALUES (7, 21, 1), (8, 20, 1)")  # below the watermark: never
    assert moved(source, tmp_path, "append")[1][-3:] == [(5, 1), (6, 1), (7, 1)]
    source.ask("INSERT INTO t VALUES (9, 21, 1)")
    assert moved(source, tmp_path, "append", cursor_ties="skip")[0].rows == 0


def sorted_rows(result):
    return sorted(result[1], key=lambda row: (row[0], row[1] is not None, row[1]))


def test_the_plan_says_what_becomes_of_rows_at_the_watermark(source, tmp_path):
    source.ask("CREATE TABLE t (id int PRIMARY KEY, at int)")
    source.ask("INSERT INTO t VALUES (1, 10)")
    home = source.home("at")
    for mode, note in (("append", "adds those that are new"), ("merge", "are read again by the")):
        Flow(home, SQLStore("t", connection=f"sqlite:///{tmp_path}/x.db"), name="f", mode=mode,
             key=("id",) if mode == "merge" else ())  # fmt: skip
        with home.open() as plan:
            assert note in plan.reason


ENDS = [
    ("postgres", "timestamptz", "'infinity'"), ("postgres", "date", "'infinity'"),
    ("postgres", "float8", "'NaN'"), ("postgres", "float8", "'Infinity'"),
    ("postgres", "numeric", "'NaN'"), ("postgres", "timestamp", "'9999-12-31'"),
    ("postgres", "bigint", "9223372036854775807"),
    ("anysql", "float8", "'NaN'"), ("anysql", "numeric", "'NaN'"),
    ("anysql", "date", "'9999-12-31'"),
    ("mariadb", "datetime", "'9999-12-31 23:59:59'"), ("mariadb", "date", "'0000-00-00'"),
    ("mariadb", "datetime(6)", "'2024-00-00'"),
    ("mariadb", "bigint unsigned", "18446744073709551615"),
    ("sqlite", "REAL", "9e999"), ("sqlite", "TIMESTAMP", "'9999-12-31 00:00:00'"),
    ("sqlite", "TIMESTAMP", "'infinity'"), ("sqlite", "INTEGER", "9223372036854775807"),
]  # fmt: skip


@pytest.mark.parametrize(("source", "kind", "value"), ENDS, indirect=["source"])
def test_a_watermark_above_which_nothing_can_come_is_refused(source, kind, value, tmp_path):
    source.ask(f"CREATE TABLE t (id int PRIMARY KEY, at {kind}, v int)")
    source.ask(f"INSERT INTO t VALUES (1, {value}, 1), (2, NULL, 1)")
    home = source.home("at", columns=["id", "v"])
    with pytest.raises(HomeError, match="'at' is .*nothing can come above it") as caught:
        home.open().__enter__()
    where = caught.value.hint.partition('where: "')[2].partition('"')[0]
    home = source.home("at", columns=["id", "v"], where=where)
    with home.open() as plan:
        assert plan.watermark is None
        rows = [
            row for split in plan.splits for table in home.read(split) for row in table.to_pylist()
        ]
    assert rows == [{"id": 2, "v": 1}]


@pytest.mark.parametrize(
    ("source", "kind"),
    [("postgres", "timestamptz"), ("postgres", "float8"), ("anysql", "float8")],
    indirect=["source"],
)
def test_minus_infinity_is_below_what_comes(source, kind, tmp_path):
    source.ask(f"CREATE TABLE t (id int PRIMARY KEY, at {kind}, v int)")
    source.ask("INSERT INTO t VALUES (1, '-infinity', 1)")
    home = source.home("at", columns=["id"])
    with home.open() as plan:
        low = plan.watermark
    source.ask(f"INSERT INTO t VALUES (2, {1 if kind == 'float8' else 'now()'}, 1)")
    with home.open(low) as plan:
        assert plan.watermark not in (low, None)


FORMS = [
    (("2024-01-01T10:00:00", "2024-01-01 12:00:00"), "2 forms"),
    (("2024-01-01 10:00:00Z", "2024-01-01 10:00:00.5Z"), "2 forms"),
    (("2024-01-01", "2024/01/02"), "2 forms"),
    (("2024-01-01", "n/a"), "2 forms"),
    (("2024-10-27T02:30:00+02:00", "2024-10-27T02:00:00+01:00"), "time zones"),
    (("31.01.2024", "01.02.2024"), "the day or the month"),
    (("9", "10"), "different lengths"),
    (("0190163d-8694-739b-aea5-966c26f8ad90", "7d444840-9dc0-41d1-b245-5ffdce74fad2"), "version 4"),
]


@pytest.mark.parametrize(("values", "reason"), FORMS)
def test_texts_that_do_not_sort_are_refused(source, values, reason):
    source.ask("CREATE TABLE t (id int PRIMARY KEY, at varchar(40), v int)")
    for index, value in enumerate(values):
        source.ask(f"INSERT INTO t VALUES ({index}, '{value}', 1)")
    with pytest.raises(HomeError, match=f"cursor 'at' holds.*{reason}") as caught:
        source.home("at").open().__enter__()
    assert values[-1][-6:] in caught.value.message or values[0][-6:] in caught.value.message
    assert caught.value.hint


def test_a_later_row_in_another_form_is_refused_although_it_is_below_the_watermark(source):
    source.ask("CREATE TABLE t (id int PRIMARY KEY, at varchar(40), v int)")
    source.ask("INSERT INTO t VALUES (1, '2024-01-01T10:00:00', 1)")
    with source.home("at").open() as plan:
        since = plan.watermark
    source.ask("UPDATE t SET id = 2, at = '2024-01-01 12:00:00'")
    with pytest.raises(HomeError, match="2 forms"):
        source.home("at").open(since).__enter__()


@pytest.mark.parametrize(
    "values",
    [
        ("2024-01-01T10:00:00.5Z", "2024-01-01T10:00:01.5Z"), ("a", "b1"), ("2024-01-01-a", "b"),
        ("007", "008"), ("2024-10-27T02:00:00+02:00", "2024-10-27T02:30:00+02:00"),
        ("0190163d-8694-739b-aea5-966c26f8ad90", "0190163d-8694-739b-aea5-966c26f8ad91"),
    ],
)  # fmt: skip
def test_texts_that_sort_are_a_cursor(source, values):
    source.ask("CREATE TABLE t (id int PRIMARY KEY, at varchar(40), v int)")
    source.ask(f"INSERT INTO t VALUES (1, '{values[0]}', 1)")
    with source.home("at").open() as plan:
        since = plan.watermark
    source.ask(f"INSERT INTO t VALUES (2, '{values[1]}', 1)")
    home = source.home("at")
    with home.open(since) as plan:
        rows = [row["id"] for s in plan.splits for t in home.read(s) for row in t.to_pylist()]
    assert (rows, plan.watermark) == ([2], values[1])


@pytest.mark.parametrize("source", ["anysql"], indirect=True)
def test_uuids_of_any_other_database_are_refused(source):
    source.ask("CREATE TABLE t (id int PRIMARY KEY, at uuid, v int)")
    with pytest.raises(ConfigError, match="cursor 'at' is a uuid"):
        source.home("at").open().__enter__()


@pytest.mark.parametrize("source", ["sqlite"], indirect=True)
def test_blobs_are_refused(source):
    source.ask("CREATE TABLE t (id int PRIMARY KEY, at blob, v int)")
    source.ask("INSERT INTO t VALUES (1, x'0190', 1)")
    with pytest.raises(ConfigError, match="cursor 'at' holds blobs"):
        source.home("at").open().__enter__()


@pytest.mark.parametrize("source", ["postgres", "mariadb"], indirect=True)
def test_a_column_of_uuids_is_a_cursor_if_they_grow(source, tmp_path):
    source.ask("CREATE TABLE t (id int PRIMARY KEY, at uuid, v int)")
    source.ask("INSERT INTO t VALUES (1, '0190163d-8694-739b-aea5-966c26f8ad90', 1)")
    assert moved(source, tmp_path, "append")[1] == [(1, 1)]
    source.ask("INSERT INTO t VALUES (2, 'f190163d-0694-739b-aea5-966c26f8ad91', 2)")
    assert moved(source, tmp_path, "append")[1] == [(1, 1), (2, 2)]
    source.ask("INSERT INTO t VALUES (3, 'fd444840-9dc0-41d1-b245-5ffdce74fad2', 3)")
    with pytest.raises(HomeError, match="a uuid of version 4"):
        source.home("at").open().__enter__()


ACCOUNTS, EACH = 40, 100


@pytest.mark.parametrize(
    ("source", "splits"),
    [("postgres", 1), ("mariadb", 1), ("mariadb", 4), ("sqlite", 1), ("anysql", 1)],
    indirect=["source"],
)
def test_a_run_holds_rows_of_one_moment_while_money_moves(source, splits, tmp_path, monkeypatch):
    """Another session pays between plan and reading; both rows get a new value of the cursor."""
    source.ask("CREATE TABLE t (id int PRIMARY KEY, at int, v int)")
    rows = ", ".join(f"({n}, {n}, {EACH})" for n in range(ACCOUNTS))
    source.ask(f"INSERT INTO t VALUES {rows}")
    moments = count(1000)
    opened, read, begin = SQLHome.open, SQLHome.read, snapshot.begin_together

    def pay(low, high):
        source.ask(
            f"UPDATE t SET v = CASE id WHEN {low} THEN v - 7 ELSE v + 7 END, at = {next(moments)} "
            f"WHERE id IN ({low}, {high})"
        )

    @contextmanager
    def open_and_pay(home, since=None):
        home.lanes = splits
        with opened(home, since) as plan:
            assert len(plan.splits) == splits
            pay(3, 30)
            yield plan

    def read_and_pay(home, split):
        pay(1, 39)
        for table in read(home, split):
            yield table
            if source.name != "sqlite":  # one file without a write-ahead log: the reader holds it
                pay(20, 2)

    def pay_and_begin(*arguments):
        pay(5, 35)
        return begin(*arguments)

    monkeypatch.setattr(SQLHome, "open", open_and_pay)
    monkeypatch.setattr(SQLHome, "read", read_and_pay)
    monkeypatch.setattr(snapshot, "begin_together", pay_and_begin)
    options = {"splits": splits, "batch_size": 10, "cursor_ties": "skip"}
    source.ask("UPDATE t SET at = 100")
    for _ in range(2):
        rows = moved(source, tmp_path, "merge", **options)[1]
        assert len(rows) == ACCOUNTS
        assert sum(v for _, v in rows) == ACCOUNTS * EACH
        source.ask(f"UPDATE t SET at = {next(moments)}")
    assert dict(rows) != dict.fromkeys(range(ACCOUNTS), EACH)
