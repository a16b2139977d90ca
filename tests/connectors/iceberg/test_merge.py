"""Merges into an Iceberg table: which files are written anew, and which row of a key counts."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from hygge import IcebergStore
from hygge.changes import marked
from hygge.errors import Rejected, StoreError, UnfitValue
from hygge.model import Commit, Run, Ticket
from hygge.store import Store
from hygge.testing.staging import begin_run, stage_run, stage_split, tagged_rows
from hygge.testing.values import difference
from tests.connectors.iceberg import lakes


def _merge(
    store: Store, *splits: pa.Table, key: tuple[str, ...] = ("n",), cursor: str | None = None
) -> Commit:
    run = begin_run(store, "append", None)  # its id alone
    run = replace(run, run=replace(run.run, mode="merge", key=key, cursor=cursor))
    store.prepare(run.run, splits[0].schema)
    receipts = tuple(stage_split(run, table, split=at) for at, table in enumerate(splits))
    return replace(run, receipts=receipts).commit()


def _changes(columns: dict[str, list[Any]]) -> pa.Table:
    table = pa.table(columns)
    return table.cast(marked(table.schema, "the changes"))


def _numbers(*rows: tuple[int, str]) -> pa.Table:
    return pa.table({"n": pa.array([n for n, _ in rows], pa.int64()), "v": [v for _, v in rows]})


def test_only_files_with_one_of_the_keys_are_written_anew(tmp_path: Path) -> None:
    store = lakes.store(tmp_path)
    for start in (0, 100, 200):
        stage_run(store, tagged_rows("old", start), mode="append").commit()
    with lakes.table(tmp_path) as table:
        before = {task.file.file_path for task in table.scan().plan_files()}
    # Of the second file a key; the range of the third is met, and none of its keys.
    changed = pa.concat_tables([tagged_rows("new", 110, 1), tagged_rows("new", 300, 2)])
    commit = _merge(store, changed)
    assert (commit.applied, commit.superseded) == (3, 0)
    with lakes.table(tmp_path) as table:
        after = {task.file.file_path for task in table.scan().plan_files()}
    assert len(before & after) == 2
    kept = [tagged_rows("old", 0), tagged_rows("old", 100, 10), tagged_rows("old", 111, 9)]
    expected = pa.concat_tables([*kept, tagged_rows("old", 200), changed])
    assert difference(lakes.rows(tmp_path), expected) is None


def test_of_rows_that_share_a_key_the_last_counts(tmp_path: Path) -> None:
    store = lakes.store(tmp_path)
    _merge(store, _numbers((1, "a"), (2, "b")))
    with pytest.raises(Rejected, match=r"merge key \(n\) is not unique"):
        _merge(store, _numbers((1, "c"), (1, "d")))
    rows = pa.table({"n": [1, 1, 3], "v": ["late", "early", "x"], "at": [9, 5, 1]})
    evolving = lakes.store(tmp_path, options={"schema": "evolve"})
    commit = _merge(evolving, rows, cursor="at")
    assert (commit.applied, commit.superseded, commit.head.rows) == (2, 1, 2)
    expected = pa.table({"n": [1, 2, 3], "v": ["late", "b", "x"], "at": [9, None, 1]})
    assert difference(lakes.rows(tmp_path), expected) is None
    with pytest.raises(Rejected, match=r"merge key \(n\) is NULL"):
        nothing = pa.table({"n": pa.array([None], pa.int64()), "v": ["x"], "at": [1]})
        _merge(evolving, nothing)
    with pytest.raises(StoreError, match="the rows lack column 'v'"):
        _merge(evolving, pa.table({"n": [1], "at": [1]}))


def test_keys_of_several_columns_and_types(tmp_path: Path) -> None:
    store = lakes.store(tmp_path, partition_by=["land"])
    first = pa.table(
        {
            "land": ["de", "de", "fr"],
            "price": pa.array([Decimal("1.10"), Decimal("1.20"), Decimal("1.10")]),
            "v": [1, 2, 3],
        }
    )
    _merge(store, first, key=("land", "price"))
    second = first.slice(0, 1).set_column(2, "v", pa.array([10]))
    _merge(store, second, key=("land", "price"))
    expected = pa.concat_tables([second, first.slice(1)])
    assert difference(lakes.rows(tmp_path), expected) is None
    with lakes.table(tmp_path) as table:
        lands = [task.file.partition[0] for task in table.scan().plan_files()]
    assert sorted(lands) == ["de", "fr"]
    with pytest.raises(StoreError, match="the merge key 'x' is float64"):
        other = IcebergStore("sales.other", catalog=lakes.settings(tmp_path))
        _merge(other, pa.table({"x": [1.0]}), key=("x",))
    with pytest.raises(StoreError, match="the table has no column 'other'"):
        _merge(store, pa.table({"land": ["de"], "other": [1]}), key=("other",))


def test_rows_may_say_what_became_of_their_key(tmp_path: Path) -> None:
    store = lakes.store(tmp_path)
    _merge(store, _numbers((1, "a"), (2, "b"), (3, "c")))

    def changes(*rows: tuple[int, str | None, str | None]) -> pa.Table:
        columns = zip(*rows, strict=True)
        return _changes(dict(zip(("n", "v", "_op"), map(list, columns), strict=True)))

    rows = changes(
        (1, None, "delete"), (2, "B", "update"), (4, "d", "insert"), (4, None, "delete"),
        (5, None, "delete"), (5, "e", "insert"),
    )  # fmt: skip
    commit = _merge(store, rows)
    assert (commit.applied, commit.superseded) == (4, 2)
    assert commit.note == "changes: 2 inserted or updated, 2 deleted"
    seen = lakes.rows(tmp_path)
    assert difference(seen, _numbers((2, "B"), (3, "c"), (5, "e"))) is None
    with lakes.table(tmp_path) as table, table.update_schema(True) as new:
        new.update_column("v", required=True)
    _merge(store, changes((2, None, "delete"), (3, "C", "update")))
    assert difference(lakes.rows(tmp_path), _numbers((3, "C"), (5, "e"))) is None
    with pytest.raises(UnfitValue, match="column 'v' has no NULLs in the table"):
        _merge(store, changes((3, None, "update"), (5, "e", "delete")))


def test_the_cursor_of_changes_tells_the_last_one(tmp_path: Path) -> None:
    store = lakes.store(tmp_path)
    rows = _changes({"n": [1, 1, 2, 2], "at": [2, 1, 1, 2], "_op": ["insert", "delete"] * 2})
    _merge(store, rows, cursor="at")
    assert difference(lakes.rows(tmp_path), pa.table({"n": [1], "at": [2]})) is None
    tie = pa.concat_tables([rows, rows.slice(0, 1)])
    with pytest.raises(Rejected, match="of 1 row nobody can tell which change of a key"):
        _merge(store, tie, cursor="at")


def test_changes_whose_columns_are_known_late_make_no_column_of_op(tmp_path: Path) -> None:
    store, run = lakes.store(tmp_path), Run("r1", "f", "merge", ("n",))
    store.flow_mode = "merge"
    store.prepare(run, None)
    rows = _changes({"n": [1, 2], "_op": ["insert", "delete"]})
    receipt = store.stage(Ticket("r1", 0), None, iter([rows]))
    assert store.commit(run, None, [receipt], None).applied == 2
    assert difference(lakes.rows(tmp_path), pa.table({"n": [1]})) is None


def test_a_merge_goes_over_a_foreign_delete(tmp_path: Path) -> None:
    store = lakes.store(tmp_path)
    stage_run(store, tagged_rows("old"), mode="append").commit()
    begun = begin_run(store, "merge")
    staged = replace(begun, receipts=(stage_split(begun, tagged_rows("new", 15, 10)),))
    with lakes.table(tmp_path) as table:
        table.delete("n < 5")
        table.append(tagged_rows("foreign", 20, 2).cast(table.schema().as_arrow()))
    staged.commit()
    expected = pa.concat_tables([tagged_rows("old", 5, 10), tagged_rows("new", 15, 10)])
    assert difference(lakes.rows(tmp_path), expected) is None


def test_a_merge_may_take_every_row_of_a_partition(tmp_path: Path) -> None:
    store = lakes.store(tmp_path, partition_by=["v"])
    _merge(store, _numbers((1, "a"), (2, "b")))
    _merge(store, _numbers((1, "b")))
    seen = lakes.rows(tmp_path)
    assert seen is not None
    assert seen.sort_by("n").to_pylist() == _numbers((1, "b"), (2, "b")).to_pylist()


@pytest.mark.parametrize(
    "values", [pa.array([5_000_000], pa.int32()).cast(pa.date32()), pa.array(["\ud7ff" * 20])]
)
def test_a_file_whose_limits_cannot_be_told_has_none(values: pa.Array, tmp_path: Path) -> None:
    rows = pa.table({"n": pa.array([1], pa.int64()), "v": values})
    _merge(lakes.store(tmp_path), rows)
    assert difference(lakes.rows(tmp_path), rows) is None
