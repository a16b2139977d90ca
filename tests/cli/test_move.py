"""`hygge move SOURCE TARGET`: one flow without a file, and the file that it may save."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from deltalake import DeltaTable

from hygge.cli import move
from hygge.cli.arguments import parse
from hygge.cli.main import main
from hygge.coordinator.move import flow_of, saved_text


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HYGGE_STATE", raising=False)


@pytest.fixture
def moved(capsys: pytest.CaptureFixture[str]):
    """Run `hygge move … --inline`, and return what it prints."""

    def run(*words: str, code: int = 0) -> str:
        result = main(["move", *words, "--inline"])
        said = capsys.readouterr()
        assert result == code, said.out + said.err
        return said.out + said.err

    return run


def rows(table: str, path: str = "x.db") -> list[tuple]:
    with sqlite3.connect(path) as database:
        return database.execute(f"SELECT * FROM {table} ORDER BY 1").fetchall()


def test_a_file_into_a_table_and_back(moved):
    Path("data").mkdir()
    Path("data/in.csv").write_text("id,v\n1,a\n2,b\n")
    words = ("data/in.csv", "sqlite:///x.db#t", "--mode", "merge", "--key", "id")
    assert "2 rows read = staged = applied" in moved(*words)
    Path("data/in.csv").write_text("id,v\n2,B\n3,c\n")
    moved(*words)
    assert rows("t") == [(1, "a"), (2, "B"), (3, "c")]
    moved("sqlite:///x.db#t", "lake/t")
    assert pq.read_table("lake/t").num_rows == 3
    moved("sqlite:///x.db#t", "out.csv")
    assert Path("out.csv").read_text().splitlines()[1:] == ['1,"a"', '2,"B"', '3,"c"']
    moved("out.csv", "lake/d", "--type", "delta", "--mode", "merge", "--key", "id")
    assert DeltaTable("lake/d").to_pyarrow_table().num_rows == 3
    said = moved("lake/d", "sqlite:///x.db#d", "--type", "delta", code=2)
    assert "--type is for files and folders" in said


def test_what_is_saved_goes_on_where_the_command_was(moved, capsys):
    with sqlite3.connect("x.db") as database:
        database.execute("CREATE TABLE t (id INTEGER PRIMARY KEY)")
        database.execute("INSERT INTO t VALUES (1), (2)")
    words = ("sqlite:///x.db#t", "lake", "--cursor", "id", "--mode", "append")
    assert "saved: hygge flows.yml" in moved(*words, "--save", "flows.yml")
    with sqlite3.connect("x.db") as database:
        database.execute("INSERT INTO t VALUES (3)")
    assert main(["flows.yml", "--inline"]) == 0
    assert "1 row read" in capsys.readouterr().out
    with sqlite3.connect("x.db") as database:
        database.execute("INSERT INTO t VALUES (4)")
    assert "1 row read" in moved(*words)
    assert pq.read_table("lake").num_rows == 4
    said = moved(*words, "--save", "flows.yml", code=2)
    assert "flows.yml is there already" in said


def test_a_saved_file_in_another_folder_means_the_same_paths(moved):
    pq.write_table(pa.table({"id": [1]}), "in.parquet")
    Path("conf").mkdir()
    moved("in.parquet", "lake/a", "--save", "conf/flows.yml")
    assert main(["conf/flows.yml", "--inline"]) == 0
    assert not Path("conf/lake").exists()


def test_connections_of_a_file_and_many_tables(moved):
    with sqlite3.connect("x.db") as database:
        database.executescript("CREATE TABLE a (id INTEGER); CREATE TABLE b (id INTEGER)")
    Path("flows.yml").write_text('connections: {shop: "sqlite:///x.db"}\nflows: {}\n')
    moved("shop#a", "one")
    assert pq.read_table("one").column_names == ["id"]
    moved("shop#*", "lake", "--save", "all.yml")
    assert sorted(os.listdir("lake")) == ["a", "b"]
    saved = yaml.safe_load(Path("all.yml").read_text())
    assert saved["connections"] == {"shop": "sqlite:///x.db"}
    assert saved["flows"]["all_to_lake"]["home"] == {"connection": "shop", "tables": ["*"]}
    Path("below").mkdir()
    Path("flows.yml").rename("below/flows.yml")
    Path("x.db").rename("below/x.db")
    moved("shop#a", "two", "--file", "below/flows.yml")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("nope.csv", "out"), "nope.csv"),
        (
            ("in.parquet", "sqlite:///x.db#t", "--mode", "merge"),
            "hygge move: flow 'in_to_t': mode merge needs 'key': the columns that tell rows apart"
            "\n\nhint: --key id\n",
        ),
        (("in.parquet", "out", "--type", "delt"), "did you mean 'delta'?"),
        (("shop#t", "out"), "there is no connection 'shop'"),
        (("postgresql://a:geheim@127.0.0.1:9/x#t", "out"), "127.0.0.1"),
        (("postgresql://a:geheim@127.0.0.1:9/x", "out"), "a database URL without a table"),
        (("in.parquet", "in.parquet"), ""),
    ],
)
def test_mistakes_are_said_without_a_secret(words, said, moved):
    pq.write_table(pa.table({"id": [1]}), "in.parquet")
    text = moved(*words, code=1)
    assert said in text
    assert "geheim" not in text
    assert not Path("out").exists()


def test_usage(moved):
    pq.write_table(pa.table({"id": [1]}), "in.parquet")
    assert "--cursor is for tables" in moved("in.parquet", "out", "--cursor", "id", code=2)
    assert "did you mean '--mode'?" in moved("in.parquet", "out", "--mod", "x", code=2)
    said = moved("in.parquet", "out", "--address", "http://head:8265", code=2)
    assert "move runs on this machine" in said
    assert "then: hygge flows.yml --address http://head:8265" in said
    assert "there is no folder" in moved("in.parquet", "out", "--save", "no/f.yml", code=2)


def test_a_password_is_a_variable_in_what_is_saved(monkeypatch):
    url = "postgresql://app:p%40ss%23@db/shop"
    move = flow_of(f"{url}#public.orders", f"{url}2#copy", mode="append")
    text = saved_text(move, "flows.yml")
    assert "p%40ss" not in text
    content = yaml.safe_load(text)
    assert content["connections"] == {
        "shop": "postgresql://app:${SHOP_PASSWORD}@db/shop",
        "shop2": "postgresql://app:${SHOP2_PASSWORD}@db/shop2",
    }
    assert content["flows"] == {
        "orders_to_copy": {"home": "shop#public.orders", "store": "shop2#copy", "mode": "append"}
    }
    assert move.variables == {"SHOP_PASSWORD": "p%40ss%23", "SHOP2_PASSWORD": "p%40ss%23"}
    (spec,) = move.file.flows
    assert spec.home.settings["connection"].startswith("postgresql://app:p%40ss%23@db/shop")
    assert "p%40ss" not in repr(move)


def test_a_cluster_that_a_variable_names_is_told_to_be_left_out(monkeypatch):
    pq.write_table(pa.table({"id": [1]}), "in.parquet")
    notes: list[str] = []

    def run_here(arguments, opened, note):
        notes.append(note)
        return 0

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    for address in ("", "head:8265"):
        monkeypatch.setenv("RAY_API_SERVER_ADDRESS", address)
        for more in ([], ["--inline"]):
            assert move.run(parse(["move", "in.parquet", "out", *more]), run_here) == 0
    there = "move runs on this machine, not at http://head:8265 (RAY_API_SERVER_ADDRESS)"
    assert [note.partition(";")[0] for note in notes] == ["", "", there, ""]
