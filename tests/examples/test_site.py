"""`make docs` builds a site that shows every page, and loads nothing from another host."""

from __future__ import annotations

import re
import runpy
import shutil
import subprocess
import sys
import tomllib

import pytest

from hygge.cli.arguments import COMMANDS, make_parser
from hygge.report.connectors import connectors_text, describe_connector
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
    connectors = (pages / "every_connector.html").read_text()
    assert (
        "<code>error | set_null | as_text | {text: error | set_null | as_text}</code>" in connectors
    )
    assert "every_command.html" in connectors, "in the navigation"
    assert "iframe-worker.js" in (pages / "howto" / "nightly.html").read_text()


def test_every_page_is_in_the_navigation():
    nav = tomllib.loads((ROOT / "docs" / "zensical.toml").read_text())["project"]["nav"]
    pages = {str(page.relative_to(ROOT / "docs")) for page in (ROOT / "docs").rglob("*.md")}
    assert sorted(named(nav)) == sorted([*pages, "index.md", *SITE["PRINTED"]])


def test_every_connector_has_its_section_with_all_of_its_settings():
    page = SITE["connectors_page"]()
    names = [line.split()[0] for line in connectors_text().splitlines()[1:] if line[:2] == "  "]
    assert {"postgresql", "duckdb", "parquet", "iceberg", "sql"} <= set(names)
    assert re.findall("(?m)^## (.*)$", page) == names
    for name in names:
        section = page.partition(f"## {name}\n")[2].partition("\n## ")[0]
        about = describe_connector(name)
        assert len(re.findall("(?m)^### ", section)) == len(about.ends) > 0, name
        for end in about.ends:
            part = section.partition(f"### {name} as {end.side}\n")[2].partition("\n### ")[0]
            rows = re.findall(r"(?m)^\| `(?:\w+\.)*(\w+)` \|", part)
            assert rows == [each.key for each in end.settings], (name, end.side)
            assert all(f"- {word}: " in part for word, _ in end.traits), (name, end.side)
    assert (
        "| `options.compression` | `none | snappy | gzip | zstd | lz4 | brotli` | `snappy` |"
        in page
    )


def test_every_command_has_its_section_with_all_of_its_options():
    page = SITE["commands_page"]()
    assert re.findall("(?m)^## hygge (.*)$", page) == list(COMMANDS)
    for name, what in COMMANDS.items():
        section = page.partition(f"## hygge {name}\n")[2].partition("\n## ")[0]
        assert what in section, name
        shown = make_parser()._subparsers._group_actions[0].choices[name].format_help()
        options = set(re.findall(r"(?m)^  (--[a-z-]+)", shown))
        assert options == set(re.findall(r"(?m)^\| `(--[a-z-]+)`", section)), name
    assert "| `--mode` | `replace | append | merge` |" in page


@pytest.mark.parametrize(("text", "shown"), [
    ("`*.csv` or *.csv", "`*.csv` or &#42;.csv"),
    ("s3://…: a", "s3&#58;//…: a"),
    ("`a|b`, a|b, <b>", "`a|b`, a&#124;b, &#60;b>"),
])  # fmt: skip
def test_text_of_models_makes_no_table_and_no_emphasis(text, shown):
    assert SITE["as_text"](text) == shown


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
