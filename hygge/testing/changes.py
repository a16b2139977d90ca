"""The part of `StoreContract` about changes, for Stores whose traits say that they apply them."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from hygge.changes import OP, marked
from hygge.model import Commit
from hygge.store import Store
from hygge.testing.staging import SCHEMA, StoreHooks, stage_run, tagged_rows

Change = tuple[str, int, str | None]
"""`_op`, and the values of the columns `n` and `text`."""


class Changes(StoreHooks):
    """The tests of `mode: merge` with a column `_op`."""

    def test_changes_write_and_delete_rows(self, tmp_path: Path) -> None:
        store = self._make(tmp_path)
        stage_run(store, tagged_rows("old"), mode="merge").commit()
        commit = _apply(
            store,
            [("update", 0, "new 0"), ("delete", 4, None), ("insert", 30, "new 30")],
            [("delete", 99, None), ("insert", 1, "new 1"), ("update", 31, None)],
        )
        kept = [row for row in tagged_rows("old").to_pylist() if row["n"] not in (0, 1, 4)]
        new = [_row(0, "new 0"), _row(1, "new 1"), _row(30, "new 30"), _row(31, None)]
        self.assert_shows(store, pa.Table.from_pylist([*new[:2], *kept, *new[2:]], SCHEMA))
        assert commit.applied == 6, f"six keys changed: {commit}"

    def test_the_last_change_of_a_key_counts(self, tmp_path: Path) -> None:
        store = self._make(tmp_path)
        stage_run(store, tagged_rows("old", 0, 3), mode="merge").commit()
        commit = _apply(
            store,
            [("delete", 0, None), ("insert", 0, "again"), ("update", 1, "a"), ("insert", 7, "a")],
            [("delete", 1, None), ("update", 2, "first"), ("update", 2, "last")],
            [("delete", 7, None)],
        )
        expected = [_row(0, "again"), _row(2, "last")]
        self.assert_shows(store, pa.Table.from_pylist(expected, SCHEMA))
        assert (commit.applied, commit.superseded) == (4, 4), f"4 of 8 changes count: {commit}"

    def test_the_first_changes_make_a_target_without_op(self, tmp_path: Path) -> None:
        store = self._make(tmp_path)
        first = [("insert", 1, "a"), ("insert", 2, "b"), ("delete", 1, None), ("delete", 5, None)]
        commit = _apply(store, first)
        self.assert_shows(store, pa.Table.from_pylist([_row(2, "b")], SCHEMA))
        assert [name for name, _ in commit.head.columns] == SCHEMA.names, "the head has other ones"
        _apply(store, [("delete", 2, None), ("insert", 3, "c")])
        self.assert_shows(store, pa.Table.from_pylist([_row(3, "c")], SCHEMA))

    def test_a_column_of_that_name_may_be_like_any_other(self, tmp_path: Path) -> None:
        store = self._make(tmp_path)
        rows = [{"n": 1, OP: "delete"}, {"n": 2, OP: None}]
        table = pa.Table.from_pylist(
            rows, pa.schema([pa.field("n", pa.int64()), pa.field(OP, pa.string())])
        )
        stage_run(store, table, mode="merge").commit()
        self.assert_shows(store, table)

    def _make(self, tmp_path: Path) -> Store:
        store = self.make_exactly_once(tmp_path)
        if not store.traits.changes:
            pytest.skip("traits.changes is False")
        return store


def _row(n: int, text: str | None) -> dict[str, object]:
    return {"n": n, "text": text}


def _apply(store: Store, *splits: list[Change]) -> Commit:
    schema = marked(pa.schema([pa.field(OP, pa.string()), *SCHEMA]), "the changes")
    tables = [
        pa.table(dict(zip(schema.names, map(list, zip(*rows, strict=True)), strict=True)), schema)
        for rows in splits
    ]
    return stage_run(store, *tables, mode="merge").commit()
