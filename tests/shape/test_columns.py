"""`columns` with names and types, and `exclude`: for every Home, before a row moves where wrong."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from hygge import ConfigError, Coordinator, Flow, Home, ParquetHome, ParquetStore
from hygge.cli.main import main
from tests.shape.moving import FORMATS, PEOPLE, flows, lake, moved, run, write

pytest_plugins = ["tests.servers.postgres"]

CHOSEN = ["age", {"name": "e_mail", "as": "email"}, {"name": "id", "type": "int16"}]
ROWS = [
    {"age": 30, "email": "a@x.org", "id": 1},
    {"age": 40, "email": None, "id": 2},
    {"age": None, "email": "c@x.org", "id": 3},
]


def without_null_text(rows):
    """CSV tells no empty text from NULL where it is not quoted; these tests are not about that."""
    return [{name: None if value == "" else value for name, value in row.items()} for row in rows]


@pytest.mark.parametrize("kind", FORMATS)
def test_columns_are_chosen_renamed_and_cast(kind, tmp_path):
    path = flows(tmp_path, {**write(kind, tmp_path), "columns": CHOSEN})
    assert without_null_text(moved(path)) == ROWS
    assert lake(path).schema.field("id").type == pa.int16()


@pytest.mark.parametrize("kind", FORMATS)
def test_excluded_columns_are_not_moved(kind, tmp_path):
    path = flows(tmp_path, {**write(kind, tmp_path), "exclude": ["ssn", "age"]})
    assert [[*row] for row in moved(path)] == [["id", "e_mail"]] * 3


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("key", ["columns", "exclude"])
def test_a_column_that_is_not_there_is_an_error(kind, key, tmp_path):
    named = {"columns": [{"name": "emial", "as": "email"}], "exclude": ["e_mial"]}[key]
    report = run(flows(tmp_path, {**write(kind, tmp_path), key: named}))
    assert "has no column" in report.error
    assert "e_mail" in report.hint
    assert not (tmp_path / "lake").exists()


class Own(Home):
    """A home of somebody's own, which gives all of its columns."""

    async def read_batches(self):
        yield PEOPLE


@pytest.mark.parametrize(
    "shape", [{"columns": ["id", {"name": "e_mail", "as": "email"}]}, {"exclude": ["ssn", "age"]}]
)
def test_a_class_of_ones_own_needs_to_know_nothing(shape, tmp_path):
    own = Own()
    flow = Flow(own, ParquetStore(path=tmp_path / "lake"), engine="inline", shape=shape,
                state=tmp_path / "state")  # fmt: skip
    assert flow.run().rows == 3
    assert own.shape is None
    names = pq.read_table(next((tmp_path / "lake").glob("part-*.parquet"))).column_names
    assert names == (["id", "email"] if "columns" in shape else ["id", "e_mail"])


def test_parquet_reads_only_what_is_needed(tmp_path):
    write("parquet", tmp_path)
    home = ParquetHome(path=tmp_path / "people.parquet")
    flow = Flow(home, ParquetStore(path=tmp_path / "lake"), engine="inline",
                shape={"exclude": ["ssn"]})  # fmt: skip
    with flow.home.open() as plan:
        (split,) = plan.splits
        assert next(flow.home.read(split)).column_names == ["id", "e_mail", "age"]


def test_an_excluded_column_may_be_of_a_type_that_cannot_be_read(tmp_path):
    with sqlite3.connect(tmp_path / "shop.db") as connection:
        connection.execute("CREATE TABLE people (id INTEGER, born DATE)")
        connection.execute("INSERT INTO people VALUES (1, 'never')")
    home = {"connection": f"sqlite:///{tmp_path}/shop.db", "table": "people", "exclude": ["born"]}
    assert moved(flows(tmp_path, home)) == [{"id": 1}]


@pytest.mark.parametrize(
    ("kind", "values", "word"),
    [
        (pa.int64(), [1, 40_000], "int16"),
        (pa.float64(), [0.5, 0.1], "float32"),
        (pa.decimal128(20, 2), ["1.25"], "float64"),
        (pa.timestamp("us"), [1_000_001], "timestamp[s]"),
        (pa.timestamp("us"), [1], "date"),
        (pa.string(), ["1", "one"], "int64"),
    ],
)
def test_a_value_that_the_stated_type_does_not_hold_is_an_error(kind, values, word, tmp_path):
    if pa.types.is_decimal(kind):
        column = pa.array(["12345678901234567.25"]).cast(kind)
    else:
        column = pa.array(values, kind)
    home = write("parquet", tmp_path, pa.table({"a": column}))
    report = run(flows(tmp_path, {**home, "columns": [{"name": "a", "type": word}]}))
    assert "'a' cannot become" in report.error
    assert not (tmp_path / "lake").exists()


