"""`tables:` of a flow: settings of the tables that a pattern matches, and of single tables."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from hygge import Coordinator
from hygge.model import Summary

pytest_plugins = ["tests.servers.postgres"]


def moved(folder: Path, url: str, settings: str, taken: str = '["*"]') -> Summary:
    """Move the tables that `taken` names, with these settings under `tables:`."""
    (folder / "flows.yml").write_text(
        f"flows:\n  f:\n    home: {{connection: '{url}', tables: {taken}}}\n"
        f"    store: 'out/{{table}}'\n    tables: {settings}\n"
    )
    return Coordinator(folder / "flows.yml", engine="inline").run()


def statuses(summary: Summary) -> dict[str, str]:
    return {each.flow.rpartition(".")[2]: each.status for each in summary.flows}


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    with closing(sqlite3.connect(tmp_path / "s.db")) as database:
        database.executescript(
            "create table jul (id integer primary key, d date);"
            "insert into jul values (1, 2460370.5);"
            "create table ok (id integer primary key); insert into ok values (7);"
            "create table bt (t text); insert into bt values (x'ff00fe');"
        )
    return tmp_path


def test_types_of_a_pattern_pass_over_tables_without_the_column(shop):
    assert statuses(moved(shop, "sqlite:///s.db", "{}")) == {
        "bt": "failed",
        "jul": "failed",
        "ok": "done",
    }
    summary = moved(shop, "sqlite:///s.db", '{"*": {types: {d: string, t: binary}}}')
    assert summary.ok, [each.error for each in summary.flows]
    assert pq.read_table(shop / "out/jul").to_pylist() == [{"id": 1, "d": "2460370.5"}]
    assert pq.read_table(shop / "out/bt").to_pylist() == [{"t": b"\xff\x00\xfe"}]


def test_a_column_that_the_settings_of_one_table_name_must_be_there(shop):
    summary = moved(
        shop, "sqlite:///s.db", '{"*": {types: {d: string, t: binary}}, ok: {types: {no: int8}}}'
    )
    (failed,) = [each for each in summary.flows if each.status == "failed"]
    assert failed.flow == "f.main.ok"
    assert "has no column 'no'" in str(failed.error)
    assert failed.hint == "its columns: id"


def test_the_first_pattern_counts_and_one_table_comes_over_it(shop):
    settings = (
        '{"j*": {mode: append, types: {d: float64}}, "*": {types: {d: string, t: binary}}, '
        "jul: {types: {id: string}}, ok: {types: {id: string}}}"
    )
    summary = moved(shop, "sqlite:///s.db", settings)
    assert summary.ok, [each.error for each in summary.flows]
    modes = {each.flow: each.mode for each in summary.flows}
    assert modes == {"f.main.bt": "replace", "f.main.jul": "append", "f.main.ok": "replace"}
    assert pq.read_table(shop / "out/jul").to_pylist() == [{"id": "1", "d": 2460370.5}]
    assert pq.read_table(shop / "out/ok").to_pylist() == [{"id": "7"}]


def test_a_pattern_that_matches_nothing_is_an_error(shop):
    (failed,) = moved(shop, "sqlite:///s.db", '{"jol*": {mode: append}}').flows
    assert "'jol*' of `tables:` matches none" in str(failed.error)
    assert "did you mean 'main.jul'?" in str(failed.hint)


def test_on_value_of_a_pattern(pg, schema, tmp_path):
    pg.ask(f"CREATE TABLE {schema}.a (d date)")
    pg.ask(f"INSERT INTO {schema}.a VALUES ('infinity')")
    pg.ask(f"CREATE TABLE {schema}.b (id int)")
    settings = f'{{"{schema}.*": {{on_value: {{d: set_null}}}}}}'
    summary = moved(tmp_path, pg.url, settings, f'["{schema}.*"]')
    assert summary.ok, [each.error for each in summary.flows]
    assert pq.read_table(tmp_path / "out/a").to_pylist() == [{"d": None}]


def test_one_table_of_a_file_is_read_with_the_tables_that_inherit_from_it(pg, schema, tmp_path):
    """Only where a pattern takes the children too is a parent read without them."""
    pg.ask(f"CREATE TABLE {schema}.parent (id int)")
    pg.ask(f"CREATE TABLE {schema}.child () INHERITS ({schema}.parent)")
    pg.ask(f"INSERT INTO {schema}.parent VALUES (1)")
    pg.ask(f"INSERT INTO {schema}.child VALUES (2)")
    file = tmp_path / "flows.yml"
    file.write_text(f"flows: {{f: {{home: '{pg.url}#{schema}.parent', store: out}}}}")
    assert Coordinator(file, engine="inline").run().ok
    assert sorted(pq.read_table(tmp_path / "out")["id"].to_pylist()) == [1, 2]
