"""A lake table (Delta, Iceberg, Hudi) is no folder of Parquet: its removed rows must not come."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hygge import CsvHome, JsonlHome, ParquetHome
from hygge.connectors.files.listing import find_files
from hygge.errors import HomeError

KINDS = {
    "a Delta table": ("_delta_log/00000000000000000000.json", ""),
    "an Iceberg table": ("metadata/00001-a1b2.metadata.json", "data/"),
    "a Hudi table": (".hoodie/hoodie.properties", ""),
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


def test_the_log_of_a_lake_table_and_folders_beside_it_are_read(tmp_path):
    make(tmp_path / "t", "a Delta table")
    pq.write_table(pa.table({"id": [1]}), tmp_path / "plain.parquet")
    with JsonlHome(path=tmp_path / "t/_delta_log/*.json").open() as plan:
        assert [column.name for column in plan.columns] == ["x"]
    assert len(find_files(str(tmp_path / "*.parquet"), (".parquet",))) == 1


def test_a_folder_named_metadata_alone_makes_no_iceberg_table(tmp_path):
    (tmp_path / "metadata").mkdir()
    (tmp_path / "metadata" / "about.json").write_text("{}")
    pq.write_table(pa.table({"id": [1]}), tmp_path / "a.parquet")
    assert len(find_files(str(tmp_path), (".parquet",))) == 1
