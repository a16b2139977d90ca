"""What Arrow casts to an error text, or takes for text although it is none, in each text format."""

from __future__ import annotations

import json
import sqlite3

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import feather

from hygge import ArrowHome, CsvStore, Flow, FlowFailed, JsonlStore, ParquetHome, SQLStore

DAY = 86_400_000_000
FAR = {
    "date": pa.array([2**31 - 1, None, -1, 3_650_000], pa.int32()).cast(pa.date32()),
    "moment": pa.array([1_200_110_860_800_000_000, 0, None, 1], pa.int64()).cast(
        pa.timestamp("us")
    ),
    "zoned": pa.array([1_200_110_860_800_000_000, 0, None, 1], pa.int64()).cast(
        pa.timestamp("us", "Europe/Berlin")
    ),
}
TEXTS = {
    "date": ["5881580-07-11", None, "1969-12-31", "11963-05-13"],
    "moment": ["40000-01-01 00:00:00.000000", "1970-01-01 00:00:00.000000", None,
               "1970-01-01 00:00:00.000001"],
    "zoned": ["40000-01-01 00:00:00.000000Z", "1970-01-01 00:00:00.000000Z", None,
              "1970-01-01 00:00:00.000001Z"],
}  # fmt: skip
RAW = pa.array([b"ok", b"R\xc9UNION"])
BAD = pa.Array.from_buffers(pa.string(), 2, RAW.buffers())


def store(kind, tmp_path):
    if kind == "sqlite":
        return SQLStore("t", connection=f"sqlite:///{tmp_path}/w.db", table="t")
    return (CsvStore if kind == "csv" else JsonlStore)(path=tmp_path / f"o.{kind}")


def move(columns, kind, tmp_path):
    table = pa.table(columns)
    pq.write_table(table, tmp_path / "in.parquet")
    Flow(ParquetHome(path=tmp_path / "in.parquet"), store(kind, tmp_path), name="f",
         engine="inline").run()  # fmt: skip


def written(kind, tmp_path) -> dict[str, list[str | None]]:
    if kind == "sqlite":
        with sqlite3.connect(tmp_path / "w.db") as connection:
            rows = connection.execute("SELECT * FROM t").fetchall()
    elif kind == "jsonl":
        lines = (tmp_path / "o.jsonl").read_text().splitlines()
        rows = [[v and v.replace("T", " ") for v in json.loads(line).values()] for line in lines]
    else:
        lines = (tmp_path / "o.csv").read_text().splitlines()[1:]
        rows = [[value.strip('"') or None for value in line.split(",")] for line in lines]
    return dict(zip(FAR, map(list, zip(*rows, strict=True)), strict=True))


@pytest.mark.parametrize("kind", ["csv", "jsonl", "sqlite"])
def test_a_far_date_or_moment_is_written_as_it_is(tmp_path, kind):
    move(FAR, kind, tmp_path)
    assert written(kind, tmp_path) == TEXTS


@pytest.mark.parametrize("kind", ["csv", "jsonl", "sqlite"])
def test_text_that_is_no_utf8_is_an_error_with_column_and_value(tmp_path, kind):
    with pytest.raises(FlowFailed, match=r"column 'town' holds 'R\\xc9UNION', which is no UTF-8"):
        move({"town": BAD}, kind, tmp_path)


def test_text_that_is_no_utf8_is_found_within_objects_and_lists(tmp_path):
    nested = pa.StructArray.from_arrays([pa.array([1, 2]), BAD], ["n", "town"])
    for column in (nested, pa.ListArray.from_arrays([0, 1, 2], BAD)):
        with pytest.raises(FlowFailed, match="column 'c' holds .*UNION"):
            move({"c": column}, "jsonl", tmp_path)


@pytest.mark.parametrize("kind", ["csv", "jsonl", "sqlite"])
def test_a_time_beyond_its_day_is_an_error_with_column_and_value(tmp_path, kind):
    times = pa.array([1, 2 * DAY], pa.int64()).view(pa.time64("us"))
    feather.write_feather(pa.table({"at": times}), str(tmp_path / "in.arrow"))
    with pytest.raises(FlowFailed, match="column 'at' holds 172,800.* s after midnight"):
        Flow(ArrowHome(path=tmp_path / "in.arrow"), store(kind, tmp_path), name="f",
             engine="inline").run()  # fmt: skip
