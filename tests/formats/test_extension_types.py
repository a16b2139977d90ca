"""uuid and JSON, which Parquet and Arrow mark, become text where a format has neither."""

from __future__ import annotations

import csv
import json
import sqlite3
import uuid

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hygge import CsvStore, Flow, FlowFailed, JsonlStore, ParquetHome, ParquetStore, SQLStore

ID = uuid.UUID("a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11")
TABLE = pa.table({
    "u": pa.ExtensionArray.from_storage(pa.uuid(), pa.array([ID.bytes, None], pa.binary(16))),
    "j": pa.ExtensionArray.from_storage(pa.json_(), pa.array(['{"a": "x\\"y"}', None])),
})  # fmt: skip
ROWS = [(str(ID), '{"a": "x\\"y"}'), (None, None)]


def move(table, store, tmp_path):
    pq.write_table(table, tmp_path / "in.parquet")
    home = ParquetHome(path=tmp_path / "in.parquet")
    return Flow(home, store, name="f", engine="inline").run()


def test_uuid_and_json_become_text_in_csv(tmp_path):
    move(TABLE, CsvStore(path=tmp_path / "o.csv"), tmp_path)
    with open(tmp_path / "o.csv", newline="") as file:
        rows = [tuple(value or None for value in row) for row in csv.reader(file)]
    assert rows == [("u", "j"), *ROWS]


def test_uuid_and_json_become_text_in_jsonl_at_every_depth(tmp_path):
    nested = TABLE.append_column("l", pa.ListArray.from_arrays([0, 2, 2], TABLE["u"].chunk(0)))
    move(nested, JsonlStore(path=tmp_path / "o.jsonl"), tmp_path)
    rows = [json.loads(line) for line in (tmp_path / "o.jsonl").read_text().splitlines()]
    assert [(row["u"], row["j"]) for row in rows] == ROWS
    assert [row["l"] for row in rows] == [[str(ID), None], []]


@pytest.mark.parametrize("mode", ["replace", "append"])
def test_uuid_and_json_become_text_in_sqlite(tmp_path, mode):
    store = SQLStore("t", connection=f"sqlite:///{tmp_path}/w.db", table="t")
    pq.write_table(TABLE, tmp_path / "in.parquet")
    for _ in range(2):
        home = ParquetHome(path=tmp_path / "in.parquet")
        Flow(home, store, name="f", engine="inline", mode=mode).run()
    with sqlite3.connect(tmp_path / "w.db") as connection:
        rows = connection.execute("SELECT u, j FROM t").fetchall()
    assert rows == ROWS * (2 if mode == "append" else 1)


def test_uuid_and_json_stay_what_they_are_in_parquet(tmp_path):
    move(TABLE, ParquetStore(path=tmp_path / "o.parquet"), tmp_path)
    assert pq.read_table(tmp_path / "o.parquet").equals(TABLE)


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_another_extension_type_is_refused_by_name(tmp_path, kind):
    store = {"csv": CsvStore, "jsonl": JsonlStore}[kind](path=tmp_path / f"o.{kind}")
    flags = pa.ExtensionArray.from_storage(pa.bool8(), pa.array([1, 0], pa.int8()))
    with pytest.raises(FlowFailed, match="column 'b' is arrow.bool8"):
        move(pa.table({"b": flags}), store, tmp_path)
