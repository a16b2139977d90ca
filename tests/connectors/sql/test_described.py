"""Columns and primary keys of tables on each kind of database, and the merge that goes by them."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing

import psycopg
import pytest

from hygge import Flow, SQLHome, SQLStore
from hygge.connectors.databases.described import Described, describe, primary_key
from hygge.errors import ConfigError, FlowFailed

pytest_plugins = ["tests.servers.postgres", "tests.servers.mariadb"]

STATEMENTS = (
    "CREATE TABLE {}lines (v VARCHAR(9), n INT NOT NULL, o INT NOT NULL, PRIMARY KEY (o, n))",
    "CREATE TABLE {}log (v VARCHAR(9))",
    "CREATE VIEW {}seen AS SELECT o FROM {}lines",
    "INSERT INTO {}lines VALUES ('a', 1, 1), ('b', 2, 1)",
)


@pytest.fixture(params=["sqlite", "postgres", "psycopg2", "mariadb"])
def database(request, tmp_path):
    """The URL of a database with the tables, their schema, and how to send it a statement."""
    if request.param == "sqlite":
        path = tmp_path / "shop.db"

        def send(sql: str) -> None:
            with closing(sqlite3.connect(path)) as connection, connection:
                connection.execute(sql.format("", ""))

        given = (f"sqlite:///{path}", "main", send)
    elif request.param == "mariadb":
        my, schema = request.getfixturevalue("my"), request.getfixturevalue("my_schema")

        def send(sql: str) -> None:
            my.ask(sql.format(f"{schema}.", f"{schema}."))

        given = (my.url(schema), schema, send)
    else:
        pg, schema = request.getfixturevalue("pg"), request.getfixturevalue("schema")

        def send(sql: str) -> None:
            with psycopg.connect(pg.url, autocommit=True) as connection:
                connection.execute(sql.format(f"{schema}.", f"{schema}."))

        url = pg.url.replace("postgresql:", "postgresql+psycopg2:", request.param == "psycopg2")
        given = (url, schema, send)
    for statement in STATEMENTS:
        given[2](statement)
    return given


def test_columns_and_keys_are_those_of_the_catalog(database):
    url, schema, _ = database
    names = ["lines", "log", "seen", "nothing"]
    assert describe(url, "shop", [(schema, name) for name in names]) == [
        Described(("v", "n", "o"), ("o", "n")),
        Described(("v",), ()),
        Described(("o",), ()),
        Described((), ()),
    ]
    assert [primary_key(url, "shop", schema, name) for name in names] == [("o", "n"), (), (), ()]


def test_a_merge_without_a_key_goes_by_the_primary_key(database, tmp_path, monkeypatch):
    url, schema, send = database
    monkeypatch.chdir(tmp_path)
    store = SQLStore("t", connection="sqlite:///out.db")
    home = SQLHome("lines", table=f"{schema}.lines", connection=url)

    def moved() -> list[tuple]:
        asyncio.run(Flow(home, store, mode="merge", name="f", engine="inline").start())
        with closing(sqlite3.connect("out.db")) as out:
            return out.execute("SELECT o, n, v FROM t ORDER BY 1, 2").fetchall()

    assert moved() == [(1, 1, "a"), (1, 2, "b")]
    send("UPDATE {}lines SET v = 'c' WHERE n = 2")
    assert moved() == [(1, 1, "a"), (1, 2, "c")]


def test_a_table_without_a_primary_key_and_a_query_need_a_key(database):
    url, schema, _ = database
    store = SQLStore("t", connection="sqlite:///out.db")
    home = SQLHome("log", table=f"{schema}.log", connection=url)
    with pytest.raises(FlowFailed, match="log has no primary key"):
        asyncio.run(Flow(home, store, mode="merge", name="f", engine="inline").start())
    query = SQLHome("q", query="SELECT 1 AS one", connection=url)
    with pytest.raises(ConfigError, match="mode merge needs a key"):
        Flow(query, store, mode="merge", name="f", engine="inline")
