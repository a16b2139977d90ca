"""`rename` and `names` of a home with `tables`: what a table is called in the store."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pyarrow.parquet as pq
import pytest

from hygge import Coordinator
from hygge.cli.main import main
from tests.coordinator.many import filled, run

pytest_plugins = ["tests.coordinator.many"]


def names_in(path) -> set[str]:
    with closing(sqlite3.connect(path)) as database:
        found = {name for (name,) in database.execute("SELECT name FROM sqlite_master")}
    return {name for name in found if not name.startswith(("_hygge", "sqlite_"))}


def test_names_in_the_store_are_said_and_flows_keep_those_of_the_source(flows, tmp_path, capsys):
    filled(tmp_path / "shop.db", "OrderLines", "Users", "plain")
    home = 'tables: ["*"], rename: {Users: sales.people}, names: snake'
    path = flows(home, 'store: "lake/{schema}/{table}"\n')
    assert main(["plan", str(path)]) == 0
    said = capsys.readouterr().out
    assert "named   OrderLines is named order_lines in the store" in said
    assert "named   main.Users is named sales.people in the store" in said
    assert said.count("  named  ") == 2
    summary = run(path)
    assert [each.flow for each in summary.flows] == [
        f"shop.main.{name}" for name in ("OrderLines", "Users", "plain")
    ]
    for place, name in (
        ("main/order_lines", "OrderLines"),
        ("sales/people", "Users"),
        ("main/plain", "plain"),
    ):
        assert pq.read_table(tmp_path / "lake" / place)["v"].to_pylist() == [name, None]


def test_a_database_gets_the_new_names(flows, tmp_path):
    filled(tmp_path / "shop.db", "OrderLines", "Users")
    home = 'tables: ["*"], rename: {Users: "all people"}, names: snake'
    assert run(flows(home, 'store: "sqlite:///copy.db#{table}"\n')).ok
    assert names_in(tmp_path / "copy.db") == {"order_lines", "all people"}


def test_settings_and_selection_go_by_the_name_at_the_source(flows, tmp_path):
    filled(tmp_path / "shop.db", "a", "b")
    rest = 'store: "lake/{table}"\ntables: {"a*": {columns: [v]}, b: {columns: [id]}}\n'
    path = flows('tables: ["*"], rename: {a: b, b: c}', rest)
    assert run(path).ok
    assert pq.read_table(tmp_path / "lake" / "b").to_pydict() == {"v": ["a", None]}
    assert pq.read_table(tmp_path / "lake" / "c").column_names == ["id"]
    assert [each.flow for each in run(path, "shop.main.b").flows] == ["shop.main.b"]


@pytest.mark.parametrize("store", ['"lake/{table}"', '"sqlite:///copy.db#{table}"'])
def test_a_table_that_gets_another_name_is_moved_anew_to_it(flows, tmp_path, store):
    """The flow is the same one, and its watermark belongs to the place that had the old name."""
    with closing(sqlite3.connect(tmp_path / "shop.db")) as shop:
        shop.execute("CREATE TABLE old (id INTEGER PRIMARY KEY)")
        shop.execute("INSERT INTO old VALUES (1), (2)")
        shop.commit()
    rest = f"store: {store}\nmode: append\n"
    assert run(flows('tables: ["*"], cursor: id', rest)).ok
    for _ in range(2):
        assert run(flows('tables: ["*"], cursor: id, rename: {old: new}', rest)).ok
    if "lake" in store:
        assert pq.read_table(tmp_path / "lake" / "new")["id"].to_pylist() == [1, 2]
    else:
        with closing(sqlite3.connect(tmp_path / "copy.db")) as copy:
            assert copy.execute("SELECT id FROM new").fetchall() == [(1,), (2,)]


@pytest.mark.parametrize(
    ("tables", "home"),
    [
        (("a", "b"), "rename: {a: b}"),
        (("a", "b"), "rename: {a: c, b: c}"),
        (("OrderLines", "order_lines"), "names: snake"),
    ],
)
def test_two_tables_in_one_place_are_an_error_before_anything_moves(
    flows, tmp_path, tables, home, capsys
):
    filled(tmp_path / "shop.db", *tables)
    path = flows(f'tables: ["*"], {home}', 'store: "lake/{table}"\n')
    for select in ((), (f"shop.main.{tables[0]}",)):  # the other one runs on another day
        (failed,) = run(path, *select).flows
        assert "would come to one place" in failed.error
        assert f"rename: {{main.{max(tables)}: another}}" in failed.hint
    assert main(["plan", str(path)]) == 1
    assert "would come to one place" in capsys.readouterr().err
    assert not (tmp_path / "lake").exists()
    path.write_text(
        path.read_text().replace("lake/", "copy.db#").replace('"copy', '"sqlite:///copy')
    )
    assert "would come to one place" in run(path).flows[0].error


def test_two_that_are_not_selected_stop_no_other(flows, tmp_path):
    filled(tmp_path / "shop.db", "a", "b", "c")
    path = flows('tables: ["*"], rename: {a: b}', 'store: "lake/{table}"\n')
    assert run(path, "shop.main.c").ok


def test_a_renamed_table_that_is_not_there_is_an_error_with_the_nearest(flows, tmp_path):
    filled(tmp_path / "shop.db", "orders")
    (failed,) = run(flows('tables: ["*"], rename: {ordres: o}', 'store: "lake/{table}"\n')).flows
    assert "no pattern takes the table 'ordres'" in failed.error
    assert "did you mean 'main.orders'?" in failed.hint


@pytest.mark.parametrize(
    ("home", "said", "hint"),
    [
        (
            "rename: [a]",
            "'rename' is a list, not a mapping",
            "rename: {public.order_lines: orders}",
        ),
        ('rename: {"a*": b}', "one name to 'a*', which is a pattern", "name each"),
        ("rename: {a: null}", "the new name of 'a' is empty", "rename:"),
        ("names: camel", "'names' is 'camel'", "names: snake, or as_is"),
    ],
)
def test_a_wrong_name_is_said_with_its_line(flows, home, said, hint, capsys):
    path = flows(f'tables: ["*"], {home}', 'store: "lake/{table}"\n')
    assert main(["check", str(path)]) == 1
    message = capsys.readouterr().err
    assert "flows.yml:4: flow 'shop'" in message
    assert said in message
    assert hint in message.partition("hint:")[2]


def test_a_folder_leads_to_its_table(flows, tmp_path):
    """The folder of a table with strange letters is another word than its flow: both select it."""
    filled(tmp_path / "shop.db", "a b", "c")
    path = flows('tables: ["*"]', 'store: "lake/{table}"\n')
    assert run(path).ok
    folder = next(path.name for path in (tmp_path / "lake").iterdir() if path.name != "c")
    by_folder, by_name = run(path, f"shop.main.{folder}"), run(path, "shop.main.a b")
    assert [each.flow for each in by_folder.flows] == [each.flow for each in by_name.flows]


def test_a_table_that_is_gone_is_said_once(flows, tmp_path, capsys):
    filled(tmp_path / "shop.db", "a", "b")
    path = flows('tables: ["*"]', 'store: "lake/{table}"\n')
    assert run(path).ok
    with closing(sqlite3.connect(tmp_path / "shop.db")) as shop:
        shop.execute("DROP TABLE b")
    assert main(["plan", str(path)]) == 0
    gone = "no longer at the source: main.b; what was moved of it stays in the store"
    assert f"shop: {gone}" in capsys.readouterr().out
    assert main(["run", "--inline", str(path)]) == 0
    assert gone in capsys.readouterr().err
    assert main(["run", "--inline", str(path)]) == 0
    assert "no longer" not in capsys.readouterr().err
    assert (tmp_path / "lake" / "b").exists()
    assert Coordinator(path, engine="inline").run().ok