def test_values_that_the_stated_type_holds_are_kept_exactly(tmp_path):
    bytes_of_uuids = pa.array([b"abcdefghijklmnop", b"\xff" * 16, None], pa.binary(16))
    uuids = pa.ExtensionArray.from_storage(pa.uuid(), bytes_of_uuids)
    table = pa.table(
        {"a": [0.5, float("nan"), None], "b": ["1", "-2", None], "u": uuids, "z": pa.nulls(3)}
    )
    columns = [{"name": "a", "type": "float32"}, {"name": "b", "as": "n", "type": "int8"},
               {"name": "b", "as": "text"}, {"name": "u", "type": "string"},
               {"name": "z", "type": "int64"}]  # fmt: skip
    path = flows(tmp_path, {**write("parquet", tmp_path, table), "columns": columns})
    moved(path)
    got = lake(path)
    assert [str(kind) for kind in got.schema.types] == [
        "float", "int8", "string", "string", "int64",
    ]  # fmt: skip
    assert got["u"].to_pylist() == [
        "61626364-6566-6768-696a-6b6c6d6e6f70", "ffffffff-ffff-ffff-ffff-ffffffffffff", None,
    ]  # fmt: skip
    assert got["z"].to_pylist() == [None] * 3
    assert str(got["a"].to_pylist()) == "[0.5, nan, None]"
    assert got["n"].to_pylist() == [1, -2, None]
    assert got["text"].to_pylist() == ["1", "-2", None]


@pytest.mark.parametrize(
    ("home", "message"),
    [
        ({"columns": [{"name": "id"}, {"name": "age", "as": "id"}]}, "the name 'id' twice"),
        ({"columns": [{"name": "id", "type": "intt"}]}, "intt"),
        ({"columns": [{"name": "id", "to": "x"}]}, "does not know"),
        ({"columns": ["id"], "exclude": ["ssn"]}, "keep one of them"),
    ],
)
def test_a_wrong_shape_is_an_error_of_the_file_at_its_line(home, message, tmp_path):
    path = flows(tmp_path, {**write("parquet", tmp_path), **home})
    with pytest.raises(ConfigError, match=message):
        Coordinator(path)


def test_key_and_cursor_are_named_as_the_source_has_them(tmp_path):
    home = {
        **write("sqlite", tmp_path),
        "cursor": "id",
        "columns": [{"name": "id", "as": "number"}, {"name": "e_mail", "as": "email"}],
    }
    path = flows(tmp_path, home, mode="merge", key=["id"], store={
        "connection": f"sqlite:///{tmp_path}/out.db", "table": "people"})  # fmt: skip
    assert run(path).applied == 3
    with sqlite3.connect(tmp_path / "shop.db") as connection:
        connection.execute("INSERT INTO people VALUES (4, 'd@x.org', 1, 's')")
        connection.execute("UPDATE people SET e_mail = 'new' WHERE id = 3")
    report = run(path)
    assert (report.status, report.applied) == ("done", 2)  # the last row again, and the new one
    with closing(sqlite3.connect(tmp_path / "out.db")) as out:
        rows = out.execute("SELECT number, email FROM people ORDER BY number").fetchall()
    assert rows == [(1, "a@x.org"), (2, None), (3, "new"), (4, "d@x.org")]


def test_a_rename_that_comes_later_does_not_lose_the_watermark(tmp_path):
    home = {**write("sqlite", tmp_path), "cursor": "id", "columns": ["id"]}
    store = {"connection": f"sqlite:///{tmp_path}/out.db", "table": "people"}
    assert run(flows(tmp_path, home, store, mode="merge", key=["id"])).applied == 3
    with sqlite3.connect(tmp_path / "shop.db") as connection:
        connection.execute("INSERT INTO people VALUES (4, 'd@x.org', 1, 's')")
    home["columns"] = ["id", {"name": "id", "as": "number"}]
    report = run(flows(tmp_path, {**home, "columns": [{"name": "id"}]}, store, mode="merge",
                       key=["id"]))  # fmt: skip
    assert report.rows_read == 2


@pytest.mark.parametrize("role", ["key", "cursor"])
def test_an_excluded_key_or_cursor_is_an_error(role, tmp_path):
    home = {**write("sqlite", tmp_path), "exclude": ["id"]}
    store = {"connection": f"sqlite:///{tmp_path}/out.db", "table": "people"}
    if role == "cursor":
        path = flows(tmp_path, {**home, "cursor": "id"}, store, mode="append")
    else:
        path = flows(tmp_path, home, store, mode="merge", key=["id"])
    assert "'id' is excluded, and is the key or the cursor" in run(path).error


