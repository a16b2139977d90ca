"""Entries of the journal that are not as hygge wrote them, and disks that do not take any."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from hygge import FlowFailed
from hygge.errors import HyggeError, JournalError
from hygge.journal import FlowJournal
from hygge.journal.entries import decode, encode
from hygge.model import Receipt, Run, Ticket
from hygge.places.folder import Folder
from tests.run.test_recovery import ALL, Source, prepared


@pytest.fixture
def source(tmp_path):
    return Source(tmp_path)


def cut(text: str) -> str:
    return text[: len(text) // 2]


def other_number(text: str) -> str:
    changed = text.replace('"rows": 10', '"rows": 11').replace('"epoch": 1,', '"epoch": 7,')
    assert changed != text
    return changed


DAMAGES = {
    "cut off": (cut, "is no entry that hygge wrote"),
    "empty": (lambda text: "", "is empty"),
    "foreign": (lambda text: '{"name": "left-pad"}', "is no entry that hygge wrote"),
    "a list": (lambda text: "[1, 2]", "is no entry that hygge wrote"),
    "tampered": (other_number, "was changed after hygge wrote it"),
    "newer": (
        lambda text: text.replace('"hygge": 1', '"hygge": 2'),
        "was written by a newer hygge",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("entry", ["plan", "decision", "receipt"])
def test_a_damaged_entry_is_named_and_nothing_is_lost_or_doubled(source, entry, damage):
    if entry == "decision":
        store = prepared(source)
    else:
        source.fail()
        store = None
    name = {"receipt": "000001-1-0.json"}.get(entry, f"{entry}.json")
    (path,) = source.entries(name)
    change, words = DAMAGES[damage]
    path.write_text(change(path.read_text()))
    with pytest.raises(FlowFailed, match=words) as caught:
        source.flow(store=store).run()
    assert str(path) in caught.value.report.error
    assert source.rows() == []
    if damage == "newer":
        assert "upgrade" in caught.value.hint
        return
    assert "--fresh" in caught.value.hint
    source.flow(store=store, fresh=True).run()
    assert source.rows() == ALL
    source.flow(store=store).run()
    assert source.rows() == ALL


@pytest.mark.parametrize("damage", ["cut off", "empty", "foreign", "tampered"])
def test_a_damaged_lease_is_named(source, damage):
    source.flow().run()
    (path,) = Path(source.state).rglob("lease/*.json")
    change, words = DAMAGES[damage]
    text = path.read_text()
    path.write_text(change(text) if damage != "tampered" else text.replace("true", "false"))
    with pytest.raises(FlowFailed, match=words) as caught:
        source.flow().run()
    assert "remove that file" in caught.value.hint
    path.unlink()
    source.flow().run()
    assert source.rows() == ALL


def test_the_state_of_another_flow_is_refused(source):
    source.fail()
    flows = Path(source.state, "flows")
    (flows / "f").rename(flows / "g")
    flow = source.flow()
    flow.name = flow.identity = "g"
    with pytest.raises(FlowFailed, match="belongs to flow 'f', not to 'g'"):
        flow.run()
    assert source.rows() == []


def test_an_entry_with_a_right_sum_and_wrong_facts_is_refused(source):
    source.fail()
    (path,) = source.entries("plan.json")
    path.write_bytes(encode("plan", "f", {"run": path.parent.name, "mode": "replace"}))
    with pytest.raises(FlowFailed, match="lacks what such an entry tells"):
        source.flow().run()


def test_entries_are_for_people_and_hold_no_secret():
    content = encode("plan", "f", {"run": "r", "splits": [{"a": 1}, {"a": 2}]})
    assert json.loads(content)["splits"] == [{"a": 1}, {"a": 2}]
    assert content.count(b"\n") == 11, content.decode()
    assert decode(content, "plan", "f", "here") == {"run": "r", "splits": [{"a": 1}, {"a": 2}]}


def test_a_receipt_is_small_or_refused(tmp_path):
    journal, run = FlowJournal(Folder(str(tmp_path)), "f" * 100), Run("20261124T000000-abc", "f")
    receipt = Receipt(Ticket(run.id, 99_999, 9, 9), "v" * 64, 2**62, 2**62, 9999, "x" * 100, 2**62)
    journal.seal(run, receipt, "0" * 16)
    assert [each for _, each in journal.receipts(run)] == [receipt]
    with pytest.raises(JournalError, match="more than 1,024"):
        journal.seal(run, Receipt(Ticket(run.id, 1), "v", 1, 1, max_cursor="x" * 2000), "0" * 16)


def test_of_two_decisions_the_first_holds(tmp_path):
    from hygge.journal import Decision

    journal, run = FlowJournal(Folder(str(tmp_path)), "f"), Run("20261124T000000-abc", "f")
    receipt = Receipt(Ticket(run.id, 0), "v", 1, 8)
    first = Decision((receipt,), "2026-01-01", ("d",))
    assert journal.decide(run, first) == first
    assert journal.decide(run, Decision(abandoned="no")) == first
    assert journal.decision(run) == first


# Disks


@pytest.fixture
def disk(tmp_path):
    """A disk of 1 MiB, and how to change its size."""
    place = tmp_path / "disk"
    place.mkdir()

    def mount(options):
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)]
        if subprocess.run(command, capture_output=True).returncode:
            pytest.skip("mount is not permitted here, so there is no disk that is full")

    mount("size=1m")
    mount.place = place
    yield mount
    # Lazily: a store that failed holds its lock until it is collected.
    subprocess.run(["umount", "-l", str(place)], capture_output=True)


def fill(place):
    with open(place / "filler", "wb", buffering=0) as file, pytest.raises(OSError, match="space"):
        while True:
            file.write(b"x" * 4096)


@pytest.mark.parametrize("when", ["before the run", "after two receipts"])
def test_a_state_disk_that_is_full_fails_the_run_and_the_next_one_is_whole(source, disk, when):
    flow = source.flow(state=disk.place / "state")
    if when == "before the run":
        fill(disk.place)
    else:
        reading = flow.home.read

        def read(split):
            if split.index == 2:
                fill(disk.place)
            return reading(split)

        flow.home.read = read
    with pytest.raises(FlowFailed, match="No space left") as caught:
        flow.run()
    assert "make room" in caught.value.hint
    assert source.rows() == []
    (disk.place / "filler").unlink()
    again = source.flow(state=disk.place / "state")
    again.run()
    assert source.rows() == ALL
    if when == "after two receipts":  # the second of which may not have been on the disk yet
        assert again.home.read_of in (["f2", "f3", "f4"], ["f1", "f2", "f3", "f4"])


def test_a_store_disk_that_is_full_costs_nothing_that_was_sealed(source, disk):
    from hygge import ParquetStore

    source.out = disk.place / "out"
    store = ParquetStore(path=source.out)
    flow = source.flow(store=store)
    reading = flow.home.read

    def read(split):
        if split.index == 3:
            fill(disk.place)
        return reading(split)

    flow.home.read = read
    with pytest.raises(FlowFailed, match="the disk is full"):
        flow.run()
    (disk.place / "filler").unlink()
    again = source.flow(store=store)
    again.run()
    assert again.home.read_of == ["f3", "f4"]
    assert source.rows() == ALL


def test_a_read_only_state_is_said_before_a_row_is_read(source, disk):
    disk("remount,ro")
    flow = source.flow(state=disk.place / "state")
    with pytest.raises(FlowFailed, match="Read-only file system") as caught:
        flow.run()
    assert "state:" in caught.value.hint
    assert flow.home.read_of == []


def test_a_state_that_cannot_be_a_folder_is_said(source, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(FlowFailed, match="Not a directory|File exists"):
        source.flow(state=tmp_path / "file" / "state").run()


def test_a_place_where_two_create_the_same_key_is_refused(tmp_path, monkeypatch):
    def overwrites(self, key, content):
        self.put(key, content)
        return True

    monkeypatch.setattr(Folder, "create", overwrites)
    with pytest.raises(HyggeError, match="lets two runs create the same file"):
        Folder(str(tmp_path)).check()
    assert os.listdir(tmp_path) == []


# The world


def test_a_store_directory_deleted_under_the_run_is_found_out_and_mended_by_the_next(source):
    flow = source.flow()
    reading = flow.home.read

    def read(split):
        if split.index == 3:
            subprocess.run(["rm", "-r", str(source.out.parent / ".out.hygge")], check=True)
        return reading(split)

    flow.home.read = read
    with pytest.raises(FlowFailed):
        flow.run()
    assert source.rows() == []
    source.flow().run()
    assert source.rows() == ALL


def test_a_source_file_rewritten_in_mid_run_fails_it_and_the_next_has_the_new_rows(source):
    flow = source.flow()
    reading = flow.home.read

    def read(split):
        for table in reading(split):
            if split.index == 2:
                source.write("f2", 700)
            yield table

    flow.home.read = read
    with pytest.raises(FlowFailed, match="rewritten"):
        flow.run()
    again = source.flow()
    again.run()
    assert again.home.read_of == ["f2", "f3", "f4"]
    assert source.rows() == sorted([*range(20), *range(30, 50), *range(700, 710)])


def test_a_clock_that_jumps_backwards_changes_nothing(source, monkeypatch):
    from datetime import datetime, timedelta

    import hygge.journal.runs
    import hygge.run.once
    import hygge.run.recovery
    import hygge.store

    class Past(datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime.now(tz) - timedelta(days=400)

    source.fail()
    source.fail("f4")  # a later run, by the order of epochs
    for module in (hygge.journal.runs, hygge.run.once, hygge.run.recovery, hygge.store):
        monkeypatch.setattr(module, "datetime", Past)
    flow = source.flow()
    flow.run()
    assert flow.home.read_of == ["f4"]
    source.write("f5", 50)
    source.flow().run()
    source.write("f6", 60)
    source.fail("f6")
    again = source.flow()
    again.run()
    assert again.home.read_of == ["f6"]
    assert source.rows() == list(range(70))


def test_no_secret_of_a_connection_is_written_down(tmp_path):
    from hygge import SQLHome, SQLStore
    from hygge.journal.fingerprint import fingerprint

    url = "postgresql://app:hushhush@db/shop?sslpassword=hushhush"
    home = SQLHome("orders", connection=url, where="token = 'a'", columns=["id"])
    store = SQLStore("copy", connection=f"sqlite:///{tmp_path}/a.db")
    known = fingerprint(home, store, "append", ["id"])
    assert "hushhush" not in json.dumps(known)
    assert known["home.place"].startswith("postgresql://db:5432/shop#")
    assert known["home.where"] == "\"token = 'a'\"" or "***" in known["home.where"]
    moved = fingerprint(SQLHome("orders", connection=url.replace("shop", "shop2")), store, "a", [])
    assert moved["home.place"] != known["home.place"]
