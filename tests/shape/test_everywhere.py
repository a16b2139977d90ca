"""A shape (columns, where, mask, add, transform) in MariaDB, buckets, families and replays."""

from __future__ import annotations

import sqlite3
import sys
from pathlib import Path

import pyarrow as pa
import pytest
import yaml

from hygge import Coordinator
from hygge.cli.main import main
from hygge.connectors.files.parquet import ParquetHome
from tests.servers.s3 import s3  # noqa: F401  # a fixture
from tests.shape.moving import flows, lake, moved, write

pytest_plugins = ["tests.servers.mariadb", "tests.servers.postgres"]
OWN = """import pyarrow as pa
import pyarrow.compute as pc
def people(batch: pa.Table) -> pa.Table:
    batch = batch.filter(pc.not_equal(batch["id"], 7))
    return batch.append_column("twice", pc.multiply(batch["id"], 2))
"""
SHAPE = {"mask": {"email": {"keep_last": 3}, "age": "null"}, "add": {"source": "'x'"}}
CHOSEN = {
    "columns": ["id", {"name": "e_mail", "as": "email"}, "age"],
    "where": "id > 1",
}
ROWS = [
    {"id": 2, "email": None, "age": None, "source": "x", "twice": 4},
    {"id": 3, "email": "****org", "age": None, "source": "x", "twice": 6},
]


@pytest.fixture
def call(tmp_path, monkeypatch):
    """The function of a module beside flows.yml."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    Path(tmp_path / "everywhere_own.py").write_text(OWN)
    yield "everywhere_own:people"
    sys.modules.pop("everywhere_own", None)


def rows_of(table: pa.Table) -> list[dict]:
    return table.sort_by("id").to_pylist()


def test_into_mariadb_and_out_of_it(tmp_path, call, my, my_schema):
    url = my.url(my_schema)
    home = {**write("parquet", tmp_path), **CHOSEN}
    store = {"connection": url, "table": "people"}
    path = flows(tmp_path, home, store, transform=call, **SHAPE)
    (report,) = Coordinator(path, engine="inline").run().flows
    assert (report.status, report.applied, report.filtered) == ("done", 2, 1), report.error
    names = ", ".join(f"`{name}`" for name in ROWS[0])
    kept = my.ask(f"SELECT {names} FROM {my_schema}.people ORDER BY id")
    assert [dict(zip(ROWS[0], row, strict=True)) for row in kept] == ROWS
    my.ask(f"CREATE TABLE {my_schema}.source (id bigint, e_mail text, age bigint, ssn text)")
    my.ask(
        f"INSERT INTO {my_schema}.source VALUES (1, 'a@x.org', 30, 's'), (2, NULL, 40, 's'), "
        "(3, 'c@x.org', NULL, 's')"
    )
    home = {"connection": url, "table": "source", **CHOSEN}
    assert moved(flows(tmp_path, home, transform=call, **SHAPE)) == ROWS


def test_into_a_bucket_and_out_of_it(tmp_path, call, s3, monkeypatch):  # noqa: F811
    home = {**write("csv", tmp_path), **CHOSEN}
    path = flows(tmp_path, home, f"{s3}/people", transform=call, **SHAPE)
    (report,) = Coordinator(path, engine="inline").run().flows
    assert (report.status, report.applied, report.filtered) == ("done", 2, 1), report.error
    with ParquetHome(path=f"{s3}/people").open() as plan:
        tables = [t for s in plan.splits for t in ParquetHome(path=f"{s3}/people").read(s)]
    assert rows_of(pa.concat_tables(tables)) == ROWS
    home = {"path": f"{s3}/people", "where": "id > 2", "columns": ["id", "source"]}
    assert moved(flows(tmp_path, home, mask={"source": {"keep_last": 0}})) == [
        {"id": 3, "source": "*"}
    ]


def test_a_function_for_each_table_of_a_family(tmp_path, call):
    with sqlite3.connect(tmp_path / "shop.db") as shop:
        for name in ("a", "b"):
            shop.execute(f"CREATE TABLE {name} (id INTEGER, {name} TEXT)")
            shop.execute(f"INSERT INTO {name} VALUES (1, 'x'), (7, 'y')")
    file = tmp_path / "flows.yml"
    flow = {
        "home": {"connection": f"sqlite:///{tmp_path}/shop.db", "tables": ["main.*"]},
        "store": "lake/{table}",
        "transform": call,
    }
    file.write_text(yaml.safe_dump({"flows": {"people": flow}}))
    summary = Coordinator(file, engine="inline").run()
    assert [(r.status, r.applied, r.filtered) for r in summary.flows] == [("done", 1, 1)] * 2
    for name in ("a", "b"):
        (path,) = (tmp_path / "lake" / name).glob("part-*.parquet")
        with ParquetHome(path=path).open() as plan:
            (table,) = ParquetHome(path=path).read(plan.splits[0])
        assert table.to_pylist() == [{"id": 1, name: "x", "twice": 2}]


def test_rows_that_are_moved_again_go_through_the_function_too(tmp_path, call, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("people.csv").write_text("id,n\n1,1\n2,-\n7,-\n")
    options = {"types": {"id": "int64", "n": "int64"}, "null_values": [""]}
    more = {"transform": call, "on_bad_row": "set_aside", "max_bad_share": "100%"}
    home = {"path": "people.csv", "options": options}
    path = flows(tmp_path, home, **more, mode="append")
    (report,) = Coordinator(path, engine="inline").run().flows
    assert (report.applied, report.set_aside) == (1, 2), report.error
    options["null_values"] = ["-"]
    path = flows(tmp_path, home, **more, mode="append")
    assert main(["bad", "flows.yml", "--replay", report.run]) == 0, capsys.readouterr()
    assert rows_of(lake(path)) == [
        {"id": 1, "n": 1, "twice": 2},
        {"id": 2, "n": None, "twice": 4},
    ]
