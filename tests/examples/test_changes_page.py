"""The examples of docs/changes.md do what the page says."""

from __future__ import annotations

import sqlite3
from contextlib import closing

from tests import ROOT
from tests.examples.pages import follow


def test_the_page_does_what_it_says(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert follow(ROOT / "docs" / "changes.md", tmp_path) == 1
    with closing(sqlite3.connect("people.db")) as database:
        rows = database.execute("SELECT * FROM people ORDER BY id").fetchall()
    assert rows == [(1, "Ada Lovelace"), (3, "Mary")]
