"""Writing so that it survives a power cut: what is synced, and in which order."""

from __future__ import annotations

import os

import pytest

from hygge.places import durable


@pytest.fixture
def calls(monkeypatch):
    """The paths that are synced, and the renames, in their order."""
    seen = []
    fsync, replace = os.fsync, os.replace

    def synced(handle):
        seen.append(("fsync", os.readlink(f"/proc/self/fd/{handle}")))
        fsync(handle)

    def replaced(source, target):
        seen.append(("rename", str(target)))
        replace(source, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", replaced)
    return seen


def test_a_small_file_is_synced_before_it_gets_its_name_and_its_folder_after(tmp_path, calls):
    path = f"{tmp_path}/a.json"
    durable.write_synced(path, b"1")
    assert calls == [("fsync", f"{path}.tmp"), ("rename", path), ("fsync", str(tmp_path))]
    durable.write_synced(path, b"2")
    assert (tmp_path / "a.json").read_bytes() == b"2"
    assert os.listdir(tmp_path) == ["a.json"]


def test_a_folder_and_those_above_it_are_named_durably(tmp_path, calls):
    durable.make_folder(f"{tmp_path}/a/b")
    assert calls == [("fsync", str(tmp_path)), ("fsync", f"{tmp_path}/a")]
    durable.make_folder(f"{tmp_path}/a/b")
    assert len(calls) == 2


def test_a_file_where_a_folder_is_needed_is_refused(tmp_path):
    (tmp_path / "a").touch()
    with pytest.raises(NotADirectoryError):
        durable.make_folder(f"{tmp_path}/a")


def test_every_folder_of_a_tree_is_synced(tmp_path, calls):
    (tmp_path / "a/b").mkdir(parents=True)
    durable.sync_tree(str(tmp_path))
    assert sorted(path for _, path in calls) == [str(tmp_path / name) for name in (".", "a", "a/b")]


@pytest.mark.parametrize("path", ["/proc/x/y", "/sys/x"])
def test_nobody_has_the_right_to_write_where_linux_shows_itself(path):
    with pytest.raises(OSError, match="Operation not supported: '/(proc|sys)'"):
        durable.check_rights(path)


def test_a_disk_of_files_may_be_written(tmp_path):
    durable.check_rights(f"{tmp_path}/a/b")
    durable.check_rights("/dev/shm/x")


@pytest.mark.parametrize(("folder", "name"), [("n" * 256, "a"), (".", "é" * 128)])
def test_a_name_that_is_too_long_for_the_disk_is_known_before_it_is_made(tmp_path, folder, name):
    with pytest.raises(OSError, match="File name too long"):
        durable.check_rights(f"{tmp_path}/{folder}/more", name)
    durable.check_rights(f"{tmp_path}/{folder[1:]}/more", name[1:])
