"""Connections to SQLite: no default of a build of SQLite changes what is moved."""

from __future__ import annotations

import sqlite3

import pytest

from hygge import Flow, SQLHome, SQLStore
from hygge.connectors.sql import pins
from hygge.connectors.sqlite import session
from hygge.errors import HomeError

WRONG = {name: "OFF" if value == "ON" else "ON" for name, value in pins.SQLITE.items()}


@pytest.fixture
def wrong(monkeypatch):
    """Let each connection begin with each setting turned the wrong way."""
    right = sqlite3.connect

    def connect(*args, **options):
        connection = right(*args, **options)
        if "mode=" in str(args[0]):
            for name, value in WRONG.items():
                connection.execute(f"PRAGMA {name} = {value}")
        return connection

    monkeypatch.setattr(sqlite3, "connect", connect)
    return right


def test_every_connection_is_pinned(wrong, tmp_path):
    wrong(tmp_path / "a.db").execute("CREATE TABLE t (id int)")
    with session.opened(str(tmp_path / "a.db"), "who", HomeError) as connection:
        for name, value in pins.SQLITE.items():
            row = connection.execute(f"PRAGMA {name}").fetchone()
            if row is not None:  # SQLite does not tell of case_sensitive_like
                assert (name, row[0]) == (name, int(value == "ON"))
        assert connection.execute("SELECT 'A' LIKE 'a'").fetchone() == (1,)


def test_rows_are_the_same_whatever_a_build_says(wrong, tmp_path):
    source = wrong(tmp_path / "a.db")
    source.executescript(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT CHECK (v <> 'never')); "
        "INSERT INTO t VALUES (1, 'a'), (2, NULL), (3, 'A')"
    )
    home = SQLHome("t", connection=f"sqlite:///{tmp_path}/a.db", where="v LIKE 'a'")
    for mode in ("replace", "append", "merge"):
        store = SQLStore(f"u_{mode}", connection=f"sqlite:///{tmp_path}/b.db")
        key = ["id"] if mode == "merge" else ()
        flow = Flow(home, store, mode=mode, key=key, engine="inline", state=tmp_path / "state")
        assert flow.run().rows == 2
        rows = wrong(tmp_path / "b.db").execute(f"SELECT * FROM u_{mode} ORDER BY id").fetchall()
        assert rows == [(1, "a"), (3, "A")]
