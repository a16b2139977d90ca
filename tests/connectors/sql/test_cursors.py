"""Cursors of every database: rows at the watermark, and values that no cursor can follow."""

from __future__ import annotations

import sqlite3

import pytest

from hygge import Flow, SQLHome, SQLStore

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


def test_append_leaves_rows_at_the_watermark_out(source, tmp_path):
    source.ask("CREATE TABLE t (id int PRIMARY KEY, at int, v int)")
    source.ask("INSERT INTO t VALUES (1, 10, 1), (2, 20, 1)")
    moved(source, tmp_path, "append")
    source.ask("INSERT INTO t VALUES (3, 20, 1), (4, 21, 1)")
    assert moved(source, tmp_path, "append")[1] == [(1, 1), (2, 1), (4, 1)]


def test_the_plan_says_what_becomes_of_rows_at_the_watermark(source, tmp_path):
    source.ask("CREATE TABLE t (id int PRIMARY KEY, at int)")
    source.ask("INSERT INTO t VALUES (1, 10)")
    home = source.home("at")
    for mode, note in (("append", "get 'at' 10 later, or"), ("merge", "are read again by the")):
        Flow(home, SQLStore("t", connection=f"sqlite:///{tmp_path}/x.db"), name="f", mode=mode,
             key=("id",) if mode == "merge" else ())  # fmt: skip
        with home.open() as plan:
            assert note in plan.reason
