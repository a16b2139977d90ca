"""Errors of PostgreSQL that no retry mends: they stop at once, with their cause and what to do."""

from __future__ import annotations

import pyarrow as pa
import pytest

from hygge.connectors.databases.home import SQLHome
from hygge.errors import FlowFailed, HomeError, HyggeError, StoreError, UnfitValue
from hygge.model import Run, Ticket
from tests.servers.postgres import Heard, Numbers, flow, store_at

pytest_plugins = ["tests.servers.postgres"]


def at_once(call, kind, words):
    """`call` raises `kind`, which says so and what to do, and holds no secret."""
    with pytest.raises(HyggeError, match=words) as caught:
        call()
    assert type(caught.value) is kind
    assert caught.value.hint
    assert "geheim" not in str(caught.value)
    return caught.value


def test_a_wrong_password_role_or_database_stops_at_once(pg, schema):
    pg.ask(f"CREATE ROLE r{schema} LOGIN PASSWORD 'right'")
    pg.ask(f"CREATE ROLE n{schema} NOLOGIN PASSWORD 'geheim'")
    host = f"127.0.0.1:{pg.port}"
    for url, words in (
        (f"postgresql://r{schema}:geheim@{host}/postgres", "password authentication failed"),
        (f"postgresql://nobody:geheim@{host}/postgres", "password authentication failed"),
        (f"postgresql://n{schema}:geheim@{host}/postgres", "not permitted to log in"),
        (f"postgresql://postgres:geheim@{host}/nowhere", 'database "nowhere" does not exist'),
        (f"postgresql://postgres:geheim@{host}/postgres?sslmode=require", "SSL"),
    ):
        at_once(lambda url=url: store_at(url, schema).head("f"), StoreError, words)
        home = SQLHome("t", connection=url)
        at_once(lambda home=home: home.open().__enter__(), HomeError, words)


def test_a_missing_right_stops_at_once(pg, schema):
    pg.ask(f"CREATE ROLE r{schema} LOGIN PASSWORD 'geheim'")
    pg.ask(f"CREATE TABLE {schema}.t (id bigint, v text)")
    url = f"postgresql://r{schema}:geheim@127.0.0.1:{pg.port}/postgres"
    heard = Heard()
    with pytest.raises(FlowFailed, match="permission denied") as failed:
        flow(Numbers(), store_at(url, schema), mode="append").run(heard)
    assert "grant" in failed.value.hint
    assert not any("again" in each for each in heard.words)
    pg.ask(f"GRANT USAGE ON SCHEMA {schema} TO r{schema}")
    home = SQLHome("t", table=f"{schema}.t", connection=url)
    at_once(lambda: home.open().__enter__(), HomeError, "permission denied")
    read_only = pg.url + "?options=-c%20default_transaction_read_only%3Don"
    at_once(
        lambda: store_at(read_only, schema).prepare(Run("r", "f"), None), StoreError, "read-only"
    )


def test_an_unknown_column_or_table_stops_at_once(pg, schema):
    pg.ask(f"CREATE TABLE {schema}.t (id bigint, v text)")
    home = SQLHome("t", table=f"{schema}.t", connection=pg.url, where="nothing = 1")
    with pytest.raises(HomeError, match='"nothing" does not exist') as caught:
        home.open().__enter__()
    assert "where" in caught.value.hint
    query = SQLHome("q", query="SELECT * FROM nowhere", connection=pg.url)
    with pytest.raises(HomeError, match='"nowhere" does not exist') as caught:
        query.open().__enter__()
    assert caught.value.hint


def test_an_unfit_value_stops_at_once_and_nothing_is_visible(pg, schema):
    pg.ask(f"CREATE TABLE {schema}.t (id bigint, v varchar(2))")
    heard = Heard()
    with pytest.raises(FlowFailed, match="too long") as failed:
        flow(Numbers(), store_at(pg.url, schema), mode="append").run(heard)
    assert isinstance(failed.value.__cause__, UnfitValue)
    assert "change the column's type" in failed.value.hint
    assert not any("again" in each for each in heard.words)
    assert pg.ask(f"SELECT count(*) FROM {schema}.t") == [(0,)]
    store = store_at(pg.url, schema)
    nul = pa.table({"id": [1], "v": ["a\0b"]})
    store.prepare(Run("r", "g", "append"), nul.schema)
    at_once(
        lambda: store.stage(Ticket("r", 0), nul.schema, iter([nul])), UnfitValue, "column 'v'.*NUL"
    )


def test_a_statement_that_takes_too_long_stops_at_once(pg, schema):
    url = pg.url + "?options=-c%20statement_timeout%3D500ms"
    pg.ask(f"CREATE VIEW {schema}.s AS SELECT 1 AS id, pg_sleep(3600)::text AS v")
    home = SQLHome("s", table=f"{schema}.s", connection=url)
    with SQLHome("s", table=f"{schema}.s", connection=pg.url).open() as plan:
        found = at_once(
            lambda: list(home.read(plan.splits[0])), HomeError, "due to statement timeout"
        )
    assert "split_by" in found.hint
