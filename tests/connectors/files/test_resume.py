"""What a dead run staged: what still holds, what is cleaned, what is durable, what is counted."""

from __future__ import annotations

import ctypes
import os
import pickle
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest

from hygge import CsvStore, ParquetStore
from hygge.connectors.files import publish
from hygge.connectors.files.parts import ticket_name
from hygge.errors import Rejected, StoreError
from hygge.model import Run, Ticket
from hygge.store import new_run_id
from tests.connectors.files.test_defects import IDS, visible


def staged(store, *splits, mode="replace", epoch=0):
    """A run by hand up to its commit: run, base, receipts."""
    run = Run(new_run_id(), "A", mode)
    base = store.head("A")
    store.prepare(run, IDS)
    return run, base, [stage(store, run, at, ids, epoch) for at, ids in enumerate(splits)]


def stage(store, run, split, ids, epoch=0, n=0):
    return store.stage(Ticket(run.id, split, epoch, n), IDS, iter([pa.table({"id": ids})]))


def folder(store, receipt) -> str:
    run = os.path.join(publish.staging(store.path), receipt.ticket.run)
    return os.path.join(run, ticket_name(receipt.ticket))


def next_driver(store):
    """The store as another process has it, after the first one died."""
    for alive in store.target._alive.values():
        alive.close()
    return pickle.loads(pickle.dumps(store))


def shorten(path: str) -> None:
    os.truncate(path, os.path.getsize(path) - 1)


def part_of(place: str) -> str:
    return os.path.join(place, "00000.parquet")


HARM = {
    "no receipt": lambda place: os.unlink(os.path.join(place, "receipt.json")),
    "half a receipt": lambda place: shorten(os.path.join(place, "receipt.json")),
    "a foreign receipt": lambda place: Path(place, "receipt.json").write_text("{}"),
    "no part": lambda place: os.unlink(part_of(place)),
    "half a part": lambda place: shorten(part_of(place)),
    "nothing": publish.remove,
}


@pytest.mark.parametrize("harm", HARM)
@pytest.mark.parametrize("target", ["o", "o.parquet"])
def test_what_is_whole_is_kept_and_the_rest_is_staged_again(harm, target, tmp_path):
    store = ParquetStore(path=tmp_path / target)
    run, base, receipts = staged(store, [1], [2, 3], [4])
    lost = stage(store, run, 5, [99])  # sealed, and its receipt never reached the journal
    HARM[harm](folder(store, receipts[1]))
    store = next_driver(store)
    store.prepare(run, IDS)
    for _ in range(2):
        assert store.resume(run, receipts) == [receipts[0], receipts[2]]
    assert not os.path.exists(folder(store, receipts[1]))
    assert not os.path.exists(folder(store, lost))
    again = stage(store, run, 1, [2, 3], epoch=1)
    store.commit(run, base, [receipts[0], again, receipts[2]], None)
    assert visible(tmp_path / target) == [1, 2, 3, 4]


def test_a_receipt_that_says_more_than_was_sealed_does_not_hold(tmp_path):
    store = ParquetStore(path=tmp_path / "o")
    run, _, receipts = staged(store, [1], [2])
    assert store.resume(run, [replace(receipts[0], rows=2), receipts[1]]) == [receipts[1]]


def test_of_a_run_that_staged_nothing_nothing_holds_and_nothing_visible_is_touched(tmp_path):
    store = ParquetStore(path=tmp_path / "o")
    run, base, receipts = staged(store, [1])
    store.commit(run, base, receipts, None)
    assert store.resume(run, receipts) == []  # it is visible, and staged no more
    never = replace(receipts[0], ticket=Ticket("20260101T000000-aaaaaaaa", 0))
    assert store.resume(Run(never.ticket.run, "A"), [never]) == []
    assert visible(tmp_path / "o") == [1]
    assert store.head("A").run == run.id


