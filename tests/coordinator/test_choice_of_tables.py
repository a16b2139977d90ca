"""Which tables of a flow run, and what its cursor, its mode and its key mean for each of them."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pyarrow.dataset as ds
import pytest

from hygge import Coordinator
from hygge.cli.main import main
from tests.coordinator.many import filled, run

pytest_plugins = ["tests.coordinator.many"]


@pytest.mark.parametrize(
    ("select", "exclude", "taken"),
    [
        (["shop.main.order*"], [], ["order_lines", "orders"]),
        (["*.orders"], [], ["orders"]),
        (["shop.*"], ["*_lines"], ["orders", "users"]),
        ([], ["shop.main.[ou]rders", "shop.main.users"], ["order_lines"]),
    ],
)
def test_patterns_select_and_exclude_tables(flows, tmp_path, select, exclude, taken):
    filled(tmp_path / "shop.db", "orders", "order_lines", "users")
    path = flows('tables: ["*"]', 'store: "lake/{table}"\n')
    summary = Coordinator(path, select=select, exclude=exclude, engine="inline").run()
    assert summary.ok
    assert [each.flow.removeprefix("shop.main.") for each in summary.flows] == taken


def test_patterns_that_leave_no_table_fail_the_flow(flows, tmp_path):
    filled(tmp_path / "shop.db", "orders", "users")
    path = flows('tables: ["*"]', 'store: "lake/{table}"\n')
    (report,) = run(path, "shop.main.x*").flows
    assert "it has no table 'main.x*'" in report.error
    (report,) = Coordinator(path, exclude=["shop.main.*"], engine="inline").run().flows
    assert "--exclude leaves no table of it" in report.error
    assert report.hint == "--exclude shop"


def test_the_cursor_of_many_tables_is_for_those_that_have_the_column(flows, tmp_path, capsys):
    """The others are replaced, and `plan` says so; a table's own cursor must be there."""
    with closing(sqlite3.connect(tmp_path / "shop.db")) as shop:
        shop.execute("CREATE TABLE seen (id INTEGER PRIMARY KEY, at INTEGER)")
        shop.execute("CREATE TABLE kinds (code TEXT PRIMARY KEY, name TEXT)")
        shop.execute("INSERT INTO seen VALUES (1, 10), (2, 20)")
        shop.execute("INSERT INTO kinds VALUES ('a', 'A'), ('b', 'B')")
        shop.commit()
    home, rest = 'tables: ["*"], cursor: at', 'store: "lake/{table}"\nmode: append\n'
    path = flows(home, rest)
    assert main(["plan", str(path)]) == 0
    said = capsys.readouterr().out
    assert "it has no column 'at', so each run replaces all of it" in said
    assert run(path).ok
    with closing(sqlite3.connect(tmp_path / "shop.db")) as shop:
        shop.execute("INSERT INTO seen VALUES (3, 30)")
        shop.execute("UPDATE kinds SET name = 'C' WHERE code = 'a'")
        shop.execute("DELETE FROM kinds WHERE code = 'b'")
        shop.commit()
    by_flow = {report.flow: report for report in run(path).flows}
    assert by_flow["shop.main.seen"].rows == 1
    assert by_flow["shop.main.kinds"].mode == "replace"
    lake = tmp_path / "lake"
    assert ds.dataset(lake / "seen").to_table()["id"].to_pylist() == [1, 2, 3]
    assert ds.dataset(lake / "kinds").to_table().to_pylist() == [{"code": "a", "name": "C"}]
    path = flows(home, rest.replace("lake", "new") + "tables: {kinds: {cursor: at}}\n")
    (failed,) = [report for report in run(path).flows if report.status == "failed"]
    assert failed.flow == "shop.main.kinds"
    assert "no column 'at'" in failed.error


