"""`hygge init`: what it writes runs as it is, and nothing is overwritten."""

from __future__ import annotations

import json
import os
import shlex
import sqlite3
from pathlib import Path

import jsonschema
import pyarrow.dataset as ds
import pytest
import yaml

from hygge.cli.main import main


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_what_it_says_next_works(capsys, monkeypatch):
    assert main(["init", "a shop"]) == 0
    said = capsys.readouterr().out
    assert sorted(str(p.relative_to("a shop")) for p in Path("a shop").rglob("*.*")) == [
        ".env.example", ".gitignore", "data/orders.csv", "flows.schema.json", "flows.yml",
    ]  # fmt: skip
    commands = [line.split("#")[0] for line in said.partition("next:\n")[2].splitlines()]
    cd, preview, run, discover = (shlex.split(command) for command in commands)
    assert cd[0] == "cd"
    os.chdir(cd[1])
    assert main(preview[1:]) == 0
    assert "orders: all 10 rows of data/orders.csv" in capsys.readouterr().out
    assert main(["check", "flows.yml"]) == main(["plan", "flows.yml"]) == 0
    for _ in range(2):
        assert main([*run[1:], "--inline"]) == 0
    assert ds.dataset("lake/orders").count_rows() == 10
    with sqlite3.connect("shop.db") as database:
        found = database.execute("SELECT count(*), sum(total) FROM orders").fetchone()
    assert found == (10, pytest.approx(3799.98))
    assert discover == ["hygge", "discover", "URL"]
    ignored = Path(".gitignore").read_text().split()
    assert {".env", ".hygge/"} <= set(ignored)


def test_the_schema_beside_it_is_named_and_fits(capsys):
    assert main(["init", "."]) == 0
    assert "  cd " not in capsys.readouterr().out
    text = Path("flows.yml").read_text()
    first = text.splitlines()[0]
    assert first.startswith("# yaml-language-server: $schema=")
    schema = json.loads(Path(first.partition("=")[2]).read_text())
    jsonschema.Draft7Validator(schema).validate(yaml.safe_load(text))
    # What stands there as a comment is right as well, when it is taken in.
    whole = "\n".join(line.removeprefix("#") for line in text.splitlines()[3:])
    content = yaml.safe_load(whole)
    assert set(content["flows"]) == {"orders", "order_totals", "customers"}
    jsonschema.Draft7Validator(schema).validate(content)


def test_nothing_is_overwritten(capsys):
    Path("flows.yml").write_text("mine")
    before = sorted(os.listdir())
    assert main(["init"]) == 2
    assert "flows.yml is there already, and nothing is overwritten" in capsys.readouterr().err
    assert sorted(os.listdir()) == before
    Path("new").mkdir()
    Path("new/.gitignore").write_text("mine")
    assert main(["init", "new"]) == 0
    assert "kept new/.gitignore as it is" in capsys.readouterr().out
    assert Path("new/.gitignore").read_text() == "mine"
    assert main(["init", "flows.yml"]) == 2
    assert "is a file, not a folder" in capsys.readouterr().err
    Path("blocked").write_text("")
    assert main(["init", "blocked/below"]) == 2
    assert "cannot be written" in capsys.readouterr().err
