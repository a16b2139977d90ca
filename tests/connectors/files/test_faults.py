"""What the world does to a file store: full and read-only disks, folders that go, wrong clocks."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest

from hygge import ArrowStore, ParquetStore
from hygge.connectors.files import publish
from hygge.errors import Rejected, StoreError, Superseded
from hygge.model import Run
from hygge.store import new_run_id
from tests.connectors.files.test_defects import IDS, begin, run, visible
from tests.connectors.files.test_resume import next_driver, stage

ON_A_DISK_OF_ITS_OWN = """
import ctypes, os, sys
import pyarrow as pa
from hygge import {kind}
from hygge.errors import StoreError
from hygge.model import Run, Ticket
from hygge.store import new_run_id
libc = ctypes.CDLL(None, use_errno=True)
disk = sys.argv[1]
def mount(flags, options):
    return libc.mount(b"tmpfs", disk.encode(), b"tmpfs", flags, options)
if os.getuid() or libc.unshare(0x00020000) or libc.mount(None, b"/", None, 0x44000, None) \\
        or mount(0, b"size=1m"):
    sys.exit(77)
IDS = pa.schema([("id", pa.int64())])
store = {kind}(path=f"{{disk}}/o", options={{"compression": "none"}})
run = Run(new_run_id(), "A")
store.prepare(run, IDS)
def refused(work):
    try:
        work()
    except StoreError as error:
        print(error)
    else:
        sys.exit("it was not refused")
def stage(n):
    batches = (pa.table({{"id": range(at, at + 20_000)}}) for at in range(0, 400_000, 20_000))
    return store.stage(Ticket(run.id, 0, 0, n), IDS, batches)
refused(lambda: stage(0))
assert not os.path.exists(store.path) and store.head("A") is None
mount(0x20, b"size=64m")  # somebody makes room
receipt = stage(1)
for alive in store.target._alive.values():
    alive.close()  # open for writing, which keeps a disk from turning read-only
assert not mount(0x21, None)
refused(lambda: store.commit(run, None, [receipt], None))
assert not os.path.exists(store.path)
mount(0x20, None)
assert store.resume(run, [receipt]) == [receipt]
assert store.commit(run, None, [receipt], None).applied == 400_000
assert len(os.listdir(store.path)) == 2
"""


@pytest.mark.parametrize("kind", ["ParquetStore", "ArrowStore", "CsvStore", "JsonlStore"])
def test_a_full_or_read_only_disk_is_named_and_gone_on_with_when_it_is_mended(kind, tmp_path):
    code = ON_A_DISK_OF_ITS_OWN.format(kind=kind)
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False
    )
    if done.returncode == 77:
        pytest.skip("only root may mount a disk of its own")
    assert done.returncode == 0, done.stderr + done.stdout
    assert f"the disk is full while writing {tmp_path}" in done.stdout
    assert "Read-only file system" in done.stdout
    assert done.stdout.count("\n\nhint: ") == 2


def test_a_target_that_is_deleted_under_a_run_is_written_anew_or_superseded(tmp_path):
    store = ParquetStore(path=tmp_path / "o")
    run(store, [1])
    begun = begin(store, [2])
    shutil.rmtree(tmp_path / "o")
    with pytest.raises(Superseded, match="run it again"):
        store.commit(*begun, None)
    assert not (tmp_path / "o").exists()
    run(store, [2])
    assert visible(tmp_path / "o") == [2]


def test_staging_that_is_deleted_under_a_run_is_rejected_and_the_old_rows_stay(tmp_path):
    store = ParquetStore(path=tmp_path / "o")
    run(store, [1])
    begun = begin(store, [2])
    shutil.rmtree(publish.staging(store.path))
    with pytest.raises(Rejected, match="never sealed"):
        store.commit(*begun, None)
    assert store.resume(begun[0], begun[2]) == []
    assert visible(tmp_path / "o") == [1]
    again = stage(store, begun[0], 0, [2], n=1)
    store.commit(*begun[:2], [again], None)
    assert visible(tmp_path / "o") == [2]


def test_a_clock_that_jumps_changes_no_order(tmp_path):
    store = ParquetStore(path=tmp_path / "o")
    ids = ["20990101T000000-aaaaaaaa", "20200101T000000-bbbbbbbb", "20500101T000000-cccccccc"]
    for at, run_id in enumerate(ids):
        run(store, [at], "append" if at else "replace", run_id=run_id, watermark=at)
        head = store.head("A")
        assert (head.run, head.generation, head.watermark) == (run_id, at + 1, at)
    assert visible(tmp_path / "o") == [0, 1, 2]
    run(store, [3], run_id="20100101T000000-dddddddd")
    assert visible(tmp_path / "o") == [3]
    assert store.head("A").generation == 4


def test_what_was_staged_under_a_wrong_clock_is_swept_once_nobody_holds_it(tmp_path):
    store = ParquetStore(path=tmp_path / "o")
    held = Run("20980101T000000-aaaaaaaa", "A")
    store.prepare(held, IDS)
    dead = ParquetStore(path=tmp_path / "o")
    dead.prepare(Run("20990101T000000-bbbbbbbb", "B"), IDS)
    next_driver(dead)
    ParquetStore(path=tmp_path / "o").prepare(Run(new_run_id(), "C", "append"), IDS)
    left = os.listdir(publish.staging(store.path))
    assert held.id in left
    assert "20990101T000000-bbbbbbbb" not in left


@pytest.mark.parametrize("kind", [ParquetStore, ArrowStore])
@pytest.mark.parametrize("kept", [0, 8, 30])
def test_a_head_that_is_damaged_is_named_as_one(tmp_path, kind, kept):
    store = kind(path=tmp_path / "o")
    run(store, [1])
    (head,) = (tmp_path / "o").glob("_hygge.*")
    content = head.read_bytes()
    head.write_bytes(content[:kept] + b"\xff" * (len(content) - kept - 8) + content[-8:])
    with pytest.raises(StoreError, match=f"{head.name} is not a head that hygge wrote") as caught:
        store.head("A")
    assert "move the whole directory away" in caught.value.hint
