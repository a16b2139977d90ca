"""What docs/lakes.md says of Delta tables is so."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta

import pyarrow as pa
from deltalake import DeltaTable, write_deltalake

from hygge import Coordinator
from hygge.cli.main import main
from tests import ROOT

PAGE = (ROOT / "docs" / "lakes.md").read_text()
YAML = re.findall(r"```yaml[^\n]*\n(.*?)```", PAGE, re.DOTALL)


def block(word: str) -> str:
    """The first block of YAML that has a word."""
    return next(text for text in YAML if word in text)


def test_the_flow_of_the_page_merges_into_a_delta_table(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "flows.yml").write_text(block("partition_by"))
    with closing(sqlite3.connect("shop.db")) as shop, shop:
        shop.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY, region TEXT, at TIMESTAMP)")
        shop.execute("INSERT INTO orders VALUES (1, 'eu', '2024-01-01 00:00:00'), (2, 'us', NULL)")
    assert main(["plan", "flows.yml"]) == 0
    assert "timestampNtz" in capsys.readouterr().out
    for region in ("eu", "asia"):
        with closing(sqlite3.connect("shop.db")) as shop, shop:
            shop.execute("UPDATE orders SET region = ? WHERE id = 1", [region])
        assert Coordinator("flows.yml", engine="inline").run().ok
        rows = DeltaTable("lake/orders").to_pyarrow_table().to_pylist()
        assert sorted((row["id"], row["region"]) for row in rows) == [(1, region), (2, "us")]
    assert DeltaTable("lake/orders").metadata().partition_columns == ["region"]
    assert main(["verify", "flows.yml"]) == 0
    soon = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    (tmp_path / "flows.yml").write_text(block("as_of").replace("2024-01-31T12:00:00Z", soon))
    assert [report.rows for report in Coordinator("flows.yml", engine="inline").run().flows] == [
        2,
        2,
    ]


def test_a_missing_package_prints_the_line_that_installs_it(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(__import__("sys").modules, "deltalake", None)
    (tmp_path / "a.csv").write_text("id\n1\n")
    (tmp_path / "f.yml").write_text(
        "flows:\n  a: {home: a.csv, store: {type: delta, path: lake/a}}\n"
    )
    assert main(["check", "f.yml"]) == 1
    assert "pip install 'deltalake>=1.6.6,<2'" in capsys.readouterr().err


def test_a_copy_follows_the_changes_of_a_table(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "flows.yml").write_text(block("customers_copy"))
    feed = {"delta.enableChangeDataFeed": "true"}
    write_deltalake("lake/customers", pa.table({"id": [1, 2, 3]}), configuration=feed)
    for expected in ([1, 2, 3], [2, 3]):
        assert Coordinator("flows.yml", engine="inline").run().ok
        copy = pa.table(DeltaTable("lake/customers_copy").scan().read_all())
        assert copy.column_names == ["id"]
        assert sorted(copy["id"].to_pylist()) == expected
        DeltaTable("lake/customers").delete("id = 1")