def test_plan_shows_the_columns_that_come_out(tmp_path, capsys):
    path = flows(tmp_path, {**write("parquet", tmp_path), "columns": CHOSEN})
    assert main(["plan", str(path)]) == 0
    out = capsys.readouterr().out
    assert "email" in out
    assert "id     int16" in out
    assert "'e_mail' as 'email'; 'id' as int16" in out
    assert "ssn" not in out


def test_tables_of_a_family_have_columns_of_their_own(tmp_path):
    write("sqlite", tmp_path)
    with sqlite3.connect(tmp_path / "shop.db") as connection:
        connection.execute("CREATE TABLE orders (id INTEGER, ssn TEXT, total INTEGER)")
        connection.execute("INSERT INTO orders VALUES (1, 's', 5)")
    home = {"connection": f"sqlite:///{tmp_path}/shop.db", "tables": ["main.*"]}
    shared = {"main.*": {"exclude": ["ssn", "age"]}}
    path = flows(tmp_path, home, "lake/{table}", tables=shared)
    assert Coordinator(path, engine="inline").run().ok
    read = {name: ds.dataset(tmp_path / "lake" / name).to_table() for name in ("people", "orders")}
    assert read["people"].column_names == ["id", "e_mail"]
    assert read["orders"].column_names == ["id", "total"]  # it has no `age`
    path = flows(tmp_path, home, "lake/{table}", tables={"main.orders": {"exclude": ["totl"]}})
    failed = next(r for r in Coordinator(path, engine="inline").run().flows if r.status == "failed")
    assert "no column 'totl'" in failed.error


def test_a_run_is_not_gone_on_with_under_another_shape(tmp_path):
    home = write("parquet", tmp_path)
    one = Coordinator(flows(tmp_path, {**home, "exclude": ["ssn"]}), engine="inline")
    flow = one.flow(one.file.flows[0])
    from hygge.journal.fingerprint import fingerprint

    values = fingerprint(flow.home, flow.store, flow.mode, flow.key, flow.shape)
    assert values["shape.exclude"] == json.dumps(["ssn"])
    plain = Coordinator(flows(tmp_path, home), engine="inline")
    flow = plain.flow(plain.file.flows[0])
    values = fingerprint(flow.home, flow.store, flow.mode, flow.key, flow.shape)
    assert not [name for name in values if name.startswith("shape")]


def test_it_runs_on_ray(tmp_path, ray_here):
    path = flows(tmp_path, {**write("jsonl", tmp_path), "columns": CHOSEN})
    assert moved(path, "ray") == ROWS


def test_postgresql_keeps_its_own_types(pg, schema, tmp_path):
    pg.ask(f"CREATE TABLE {schema}.a (id int PRIMARY KEY, n numeric(9,3), iv interval, j jsonb,"
           " secret text, big bigint)")  # fmt: skip
    pg.ask(f"INSERT INTO {schema}.a VALUES (1, 1.5, '1 day 2 s', '{{\"b\": 1}}', 'x', 7)")
    home = {"connection": pg.url, "table": f"{schema}.a", "exclude": ["secret"]}
    store = {"connection": pg.url, "table": f"{schema}.b"}

    def types(table):
        return pg.ask(
            "SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute "
            f"WHERE attrelid = '{schema}.{table}'::regclass AND attnum > 0 ORDER BY attnum"
        )

    assert run(flows(tmp_path, home, store)).status == "done"
    assert types("b") == [row for row in types("a") if row[0] != "secret"]
    columns = [{"name": "iv", "as": "span"}, {"name": "id", "as": "number"}, "j", "n"]
    home = {"connection": pg.url, "table": f"{schema}.a", "columns": columns}
    store["table"] = f"{schema}.c"
    report = run(flows(tmp_path, home, store, mode="merge", key=["id"]))
    assert report.status == "done", report.error
    assert types("c") == [("span", "interval"), ("number", "integer"), ("j", "jsonb"),
                          ("n", "numeric(9,3)")]  # fmt: skip
    assert pg.ask(f"SELECT span::text, number, j::text, n FROM {schema}.c")[0][:3] == (
        "1 day 00:00:02", 1, '{"b": 1}')  # fmt: skip
    home["columns"] = [*columns, {"name": "big", "as": "small", "type": "int16"}]
    store["table"] = f"{schema}.d"
    report = run(flows(tmp_path, home, store))
    assert report.status == "done", report.error
    assert types("d") == [*types("c"), ("small", "smallint")]  # the others keep their own types
    assert pg.ask(f"SELECT span::text, small FROM {schema}.d") == [("1 day 00:00:02", 7)]
