"""`make docs` builds a site that shows every page, and loads nothing from another host."""

from __future__ import annotations

import runpy
import shutil
import subprocess
import sys
import tomllib

import pytest

from tests import ROOT
from tests.missing import skipped_without

SITE = runpy.run_path(str(ROOT / "docs" / "site.py"))


def test_the_site_has_every_page_and_loads_nothing_from_elsewhere(tmp_path):
    if not shutil.which("npm"):
        skipped_without("npm", "apt-get install npm")
    for name in ("docs", "README.md"):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, tmp_path / name)
    command = [sys.executable, tmp_path / "docs" / "site.py"]
    built = subprocess.run(command, capture_output=True, text=True)
    assert built.returncode == 0, built.stdout + built.stderr
    assert "No issues found" in built.stdout + built.stderr
    pages = tmp_path / "build" / "docs" / "site"
    for page in (ROOT / "docs").rglob("*.md"):
        relative = page.relative_to(ROOT / "docs").with_suffix(".html")
        assert (pages / relative).exists(), relative
    assert "iframe-worker.js" in (pages / "howto" / "nightly.html").read_text()


def test_every_page_is_in_the_navigation():
    nav = tomllib.loads((ROOT / "docs" / "zensical.toml").read_text())["project"]["nav"]
    pages = {str(page.relative_to(ROOT / "docs")) for page in (ROOT / "docs").rglob("*.md")}
    assert set(named(nav)) == pages | {"index.md"}


def named(entry) -> list[str]:
    if isinstance(entry, str):
        return [entry]
    inner = entry.values() if isinstance(entry, dict) else entry
    return [page for each in inner for page in named(each)]


@pytest.mark.parametrize(("text", "kept"), [
    ("[the types](types.md#postgresql)", "[the types](types.md#postgresql)"),
    ("[a sample](../samples/09_nightly.yml)", "a sample"),
    ("[Ray](https://ray.io)", "[Ray](https://ray.io)"),
    ("[README](../README.md)", "[README](index.md)"),
])  # fmt: skip
def test_links_lead_to_pages_or_are_text(text, kept, tmp_path):
    pages = tmp_path / "pages"
    pages.mkdir()
    (pages / "types.md").write_text("")
    (pages / "page.md").write_text(text)
    assert SITE["only_links_to_pages"](pages / "page.md", pages) == kept
