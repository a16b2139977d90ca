"""`hygge plan --json` and `hygge check --connect` without a server."""

from __future__ import annotations

import json
import os
import sqlite3
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq


def write(flows: str) -> None:
    pq.write_table(pa.table({"id": [1, 2], "v": ["a", "b"]}), "in.parquet")
    Path("flows.yml").write_text(f"flows:\n{flows}")


def test_a_plan_as_json(said):
    write(
        "  one: {home: in.parquet, store: 'sqlite:///x.db#t', mode: merge, key: id}\n"
        "  two: {home: {connection: 'sqlite:///x.db', table: t}, store: out, depends_on: [one]}\n"
    )
    one, two = map(json.loads, said("plan", "flows.yml", "--json").splitlines())
    assert (one["flow"], one["mode"], one["guarantee"]) == ("one", "merge", "exactly once")
    assert (one["rows"], one["rows_are_exact"], one["key"]) == (2, True, ["id"])
    assert one["holds"]["exists"] is False
    assert [(c["name"], c["type"]) for c in one["columns"]] == [("id", "int64"), ("v", "string")]
    assert two == {"flow": "two", "mode": "replace", "waits_for": "one"}


def test_what_cannot_be_planned_is_an_object_too(said, capsys):
    write("  one: {home: in.parquet, store: out}\n  two: {home: 'sqlite:///x.db#t', store: o2}\n")
    sqlite3.connect("x.db").close()
    from hygge.cli.main import main

    assert main(["plan", "flows.yml", "--json"]) == 1
    printed = capsys.readouterr()
    one, two = map(json.loads, printed.out.splitlines())
    assert one["rows"] == 2
    assert "x.db" in two["error"]
    assert "error: two: " in printed.err


def test_tables_of_many_are_an_object_each(said):
    with sqlite3.connect("x.db") as database:
        for name in "abcde":
            database.execute(f"CREATE TABLE {name} (id INTEGER)")
    write("  all: {home: {connection: 'sqlite:///x.db', tables: ['*']}, store: 'out/{table}'}\n")
    plans = [json.loads(line) for line in said("plan", "flows.yml", "--json").splitlines()]
    assert [each["flow"] for each in plans] == [f"all.main.{name}" for name in "abcde"]
    assert {each["of"] for each in plans} == {"all"}
    assert "10 ends and the state are reached" in said("check", "flows.yml", "--connect")


def test_check_connect_tries_each_end(said):
    write(
        "  one: {home: 'sqlite:///x.db#nope', store: locked/out}\n"
        "  two: {home: in.parquet, store: out}\n"
        "  three: {home: out, store: out2, depends_on: [two]}\n"
    )
    with sqlite3.connect("x.db") as database:
        database.execute("CREATE TABLE other (id INTEGER)")
    Path("locked").write_text("")
    text = said("check", "flows.yml", "--connect", code=1)
    assert "locked" in text
    Path("locked").unlink()
    text = said("check", "flows.yml", "--connect", code=1)
    assert text.count("error: ") == 1
    assert "nope" in text
    text = said("check", "flows.yml", "--connect", "--select", "two,three")
    assert "three: 'two' writes its home, which is not there yet" in text
    assert "3 ends and the state are reached" in text
    assert not os.path.exists("out")
