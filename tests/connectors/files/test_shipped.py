"""Files that were shipped with a Ray job: every node unpacks them, each with times of its own."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hygge import CsvHome, ParquetHome, SQLHome
from hygge.errors import SourceChanged


@pytest.fixture
def shipped(tmp_path: Path) -> Path:
    folder = tmp_path / "runtime_resources" / "working_dir_files" / "_ray_pkg_1"
    folder.mkdir(parents=True)
    pq.write_table(pa.table({"n": [1, 2]}), folder / "in.parquet")
    (folder / "in.csv").write_text("n\n1\n2\n")
    with sqlite3.connect(folder / "in.db") as db:
        db.executescript("CREATE TABLE t (n INTEGER); INSERT INTO t VALUES (1), (2)")
    db.close()
    return folder


def home_of(name: str, folder: Path):
    if name == "in.db":
        return SQLHome("t", connection=f"sqlite:///{folder / name}", table="t")
    kind = CsvHome if name == "in.csv" else ParquetHome
    return kind("t", path=folder / name)


def unpack_again(path: Path) -> None:
    """Give the file the time at which another node unpacked it."""
    os.utime(path, ns=(10**18, 10**18))


@pytest.mark.parametrize("name", ["in.csv", "in.parquet", "in.db"])
def test_a_node_that_unpacked_the_file_at_another_time_reads_the_plan_of_the_head(shipped, name):
    home = home_of(name, shipped)
    with home.open() as plan:
        unpack_again(shipped / name)
        rows = [n for split in plan.splits for table in home.read(split) for n in table["n"]]
    assert [int(n.as_py()) for n in rows] == [1, 2]


@pytest.mark.parametrize("name", ["in.csv", "in.parquet"])
def test_another_content_of_the_same_size_is_another_version(shipped, name):
    home = home_of(name, shipped)
    with home.open() as plan:
        path = shipped / name
        path.write_bytes(path.read_bytes().replace(b"1", b"7", 1))
        with pytest.raises(SourceChanged, match="was rewritten while the run was reading it"):
            for split in plan.splits:
                list(home.read(split))
