"""A SQLite file of tables, and a flow that moves many of them, for the tests of such flows.

They import from it before pytest loads it as a plugin: PYTEST_DONT_REWRITE.
"""

from __future__ import annotations

import sqlite3
import textwrap
from contextlib import closing
from pathlib import Path

import pytest

from hygge import Coordinator
from hygge.model import Summary


def filled(path: Path, *names: str, view: bool = False) -> None:
    with closing(sqlite3.connect(path)) as shop:
        for at, name in enumerate(names):
            quoted = '"' + name.replace('"', '""') + '"'
            shop.execute(f"CREATE TABLE {quoted} (id INTEGER PRIMARY KEY, v TEXT)")
            shop.executemany(f"INSERT INTO {quoted} VALUES (?, ?)", [(at, name), (at + 1, None)])
        if view:
            shop.execute("CREATE VIEW seen AS SELECT 1 AS one")
        shop.commit()


@pytest.fixture
def flows(tmp_path: Path):
    """Writes flows.yml: what the home says beside its connection, then the rest of the flow."""

    def writing(home: str, rest: str, more: str = "") -> Path:
        text = f"""
            connections: {{shop: "sqlite:///shop.db"}}
            flows:
              shop:
                home: {{connection: shop, {home}}}
        """
        path = tmp_path / "flows.yml"
        body = textwrap.indent(textwrap.dedent(rest), "    ")
        path.write_text(textwrap.dedent(text).strip() + "\n" + body + more)
        return path

    return writing


def run(path: Path, *select: str) -> Summary:
    return Coordinator(path, select=select, engine="inline").run()
