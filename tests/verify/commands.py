"""Commands on a small table in SQLite, and what `hygge verify` prints."""

from __future__ import annotations

from pathlib import Path

import pytest

from hygge.cli.main import main
from tests.verify.ends import execute

ALL = "create table t (id integer primary key, email text, total decimal(10,2), seen integer)"
HOME = "{connection: 'sqlite:///home.db', table: t}"
BY_CURSOR = "{connection: 'sqlite:///home.db', table: t, cursor: seen}"
STORE = "{connection: 'sqlite:///store.db', table: t}"


def add(ids: range) -> None:
    rows = ", ".join(f"({n}, 'p{n}', {n * 1.5}, {n})" for n in ids)
    execute(Path("home.db"), f"insert into t values {rows}")


def flows(text: str) -> None:
    Path("flows.yml").write_text(f"flows: {text}")


def run() -> None:
    assert main(["flows.yml", "--inline", "--quiet"]) == 0


def verify(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> str:
    capsys.readouterr()
    found = main(["verify", "flows.yml", *words])
    said = capsys.readouterr()
    text = said.out + (said.err if code == 2 else "")
    assert found == code, text
    return text
