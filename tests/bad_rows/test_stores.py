"""Rows that a Store cannot hold are set aside with their values: all others come, each once."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing

import pyarrow as pa
import pyarrow.csv as pc
import pytest

from hygge import CsvStore, Flow, Home, JsonlStore, SQLStore
from hygge.cli.main import main
from hygge.journal.bad_files import BadFiles
from hygge.model import Limits
from hygge.places.place import place_at

pytest_plugins = ["tests.servers.mariadb", "tests.servers.postgres"]
COUNT = 2_000


class Rows(Home):
    """The batches that it is given."""

    def __init__(self, *tables: pa.Table) -> None:
        super().__init__("rows")
        self.tables = tables

    async def read_batches(self):
        for table in self.tables:
            yield table


def move(tmp_path, store, *tables: pa.Table, mode="append", **limits: object):
    """The report of a flow of these tables, and the bad rows of its run."""
    given = Limits(on_bad_row="set_aside", max_bad_share=1.0, **limits)
    state = str(tmp_path / "state")
    flow = Flow(
        Rows(*tables), store, name="f", engine="inline", limits=given, mode=mode, state=state
    )
    report = flow.run()
    return report, BadFiles(place_at(state), "f").read(report.run).to_pylist()


def numbered(kind: pa.DataType, usual: object, **others: object) -> tuple[pa.Table, list[int]]:
    """A table of many rows, and the ids of those with the other values, spread over it."""
    values = [usual] * COUNT
    ids = [COUNT * (at + 1) // (len(others) + 1) for at in range(len(others))]
    for at, value in zip(ids, others.values(), strict=True):
        values[at] = value
    return pa.table({"id": pa.array(range(COUNT), pa.int64()), "v": pa.array(values, kind)}), ids


def check(report, bad, wrong: list[int], *reasons: str) -> None:
    assert (report.applied, report.set_aside) == (COUNT - len(wrong), len(wrong))
    assert report.rows_read == COUNT
    assert [json.loads(row["text"])["id"] for row in bad] == wrong
    for row, reason in zip(bad, reasons, strict=True):
        assert reason in row["reason"]
        assert row["column"] == "v"
        (batch,) = pa.ipc.open_stream(row["raw"]).read_all().to_batches()
        assert (batch.num_rows, batch.schema.names) == (1, ["id", "v"])


def test_postgres_texts_and_moments_beyond_it(tmp_path, pg, schema):
    store = SQLStore("t", connection=pg.url, table=f"{schema}.t")
    table, wrong = numbered(pa.string(), "usual", one="a\0b", two="\0")
    report, bad = move(tmp_path, store, table, mode="replace")
    check(report, bad, wrong, "the character NUL", "the character NUL")
    kept = {row[0] for row in pg.ask(f"SELECT id FROM {schema}.t")}
    assert kept == set(range(COUNT)) - set(wrong)
    other = SQLStore("d", connection=pg.url, table=f"{schema}.d")
    table, wrong = numbered(pa.timestamp("s"), 0, far=2**50)
    report, bad = move(tmp_path, other, table, mode="replace")
    check(report, bad, wrong, "outside of the years")


@pytest.mark.parametrize("mode", ["append", "merge"])
def test_what_a_table_of_postgres_refuses_of_its_columns(tmp_path, pg, schema, mode):
    pg.ask(f"CREATE TABLE {schema}.t (id bigint PRIMARY KEY, v varchar(5) NOT NULL)")
    store = SQLStore("t", connection=pg.url, table=f"{schema}.t")
    table, wrong = numbered(pa.string(), "usual", null=None, long="too long", most="\u00e4" * 6)
    given = Limits(on_bad_row="set_aside", max_bad_share=1.0)
    state = str(tmp_path / "state")
    flow = Flow(
        Rows(table.slice(0, 900), table.slice(900)), store,
        name="f", engine="inline", limits=given, mode=mode, key="id", state=state,
    )  # fmt: skip
    report = flow.run()
    bad = BadFiles(place_at(state), "f").read(report.run).to_pylist()
    check(report, bad, wrong, "NOT NULL", "at most 5 characters", "at most 5 characters")
    kept = {row[0] for row in pg.ask(f"SELECT id FROM {schema}.t")}
    assert kept == set(range(COUNT)) - set(wrong)


def test_mariadb_numbers_that_it_lacks_and_columns_that_are_too_short(tmp_path, my, my_schema):
    store = SQLStore("t", connection=my.url(my_schema), table="t")
    table, wrong = numbered(pa.float64(), 1.5, nan=float("nan"), zero=-0.0, inf=float("inf"))
    report, bad = move(tmp_path, store, table, mode="replace")
    check(report, bad, wrong, *["MariaDB cannot keep"] * 3)
    my.ask(f"CREATE TABLE {my_schema}.s (id bigint, v varchar(5) NOT NULL) CHARSET utf8mb4")
    other = SQLStore("s", connection=my.url(my_schema), table="s")
    table, wrong = numbered(pa.string(), "usual", null=None, long="too long")
    report, bad = move(tmp_path, other, table)
    check(report, bad, wrong, "NOT NULL", "at most 5 characters")


def test_a_sqlite_table_with_a_column_that_is_not_null(tmp_path):
    path = tmp_path / "s.db"
    with closing(sqlite3.connect(path)) as database:
        database.execute("CREATE TABLE t (id INTEGER, v TEXT NOT NULL)")
    store = SQLStore("t", connection=f"sqlite:///{path}", table="t")
    table, wrong = numbered(pa.string(), "usual", null=None)
    report, bad = move(tmp_path, store, table)
    check(report, bad, wrong, "NOT NULL")
    with closing(sqlite3.connect(path)) as database:
        assert database.execute("SELECT count(*) FROM t").fetchone() == (COUNT - 1,)


@pytest.mark.parametrize("store", [CsvStore, JsonlStore])
def test_files_of_text_and_a_text_that_is_none(tmp_path, store):
    table, (wrong,) = numbered(pa.string(), "usual", one="BROKEN")
    data = table.column("v").chunk(0).buffers()
    content = data[2].to_pybytes().replace(b"BROKEN", b"BRO\xffEN")
    array = pa.StringArray.from_buffers(COUNT, data[1], pa.py_buffer(content))
    table = table.set_column(1, "v", array)
    report, bad = move(tmp_path, store("o", path=tmp_path / "out"), table)
    check(report, bad, [wrong], "UTF-8")
    if store is CsvStore:
        (path,) = (tmp_path / "out").rglob("*.csv*")
        assert pc.read_csv(path).num_rows == COUNT - 1


def test_a_limit_counts_what_the_store_sets_aside_too(tmp_path, pg, schema):
    store = SQLStore("t", connection=pg.url, table=f"{schema}.t")
    table, _ = numbered(pa.string(), "usual", one="\0", two="\0")
    with pytest.raises(Exception, match="2 rows cannot be moved.*max_bad_rows: 1"):
        move(tmp_path, store, table, max_bad_rows=1)
    assert pg.ask(f"SELECT to_regclass('{schema}.t')") == [(None,)]


def test_passthrough_gives_way_and_the_plan_says_so(tmp_path, pg, schema, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HYGGE_STATE", raising=False)
    pg.ask(f"CREATE TABLE {schema}.a AS SELECT 1 AS id, 'five!' AS v UNION SELECT 2, 'longer'")
    pg.ask(f"CREATE TABLE {schema}.b (id integer, v varchar(5))")
    text = f"""
connections: {{pg: "{pg.url}"}}
flows:
  f:
    home: pg#{schema}.a
    store: pg#{schema}.b
    mode: append
    on_bad_row: set_aside
    max_bad_share: 50%
"""
    (tmp_path / "flows.yml").write_text(text)
    assert main(["plan", "flows.yml"]) == 0, capsys.readouterr()
    assert "passes  no pgcopy" in capsys.readouterr().out
    assert main(["flows.yml", "--inline"]) == 0, capsys.readouterr()
    assert "2 rows read = 1 applied + 1 set aside" in capsys.readouterr().out
    assert pg.ask(f"SELECT id, v FROM {schema}.b") == [(1, "five!")]
