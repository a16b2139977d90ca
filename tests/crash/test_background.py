"""A driver that dies while another thread encodes its rows, and a process that is forked later."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hygge import Flow, IcebergStore, ParquetHome, ParquetStore, SQLHome, SQLStore
from hygge.connectors.duckdb import staging
from tests.chaos import only_in_chaos

ROWS = 40_000
DRIVER = """
import os, signal, sys
from concurrent.futures import ThreadPoolExecutor
import pyarrow as pa
from hygge.formats import parquet
from tests.crash.test_background import flow

folder, dies_at, kind = sys.argv[1], int(sys.argv[2]), sys.argv[3]
pa.set_cpu_count(2)
encoded = []

class Encoder(ThreadPoolExecutor):
    def submit(self, write):
        def dies():
            encoded.append(1)
            if len(encoded) == dies_at:
                os.kill(os.getpid(), signal.SIGKILL)
            write()
        return super().submit(dies)

parquet.ThreadPoolExecutor = Encoder
flow(folder, kind).run()
print(len(encoded))
"""


def flow(folder, kind="parquet"):
    home = ParquetHome(path=f"{folder}/in.parquet", options={"split_bytes": 1, "batch_size": 1000})
    return Flow(home, store(folder, kind), name="f", engine="inline", state=f"{folder}/state")


def store(folder, kind):
    if kind == "duckdb":
        staging._SETTINGS = replace(staging._SETTINGS, row_group_bytes=20_000)
        return SQLStore("rows", connection=f"duckdb:///{folder}/rows.duckdb")
    options = {"row_group_bytes": 20_000}
    if kind == "iceberg":
        catalog = {"uri": f"sqlite:///{folder}/lake.db", "warehouse": f"{folder}/lake"}
        return IcebergStore("a.rows", catalog=catalog, options=options)
    return ParquetStore(path=f"{folder}/out", options=options)


@pytest.fixture
def folder(tmp_path):
    table = pa.table({"id": range(ROWS), "text": [f"row {at}" for at in range(ROWS)]})
    pq.write_table(table, tmp_path / "in.parquet", row_group_size=ROWS // 4)
    return tmp_path


def moved(folder, kind="parquet"):
    if kind == "duckdb":
        home = SQLHome(table="rows", connection=f"duckdb:///{folder}/rows.duckdb")
    else:
        home = store(folder, kind).reader(pa.schema([]))
    with home.open() as plan:
        tables = [table for split in plan.splits for table in home.read(split)]
    return sorted(number for table in tables for number in table["id"].to_pylist())


@pytest.mark.parametrize(
    "kind", ["parquet", "duckdb", pytest.param("iceberg", marks=only_in_chaos)]
)
def test_no_row_is_lost_or_doubled_where_a_driver_dies_as_a_row_group_is_encoded(folder, kind):
    command = [sys.executable, "-c", DRIVER, str(folder)]
    died = subprocess.run([*command, "17", kind], capture_output=True)
    assert died.returncode == -signal.SIGKILL, died.stderr
    assert not list((folder / "out").glob("*.parquet"))
    assert not (folder / "rows.duckdb").exists()
    done = subprocess.run([*command, "0", kind], capture_output=True, check=True)
    assert 0 < int(done.stdout) < 40, "all in another thread, and what was sealed is not done again"
    assert moved(folder, kind) == list(range(ROWS))


def test_a_process_that_is_forked_after_a_run_writes_files_of_its_own(folder, monkeypatch):
    monkeypatch.setattr(pa, "cpu_count", lambda: 2)
    flow(folder).run()
    child = os.fork()
    if child == 0:
        try:
            flow(folder).run()
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert moved(folder) == list(range(ROWS))
