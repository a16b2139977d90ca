"""NOT NULL is promised where it holds, and nowhere else: no `set_null`, no table that inherits."""

from __future__ import annotations

import glob

import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet as pq
import pytest

from hygge import ArrowHome, ArrowStore, Flow, ParquetHome, ParquetStore, SQLHome, SQLStore
from hygge.connectors.postgres import catalog
from hygge.connectors.sql.ask import Ask, SQLHomeOptions
from hygge.errors import FlowFailed

pytest_plugins = ["tests.servers.postgres", "tests.servers.mariadb"]


def moved(home, store, folder, **more):
    return Flow(home, store, name="f", engine="inline", state=folder / "state", **more).run()


def parquet_of(home, folder, **more):
    moved(home, ParquetStore("lake", path=str(folder / "lake")), folder, **more)
    return pq.read_table(folder / "lake")


@pytest.mark.parametrize("store", ["parquet", "arrow", "postgres", "mariadb", "sqlite"])
def test_a_zero_date_that_becomes_null_arrives_in_every_store(
    my, my_schema, pg, schema, tmp_path, store
):
    my.ask(f"CREATE TABLE {my_schema}.s (id int NOT NULL, d datetime NOT NULL)")
    my.ask(f"INSERT INTO {my_schema}.s VALUES (1, '2001-02-03'), (2, '0000-00-00')")
    home = SQLHome("s", connection=my.url(my_schema), options={"on_value": {"d": "set_null"}})
    count = "SELECT count(*), count(d) FROM {}"
    if store == "parquet":
        table = parquet_of(home, tmp_path)
    elif store == "arrow":
        moved(home, ArrowStore("a", path=str(tmp_path / "a")), tmp_path)
        (file,) = glob.glob(str(tmp_path / "a" / "part-*.arrow"))
        table = pa.ipc.open_file(file).read_all()
    elif store == "postgres":
        moved(home, SQLStore("t", connection=pg.url, table=f"{schema}.t"), tmp_path)
        assert pg.ask(count.format(f"{schema}.t")) == [(2, 1)]
        return
    elif store == "mariadb":
        moved(home, SQLStore("t", connection=my.url(my_schema)), tmp_path)
        assert my.ask(count.format(f"{my_schema}.t")) == [(2, 1)]
        return
    else:
        url = f"sqlite:///{tmp_path}/t.db"
        moved(home, SQLStore("t", connection=url), tmp_path)
        table = parquet_of(SQLHome("t", connection=url), tmp_path / "back")
    assert [table.schema.field(name).nullable for name in ("id", "d")] == [False, True]
    assert sorted(table["d"].is_null().to_pylist()) == [False, True]


def test_a_store_that_sets_null_makes_the_column_nullable(my, my_schema, pg, schema, tmp_path):
    my.ask(f"CREATE TABLE {my_schema}.s (id int PRIMARY KEY, v varchar(20) NOT NULL)")
    my.ask(f"INSERT INTO {my_schema}.s VALUES (1, CONCAT('a', CHAR(0), 'b'))")
    to = SQLStore("t", connection=pg.url, table=f"{schema}.t", options={"on_value": "set_null"})
    moved(SQLHome("s", connection=my.url(my_schema)), to, tmp_path)
    assert pg.ask(f"SELECT id, v FROM {schema}.t") == [(1, None)]


@pytest.mark.parametrize("rule", ["NO INHERIT", "foreign", "kept"])
def test_a_table_that_inherits_may_hold_null_where_its_parent_does_not(pg, schema, tmp_path, rule):
    if rule == "foreign":
        pg.ask(f"CREATE FOREIGN DATA WRAPPER {schema}_w")
        pg.ask(f"CREATE SERVER {schema}_s FOREIGN DATA WRAPPER {schema}_w")
        pg.ask(f"CREATE FOREIGN TABLE {schema}.p (v text NOT NULL) SERVER {schema}_s")
        ask = Ask(pg.url, "t", f"{schema}.p", *[None] * 5, SQLHomeOptions())
        with pg.connect() as connection:
            (column,) = catalog.columns(connection, ask, catalog.find(connection, ask))
        assert column.nullable, "nobody checks the rule of a foreign table"
        return
    kept = "" if rule == "kept" else " NO INHERIT"
    pg.ask(f"CREATE TABLE {schema}.p (id int, v text CONSTRAINT k NOT NULL{kept})")
    pg.ask(f"CREATE TABLE {schema}.c () INHERITS ({schema}.p)")
    if rule == "NO INHERIT":
        pg.ask(f"INSERT INTO {schema}.c VALUES (1, NULL)")
    table = parquet_of(SQLHome("p", connection=pg.url, table=f"{schema}.p"), tmp_path)
    assert table.num_rows == (rule != "kept")
    assert table.schema.field("v").nullable is (rule != "kept")


