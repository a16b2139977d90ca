"""Whoever follows a page of the documents gets what the page shows."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from hygge.cli.main import main
from tests import ROOT
from tests.examples.pages import follow, is_like

PAGES = [ROOT / "docs" / "tutorial.md", *sorted((ROOT / "docs" / "howto").glob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_does_what_it_shows(page: Path, tmp_path: Path, monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.delenv("COLUMNS", raising=False)  # as in a pipe
    assert follow(page, tmp_path)


def test_the_readme_does_what_it_shows(tmp_path: Path, monkeypatch):
    shutil.copytree(ROOT / "samples" / "data", tmp_path / "data")
    assert follow(ROOT / "README.md", tmp_path)
    recipes = sorted(tmp_path.glob("*.yml"))
    assert len(recipes) == 4
    for recipe in recipes:
        assert main([str(recipe), "--inline"]) == 0
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150


def test_another_output_is_noticed():
    shown = "orders  done  5 rows read  321 kB  1.4 s\n"
    assert is_like(shown, "orders done 5 rows read 1 MB 12 s")
    assert is_like("…\n" + shown, "note: this\n" + shown)
    assert not is_like(shown, "orders done 6 rows read 1 MB 12 s")
    assert not is_like(shown, "note: this\n" + shown)
