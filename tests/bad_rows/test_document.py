"""The example of docs/bad_rows.md does what the document says."""

from __future__ import annotations

import re
from pathlib import Path

from hygge.cli.main import main
from tests import ROOT


def test_the_example_runs_and_says_what_the_document_shows(tmp_path, monkeypatch, capsys):
    blocks = re.findall(
        r"^```(\w*)\n(.*?)^```", (ROOT / "docs/bad_rows.md").read_text(), re.M | re.S
    )
    (flows,) = [text for kind, text in blocks if kind == "yaml"][:1]
    (rows,) = [text for kind, text in blocks if kind == "csv"]
    (shown,) = [text for kind, text in blocks if kind == "" and "$ hygge bad" in text]
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HYGGE_STATE", raising=False)
    Path("in").mkdir()
    Path("in/people.csv").write_text(rows)
    Path("flows.yml").write_text(flows)
    assert main(["plan", "flows.yml"]) == 0
    assert "bad     100 rows at most are set aside, and 25%" in capsys.readouterr().out
    assert main(["flows.yml", "--inline"]) == 0
    assert main(["bad", "flows.yml"]) == 0
    said = capsys.readouterr().out
    for line in shown.splitlines():
        if not line.startswith("$"):
            assert line in said, line
