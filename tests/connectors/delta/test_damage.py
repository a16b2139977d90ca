"""A log that is damaged is an error that names the file, at both ends; it never has fewer rows."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from hygge import DeltaHome, DeltaStore
from hygge.errors import HomeError, SourceMissing, StoreError
from hygge.testing.staging import FLOW
from tests.connectors.delta.test_home import rows_of

CHECKPOINT = "00000000000000000002.checkpoint.parquet"


def entry(version: int) -> str:
    return f"{version:020d}.json"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table of four entries, with a checkpoint at its third."""
    path = tmp_path_factory.mktemp("whole") / "t"
    for at in range(4):
        write_deltalake(path, pa.table({"id": [at]}), mode="append")
        if at == 2:
            DeltaTable(path).create_checkpoint()
    return path


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def empty(path: Path) -> None:
    os.truncate(path, 0)


def without_metadata(path: Path) -> None:
    lines = map(json.loads, path.read_text().splitlines())
    path.write_text("".join(json.dumps({**line, "metaData": {}}) + "\n" for line in lines))


@pytest.mark.parametrize(
    ("names", "damage", "words", "advice"),
    [
        ([entry(3)], cut, f"{entry(3)} is cut off or damaged in line", "remove it: the table is"),
        ([CHECKPOINT], cut, f"{CHECKPOINT} is truncated or damaged", "remove it and _last_check"),
        ([CHECKPOINT], Path.unlink, "_last_checkpoint names the checkpoint of version 2", "remove"),
        ([entry(0), CHECKPOINT], cut, f"{CHECKPOINT} is truncated or damaged", "restore it from"),
        ([entry(0), CHECKPOINT], Path.unlink, "_last_checkpoint names", "restore it from a copy"),
        (["_last_checkpoint", CHECKPOINT, entry(1)], Path.unlink, f"{entry(1)} is gone", "restore"),
        (["_last_checkpoint", CHECKPOINT, entry(0)], Path.unlink, f"{entry(0)} is gone", "restore"),
        (["_last_checkpoint", CHECKPOINT, entry(0)], without_metadata, "damaged in line 1", "rest"),
    ],
)  # fmt: skip
def test_what_is_damaged_is_named_with_what_to_do(
    tmp_path: Path,
    whole: Path,
    names: list[str],
    damage: Callable[[Path], None],
    words: str,
    advice: str,
) -> None:
    shutil.copytree(whole, tmp_path / "t")
    log = tmp_path / "t" / "_delta_log"
    for name in names[:-1]:
        (log / name).unlink()
    damage(log / names[-1])
    for read in (
        lambda: rows_of(DeltaHome(path=tmp_path / "t")),
        lambda: DeltaStore(path=tmp_path / "t").head(FLOW),
    ):
        with pytest.raises((HomeError, StoreError), match="/_delta_log/") as raised:
            read()
        assert words in raised.value.message
        assert advice in (raised.value.hint or "")
        assert "Kernel" not in raised.value.message


def test_what_the_advice_says_to_remove_makes_the_table_whole(tmp_path: Path, whole: Path) -> None:
    shutil.copytree(whole, tmp_path / "t")
    log, home = tmp_path / "t" / "_delta_log", DeltaHome(path=tmp_path / "t")
    cut(log / CHECKPOINT)
    (log / CHECKPOINT).unlink()
    (log / "_last_checkpoint").unlink()
    assert sorted(rows_of(home)["id"].to_pylist()) == [0, 1, 2, 3]
    empty(log / entry(3))  # the library reads it, as if nothing had been written
    with pytest.raises(HomeError, match=f"{entry(3)} is empty: what it said of rows is lost"):
        rows_of(home)
    before = DeltaHome(path=tmp_path / "t", version=2)
    assert sorted(rows_of(before)["id"].to_pylist()) == [0, 1, 2]
    (log / entry(3)).unlink()
    assert rows_of(home).num_rows == 3


def test_a_version_that_the_log_does_not_tell_any_more_is_said(tmp_path: Path, whole: Path) -> None:
    shutil.copytree(whole, tmp_path / "t")
    log = tmp_path / "t" / "_delta_log"
    DeltaTable(tmp_path / "t").create_checkpoint()
    for name in (CHECKPOINT, entry(0), entry(1)):
        (log / name).unlink()
    moment, words = "2001-01-01T00:00:00Z", "any more: its log was cleaned up"
    for wanted, said in (
        ({"version": 2}, "version 2"),
        ({"as_of": moment}, f"version as of {moment}"),
    ):
        with pytest.raises(SourceMissing, match=f"has no {said} {words}") as raised:
            rows_of(DeltaHome(path=tmp_path / "t", **wanted))
        assert raised.value.hint == "its oldest version is 3"
    assert rows_of(DeltaHome(path=tmp_path / "t", version=3)).num_rows == 4
