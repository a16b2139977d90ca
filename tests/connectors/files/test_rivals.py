"""Defects that a review proved where several runs, or their remains, meet at one target."""

from __future__ import annotations

import errno
import os
import pickle
import random
import subprocess
import sys
import threading
import time
import weakref

import pyarrow as pa
import pytest

from hygge import ArrowStore, ParquetStore
from hygge.connectors.files import publish
from hygge.errors import ConfigError, Rejected, StoreError
from hygge.model import Run, Ticket
from hygge.store import new_run_id
from tests.connectors.files.test_defects import IDS, begin, run, visible

LONG_AGO = "20251101T000000-aaaaaaaa"
DIES = """
import os, sys
from hygge import ParquetStore
from hygge.model import Run
store = ParquetStore(path=sys.argv[1])
store.prepare(Run("20251102T000000-dead0000", "A"), None)
os._exit(9)
"""


def test_staging_is_swept_when_its_run_is_dead_and_only_then(tmp_path):
    target = str(tmp_path / "o")
    alive, twin = ParquetStore(path=target), pickle.loads(pickle.dumps(ParquetStore(path=target)))
    begun = begin(alive, [1], run_id=LONG_AGO)
    alive.prepare(begun[0], IDS)
    subprocess.run([sys.executable, "-c", DIES, target], check=False)
    assert "20251102T000000-dead0000" in os.listdir(publish.staging(target))
    begin(twin, [2], "append", "B")
    assert "20251102T000000-dead0000" not in os.listdir(publish.staging(target))
    assert alive.commit(*begun, None).applied == 1
    alive.discard(begun[0])
    assert visible(tmp_path / "o") == [1]


def test_what_is_swept_is_renamed_away_before_it_is_deleted(tmp_path, monkeypatch):
    store = ParquetStore(path=tmp_path / "o")
    begun = begin(store, [1], run_id=LONG_AGO)
    forgotten = pickle.loads(pickle.dumps(store))
    store.target._alive.clear()
    deleted = []
    monkeypatch.setattr(publish, "remove", lambda path: deleted.append(os.path.basename(path)))
    ParquetStore(path=tmp_path / "o").prepare(Run(new_run_id(), "B", "append"), IDS)
    assert deleted == [f".gone-{LONG_AGO}"]
    with pytest.raises(Rejected, match="never sealed"):
        forgotten.commit(*begun, None)
    assert not (tmp_path / "o").exists()


def test_a_lock_never_travels_and_ends_with_the_discard(tmp_path):
    store = ParquetStore(path=tmp_path / "o")
    begun = begin(store, [1])
    assert pickle.loads(pickle.dumps(store)).target._alive == {}
    held = store.target._alive[begun[0].id].handle
    store.discard(begun[0])
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(held)


@pytest.mark.parametrize("then", ["head", "prepare", "commit", "discard"])
def test_a_death_between_the_two_renames_loses_nothing(then, tmp_path, monkeypatch):
    target = tmp_path / "o"
    store = ParquetStore(path=target)
    run(store, [1])
    waiting = begin(store, [5], "append")
    begun = begin(store, [2, 3])
    monkeypatch.setattr(publish.ctypes, "CDLL", lambda *_, **__: object())
    rename, aside = os.rename, []

    def dies(source, to):
        if aside:
            raise OSError(errno.EIO, "the machine is off")
        rename(source, to)
        aside.extend([to] if to.endswith(".old") else [])

    monkeypatch.setattr(os, "rename", dies)
    with pytest.raises(StoreError):
        store.commit(*begun, None)
    monkeypatch.setattr(os, "rename", rename)
    assert not target.exists()
    store = pickle.loads(pickle.dumps(store))
    if then == "head":
        assert store.head("A").run == waiting[1].run
    elif then == "prepare":
        store.prepare(Run(new_run_id(), "A", "append"), IDS)
    elif then == "commit":
        store.commit(*waiting, None)
    else:
        store.discard(begun[0])
    assert visible(target) == ([1, 5] if then == "commit" else [1])
    if then == "prepare":
        store.commit(*begun, None)
        assert visible(target) == [2, 3], (
            "and the run may still be committed, here without exchange"
        )


