"""`schema: evolve` and `schema: freeze` of a Delta table, by the table of docs/schema.md."""

from __future__ import annotations

import pyarrow as pa
import pytest
from deltalake import DeltaTable, Schema

from hygge import DeltaStore
from hygge.errors import Rejected, StoreError, UnfitValue
from hygge.model import Run
from tests.connectors.delta.staged import by_id, read, staged

BEFORE = pa.table({"id": [1, 2], "v": ["a", "b"], "n": pa.array([1, 2], pa.int32())})


def store_with(tmp_path, table: pa.Table = BEFORE, contract: str | None = "evolve") -> DeltaStore:
    staged(DeltaStore(path=tmp_path / "t"), table)()
    return DeltaStore(path=tmp_path / "t", options={"schema": contract})


def test_a_column_that_the_rows_lack_stays_and_a_merge_leaves_its_value(tmp_path):
    store = store_with(tmp_path)
    lacking = pa.table({"id": [2, 3], "v": ["B", "C"]})
    done = staged(store, lacking, mode="merge", key=["id"])()
    assert done.changes == (
        "column 'n' (int32) is not in the rows any more: it stays, NULL from now on",
    )
    assert by_id(store) == {
        1: {"v": "a", "n": 1}, 2: {"v": "B", "n": 2}, 3: {"v": "C", "n": None},
    }  # fmt: skip
    staged(store, pa.table({"id": [4]}))()
    assert by_id(store)[4] == {"v": None, "n": None}


def test_not_null_is_dropped_where_rows_may_have_null(tmp_path):
    strict = pa.schema([("id", pa.int64()), pa.field("v", pa.string(), nullable=False)])
    store = store_with(tmp_path, BEFORE.select(["id", "v"]).cast(strict))
    loose = pa.table({"id": [3], "v": pa.array([None], pa.string())})
    with pytest.raises(UnfitValue, match="'v' is NOT NULL"):
        staged(DeltaStore(path=store.path), loose)
    done = staged(store, loose)()
    assert done.changes == ("column 'v' may be NULL from now on",)
    assert by_id(store)[3] == {"v": None}
    with pytest.raises(StoreError, match="without NULLs, which the rows lack"):
        other = DeltaStore(path=tmp_path / "other", options={"schema": "evolve"})
        staged(other, BEFORE.select(["id", "v"]).cast(strict))()
        staged(other, pa.table({"id": [9]}))


@pytest.mark.parametrize("contract", ["evolve", "freeze", None])
@pytest.mark.parametrize(
    ("came", "words"),
    [
        (pa.array([3], pa.int64()), "column 'n' is int32"),
        (pa.array(["3"]), "column 'n' is int32"),
    ],
)
def test_a_wider_type_or_another_one_needs_a_replace(tmp_path, contract, came, words):
    store = store_with(tmp_path, contract=contract)
    table = pa.table({"id": [3], "v": ["c"], "n": came})
    run = Run("check", "f", "append")
    for ask in (lambda: store.examine(run, table.schema), lambda: staged(store, table)):
        with pytest.raises(StoreError, match=words):
            ask()
    staged(DeltaStore(path=store.path), table, mode="replace")()
    assert read(store).schema.field("n").type == came.type or str(came.type) == "string"


def test_a_replace_follows_or_keeps_the_columns_as_it_is_told(tmp_path):
    store = store_with(tmp_path)
    table = pa.table({"id": [3], "w": ["x"]})
    staged(store, table, mode="replace")()
    assert by_id(store) == {3: {"v": None, "n": None, "w": "x"}}
    frozen = DeltaStore(path=store.path, options={"schema": "freeze"})
    with pytest.raises(StoreError, match="has the columns"):
        staged(frozen, table, mode="replace")
    with pytest.raises(StoreError, match="has column 'v', which the rows lack and the last run"):
        staged(DeltaStore(path=store.path), table, mode="replace")
    wider = table.append_column("v", pa.array([1])).append_column("n", pa.array([2]))
    staged(DeltaStore(path=store.path), wider, mode="replace")()
    staged(DeltaStore(path=store.path), table, mode="replace")()
    assert by_id(store) == {3: {"w": "x"}}


def test_a_key_that_the_table_lacks_is_refused(tmp_path):
    store = store_with(tmp_path, BEFORE.select(["v", "n"]))
    with pytest.raises(StoreError, match="has no column 'id', which is the key"):
        staged(store, BEFORE, mode="merge", key=["id"])


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (pa.table({"id": [1], "ID": [2]}), "'id' and 'ID' differ in case only"),
        (pa.table({"s": pa.array([{"É": 1, "é": 2}])}), "'É' and 'é' within column 's' differ"),
    ],
)
def test_two_names_that_are_one_in_delta_are_refused_before_rows_move(tmp_path, rows, words):
    with pytest.raises(StoreError, match=words):
        staged(DeltaStore(path=tmp_path / "new"), rows)


def test_what_the_library_refuses_ends_the_run(tmp_path, monkeypatch):
    monkeypatch.setattr("hygge.connectors.delta.fit._check_names", lambda *_: None)
    commit = staged(DeltaStore(path=tmp_path / "new"), pa.table({"id": [1], "ID": [2]}))
    with pytest.raises(Rejected, match="Duplicate field name"):
        commit()


def test_a_column_that_somebody_added_is_not_lost_by_a_replace(tmp_path):
    store = store_with(tmp_path, contract=None)
    added = Schema.from_arrow(pa.schema([("note", pa.string())])).fields
    DeltaTable(store.path).alter.add_columns(added)
    with pytest.raises(StoreError, match="has column 'note', which the rows lack and the last run"):
        staged(store, BEFORE.select(["id", "v"]), mode="replace")
    staged(DeltaStore(path=store.path, options={"schema": "evolve"}), BEFORE, mode="replace")()
    assert by_id(store)[1] == {"v": "a", "n": 1, "note": None}
