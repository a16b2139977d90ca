"""Flows of a file on a catalog: the example of docs/lakes.md, and what is wrong in such a file."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from hygge import ConfigError, Coordinator
from hygge.cli.main import main
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


def test_discover_lists_no_tables_of_a_catalog(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "flows.yml").write_text(LAKE + "flows: {a: {home: x.csv, store: lake#s.t}}\n")
    assert main(["discover", "lake"]) == 2
    assert "'lake' is a catalog of Iceberg, whose tables are not listed" in capsys.readouterr().err
