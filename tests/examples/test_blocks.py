"""Every block of YAML, Python and commands in the documents is followed, or read by hygge here.

Most pages are followed by a test of their own: it writes the files and runs what the page shows.
Of the other pages hygge reads the YAML, parses the commands, and knows what the Python calls.
"""

from __future__ import annotations

import argparse
import ast
import inspect
import re
import shlex
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
import yaml

import hygge
from hygge import Coordinator
from hygge.cli.arguments import parse
from hygge.config.flows import read_flows
from hygge.errors import UsageError
from tests import ROOT
from tests.examples.pages import comparable
from tests.examples.test_pages import PAGES

DOCS = ROOT / "docs"
DOCUMENTS = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]
DOCUMENTS += [ROOT / folder / "README.md" for folder in ("cluster", "k8s")]
FOLLOWED = {
    *PAGES,
    ROOT / "README.md",
    *(DOCS / f"{name}.md" for name in ("bad_rows", "changes", "columns", "families", "schema")),
    *(DOCS / f"{name}.md" for name in ("targets", "flows", "python", "orchestrators")),
}
"""Pages of which other tests run each block."""
VARIABLES = dict.fromkeys(("SLACK_URL", "CHAT_URL", "LINEAGE_URL"), "http://host/path")
SHOP = "connections: {shop: 'sqlite:///data/shop.db'}\n"


def blocks(page: Path, *kinds: str) -> list[str]:
    """Return the blocks of some languages of a page."""
    pattern = rf"^ *```(?:{'|'.join(kinds)})(?: title=[^\n]*)?\n(.*?)^ *```$"
    return re.findall(pattern, page.read_text(), re.DOTALL | re.MULTILINE)


def parts(name: str, kind: str, word: str) -> str:
    """Return the one block of a page that has a word in it."""
    (found,) = [text for text in blocks(DOCS / name, kind) if word in text]
    return found


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    with closing(sqlite3.connect("data/shop.db")) as shop, shop:
        shop.execute("CREATE TABLE sales (id INTEGER PRIMARY KEY, sold_at TIMESTAMP)")
        shop.execute("INSERT INTO sales VALUES (1, '2024-01-01 00:00:00'), (2, NULL)")
    return tmp_path


def test_no_block_is_left_out():
    """A new page with YAML or Python is followed, or read below."""
    read = {"seeing.md": 3, "csv.md": 1, "lakes.md": 6, "architecture.md": 1}
    for page in DOCUMENTS:
        flows = [text for text in blocks(page, "ya?ml") if "flows:" in text]
        if page not in FOLLOWED:
            assert len(flows) == read.get(page.name, 0), page
    # tests/examples/test_delta_page.py, tests/connectors/iceberg/test_flows.py have those of lakes


def test_the_architecture_shows_the_flow_of_its_sample():
    (shown,) = (yaml.safe_load(text) for text in blocks(DOCS / "architecture.md", "yaml"))
    sample = yaml.safe_load((ROOT / "samples" / "09_nightly.yml").read_text())
    assert shown["flows"]["sales"]["home"] == sample["flows"]["sales"]["home"]


def test_hygge_reads_the_flows_of_seeing(folder):
    for text in blocks(DOCS / "seeing.md", "yaml"):
        (folder / "flows.yml").write_text(text if "lineage:" in text else SHOP + text)
        (folder / "data" / "orders.parquet").touch()
        assert read_flows(folder / "flows.yml", VARIABLES).flows


def test_the_flow_of_csv_does_what_the_page_says(folder):
    (folder / "exports").mkdir()
    (folder / "exports" / "1.csv").write_text("zip;total;on\n01067;1.234,50;31.01.2024\n")
    (folder / "flows.yml").write_text(*blocks(DOCS / "csv.md", "yaml"))
    assert Coordinator("flows.yml", engine="inline").run().ok
    import pyarrow.dataset as ds

    ((zip_code, total, on),) = (row.values() for row in ds.dataset("data/orders").to_table()
                                .to_pylist())  # fmt: skip
    assert (zip_code, float(total), str(on)[:10]) == ("01067", 1234.5, "2024-01-31")


