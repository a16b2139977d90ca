"""A lake table is no folder of Parquet: its removed rows must not come."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hygge import CsvHome, JsonlHome, ParquetHome, ParquetStore
from hygge.connectors.files.listing import find_files
from hygge.errors import HomeError, StoreError
from hygge.model import Run

KINDS = {
    "a Delta table": ("_delta_log/00000000000000000000.json", ""),
    "an Iceberg table": ("metadata/00001-a1b2.metadata.json", "data/"),
    "a Hudi table": (".hoodie/hoodie.properties", ""),
    "a Paimon table": ("snapshot/snapshot-1", "bucket-0/"),
    "a folder that a stream of Spark writes": ("_spark_metadata/0", ""),
    "a Lance dataset": ("_versions/18446744073709551614.manifest", "data/"),
    "a transactional table of Hive": ("base_0000002/_orc_acid_version", "delta_0000001_0000001/"),
}


def make(top: Path, kind: str) -> Path:
    """Write a lake table, and return the folder of its data files."""
    log, inside = KINDS[kind]
    data = top / inside / "dt=1"
    for folder in (data, (top / log).parent):
        folder.mkdir(parents=True)
    (top / log).write_text(json.dumps({"x": 1}))
    pq.write_table(pa.table({"id": [1, 2]}), data / "a.parquet")
    return data


@pytest.mark.parametrize("kind", KINDS)
def test_a_lake_table_is_refused_by_its_name_wherever_a_path_enters_it(tmp_path, kind):
    data = make(tmp_path / "lake" / "t", kind)
    (tmp_path / "link").symlink_to(data)
    paths = (tmp_path / "lake", tmp_path / "lake" / "t", data, data / "a.parquet",
             tmp_path / "lake/**/*.parquet", data / "*.parquet", tmp_path / "link")  # fmt: skip
    for path in paths:
        with pytest.raises(HomeError, match=f"t is {kind}"), ParquetHome(path=path).open():
            pass
    with pytest.raises(HomeError, match=f"t is {kind}"), CsvHome(path=tmp_path / "lake/t").open():
        pass
    for path in (tmp_path / "lake/t", data, tmp_path / "lake/t/one.parquet", tmp_path / "link"):
        store = ParquetStore(path=path)
        for ask in (store.check_here, lambda mode, store=store: store.prepare(Run("r", "f"), None)):
            with pytest.raises(StoreError, match=f"t is {kind}: its readers would not see"):
                ask("append")


def test_the_log_of_a_lake_table_and_folders_beside_it_are_read(tmp_path):
    make(tmp_path / "t", "a Delta table")
    pq.write_table(pa.table({"id": [1]}), tmp_path / "plain.parquet")
    with JsonlHome(path=tmp_path / "t/_delta_log/*.json").open() as plan:
        assert [column.name for column in plan.columns] == ["x"]
    assert len(find_files(str(tmp_path / "*.parquet"), (".parquet",))) == 1


def test_a_file_of_ducklake_is_refused_by_its_name(tmp_path):
    name = "ducklake-01997f2c-5e0a-7c4b-8a51-0242ac120002.parquet"
    pq.write_table(pa.table({"id": [1]}), tmp_path / name)
    for path in (tmp_path, tmp_path / name, tmp_path / "*.parquet"):
        with pytest.raises(HomeError, match="of a DuckLake table"), ParquetHome(path=path).open():
            pass


def test_a_folder_named_as_that_of_a_log_alone_makes_no_lake_table(tmp_path):
    for folder in ("metadata", "snapshot"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "about.json").write_text("{}")
    ParquetStore(path=tmp_path / "out").check_here("replace")
    pq.write_table(pa.table({"id": [1]}), tmp_path / "a.parquet")
    assert len(find_files(str(tmp_path), (".parquet",))) == 1