def test_a_column_is_not_null_only_where_every_file_says_so(tmp_path):
    (tmp_path / "in").mkdir()
    for name, nullable, value in (("1", False, "x"), ("2", True, None)):
        rows = pa.table([[value]], pa.schema([pa.field("v", pa.string(), nullable)]))
        pq.write_table(rows, tmp_path / "in" / f"{name}.parquet")
        with pa.ipc.new_file(tmp_path / f"{name}.arrow", rows.schema) as file:
            file.write_table(rows)
    table = parquet_of(ParquetHome(path=str(tmp_path / "in")), tmp_path / "p")
    assert sorted(table["v"].is_null().to_pylist()) == [False, True]
    table = parquet_of(ArrowHome(path=str(tmp_path / "*.arrow")), tmp_path / "a")
    assert sorted(table["v"].is_null().to_pylist()) == [False, True]


def test_a_null_where_the_file_promises_none_fails_the_run(tmp_path):
    schema = pa.schema([pa.field("v", pa.string(), nullable=False)])
    with pa.ipc.new_file(tmp_path / "f.arrow", schema) as file:
        file.write_table(pa.Table.from_arrays([pa.array(["x", None])], schema=schema))
    with pytest.raises(FlowFailed, match="'v' is declared without NULLs, but holds 1"):
        moved(ArrowHome(path=str(tmp_path / "f.arrow")),
              ArrowStore("a", path=str(tmp_path / "a")), tmp_path)  # fmt: skip


def test_a_view_over_a_left_join_promises_nothing(my, my_schema, pg, schema, tmp_path):
    for ask, where in ((my.ask, my_schema), (pg.ask, schema)):
        ask(f"CREATE TABLE {where}.a (id int NOT NULL)")
        ask(f"CREATE TABLE {where}.b (id int NOT NULL, v int NOT NULL)")
        ask(f"INSERT INTO {where}.a VALUES (1)")
        joined = f"SELECT a.id, b.v FROM {where}.a LEFT JOIN {where}.b ON a.id = b.id"
        ask(f"CREATE VIEW {where}.w AS {joined}")
    for at, home in enumerate(
        (
            SQLHome("w", connection=my.url(my_schema)),
            SQLHome("q", connection=my.url(my_schema), query=joined.replace(schema, my_schema)),
            SQLHome("w", connection=pg.url, table=f"{schema}.w"),
            SQLHome("q", connection=pg.url, query=joined),
        )
    ):
        table = parquet_of(home, tmp_path / str(at))
        assert table["v"].to_pylist() == [None]


def test_a_view_with_null_for_a_domain_that_is_not_null_is_told_to_be_a_query(pg, schema, tmp_path):
    pg.ask(f"CREATE DOMAIN {schema}.n AS int NOT NULL")
    pg.ask(f"CREATE TABLE {schema}.a AS SELECT 1 AS id, 2::{schema}.n AS v")
    joined = f"SELECT 7 AS id, a.v FROM (SELECT) AS one LEFT JOIN {schema}.a ON false"
    pg.ask(f"CREATE VIEW {schema}.w AS {joined}")
    view = SQLHome("w", connection=pg.url, table=f"{schema}.w")
    with pytest.raises(FlowFailed, match="does not allow null values") as failed:
        moved(view, SQLStore("t", connection=pg.url, table=f"{schema}.t"), tmp_path)
    assert "`query: SELECT * FROM" in str(failed.value)
    query = SQLHome("w", connection=pg.url, query=f"SELECT * FROM {schema}.w")
    moved(query, SQLStore("t", connection=pg.url, table=f"{schema}.t"), tmp_path)
    assert pg.ask(f"SELECT id, v FROM {schema}.t") == [(7, None)]


def test_sqlalchemy_promises_nothing_of_a_table_that_others_inherit_from(pg, schema, tmp_path):
    pg.ask(f"CREATE TABLE {schema}.p (v text CONSTRAINT k NOT NULL NO INHERIT)")
    pg.ask(f"CREATE TABLE {schema}.c () INHERITS ({schema}.p)")
    pg.ask(f"INSERT INTO {schema}.c VALUES (NULL)")
    url = pg.url.replace("postgresql:", "postgresql+psycopg2:")
    table = parquet_of(SQLHome("p", connection=url, table=f"{schema}.p"), tmp_path)
    assert table["v"].to_pylist() == [None]
