"""A driver that dies while another thread encodes its rows, and a process that is forked later."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hygge import Flow, ParquetHome, ParquetStore

ROWS = 40_000
DRIVER = """
import os, signal, sys
from concurrent.futures import ThreadPoolExecutor
import pyarrow as pa
from hygge.formats import parquet
from tests.crash.test_background import flow

folder, dies_at = sys.argv[1], int(sys.argv[2])
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
flow(folder).run()
print(len(encoded))
"""


def flow(folder):
    home = ParquetHome(path=f"{folder}/in.parquet", options={"split_bytes": 1, "batch_size": 1000})
    store = ParquetStore(path=f"{folder}/out", options={"row_group_bytes": 20_000})
    return Flow(home, store, name="f", engine="inline", state=f"{folder}/state")


@pytest.fixture
def folder(tmp_path):
    table = pa.table({"id": range(ROWS), "text": [f"row {at}" for at in range(ROWS)]})
    pq.write_table(table, tmp_path / "in.parquet", row_group_size=ROWS // 4)
    return tmp_path


def moved(folder):
    return sorted(pq.read_table(folder / "out")["id"].to_pylist())


def test_no_row_is_lost_or_doubled_where_a_driver_dies_as_a_row_group_is_encoded(folder):
    command = [sys.executable, "-c", DRIVER, str(folder)]
    for dies_at in ("2", "7", "11"):  # each goes on from the splits that are sealed
        died = subprocess.run([*command, dies_at], capture_output=True)
        assert died.returncode == -signal.SIGKILL, died.stderr
        assert not list((folder / "out").glob("*.parquet"))
    done = subprocess.run([*command, "0"], capture_output=True, check=True)
    assert int(done.stdout) > 0, "nothing was encoded in another thread"
    assert moved(folder) == list(range(ROWS))


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
