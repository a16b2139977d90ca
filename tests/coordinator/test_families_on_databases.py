"""A family of tables with masks, conditions, functions, bad rows and other names, by database."""

from __future__ import annotations

import hashlib
import hmac
import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import pyarrow.parquet as pq
import pytest

from hygge import Coordinator
from hygge.cli.main import main

pytest_plugins = ["tests.servers.postgres", "tests.servers.mariadb"]
DATABASES = ("sqlite", "postgresql", "mariadb")
KEY = "an example, not your key"
CODE = """
import pyarrow as pa
import pyarrow.compute as pc

def louder(batch: pa.Table):
    at = batch.schema.get_field_index("body")
    return batch.set_column(at, batch.schema.field(at), pc.utf8_upper(batch["body"]))
"""


class Shop(NamedTuple):
    """A database with the tables People and notes."""

    kind: str
    url: str
    schema: str
    ask: Callable[[str], list]

    def name(self, table: str) -> str:
        if self.kind == "sqlite":
            return table
        quote = '"' if self.kind == "postgresql" else "`"
        return f"{self.schema}.{quote}{table}{quote}"


@pytest.fixture(params=DATABASES)
def shop(request, tmp_path, monkeypatch) -> Shop:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HYGGE_MASK_KEY", KEY)
    if request.param == "postgresql":
        pg, schema = request.getfixturevalue("pg"), request.getfixturevalue("schema")
        made = Shop(request.param, pg.url, schema, pg.ask)
    elif request.param == "mariadb":
        my, schema = request.getfixturevalue("my"), request.getfixturevalue("my_schema")
        made = Shop(request.param, my.url(schema), schema, my.ask)
    else:

        def ask(sql: str) -> list:
            with closing(sqlite3.connect(tmp_path / "shop.db")) as database, database:
                return database.execute(sql).fetchall()

        made = Shop(request.param, "sqlite:///shop.db", "main", ask)
    made.ask(
        f"CREATE TABLE {made.name('People')} (id int PRIMARY KEY, email varchar(40), paid int)"
    )
    made.ask(f"CREATE TABLE {made.name('notes')} (id int PRIMARY KEY, body varchar(40))")
    rows = ", ".join(f"({i}, 'p{i}@x.org', {i % 2})" for i in range(1, 5))
    made.ask(f"INSERT INTO {made.name('People')} VALUES {rows}")
    made.ask(f"INSERT INTO {made.name('notes')} VALUES (1, 'one'), (2, 'two'), (3, NULL)")
    return made


def written(shop: Shop, folder: Path, store: str, rest: str, home: str = "") -> Path:
    path = folder / "flows.yml"
    path.write_text(
        f"connections: {{shop: {json.dumps(shop.url)}}}\nflows:\n  f:\n"
        f'    home: {{connection: shop, tables: ["{shop.schema}.*"]{home}}}\n'
        f"    store: {store}\n{rest}"
    )
    return path


def test_masks_conditions_functions_and_names(shop, tmp_path, capsys):
    (tmp_path / "louder_family.py").write_text(CODE)
    rest = f"""\
    mask: {{email: hash}}
    tables:
      "{shop.schema}.*": {{where: id > 1}}
      {shop.schema}.People: {{where: paid = 1, add: {{source: "'shop'"}}}}
      {shop.schema}.notes: {{transform: louder_family:louder, names: as_is}}
"""
    path = written(shop, tmp_path, '"lake/{table}"', rest, ", names: snake")
    assert main(["plan", str(path)]) == 0
    said = capsys.readouterr().out
    assert "People is named people in the store" in said
    assert "'email' is its HMAC-SHA-256" in said
    assert "louder_family:louder makes the rows" in said
    summary = Coordinator(path, engine="inline").run()
    assert summary.ok, [each.error for each in summary.flows]
    people = pq.read_table(tmp_path / "lake" / "people").sort_by("id").to_pylist()
    hashed = [hmac.new(KEY.encode(), f"p{i}@x.org".encode(), hashlib.sha256) for i in (1, 3)]
    assert [row["id"] for row in people] == [1, 3]
    assert [row["email"] for row in people] == [each.hexdigest() for each in hashed]
    assert {row["source"] for row in people} == {"shop"}
    notes = pq.read_table(tmp_path / "lake" / "notes").sort_by("id").to_pylist()
    assert notes == [{"id": 2, "body": "TWO"}, {"id": 3, "body": None}]


def test_rows_that_the_store_refuses_are_set_aside_in_their_table_alone(shop, tmp_path, capsys):
    shop.ask(
        f"CREATE TABLE {shop.name('to_notes')} (id int PRIMARY KEY, body varchar(40) NOT NULL)"
    )
    store = '{connection: shop, table: "to_{table}"}'
    if shop.kind != "sqlite":
        store = store.replace("to_{table}", "{schema}.to_{table}")
    rest = "    mode: merge\n    on_bad_row: set_aside\n    max_bad_share: 50%\n"
    path = written(shop, tmp_path, store, rest, f', exclude: ["{shop.schema}.to_*"]')
    summary = Coordinator(path, engine="inline").run()
    by_name = {each.flow.rpartition(".")[2]: each for each in summary.flows}
    assert summary.ok, [each.error for each in summary.flows]
    assert (by_name["notes"].applied, by_name["notes"].set_aside) == (2, 1)
    assert (by_name["People"].applied, by_name["People"].set_aside) == (4, 0)
    assert shop.ask(f"SELECT id FROM {shop.name('to_notes')} ORDER BY id") in (
        [(1,), (2,)],
        ((1,), (2,)),
    )
    capsys.readouterr()
    assert main(["bad", str(path), "--json"]) == 0
    (bad,) = map(json.loads, capsys.readouterr().out.splitlines())
    assert bad["flow"] == f"f.{shop.schema}.notes"
    assert bad["column"] == "body"
