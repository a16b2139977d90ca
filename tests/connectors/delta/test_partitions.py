"""Partitions of a Delta table as other readers see them, and what a folder may be named."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import polars as pl
import pyarrow as pa
import pytest
from deltalake import write_deltalake

from hygge import DeltaStore
from hygge.connectors.delta import parts
from hygge.errors import ConfigError, Rejected, StoreError, UnfitValue
from hygge.model import Receipt, Run, Ticket
from hygge.testing.values import difference
from tests.connectors.delta.staged import read, staged

ROWS = pa.table(
    {
        "id": [1, 2, 3, 4],
        "a kind": ["a/b", "%20 ü=", None, "null"],
        "n": pa.array([-5, None, 2**62, 0]),
        "is": pa.array([True, None, False, True]),
        "day": pa.array([date(1969, 12, 31), date(1, 1, 1), None, date(9999, 12, 31)]),
    }
)


def test_a_reader_that_takes_partitions_from_the_path_finds_each_value(tmp_path: Path) -> None:
    store = DeltaStore(path=tmp_path / "t", partition_by=["a kind", "n", "is", "day"])
    staged(store, ROWS)()
    seen = pl.read_delta(str(tmp_path / "t")).sort("id")
    assert seen.select(ROWS.column_names).rows() == pl.DataFrame(ROWS).rows()
    assert difference(read(store), ROWS) is None


def test_more_partitions_than_files_may_be_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = DeltaStore(path=tmp_path / "t", partition_by=["d"])
    rows = pa.table({"id": range(60), "d": [f"d{at % 6}" for at in range(60)]})

    def stage(run: Run) -> Receipt:
        store.prepare(run, rows.schema)
        batches = iter([rows.slice(at, 15) for at in range(0, 60, 15)])
        return store.stage(Ticket(run.id, 0), rows.schema, batches)

    monkeypatch.setattr(parts, "_MOST_FILES", 2)
    monkeypatch.setattr(parts, "_GATHERED_BYTES", 150)
    receipt = stage(Run("r1", "f", "append"))
    assert receipt.parts > 6
    store.commit(Run("r1", "f", "append"), None, [receipt], None)
    assert difference(read(store), rows) is None
    monkeypatch.setattr(parts, "_MOST_PARTITIONS", 5)
    with pytest.raises(StoreError, match=r"more than 5 partitions \(d\), each of them a file"):
        stage(Run("r2", "f", "append"))


@pytest.mark.parametrize("mode", ["append", "merge"])
@pytest.mark.parametrize("text", ["", "__HIVE_DEFAULT_PARTITION__"])
def test_a_text_that_is_taken_for_null_is_refused_in_each_mode(
    text: str, mode: str, tmp_path: Path
) -> None:
    store = DeltaStore(path=tmp_path / "t", partition_by=["d"])
    with pytest.raises(UnfitValue, match=f"'d' holds '{text}', which Delta does not tell from"):
        staged(store, pa.table({"id": [1], "d": [text]}), mode=mode, key=["id"])


def test_a_text_that_is_too_long_for_a_folder_is_refused(tmp_path: Path) -> None:
    store = DeltaStore(path=tmp_path / "t", partition_by=["d"])
    with pytest.raises(UnfitValue, match="too long for the name of a folder"):
        staged(store, pa.table({"id": [1], "d": ["ü" * 100]}))


def test_rows_that_were_staged_for_other_partitions_are_rejected(tmp_path: Path) -> None:
    rows = pa.table({"id": [1], "d": ["x"]})
    commit = staged(DeltaStore(path=tmp_path / "t"), rows)
    write_deltalake(str(tmp_path / "t"), rows, partition_by=["d"])
    with pytest.raises(Rejected, match="partition columns were changed by others"):
        commit()
    assert read(DeltaStore(path=tmp_path / "t")).num_rows == 1


def test_a_merge_by_floats_is_refused(tmp_path: Path) -> None:
    rows = pa.table({"k": [float("nan"), float("nan")], "n": [1, 2]})
    with pytest.raises(StoreError, match="merge key 'k' is float64, by which rows are not told"):
        staged(DeltaStore(path=tmp_path / "t"), rows, mode="merge", key=["k"], cursor="n")


@pytest.mark.parametrize("name", ["a%20b", "a\\b"])
def test_a_folder_that_the_library_takes_for_another_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="in its name, which the package deltalake does not"):
        DeltaStore(path=tmp_path / name).head("f")
    assert not list(tmp_path.iterdir())