def test_a_second_rename_that_fails_shows_the_old_content_at_once(tmp_path, monkeypatch):
    store = ParquetStore(path=tmp_path / "o")
    run(store, [1])
    begun = begin(store, [2, 3])
    monkeypatch.setattr(publish.ctypes, "CDLL", lambda *_, **__: object())
    rename, failed = os.rename, []

    def fails_once(source, to):
        if to == str(tmp_path / "o") and os.path.exists(f"{source}.old") and not failed:
            failed.append(source)
            raise OSError(errno.EIO, "once")
        rename(source, to)

    monkeypatch.setattr(os, "rename", fails_once)
    with pytest.raises(StoreError):
        store.commit(*begun, None)
    assert failed
    assert visible(tmp_path / "o") == [1]


def test_long_work_is_done_outside_the_lock_of_the_target(tmp_path, monkeypatch):
    target = str(tmp_path / "o.parquet")
    store, other = ParquetStore(path=target), ParquetStore(path=target)
    begun = begin(store, [1])
    begun[2].append(store.stage(Ticket(begun[0].id, 1), IDS, iter([pa.table({"id": [2]})])))
    join = ParquetStore.join

    def joins(*args):
        with publish.one_at_a_time(publish.staging(target), wait_s=0):
            join(*args)

    monkeypatch.setattr(ParquetStore, "join", joins)
    assert store.commit(*begun, None).applied == 2
    assert other.head("A").rows == 2


def test_an_arrow_part_is_counted_without_its_values(tmp_path):
    schema = pa.schema([("id", pa.int64())])
    store = ArrowStore(path=tmp_path / "o", options={"compression": "zstd"})
    path = tmp_path / "x.arrow"
    writer, dice = store.open_writer(str(path), schema), random.Random(1)
    for _ in range(10):
        ids = [dice.randrange(1000) for _ in range(10_000)]
        writer.write(pa.table({"id": ids}, schema=schema))
    writer.close()
    with open(path, "r+b") as file:
        file.seek(path.stat().st_size * 11 // 20)  # amid the values of the sixth of ten batches
        file.write(b"?" * 500)
    with pytest.raises(OSError, match="decompress|ZSTD"), pa.ipc.open_file(path) as file:
        file.read_all()
    assert store.count(str(path)) == 100_000


class Memory(bytearray):
    """Shared memory, as far as Arrow can tell; says when it is let go."""


def test_no_batch_is_held_after_the_next_is_asked_for(tmp_path):
    options = {"row_group_bytes": 256 << 20}
    store = ParquetStore(path=tmp_path / "o", options=options)
    begun = begin(store, [])
    most = 0

    def batches():
        nonlocal most
        alive = []
        for _ in range(20):
            memory = Memory(8_000)
            alive.append(weakref.ref(memory))
            array = pa.Array.from_buffers(pa.int64(), 1_000, [None, pa.py_buffer(memory)])
            table = pa.table({"id": array}, schema=IDS)
            del memory, array
            yield table
            del table
            most = max(most, sum(each() is not None for each in alive))

    receipt = store.stage(Ticket(begun[0].id, 1), IDS, batches())
    assert (receipt.rows, most) == (20_000, 0)
    with pytest.raises(ConfigError, match="256 MiB"):
        ParquetStore(path=tmp_path / "p", options={"row_group_bytes": (256 << 20) + 1})


def test_a_discard_waits_for_the_commit_that_is_at_work_in_what_it_removes(tmp_path, monkeypatch):
    store, other = ParquetStore(path=tmp_path / "o"), ParquetStore(path=tmp_path / "o")
    begun = begin(store, [1, 2])
    show, threads = publish.show_directory, []

    def shows_late(staged, target):
        threads.append(threading.Thread(target=other.discard, args=(begun[0],)))
        threads[0].start()
        time.sleep(0.2)
        show(staged, target)

    monkeypatch.setattr(publish, "show_directory", shows_late)
    store.commit(*begun, None)
    threads[0].join()
    assert visible(tmp_path / "o") == [1, 2]
    assert os.listdir(tmp_path) == ["o"]