@pytest.mark.parametrize(
    ("target", "mode", "dies_in"),
    [
        ("o", "replace", "publish.show_directory"),
        ("o", "append", "publish.show_inside"),
        ("o", "replace", "durable.sync_tree"),
        ("o.parquet", "replace", "publish.show_file"),
    ],
)
def test_a_commit_that_died_half_way_is_gone_on_with(target, mode, dies_in, tmp_path, monkeypatch):
    store = ParquetStore(path=tmp_path / target)
    before, base, receipts = staged(store, [7])
    store.commit(before, base, receipts, None)
    store.discard(before)
    run, base, receipts = staged(store, [1], [2], mode=mode)

    def dies(*_):
        raise OSError(5, "the machine is off")

    with monkeypatch.context() as dead:
        dead.setattr(f"hygge.connectors.files.directory.{dies_in}", dies)
        with pytest.raises(StoreError):
            store.commit(run, base, receipts, None)
    assert visible(tmp_path / target) == [7]
    store = next_driver(store)
    store.prepare(run, IDS)
    assert store.resume(run, receipts) == receipts
    assert store.commit(run, base, receipts, None).applied == 2
    assert visible(tmp_path / target) == ([1, 2, 7] if mode == "append" else [1, 2])


def test_what_an_earlier_try_moved_is_never_shown_with_the_parts_of_a_later_one(
    tmp_path, monkeypatch
):
    store = ParquetStore(path=tmp_path / "o", options={"file_bytes": 1, "row_group_bytes": 1})
    run, base, _ = staged(store)
    tables = [pa.table({"id": range(at, at + 10_000)}) for at in (0, 10_000)]
    old = store.stage(Ticket(run.id, 0), IDS, iter(tables))
    assert old.parts == 2
    with monkeypatch.context() as dead:
        dead.setattr(publish, "show_directory", lambda *_: os.stat("/nothing/here"))
        with pytest.raises(StoreError):
            store.commit(run, base, [old], None)
    new = stage(store, run, 0, [1], epoch=1)
    store.commit(run, base, [new], None)
    assert visible(tmp_path / "o") == [1]


def test_two_receipts_of_one_split_are_rejected(tmp_path):
    store = ParquetStore(path=tmp_path / "o")
    run, base, receipts = staged(store, [1])
    with pytest.raises(Rejected, match="two receipts"):
        store.commit(run, base, [*receipts, stage(store, run, 0, [1], n=1)], None)
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize(("hours", "swept"), [(24, False), (26, True)])
def test_staging_is_kept_for_as_long_as_a_run_may_be_resumed(hours, swept, tmp_path):
    began = datetime.now(UTC) - timedelta(hours=hours)
    run = Run(f"{began:%Y%m%dT%H%M%S}-aaaaaaaa", "A")
    store = ParquetStore(path=tmp_path / "o")
    store.prepare(run, IDS)
    receipt = stage(store, run, 0, [1])
    next_driver(store)
    other = ParquetStore(path=tmp_path / "o")
    other.prepare(Run(new_run_id(), "B", "append"), IDS)
    assert os.path.isdir(folder(store, receipt)) != swept
    assert other.resume(run, [receipt]) == ([] if swept else [receipt])


# Durable


class Calls:
    """fsyncs (by path) and renames (by target), in their order."""

    def __init__(self, monkeypatch) -> None:
        self.seen: list[tuple[str, str]] = []
        rename, swap = os.rename, os.replace
        fsync, exchanged = os.fsync, publish._exchanged

        def syncs(handle):
            fsync(handle)
            self.seen.append(("sync", os.readlink(f"/proc/self/fd/{handle}")))

        def renames(source, to):
            rename(source, to)
            self.seen.append(("rename", str(to)))

        def replaces(source, to):
            swap(source, to)
            self.seen.append(("rename", str(to)))

        def exchanges(left, right):
            done = exchanged(left, right)
            self.seen.append(("rename", right))
            return done

        monkeypatch.setattr(os, "fsync", syncs)
        monkeypatch.setattr(os, "rename", renames)
        monkeypatch.setattr(os, "replace", replaces)
        monkeypatch.setattr(publish, "_exchanged", exchanges)

    def first(self, kind: str, path: object) -> int:
        return self.seen.index((kind, str(path)))

    def last(self, kind: str, path: object) -> int:
        return len(self.seen) - 1 - self.seen[::-1].index((kind, str(path)))


def test_a_sealed_ticket_is_durable_with_every_folder_above_it(tmp_path, monkeypatch):
    store = ParquetStore(path=tmp_path / "deep/down/o")
    run = Run(new_run_id(), "A")
    store.prepare(run, IDS)
    calls = Calls(monkeypatch)
    receipt = stage(store, run, 0, [1])
    place = folder(store, receipt)
    above = [os.path.dirname(place), publish.staging(store.path), tmp_path / "deep/down"]
    order = [
        calls.first("sync", part_of(place)),
        calls.first("sync", f"{place}/receipt.json.tmp"),
        calls.first("rename", f"{place}/receipt.json"),
        calls.last("sync", place),
        *(calls.last("sync", each) for each in above),
    ]
    assert order == sorted(order)


