"""The examples of docs/schema.md do what the page says."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hygge import Coordinator
from hygge.cli.main import main
from tests import ROOT

PAGE = (ROOT / "docs" / "schema.md").read_text()
BLOCKS = re.findall(r"```(\w*)\n(.*?)```", PAGE, re.DOTALL)
YAML = [text for kind, text in BLOCKS if kind == "yaml"]
SAID = [text.strip("\n") for kind, text in BLOCKS if kind == ""]


def asked(path: Path, *statements: str) -> list:
    with closing(sqlite3.connect(path)) as connection, connection:
        for statement in statements:
            rows = connection.execute(statement).fetchall()
    return rows


def run(flows: Path, capsys: pytest.CaptureFixture[str], *command: str) -> str:
    assert main([*command, str(flows)]) == 0
    return capsys.readouterr().out


def test_a_new_column_of_a_table_is_planned_and_added(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    flows, shop = tmp_path / "flows.yml", tmp_path / "shop.db"
    flows.write_text(YAML[0])
    asked(shop, "CREATE TABLE orders (id INTEGER PRIMARY KEY)", "INSERT INTO orders VALUES (1)")
    Coordinator(flows, engine="inline").run()
    asked(shop, "ALTER TABLE orders ADD COLUMN note TEXT", "INSERT INTO orders VALUES (2, 'x')")
    assert SAID[0] in run(flows, capsys, "plan")
    (report,) = Coordinator(flows, engine="inline").run().flows
    assert report.changes == (SAID[0].strip().removeprefix("changes "),)
    assert asked(tmp_path / "lake.db", "SELECT * FROM orders") == [(1, None), (2, "x")]
    journal = "".join(file.read_text() for file in (tmp_path / ".hygge").rglob("outcome.json"))
    assert '"changes": ["column \'note\' (TEXT) is added' in journal


def test_files_of_different_columns_are_read_as_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "flows.yml").write_text(YAML[1])
    (tmp_path / "in").mkdir()
    pq.write_table(pa.table({"n": pa.array([1], pa.int32())}), "in/a.parquet")
    pq.write_table(pa.table({"n": [2**40], "note": ["x"]}), "in/b.parquet")
    Coordinator("flows.yml", engine="inline").run()
    rows = pq.read_table("out/readings").to_pylist()
    assert rows == [{"n": 1, "note": None}, {"n": 2**40, "note": "x"}]
