"""The example of docs/targets.md does what the page says."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing

from hygge import Coordinator
from hygge.cli.main import main
from tests import ROOT

PAGE = (ROOT / "docs" / "targets.md").read_text()
BLOCKS = dict(re.findall(r"```(\w*)\n(.*?)```", PAGE, re.DOTALL))


def test_a_table_of_somebody_is_planned_and_adopted(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "flows.yml").write_text(BLOCKS["yaml"])
    (tmp_path / "people.csv").write_text("id,name\n1,Ada\n")
    with closing(sqlite3.connect("crm.db")) as crm, crm:
        crm.execute("CREATE TABLE people (id INTEGER PRIMARY KEY, name TEXT)")
        crm.execute("INSERT INTO people VALUES (7, 'old'), (8, 'older')")
    assert main(["plan", "flows.yml"]) == 0
    assert BLOCKS[""].strip("\n") in capsys.readouterr().out
    Coordinator("flows.yml", engine="inline").run()
    with closing(sqlite3.connect("crm.db")) as crm:
        assert crm.execute("SELECT * FROM people").fetchall() == [(1, "Ada")]
