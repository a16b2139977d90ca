"""The commands before a run on PostgreSQL, MariaDB and an object store."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pytest

from hygge import ParquetStore
from hygge.connectors.databases import discovery
from tests.cli.commands import plan_of_yaml
from tests.servers.s3 import s3  # noqa: F401  # a fixture

pytest_plugins = ["tests.servers.postgres", "tests.servers.mariadb"]


def test_tables_of_postgres(pg, schema, said):
    for statement in (
        "CREATE TABLE {}.orders (id bigint PRIMARY KEY, updated timestamptz, v text)",
        "INSERT INTO {}.orders SELECT n, now(), 'x' FROM generate_series(1, 50) n",
        "CREATE TABLE {}.big (id int PRIMARY KEY)",
        "INSERT INTO {}.big SELECT generate_series(1, 2000)",
        "ANALYZE {}.big",
        "CREATE TABLE {}.years (id int, at date) PARTITION BY RANGE (at)",
        "CREATE TABLE {0}.y26 PARTITION OF {0}.years"
        " FOR VALUES FROM ('2026-01-01') TO ('2027-01-01')",
        "INSERT INTO {}.years VALUES (1, '2026-02-01')",
    ):
        pg.ask(statement.format(schema))
    answer = json.loads(said("discover", pg.url, "--pattern", f"{schema}.*", "--json"))
    facts = {each["name"]: each for each in answer["tables"]}
    assert list(facts) == ["big", "orders", "years"]
    assert (facts["orders"]["rows"], facts["orders"]["is_exact"]) == (50, True)
    assert (facts["big"]["rows"], facts["big"]["is_exact"]) == (2000, False)
    assert (facts["years"]["rows"], facts["years"]["is_exact"]) == (1, True)
    assert facts["orders"]["key"] == ["id"]
    assert facts["orders"]["cursors"] == ["updated", "id"]
    assert facts["orders"]["bytes"] > 0
    assert "about 2,000" in said("discover", pg.url, "--pattern", f"{schema}.big")
    assert f"{schema}.years: replace" in plan_of_yaml(said, pg.url, "--pattern", f"{schema}.*")
    Path("flows.yml").write_text(f"flows: {{f: {{home: '{pg.url}#{schema}.big', store: out}}}}\n")
    assert len(json.loads(said("preview", "flows.yml", "--rows", "7", "--json"))["rows"]) == 7


def test_tables_of_postgres_through_sqlalchemy(pg, schema, said):
    pg.ask(f"CREATE TABLE {schema}.t (id int PRIMARY KEY, v text)")
    url = pg.url.replace("postgresql://", "postgresql+psycopg2://")
    answer = json.loads(said("discover", url, "--pattern", f"{schema}.*", "--json", "--count"))
    (facts,) = answer["tables"]
    assert (facts["rows"], facts["is_exact"], facts["key"]) == (0, True, ["id"])


def test_tables_of_mariadb(my, my_schema, said):
    my.ask(f"CREATE TABLE {my_schema}.orders (id int PRIMARY KEY, changed datetime(6))")
    my.ask(f"INSERT INTO {my_schema}.orders VALUES (1, now())")
    answer = json.loads(said("discover", my.url(my_schema), "--json", "--count"))
    (facts,) = answer["tables"]
    assert (facts["rows"], facts["is_exact"], facts["key"]) == (1, True, ["id"])
    assert facts["cursors"] == ["changed", "id"]
    assert "orders" in said("discover", my.url(my_schema))
    assert "orders: replace" in plan_of_yaml(said, my.url(my_schema))


async def _write(path: str) -> None:
    await ParquetStore(path=path).write(pa.table({"id": [1, 2]}))


def test_objects_of_a_bucket(s3, said):  # noqa: F811
    import asyncio

    asyncio.run(_write(f"{s3}/users"))
    answer = json.loads(said("discover", s3, "--json"))
    (facts,) = answer["files"]
    assert (facts["name"], facts["rows"], facts["columns"]) == ("users", 2, ["id"])
    assert "users: replace" in plan_of_yaml(said, s3)
    assert "there is nothing at" in said("discover", f"{s3}/none", code=1)


def test_check_connect_names_the_missing_right_of_each_end(pg, my, schema, my_schema, said):
    pg.ask(f"CREATE TABLE {schema}.t (id int)")
    pg.ask(f"CREATE ROLE r{schema} LOGIN PASSWORD 'x'")
    pg.ask(f"GRANT USAGE ON SCHEMA {schema} TO r{schema}")
    my.ask(f"CREATE TABLE {my_schema}.t (id int)")
    my.ask(f"CREATE USER reader_{my_schema} IDENTIFIED BY 'x'")
    my.ask(f"GRANT SELECT ON {my_schema}.* TO reader_{my_schema}")
    poor = pg.url.replace("postgres@", f"r{schema}:x@")
    poor_my = my.url(my_schema, user=f"reader_{my_schema}:x")
    Path("flows.yml").write_text(
        f"flows:\n  one: {{home: '{poor}#{schema}.t', store: '{poor}#{schema}.new'}}\n"
        f"  two: {{home: '{poor_my}#t', store: '{poor_my}#new'}}\n"
        f"  three: {{home: '{pg.url}#{schema}.t', store: '{my.url(my_schema)}#other'}}\n"
        "  four: {home: 'postgresql://a:geheim@127.0.0.1:9/x#t', store: out}\n"
    )
    said("check", "flows.yml")
    text = said("check", "flows.yml", "--connect", code=1)
    assert f"GRANT SELECT ON {schema}.t" in text.replace('"', "")
    assert f"GRANT USAGE, CREATE ON SCHEMA {schema}" in text.replace('"', "")
    assert "GRANT SELECT, INSERT, UPDATE, DELETE, CREATE" in text
    assert text.count("error: one: ") == 2
    assert text.count("error: two: ") == 1
    assert text.count("error: four: ") == 1
    assert "error: three" not in text
    assert "geheim" not in text
    assert "4 ends and the state are reached" not in text
    text = said("check", "flows.yml", "--connect", "--select", "three")
    assert "2 ends and the state are reached, no right is missing" in text
    assert pg.ask(f"SELECT count(*) FROM pg_tables WHERE schemaname = '{schema}'") == [(1,)]


@pytest.mark.parametrize("driver", ["", "+psycopg2"])
def test_discover_does_not_wait_for_a_table_of_postgres_that_is_locked(
    pg, schema, said, driver, monkeypatch
):
    monkeypatch.setitem(discovery._LOCK_WAITS, "postgresql", "SET lock_timeout = '100ms'")
    pg.ask(f"CREATE TABLE {schema}.free (id int PRIMARY KEY)")
    pg.ask(f"CREATE TABLE {schema}.held (id int PRIMARY KEY DEFAULT 1 + 1)")
    url = pg.url.replace("://", f"{driver}://")
    with pg.connect() as other:
        other.execute("BEGIN")
        other.execute(f"LOCK TABLE {schema}.held IN ACCESS EXCLUSIVE MODE")
        answer = json.loads(said("discover", url, "--pattern", f"{schema}.*", "--json", "--count"))
        text = said("discover", url, "--pattern", f"{schema}.*")
        other.execute("ROLLBACK")
    facts = {each["name"]: each for each in answer["tables"]}
    assert (facts["free"]["rows"], facts["held"]["rows"]) == (0, None)
    assert (facts["free"]["bytes"], facts["held"]["bytes"]) == (0, None)
    assert (facts["free"]["is_locked"], facts["held"]["is_locked"]) == (False, True)
    assert f"another program has locked: {schema}.held" in text
    assert "--count" not in text


def test_discover_does_not_wait_for_a_table_of_mariadb_that_is_locked(
    my, my_schema, said, monkeypatch
):
    monkeypatch.setitem(discovery._LOCK_WAITS, "mysql", "SET lock_wait_timeout = 1")
    my.ask(f"CREATE TABLE {my_schema}.free (id int PRIMARY KEY)")
    my.ask(f"CREATE TABLE {my_schema}.held (id int PRIMARY KEY)")
    with my.connect(database=my_schema) as other, other.cursor() as cursor:
        cursor.execute("LOCK TABLES held WRITE")
        answer = json.loads(said("discover", my.url(my_schema), "--json", "--count"))
    facts = {each["name"]: each for each in answer["tables"]}
    assert (facts["free"]["rows"], facts["free"]["key"]) == (0, ["id"])
    assert facts["held"]["is_exact"] is False
    assert (facts["free"]["is_locked"], facts["held"]["is_locked"]) == (False, True)