def test_a_run_that_was_prepared_on_another_disk_is_not_staged_on_this_one(tmp_path):
    store = ParquetStore(path=tmp_path / "deep/down/o")
    with pytest.raises(StoreError, match="is not prepared on the disk of") as refused:
        stage(store, Run(new_run_id(), "A"), 0, [1])
    assert "folder that every node mounts" in refused.value.hint
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("target", "mode", "shown", "in_folder"),
    [
        ("o", "replace", "o", ""),
        ("o", "append", "o/run-A-000002", "o"),
        ("o.parquet", "replace", "o.parquet", ""),
        ("new/o", "replace", "new/o", "new"),
        ("new/o", "append", "new/o/run-A-000001", "new/o"),
    ],
)
def test_a_commit_is_durable_before_and_after_its_rename(
    target, mode, shown, in_folder, tmp_path, monkeypatch
):
    store = ParquetStore(path=tmp_path / target)
    if not target.startswith("new"):
        run, base, receipts = staged(store, [0])
        store.commit(run, base, receipts, None)
        store.discard(run)
    run, base, receipts = staged(store, [1], mode=mode)
    calls = Calls(monkeypatch)
    store.commit(run, base, receipts, None)
    at = calls.last("rename", tmp_path / shown)
    assert calls.last("sync", tmp_path / in_folder) > at
    if not store.single:
        new = os.path.join(publish.staging(store.path), run.id, "new")
        assert calls.first("sync", f"{new}/_hygge.parquet.tmp") < calls.last("sync", new) < at
        if not base and mode == "append":
            assert ("sync", str(tmp_path / "new")) in calls.seen, "the target itself is new"


# Counted


class LosesARow:
    """A writer that says it wrote what it did not."""

    def __init__(self, writer) -> None:
        self.writer, self.size, self.close = writer, writer.size, writer.close

    def write(self, table) -> None:
        self.writer.write(table.slice(1))


class Loses(ParquetStore):
    def open_writer(self, path, schema):
        return LosesARow(super().open_writer(path, schema))


class JoinsBadly(ParquetStore):
    def join(self, parts, target, schema):
        super().join(parts[1:], target, schema)


def test_rows_that_a_writer_loses_are_found_when_its_file_is_closed(tmp_path):
    store = Loses(path=tmp_path / "o")
    with pytest.raises(Rejected, match=r"holds 1 rows, 2 were written"):
        staged(store, [1, 2], [3, 4])
    assert not (tmp_path / "o").exists()


def test_rows_that_are_lost_by_a_join_are_found_before_anything_is_visible(tmp_path):
    store = JoinsBadly(path=tmp_path / "o.parquet")
    run, base, receipts = staged(store, [1, 2], [3, 4])
    with pytest.raises(Rejected, match=r"holds \d rows, \d were written"):
        store.commit(run, base, receipts, None)
    assert not (tmp_path / "o.parquet").exists()
    assert store.head("A") is None


def test_a_text_part_that_lost_its_end_is_rejected(tmp_path):
    store = CsvStore(path=tmp_path / "o")
    run, base, receipts = staged(store, [1, 2])
    shorten(os.path.join(folder(store, receipts[0]), "00000.csv"))
    with pytest.raises(Rejected, match="not as it was sealed"):
        store.commit(run, base, receipts, None)
    assert not (tmp_path / "o").exists()


# What is declared


def test_a_disk_that_cannot_exchange_directories_is_declared(tmp_path, monkeypatch):
    store, file = ParquetStore(path=tmp_path / "new/o"), CsvStore(path=tmp_path / "o.csv")
    assert store.sees() == store.traits.sees
    assert list(tmp_path.iterdir()) == [], "the look leaves nothing"
    monkeypatch.setattr(ctypes, "CDLL", lambda *_, **__: object())
    assert store.sees().endswith("this disk cannot exchange two directories, so there is none then")
    assert file.sees().startswith("the old file or the new one: one rename shows a run")
    assert list(tmp_path.iterdir()) == []
