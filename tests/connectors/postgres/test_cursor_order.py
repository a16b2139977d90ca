"""A merge keeps the row with the highest cursor by number, not by the text of the number."""

from __future__ import annotations

import re
import sqlite3

import pytest

from hygge import Flow, SQLHome, SQLStore
from hygge.errors import FlowFailed

pytest_plugins = ["tests.servers.postgres"]


def _home(pg, schema, **options):
    pg.ask(f"CREATE TABLE IF NOT EXISTS {schema}.log (id int, seq numeric, name text)")
    pg.ask(f"TRUNCATE {schema}.log")
    pg.ask(f"INSERT INTO {schema}.log VALUES (1, 10, 'new'), (1, 9, 'old')")
    return SQLHome("log", connection=pg.url, table=f"{schema}.log", cursor="seq", options=options)


def _run(home, store) -> None:
    Flow(name="f", home=home, store=store, mode="merge", key=["id"], engine="inline").run()


def test_a_numeric_cursor_that_would_arrive_as_text_is_refused_and_the_hint_works(
    pg, schema, tmp_path
):
    store = SQLStore("out", connection=f"sqlite:///{tmp_path}/out.db")
    with pytest.raises(FlowFailed, match="is numeric, which arrives as text") as caught:
        _run(_home(pg, schema), store)
    (kind,) = re.findall(r"types: \{seq: '(.*?)'\}", str(caught.value))
    _run(_home(pg, schema, types={"seq": kind}), store)
    with sqlite3.connect(tmp_path / "out.db") as connection:
        assert connection.execute("SELECT name FROM out").fetchall() == [("new",)]


def test_between_two_postgresqls_it_keeps_its_type_and_its_order(pg, schema):
    _run(_home(pg, schema), SQLStore("out", connection=pg.url, table=f"{schema}.out"))
    assert pg.ask(f"SELECT name FROM {schema}.out") == [("new",)]


def test_a_target_that_has_it_as_text_is_refused(pg, schema):
    pg.ask(f"CREATE TABLE {schema}.out (id int PRIMARY KEY, seq text, name text)")
    store = SQLStore("out", connection=pg.url, table=f"{schema}.out")
    with pytest.raises(FlowFailed, match="arrives as text"):
        _run(_home(pg, schema), store)
