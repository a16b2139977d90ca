"""The examples of docs/columns.md write what stands below them."""

from __future__ import annotations

import csv
import re
import sqlite3
from pathlib import Path

import pytest

from hygge import Coordinator
from tests import ROOT

BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.DOTALL | re.MULTILINE)
DOCUMENT = (ROOT / "docs" / "columns.md").read_text()
BLOCKS = [(match[1], match[2]) for match in BLOCK.finditer(DOCUMENT)]
PEOPLE = next(text for kind, text in BLOCKS if kind == "csv")
FLOWS = [
    (text, BLOCKS[at + 1][1] if BLOCKS[at + 1 : at + 2] and BLOCKS[at + 1][0] == "csv" else None)
    for at, (kind, text) in enumerate(BLOCKS)
    if kind == "yaml"
]


def cells(text: str) -> list[list[str]]:
    """The rows of a CSV; the store writes more quotes than a reader of the page needs."""
    return list(csv.reader(text.splitlines()))


@pytest.mark.parametrize("number", range(len(FLOWS)))
def test_an_example_writes_what_stands_below_it(number, tmp_path: Path, monkeypatch):
    flows, expected = FLOWS[number]
    monkeypatch.setenv("HYGGE_MASK_KEY", "an example, not your key")
    (tmp_path / "people.csv").write_text(PEOPLE)
    (tmp_path / "flows.yml").write_text(flows)
    for kind, text in BLOCKS:
        if kind == "json":
            (tmp_path / "orders.jsonl").write_text(text)
        if kind == "python":
            (tmp_path / text.split("\n")[0].removeprefix("# ")).write_text(text)
    with sqlite3.connect(tmp_path / "shop.db") as shop:
        shop.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY, total INTEGER)")
        shop.execute("CREATE TABLE people (id INTEGER, ssn TEXT)")
    summary = Coordinator(tmp_path / "flows.yml", engine="inline").run()
    assert summary.ok, [(report.error, report.hint) for report in summary.flows]
    if expected is not None:
        assert cells((tmp_path / "out" / "people.csv").read_text()) == cells(expected)
