"""`add` adds columns to the rows, `names` names them alike."""

from __future__ import annotations

import datetime as dt

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hygge import ConfigError, Coordinator
from hygge.cli.main import main
from hygge.shape.names import snake
from tests.shape.moving import FORMATS, flows, lake, moved, run, write

ADDED = {"loaded_at": "now", "run": "run_id", "source": "'shop'", "n": 7, "x": "1.50", "ok": True,
         "day": "date '2024-01-31'"}  # fmt: skip


@pytest.mark.parametrize("kind", FORMATS)
def test_columns_are_added_in_every_format(kind, tmp_path, capsys):
    before = dt.datetime.now(dt.UTC)
    path = flows(tmp_path, {**write(kind, tmp_path), "columns": ["id"]}, add=ADDED)
    report = run(path)
    assert report.status == "done", report.error
    rows = lake(path).to_pylist()
    assert [*rows[0]] == ["id", *ADDED]
    (run_id,), (moment,) = {row["run"] for row in rows}, {row["loaded_at"] for row in rows}
    assert run_id == report.run
    assert before <= moment <= dt.datetime.now(dt.UTC)
    assert rows[2] | {"loaded_at": 0, "run": 0} == {
        "id": 3, "loaded_at": 0, "run": 0, "source": "shop", "n": 7, "x": pa.scalar("1.50").cast(
            pa.decimal128(3, 2)).as_py(), "ok": True, "day": dt.date(2024, 1, 31)}  # fmt: skip
    assert main(["plan", str(path)]) == 0
    assert "'loaded_at' is added: the time when the run began" in capsys.readouterr().out


@pytest.mark.parametrize("engine", ["inline", "ray"])
def test_each_row_has_the_name_of_its_file(engine, tmp_path, request):
    if engine == "ray":
        request.getfixturevalue("ray_here")
    for name in ("a", "year=2024/b"):
        folder = (tmp_path / "in" / name).parent
        folder.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table({"id": [1, 2]}), tmp_path / "in" / f"{name}.parquet")
    path = flows(tmp_path, {"path": "in/*/*.parquet"}, add={"file": "file_name", "by": "run_id"})
    assert [row["file"] for row in moved(path, engine)] == ["year=2024/b.parquet"] * 2
    path = flows(tmp_path, {"path": "in/a.parquet", "where": "id > 1"}, add={"file": "file_name"})
    assert moved(path, engine) == [{"id": 2, "file": "a.parquet"}]


def test_a_database_has_no_files(tmp_path):
    report = run(flows(tmp_path, write("sqlite", tmp_path), add={"file": "file_name"}))
    assert "has no files" in report.error


@pytest.mark.parametrize("value", ["shop", "null", "now()", "'a' || 'b'"])
def test_what_is_no_literal_is_an_error_of_the_file(value, tmp_path):
    with pytest.raises(ConfigError, match="now, run_id, file_name or a literal"):
        Coordinator(flows(tmp_path, write("parquet", tmp_path), add={"a": value}))


def test_names_are_made_alike(tmp_path):
    table = pa.table({"OrderID": [1], "Sold At": ["x"], "e-mail": ["m"]})
    home = write("parquet", tmp_path, table)
    path = flows(tmp_path, home, names="snake", add={"Run": "run_id"})
    assert [*moved(path)[0]] == ["order_id", "sold_at", "e_mail", "Run"]
    home["columns"] = ["OrderID", {"name": "Sold At", "as": "SoldAt"}]
    assert [*moved(flows(tmp_path, home, names="snake"))[0]] == ["order_id", "SoldAt"]
    store = {"connection": f"sqlite:///{tmp_path}/out.db", "table": "t"}
    path = flows(tmp_path, write("parquet", tmp_path, table), store, names="snake", mode="merge",
                 key=["OrderID"])  # fmt: skip
    assert run(path).status == run(path).status == "done"


@pytest.mark.parametrize(
    ("names", "flow"),
    [(["a b", "aB"], {"names": "snake"}), (["a"], {"add": {"a": 1}})],
)
def test_two_columns_of_one_name_are_an_error(names, flow, tmp_path):
    home = write("parquet", tmp_path, pa.table({name: [1] for name in names}))
    assert "two columns would be named" in run(flows(tmp_path, home, **flow)).error


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("OrderID", "order_id"),
        ("HTTPServer2", "http_server2"),
        ("2024 Sales", "_2024_sales"),
        ("Größe", "größe"),
        ("a__b", "a_b"),
        ("already_snake_1", "already_snake_1"),
        ("---", "---"),
    ],
)
def test_snake(name, expected):
    assert snake(name) == expected
