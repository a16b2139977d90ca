"""A path at which something else stands when a run is committed: the run is over, and undone."""

from __future__ import annotations

import errno
import os
import shutil

import pyarrow.parquet as pq
import pytest

from hygge import CsvStore, ParquetHome, ParquetStore
from hygge.connectors.files import publish
from hygge.errors import FlowFailed, Rejected, StoreError
from hygge.places.bucket import Bucket
from tests.fitting import ROWS, Heard, flow, goes_anew, refused
from tests.readers.objects import users
from tests.servers.s3 import s3  # noqa: F401  # fixtures


def ids(folder):
    tables = map(pq.read_table, folder.rglob("*.parquet"))
    return sorted(number for table in tables for number in table["id"].to_pylist())


def becomes_a_file(path):
    shutil.rmtree(path, ignore_errors=True)
    path.write_text("mine")


def gets_a_foreign_file(path):
    path.mkdir(parents=True, exist_ok=True)
    (path / "mine.txt").write_text("mine")


def folder_above_becomes_a_file(path):
    shutil.rmtree(path.parent)
    path.parent.write_text("mine")


@pytest.mark.parametrize("before", ["nothing", "a run"])
@pytest.mark.parametrize(
    ("mode", "change"),
    [
        ("replace", becomes_a_file),
        ("append", becomes_a_file),
        ("replace", gets_a_foreign_file),
        ("replace", folder_above_becomes_a_file),
        ("append", folder_above_becomes_a_file),
    ],
)
def test_what_stands_where_a_directory_was_refuses_the_run(tmp_path, mode, change, before):
    path, state = tmp_path / "above" / "out", tmp_path / "state"
    path.parent.mkdir()
    store = ParquetStore(path=path)
    if before == "a run":
        goes_anew(store, mode, state)
    had = before == "a run" and change is gets_a_foreign_file
    refused(store, mode, state, lambda: change(path))
    for mine in (path, path / "mine.txt", path.parent):
        if mine.is_file():
            assert mine.read_text() == "mine"  # it is left as it is
            mine.unlink()
    assert ids(tmp_path) == ([1, 2, 3] if had else [])
    assert not list(tmp_path.glob("above/.*.hygge/*"))
    goes_anew(store, mode, state)
    assert ids(tmp_path) == [1, 2, 3]


@pytest.mark.parametrize("before", ["nothing", "a run"])
def test_what_stands_where_a_file_was_refuses_the_run(tmp_path, before):
    path, state = tmp_path / "out.csv", tmp_path / "state"
    store = CsvStore(path=path)
    if before == "a run":
        goes_anew(store, "replace", state)

    def edited():
        path.write_text("id,v\n0,mine\n")

    refused(store, "replace", state, edited)
    assert path.read_text() == "id,v\n0,mine\n"
    path.unlink()

    def becomes_a_directory():
        path.mkdir()

    refused(store, "replace", state, becomes_a_directory)
    path.rmdir()
    goes_anew(store, "replace", state)
    assert path.read_text().count("\n") == len(ROWS) + 1


def test_an_object_of_others_refuses_the_run(s3, tmp_path):  # noqa: F811
    url = users()
    store, state = ParquetStore(path=url), tmp_path / "state"
    refused(store, "replace", state, lambda: Bucket(url).put("mine.parquet", b"mine"))
    assert Bucket(url).get("mine.parquet") == b"mine"
    Bucket(url).drop(["mine.parquet"])
    goes_anew(store, "replace", state)
    with ParquetHome(path=url).open() as plan:
        assert sum(split.rows for split in plan.splits) == len(ROWS)


def failing_with(number):
    def failing(*_):
        raise OSError(number, os.strerror(number))

    return failing


def test_a_right_that_is_taken_away_refuses_the_run(tmp_path, monkeypatch):
    store = ParquetStore(path=tmp_path / "out")
    for number in (errno.EACCES, errno.EPERM):
        with monkeypatch.context() as without_right:
            without_right.setattr(publish, "show_directory", failing_with(number))
            refused(store, "replace", tmp_path / "state", lambda: None)
    goes_anew(store, "replace", tmp_path / "state")


@pytest.mark.parametrize("when", ["before the rename", "after it"])
def test_a_disk_that_is_full_or_fails_leaves_a_run_that_the_next_one_finishes(
    tmp_path, monkeypatch, when
):
    store, state = ParquetStore(path=tmp_path / "out"), tmp_path / "state"
    heard, show = Heard(), publish.show_directory

    def shown(*given):
        show(*given)
        raise OSError(errno.EACCES, "the folder cannot be opened to sync it")

    with monkeypatch.context() as full:
        failing = failing_with(errno.ENOSPC) if when == "before the rename" else shown
        full.setattr(publish, "show_directory", failing)
        with pytest.raises(FlowFailed) as caught:
            flow(store, "replace", state).run(heard)
    assert isinstance(caught.value.__cause__, StoreError)
    assert not isinstance(caught.value.__cause__, Rejected)
    assert "everything is staged and decided; running it again finishes it" in heard.words
    report = flow(store, "replace", state).run()
    assert (report.rows, report.resumed) == (len(ROWS), 2)
    assert ids(tmp_path / "out") == [1, 2, 3]


def test_a_refused_run_is_over_even_if_what_it_staged_cannot_be_removed(tmp_path, monkeypatch):
    store, state = ParquetStore(path=tmp_path / "out"), tmp_path / "state"
    with monkeypatch.context() as stuck:
        stuck.setattr(store.target, "discard", failing_to_discard)
        refused(store, "replace", state, lambda: gets_a_foreign_file(tmp_path / "out"))
    assert list(tmp_path.glob(".out.hygge/*"))
    (tmp_path / "out" / "mine.txt").unlink()
    goes_anew(store, "replace", state)


def failing_to_discard(run):
    raise StoreError("it may not be removed")