def test_a_table_that_loses_the_cursor_is_not_replaced(flows, tmp_path):
    """Its old rows may be in the store alone: each run before added what was new."""
    with closing(sqlite3.connect(tmp_path / "shop.db")) as shop:
        shop.execute("CREATE TABLE seen (id INTEGER PRIMARY KEY, at INTEGER)")
        shop.execute("INSERT INTO seen VALUES (1, 10), (2, 20)")
        shop.commit()
    path = flows('tables: ["*"], cursor: at', 'store: "lake/{table}"\nmode: append\n')
    assert run(path).ok
    with closing(sqlite3.connect(tmp_path / "shop.db")) as shop:
        shop.execute("DELETE FROM seen WHERE id = 1")
        shop.execute("ALTER TABLE seen RENAME COLUMN at TO seen_at")
        shop.commit()
    (report,) = run(path).flows
    assert report.status == "failed"
    assert "rows that are no longer in the source would be lost" in report.error
    assert ds.dataset(tmp_path / "lake" / "seen").to_table()["id"].to_pylist() == [1, 2]


@pytest.mark.parametrize("key", ["mask: {emial: 'null'}", "exclude: [emial]"])
def test_a_hidden_column_that_no_table_has_is_an_error(flows, tmp_path, key):
    """A misspelt name would hide nothing. One table that lacks a column is no error."""
    with closing(sqlite3.connect(tmp_path / "shop.db")) as shop:
        shop.execute("CREATE TABLE people (id INTEGER PRIMARY KEY, email TEXT)")
        shop.execute("CREATE TABLE kinds (code TEXT PRIMARY KEY)")
        shop.commit()
    home, rest = 'tables: ["*"]', 'store: "lake/{table}"\n'
    if key.startswith("mask"):
        rest += f"{key}\n"
    else:
        rest += "tables: {'*': {exclude: [emial]}}\n"
    path = flows(home, rest)
    (report,) = run(path).flows
    assert "no table of flow 'shop' has the column 'emial'" in report.error
    assert "did you mean 'email'?" in report.hint
    path.write_text(path.read_text().replace("emial", "email"))
    assert run(path).ok


def test_each_table_is_merged_by_its_primary_key_where_none_is_stated(flows, tmp_path, capsys):
    with closing(sqlite3.connect(tmp_path / "shop.db")) as shop:
        shop.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY, v TEXT)")
        shop.execute("CREATE TABLE lines (o INTEGER, n INTEGER, v TEXT, PRIMARY KEY (o, n))")
        shop.execute("CREATE TABLE log (v TEXT)")
        shop.execute("INSERT INTO orders VALUES (1, 'a')")
        shop.execute("INSERT INTO lines VALUES (1, 1, 'a'), (1, 2, 'b')")
        shop.commit()
    path = flows('tables: ["*"]', 'store: {path: out.db, table: "{table}"}\nmode: merge\n')
    path.write_text(path.read_text().replace("path: out.db", "connection: 'sqlite:///out.db'"))
    by_flow = {report.flow: report for report in run(path).flows}
    assert "has no primary key" in by_flow["shop.main.log"].error
    assert "`key: [id]`" in by_flow["shop.main.log"].hint
    with closing(sqlite3.connect(tmp_path / "shop.db")) as shop:
        shop.execute("UPDATE lines SET v = 'c' WHERE n = 2")
        shop.execute("INSERT INTO orders VALUES (2, 'z')")
        shop.commit()
    run(path, "shop.main.orders,shop.main.lines")
    with closing(sqlite3.connect(tmp_path / "out.db")) as out:
        assert out.execute("SELECT * FROM orders ORDER BY 1").fetchall() == [(1, "a"), (2, "z")]
        lines = out.execute("SELECT * FROM lines ORDER BY 1, 2").fetchall()
    assert lines == [(1, 1, "a"), (1, 2, "c")]
    main(["plan", str(path), "--select", "shop.main.lines"])
    assert "key     o, n" in capsys.readouterr().out