def test_the_flows_of_duckdb_run_one_after_the_other(folder):
    (folder / "flows.yml").write_text(parts("lakes.md", "yaml", "warehouse.duckdb"))
    reports = Coordinator("flows.yml", engine="inline").run().flows
    assert [(report.status, report.rows) for report in reports] == [("done", 2), ("done", 2)]


@pytest.mark.parametrize("page", DOCUMENTS, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_command_of_hygge_is_one(page):
    for block in blocks(page, "sh", "console", ""):
        for command in re.findall(r"(?m)(?:^(?:\$ )?|\(|&& |[A-Z]=\S+ )(hygge [a-z./].*)", block):
            assert parsed(command).command, command
    spans = re.findall(r"`(hygge [a-z][^`\n]+)`", page.read_text())
    wrong = {span: problem for span in spans if (problem := problem_of(span))}
    # A sentence may name a command or an option, and no more.
    names = re.compile("are required: |expected one argument")
    assert [each for each in wrong.items() if not names.search(each[1])] == []


def problem_of(command: str) -> str:
    try:
        parsed(command)
    except UsageError as error:
        return error.message
    return ""


def parsed(command: str) -> argparse.Namespace:
    """Return what hygge makes of a command, up to where the shell goes on with another."""
    command = re.sub(r"[\[\]…]|\s#\s.*", "", command)
    words = shlex.split(re.sub(r'\)"?', " ) ", command))
    ends = [at for at, word in enumerate(words) if word in (")", "&&", "|", ">", "&", "||", ";")]
    return parse([word.partition("ID")[0] or "an-id" for word in words[1 : min([*ends, 99])]])


@pytest.mark.parametrize("page", DOCUMENTS, ids=lambda page: str(page.relative_to(ROOT)))
def test_python_calls_what_hygge_has(page):
    for text in blocks(page, "python"):
        tree = ast.parse(text)
        names = {
            alias.name
            for node in ast.walk(tree)
            if isinstance(node, ast.ImportFrom) and node.module == "hygge"
            for alias in node.names
        }
        assert names <= {*hygge.__all__}, names
        for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
            name = getattr(call.func, "id", "")
            if name in hygge.__all__:
                given = {word.arg for word in call.keywords if word.arg}
                assert given <= settings_of(name), f"{name} of {page.name}"


def settings_of(name: str) -> set[str]:
    """Return the arguments of a name of hygge, those of its settings included."""
    known = getattr(hygge, name)
    fields = getattr(getattr(known, "Settings", None), "model_fields", {})
    return {*inspect.signature(known).parameters, *fields}


def test_the_output_of_verify_is_that_of_the_command(folder, capsys):
    from hygge.cli.main import main

    with closing(sqlite3.connect("shop.db")) as shop, shop:
        shop.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY, total INTEGER, name TEXT)")
        shop.execute("CREATE TABLE users (id INTEGER PRIMARY KEY, a, b, c)")
        shop.executemany("INSERT INTO orders VALUES (?, 1, 'a')", [(n,) for n in range(40)])
        shop.execute("INSERT INTO users (id) VALUES (1), (2)")
    (folder / "flows.yml").write_text(
        "flows:\n  orders: {home: 'sqlite:///shop.db#orders', store: 'sqlite:///lake.db#orders'}\n"
        "  users: {home: 'sqlite:///shop.db#users', store: 'sqlite:///lake.db#users'}\n"
    )
    assert main(["flows.yml", "--inline"]) == 0
    with closing(sqlite3.connect("lake.db")) as lake, lake:
        lake.execute("DELETE FROM orders WHERE id = 30")
        lake.execute("UPDATE orders SET total = 2 WHERE id = 7")
    capsys.readouterr()
    assert main(["verify", "flows.yml"]) == 1
    said, shown = capsys.readouterr().out, blocks(DOCS / "verify.md", "")[0]
    assert without_numbers(said) == without_numbers(shown.partition("\n")[2])


def without_numbers(text: str) -> list[str]:
    return comparable(re.sub(r"\d[\d,]*(?= (?:rows?|in the store|columns?)\b)", "N", text))
