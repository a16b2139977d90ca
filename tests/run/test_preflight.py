"""Mistakes that need no engine are found before Ray is started."""

from __future__ import annotations

import sqlite3
import threading
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hygge import Flow, ParquetHome, ParquetStore
from hygge.cli.main import main
from hygge.engine.ray import connection
from hygge.home import is_quick
from hygge.run.preflight import find_mistakes
from hygge.run.watch import Silent


@pytest.fixture(autouse=True)
def _without_ray(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder with a file and a table, and a Ray whose start fails the test."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(connection, "find_running", lambda: None)
    monkeypatch.setattr(connection, "is_connected", lambda: False)

    def refused(dashboard: bool = False) -> None:
        pytest.fail("Ray was started")

    monkeypatch.setattr(connection, "connect", refused)
    pq.write_table(pa.table({"id": [1], "v": ["a"]}), "in.parquet")
    Path("in.csv").write_text("id,v\n1,a\n")
    Path("in.jsonl").write_text('{"id": 1}\n')
    with sqlite3.connect("x.db") as database:
        database.execute("CREATE TABLE t (id INTEGER, v TEXT)")


MISTAKES = {
    "{home: 'sqlite:///x.db#tt', store: out}": "there is no table 'tt'",
    "{home: {connection: 'sqlite:///x.db', query: 'SELECT nope FROM t'}, store: out}": "nope",
    "{home: {path: in.csv, columns: [idd]}, store: out}": "has no column 'idd'",
    "{home: {path: in.jsonl, columns: [idd]}, store: out}": "has no column 'idd'",
    "{home: {path: in.parquet, columns: [idd]}, store: out}": "has no column 'idd'",
    "{home: {connection: 'sqlite:///x.db', table: t, columns: [idd]}, store: out}": "'idd'",
    "{home: in.parquet, store: out, mask: {vv: 'null'}}": "vv",
    "{home: in.parquet, store: 'sqlite:///o.db#t', mode: merge, key: nope}": "nope",
    "{home: 'sqlite:///x.db#t', store: 'sqlite:///o.db#t', mode: merge}": "no primary key",
    "{home: in.parquet, store: 'sqlite:///x.db#t'}": "hygge did not",
    "{home: in.parquet, store: mine}": "hygge did not write",
    "{home: in.parquet, store: 'postgresql://a:b@127.0.0.1:9/x#t', retries: 0}": "127.0.0.1",
    "{home: 'postgresql://a:b@127.0.0.1:9/x#t', store: out, retries: 1}": "is tried again",
}


@pytest.mark.parametrize("flow", MISTAKES)
def test_a_mistake_is_found_before_ray_starts(flow, capsys):
    Path("mine").mkdir()
    Path("mine/a.txt").write_text("mine")
    Path("flows.yml").write_text(f"flows: {{f: {flow}}}\n")
    assert main(["flows.yml"]) == 1
    said = capsys.readouterr()
    assert MISTAKES[flow] in said.out + said.err
    assert "f  failed" in said.out
    assert not Path("out").exists()


def test_large_files_and_classes_of_others_are_not_looked_into(monkeypatch):
    monkeypatch.setattr("hygge.connectors.files.home.is_quick", lambda sizes: False)
    flow = Flow(ParquetHome("in.parquet"), ParquetStore(path="out"), name="f")
    monkeypatch.setattr(ParquetHome, "open", lambda *_: pytest.fail("it was opened"))
    find_mistakes(flow, Silent(), threading.Event())
    assert is_quick([1] * 100)
    assert not is_quick([1] * 101)
    assert not is_quick([65 * 1024 * 1024])
