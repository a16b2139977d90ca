"""Other tools read a directory as it is: what they find there are the rows, and no other file."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from hygge import ArrowStore, CsvStore, Flow, JsonlStore, ParquetHome, ParquetStore
from hygge.connectors.files import heads
from tests.connectors.files.old_heads import make_old

ROWS = pa.table({"id": [1, 2], "name": ["Ada", None], "day": pa.array([1, 2], pa.date32())})


def moved(tmp_path: Path, store, mode: str, times: int = 1) -> None:
    pq.write_table(ROWS, tmp_path / "in.parquet")
    for _ in range(times):
        home = ParquetHome(path=tmp_path / "in.parquet")
        Flow(home, store, name="f", mode=mode, engine="inline", state=tmp_path / ".state").run()


@pytest.mark.parametrize(("mode", "times"), [("replace", 1), ("replace", 2), ("append", 2)])
def test_a_directory_of_parquet_files_is_read_by_all(mode, times, tmp_path):
    lake, count = tmp_path / "lake", 2 * (times if mode == "append" else 1)
    moved(tmp_path, ParquetStore(path=lake), mode, times)
    names = ROWS.column_names
    frame = pl.scan_parquet(lake).collect()
    assert (frame.columns, frame.height) == (names, count)
    assert frame.rows()[:2] == [tuple(row.values()) for row in ROWS.to_pylist()]
    asked = duckdb.sql(f"SELECT * FROM '{lake}/**/*.parquet'")
    assert (asked.columns, len(asked.fetchall())) == (names, count)
    assert list(pd.read_parquet(lake).columns) == names
    assert (len(pd.read_parquet(lake)), ds.dataset(lake).count_rows()) == (count, count)


def test_a_directory_of_arrow_files_is_read_by_all(tmp_path):
    moved(tmp_path, ArrowStore(path=tmp_path / "lake"), "replace")
    assert pl.scan_ipc(tmp_path / "lake").collect().rows() == [
        tuple(row.values()) for row in ROWS.to_pylist()
    ]
    assert ds.dataset(tmp_path / "lake", format="ipc").count_rows() == 2


@pytest.mark.parametrize(
    ("store", "scan", "ending"),
    [(CsvStore, pl.scan_csv, "csv"), (JsonlStore, pl.scan_ndjson, "jsonl")],
)
def test_a_directory_of_text_is_read_by_a_pattern(store, scan, ending, tmp_path):
    lake = tmp_path / "lake"
    moved(tmp_path, store(path=lake), "append", 2)
    assert scan(lake / f"**/*.{ending}").collect().height == 4
    assert len(duckdb.sql(f"SELECT * FROM '{lake}/**/*.{ending}'").fetchall()) == 4
    if ending == "csv":
        assert ds.dataset(lake, format="csv").count_rows() == 4


def test_hidden_names_are_those_that_spark_and_hive_skip(tmp_path):
    moved(tmp_path, ParquetStore(path=tmp_path / "lake"), "append", 2)
    files = [path for path in (tmp_path / "lake").rglob("*") if path.is_file()]
    shown = [path for path in files if not path.name.startswith(("_", "."))]
    assert sum(pq.read_metadata(path).num_rows for path in shown) == 4
    assert all(pq.read_metadata(path).num_rows == 0 for path in files if path not in shown)


def test_the_head_of_an_older_version_is_known_and_goes_on(tmp_path):
    lake = tmp_path / "lake"
    moved(tmp_path, ParquetStore(path=lake), "replace")
    make_old(lake)
    assert heads.first_foreign(str(lake), single=False) is None
    moved(tmp_path, ParquetStore(path=lake), "append")
    assert ds.dataset(lake).count_rows() == 4
    moved(tmp_path, ParquetStore(path=lake), "replace")
    assert sorted(path.name.split("-")[0] for path in lake.iterdir()) == ["_hygge.parquet", "part"]
