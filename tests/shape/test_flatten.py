"""`flatten: 1` makes columns of the fields of objects."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing

import pyarrow as pa
import pytest

from hygge import Coordinator
from hygge.cli.main import main
from tests.shape.moving import flows, lake, moved, run, write

INNER = pa.struct([("x", pa.int64()), ("Deep", pa.struct([("y", pa.list_(pa.int64()))]))])
ROWS = pa.table(
    {
        "id": [1, 2, 3],
        "a": pa.array([{"x": 2**63 - 1, "Deep": {"y": [1]}}, None, {"x": None}], INNER),
        "l": pa.array([[1], None, []], pa.list_(pa.int64())),
    }
)


@pytest.mark.parametrize("kind", ["parquet", "arrow", "jsonl"])
def test_objects_are_spread_one_level_or_more(kind, tmp_path, capsys):
    path = flows(tmp_path, write(kind, tmp_path, ROWS), flatten=1)
    rows = moved(path)
    assert rows[0] == {"id": 1, "a__x": 2**63 - 1, "a__Deep": {"y": [1]}, "l": [1]}
    assert rows[1] == {"id": 2, "a__x": None, "a__Deep": None, "l": None}
    assert (rows[2]["a__x"], rows[2]["l"]) == (None, [])
    assert main(["plan", str(path)]) == 0
    assert "the fields of objects are columns of their own" in capsys.readouterr().out
    path = flows(tmp_path, write(kind, tmp_path, ROWS), flatten=2, names="snake")
    assert Coordinator(path, engine="inline").run().flows[0].status == "done"
    assert lake(path).column_names == ["id", "a__x", "a__deep__y", "l"]


def test_what_is_deeper_is_json_in_a_table_and_masks_see_the_new_names(tmp_path):
    store = {"connection": f"sqlite:///{tmp_path}/t.db", "table": "t"}
    path = flows(
        tmp_path, write("parquet", tmp_path, ROWS), store, flatten=1, mask={"a__x": "null"}
    )
    report = run(path)
    assert report.status == "done", report.error
    with closing(sqlite3.connect(tmp_path / "t.db")) as there:
        rows = there.execute("SELECT id, a__x, a__Deep, l FROM t ORDER BY id").fetchall()
    assert [(n, x) for n, x, *_ in rows] == [(1, None), (2, None), (3, None)]
    assert json.loads(rows[0][2]) == {"y": [1]}
    assert [row[3] for row in rows] == ["[1]", None, "[]"]


@pytest.mark.parametrize("kind", ["parquet", "arrow", "jsonl"])
def test_objects_and_lists_are_text_where_that_is_said(kind, tmp_path, monkeypatch):
    monkeypatch.setenv("HYGGE_MASK_KEY", "a key for the tests of masks")
    as_text = [{"name": "a", "as": "b", "type": "text"}, {"name": "l", "type": "text"}]
    home = {**write(kind, tmp_path, ROWS), "columns": ["id", *as_text]}
    rows = moved(flows(tmp_path, home, flatten=1))
    assert [None if row["b"] is None else json.loads(row["b"]) for row in rows] == [
        {"x": 2**63 - 1, "Deep": {"y": [1]}}, None, {"x": None, "Deep": None},
    ]  # fmt: skip
    assert [row["l"] for row in rows] == ["[1]", None, "[]"]
    assert lake(tmp_path / "flows.yml").schema.field("b").type == pa.string()
    rows = moved(flows(tmp_path, home, mask={"b": "hash", "l": {"keep_last": 1}}))
    assert [row["l"] for row in rows] == ["**]", None, "*]"]
    assert len(rows[0]["b"]) == 64


def test_a_clash_of_names_is_an_error_before_rows_move(tmp_path):
    rows = ROWS.append_column("a__x", pa.array([1, 2, 3]))
    report = run(flows(tmp_path, write("parquet", tmp_path, rows), flatten=1))
    assert "two columns would be named 'a__x'" in report.error
    assert "`as` of `columns`" in report.hint
    for wrong in (0, "yes"):
        with pytest.raises(Exception, match="flatten"):
            run(flows(tmp_path, write("parquet", tmp_path, ROWS), flatten=wrong))


def test_no_rows_keep_the_columns(tmp_path):
    path = flows(tmp_path, write("parquet", tmp_path, ROWS.slice(0, 0)), flatten=1)
    assert moved(path) == []
    assert lake(path).column_names == ["id", "a__x", "a__Deep", "l"]
