"""The examples of docs/families.md do what the page says."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from hygge import Coordinator
from hygge.cli.main import main
from hygge.connectors.sql.listing import Table
from hygge.coordinator.members import flow_name, path_word
from tests import ROOT

PAGE = (ROOT / "docs" / "families.md").read_text()
BLOCKS = re.findall(r"```(\w*)\n(.*?)```", PAGE, re.DOTALL)
YAML = [text for kind, text in BLOCKS if kind == "yaml"]
SAID = [text.rstrip("\n") for kind, text in BLOCKS if kind == ""]


def test_a_table_is_renamed(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    flows = tmp_path / "flows.yml"
    flows.write_text(YAML[0])
    with closing(sqlite3.connect("shop.db")) as shop:
        shop.execute("CREATE TABLE OrderLines (id INTEGER, n INTEGER)")
        shop.execute("CREATE TABLE BigUsers (id INTEGER)")
        shop.commit()
    assert main(["plan", str(flows)]) == 0
    assert SAID[0] in capsys.readouterr().out
    assert Coordinator(flows, engine="inline").run().ok
    assert pq.read_table(tmp_path / "out" / "lines").column_names == ["id"]
    assert (tmp_path / "out" / "big_users").is_dir()


def test_each_file_is_a_flow(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    flows = tmp_path / "flows.yml"
    flows.write_text(YAML[1])
    for name, content in (
        ("eu/people.csv", "zip\n01067\n00100\n"),
        ("eu/old_people.csv", "zip\n1\n"),
        ("us/events.jsonl", '{"n": 1}\n'),
    ):
        path = Path("in", name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    assert main(["run", "--inline", str(flows)]) == 0
    said = capsys.readouterr().out
    for line in SAID[1].splitlines():
        assert line in said
    assert "2 flows: 2 done" in said
    assert pq.read_table(tmp_path / "lake/eu/people")["zip"].to_pylist() == ["01067", "00100"]


def test_names_of_flows_and_folders_are_as_the_page_says():
    lines = re.findall(r"^\| `(.+?)`.* \| `(.+?)` \| `(.+?)` \|$", PAGE, re.MULTILINE)
    assert len(lines) == 5
    for table, flow, folder in lines:
        is_cased = flow.startswith("shop.public.")
        assert flow_name("shop", Table("public" if is_cased else "main", table)) == flow
        assert path_word(table, is_cased) == folder


@pytest.mark.parametrize("word", ["date", "file"])
def test_a_word_that_nothing_fills_is_refused(tmp_path, word, capsys):
    (tmp_path / "a.csv").write_text("id\n1\n")
    flows = tmp_path / "flows.yml"
    flows.write_text(f'flows: {{a: {{home: a.csv, store: "out/{{{word}}}"}}}}')
    assert main(["check", str(flows)]) == 1
    assert f"'{{{word}}}'" in capsys.readouterr().err
