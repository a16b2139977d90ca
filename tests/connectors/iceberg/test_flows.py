"""Flows of a file on a catalog: the example of docs/lakes.md, and what is wrong in such a file."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow.dataset as ds
import pytest

from hygge import ConfigError, Coordinator, IcebergStore
from hygge.cli.main import main
from hygge.testing.staging import stage_run, tagged_rows
from tests import ROOT
from tests.connectors.iceberg import lakes

PAGE = (ROOT / "docs" / "lakes.md").read_text().partition("## Iceberg")[2]
FLOWS = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
LINES = "id,sold_at,price\n1,2024-01-01,1.5\n2,2024-01-02,\n"


def _run(folder: Path, text: str) -> None:
    (folder / "flows.yml").write_text(text)
    Coordinator(str(folder / "flows.yml"), engine="inline").run()


def test_the_page_does_what_it_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lines.csv").write_text(LINES)
    (tmp_path / "flows.yml").write_text(FLOWS[0])
    assert main(["plan", "flows.yml"]) == 0
    said = capsys.readouterr().out
    assert "holds   nothing: it is new, and the run makes it" in said
    assert "a reader of the store sees the old snapshot or the new one" in said
    assert not (tmp_path / "catalog.db").exists(), "a plan changes nothing"
    _run(tmp_path, FLOWS[0])
    _run(tmp_path, FLOWS[0])
    seen = lakes.rows(tmp_path)
    assert seen is not None
    assert sorted(seen.column("id").to_pylist()) == [1, 1, 2, 2]
    assert main(["plan", "flows.yml"]) == 0
    assert "holds   4 rows, which stay" in capsys.readouterr().out
    soon = (datetime.now(UTC) + timedelta(days=1)).strftime("%Y-%m-%d %H:%M:%S")
    home = FLOWS[0].partition("flows:")[0] + FLOWS[1].replace("2026-11-30 08:00:00", soon)
    (tmp_path / "flows.yml").write_text(home)
    reports = Coordinator("flows.yml", engine="inline").run().flows
    assert [(each.flow, each.rows) for each in reports] == [("copy", 4), ("then", 4), ("folder", 4)]
    capsys.readouterr()
    assert main(["discover", "lake"]) == 0
    found = capsys.readouterr().out
    assert re.search(r"sales/lines +4 .* iceberg +id, sold_at, price", found), found
    changes = "{connection: lake, table: sales.lines, changes: true}"
    (tmp_path / "flows.yml").write_text(
        home.partition("flows:")[0]
        + f"flows: {{c: {{home: {changes}, store: lake#sales.copy, mode: merge, key: [id]}}}}"
    )
    assert main(["plan", "flows.yml"]) == 0
    with lakes.table(tmp_path) as table:
        newest = table.current_snapshot().snapshot_id
    assert f"  changes up to {newest}\n" in capsys.readouterr().out


LAKE = 'connections: {lake: {type: iceberg, catalog: {uri: "sqlite:///c.db", warehouse: w}}}\n'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("connections: {lake: {catalog: {uri: http://h}}}\n", "connection 'lake' has no 'type'"),
        ("connections: {lake: {type: iceberg}}\n", "connection 'lake' needs 'catalog'"),
        ("connections: {lake: {type: delta, catalog: {}}}\n", "has 'type' 'delta'"),
        ("connections: {lake: {type: iceberg, catalog: {uri: 'sqlite:///c.db'}}}\n", "'warehouse'"),
        (LAKE.replace("iceberg,", "iceberg, max_connections: 3,"), "does not know 'max_conn"),
        (LAKE + "flows: {a: {home: x.csv, store: lake#lines}}\n", "not a table in a namespace"),
        (LAKE + "flows: {a: {home: x.csv, store: lake}}\n", "needs a table of it"),
        (LAKE + "flows: {a: {home: {connection: lake, table: s.t, cursor: n}, store: out}}\n",
         "IcebergHome has no 'cursor': its snapshots tell what is new"),
        (LAKE + "flows: {a: {home: x.csv, store: lke#s.t}}\n", "there is no connection 'lke'"),
        (LAKE + "flows: {a: {home: x.csv, store: {connection: lake, path: s}}}\n",
         "names a 'path'"),
        (LAKE + "flows: {a: {home: x.csv, store: {connection: lake, table: s.t, type: sql}}}\n",
         "is a catalog of Iceberg"),
        (LAKE + "flows: {a: {home: x.csv, store: {connection: lake, table: s.t, partition_by: "
         "['bucket[3](a)']}}}\n", "which hygge does not write"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_with_its_line(text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("a\n1\n")
    if "flows:" not in text:
        text += "flows: {a: {home: x.csv, store: out}}\n"
    with pytest.raises(ConfigError) as raised:
        _run(tmp_path, text)
    assert said in raised.value.message
    assert re.search(r"flows\.yml:\d+", raised.value.message)


MANY = """
root: ..
connections:
  ice: {type: iceberg, catalog: {uri: "sqlite:///catalog.db", warehouse: lake, token: hush}}
flows:
  f:
    home: {connection: ice, tables: ["sales.*"], exclude: ["sales.old"]}
    store: "out/{schema}/{table}"
    mask: {text: {keep_last: 1}}
"""


def test_the_tables_of_a_catalog_are_listed_and_moved_as_a_family(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("sales.lines", "sales.more", "sales.old", "hr.people"):
        store = IcebergStore(name, catalog=lakes.settings(tmp_path))
        stage_run(store, tagged_rows(name), mode="append").commit()
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in").mkdir()
    (tmp_path / "in/flows.yml").write_text(MANY)
    assert main(["discover", "ice", "--file", "in/flows.yml"]) == 0
    said = re.sub(" +", " ", capsys.readouterr().out)
    assert "4 tables" in said
    assert "hr.people 20" in said
    assert main(["discover", "lake"]) == 0  # the folder
    assert re.search(r"sales/more +20 .* iceberg +n, text", capsys.readouterr().out)
    assert main(["plan", "in/flows.yml"]) == 0
    said = capsys.readouterr().out
    assert "f.sales.lines" in said
    assert "f.sales.old" not in said
    assert main(["in/flows.yml", "--inline"]) == 0
    assert ds.dataset(tmp_path / "out/sales/more").count_rows() == 20
    assert main(["verify", "in/flows.yml", "--select", "f.sales.lines"]) == 0
    asked = ["discover", "ice", "--file", "in/flows.yml", "--pattern", "hr.*", "--yaml"]
    capsys.readouterr()
    assert main(asked) == 0
    written = capsys.readouterr()
    assert "hush" not in written.out
    assert "set ICE_TOKEN" in written.err
    monkeypatch.setenv("ICE_TOKEN", "hush")
    (tmp_path / "flows.yml").write_text(written.out)
    assert main(["flows.yml", "--inline"]) == 0
    assert ds.dataset(tmp_path / "lake/ice/hr/people").count_rows() == 20
    for wrong, why in (
        (MANY.replace("sales.*", "sale.*"), "has no namespace 'sale' with tables"),
        (MANY.replace('["sales.*"]', "[lines]"), "'lines' names no namespace of the catalog"),
        (MANY.replace("text:", "txt:"), "no table of flow 'f' has the column 'txt'"),
        (MANY.replace(", exclude", ", views: true, exclude"), "'views' of a catalog"),
    ):
        (tmp_path / "in/flows.yml").write_text(wrong)
        assert main(["in/flows.yml", "--inline"]) != 0
        assert why in "".join(capsys.readouterr())
