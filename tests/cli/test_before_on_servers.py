"""The commands before a run on PostgreSQL, MariaDB and an object store."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pytest

from hygge import ParquetStore
from hygge.cli.main import main
from tests.servers.s3 import s3  # noqa: F401  # a fixture

pytest_plugins = ["tests.servers.postgres", "tests.servers.mariadb"]


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]):
    def run(*words: str, code: int = 0) -> str:
        result = main(list(words))
        printed = capsys.readouterr()
        assert result == code, printed.err
        return printed.err if code else printed.out

    return run


def check_yaml(said, *words: str) -> str:
    Path("made.yml").write_text(said("discover", *words, "--yaml"))
    return str(said("plan", "made.yml"))


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
    assert f"{schema}.years: replace" in check_yaml(said, pg.url, "--pattern", f"{schema}.*")
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
    assert "orders: replace" in check_yaml(said, my.url(my_schema))


async def _write(path: str) -> None:
    await ParquetStore(path=path).write(pa.table({"id": [1, 2]}))


def test_objects_of_a_bucket(s3, said):  # noqa: F811
    import asyncio

    asyncio.run(_write(f"{s3}/users"))
    answer = json.loads(said("discover", s3, "--json"))
    (facts,) = answer["files"]
    assert (facts["name"], facts["rows"], facts["columns"]) == ("users", 2, ["id"])
    assert "users: replace" in check_yaml(said, s3)
    assert "there is nothing at" in said("discover", f"{s3}/none", code=1)
