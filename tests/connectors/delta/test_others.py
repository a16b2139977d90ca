"""Others write to a Delta table, tidy it up, and break it, while a run is staged."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, write_deltalake

from hygge import DeltaHome, DeltaStore
from hygge.errors import HyggeError, NotOurs, Rejected, StoreError, Superseded, Transient
from tests.connectors.delta.foreign import make
from tests.connectors.delta.staged import ids, staged

SCHEMA = pa.schema([pa.field("id", pa.int64()), pa.field("v", pa.string())])


def rows(*numbers: int, v: str = "v") -> pa.Table:
    return pa.table({"id": list(numbers), "v": [v] * len(numbers)}, SCHEMA)


def store_at(path: Path, **options) -> DeltaStore:
    return DeltaStore(path=path / "a table # 100%", options=options)


@pytest.mark.parametrize("mode", ["append", "replace", "merge"])
def test_what_others_do_between_plan_and_commit_is_seen(tmp_path, mode):
    store = store_at(tmp_path)
    staged(store, rows(1, 2, 3), mode="replace")()
    for number, act in enumerate(
        [
            lambda: write_deltalake(store.path, rows(50), mode="append"),
            lambda: DeltaTable(store.path).delete("id = 2"),
            lambda: DeltaTable(store.path).optimize.compact(),
            lambda: DeltaTable(store.path).create_checkpoint(),
        ]
    ):
        commit = staged(store, rows(100 + number), mode=mode, key=["id"])
        act()
        before = ids(store)
        commit()
        kept = [] if mode == "replace" else before
        assert ids(store) == sorted([*kept, 100 + number])


def test_a_column_that_others_add_meanwhile_refuses_a_frozen_append(tmp_path):
    store = store_at(tmp_path)
    staged(store, rows(1))()
    commit = staged(store, rows(2))
    wider = rows(7).append_column("w", pa.array(["w"]))
    write_deltalake(store.path, wider, mode="append", schema_mode="merge")
    with pytest.raises(Rejected, match="has the columns id, v, w"):
        commit()
    assert ids(store) == [1, 7]


def test_a_table_of_others_is_replaced_only_where_adopt_says_so(tmp_path):
    store = store_at(tmp_path)
    write_deltalake(store.path, rows(1))
    with pytest.raises(NotOurs, match="did not make"):
        staged(store, rows(2), mode="replace")
    staged(store, rows(2))()
    assert ids(store) == [1, 2]
    staged(store_at(tmp_path, adopt=True), rows(3), mode="replace")()
    assert ids(store) == [3]


def test_a_folder_of_other_files_becomes_no_table(tmp_path):
    pq.write_table(rows(1), tmp_path / "theirs.parquet")
    with pytest.raises(NotOurs, match=r"is no Delta table, and holds theirs\.parquet"):
        staged(DeltaStore(path=tmp_path), rows(2))


def test_a_replace_says_which_rows_of_others_it_took_and_where_they_still_are(tmp_path):
    store = store_at(tmp_path)
    staged(store, rows(1), mode="replace")()
    commit = staged(store, rows(2), mode="replace")
    write_deltalake(store.path, rows(50, 51), mode="append")
    DeltaTable(store.path).optimize.compact()  # which writes rows anew, and brings none
    done = commit()
    said = "2 rows that others wrote there since this run was planned went, too: version 2 still"
    assert done.note.startswith(said)
    assert ids(store) == [2]
    assert sorted(pa.table(DeltaTable(store.path, version=2).scan())["id"].to_pylist()) == [
        1,
        50,
        51,
    ]
    assert staged(store, rows(3), mode="replace")().note == ""


def test_checkpoints_and_a_log_that_is_cleaned_up_take_no_head(tmp_path):
    store = store_at(tmp_path)
    staged(store, rows(1))()
    late, rival = staged(store, rows(2)), staged(store, rows(20))
    for number in range(3, 6):
        staged(store, rows(number), flow="other")()
    table = DeltaTable(store.path)
    table.alter.set_table_properties({"delta.logRetentionDuration": "interval 0 days"})
    between = staged(store, rows(6), flow="third", mode="merge", key=["id"])
    for _ in range(2):  # a clean-up keeps what the newest checkpoint but one needs
        write_deltalake(store.path, rows(50), mode="append")
        DeltaTable(store.path).create_checkpoint()
        DeltaTable(store.path).cleanup_metadata()
    assert not Path(store.path, "_delta_log", f"{0:020d}.json").exists()
    assert store.head("f").generation == 1
    assert (late().head.generation, between().head.generation) == (2, 1)
    with pytest.raises(Superseded):
        rival()
    assert staged(store, rows(9), mode="replace")().head.generation == 3
    assert ids(store) == [9]


def test_a_vacuum_leaves_what_is_staged_for_a_week_and_after_that_the_run_says_so(tmp_path):
    store = store_at(tmp_path)
    staged(store, rows(1))()
    commit = staged(store, rows(2))
    DeltaTable(store.path).vacuum(full=True, dry_run=False)
    commit()
    commit = staged(store, rows(3))
    DeltaTable(store.path).vacuum(0, enforce_retention_duration=False, full=True, dry_run=False)
    with pytest.raises(Rejected, match="or a vacuum has removed it"):
        commit()
    staged(store, rows(4))()
    assert ids(store) == [1, 2, 4]


def test_what_stands_in_the_way_of_an_entry_is_said_at_once(tmp_path):
    store = store_at(tmp_path)
    staged(store, rows(1))()
    commit = staged(store, rows(2))
    Path(store.path, "_delta_log", f"{1:020d}.json").mkdir()
    with pytest.raises(StoreError, match=r"0001\.json cannot be written, and nobody") as failure:
        commit()
    assert not isinstance(failure.value, Transient)
    assert ids(store) == [1]
    Path(store.path, "_delta_log", f"{1:020d}.json").rmdir()
    staged(store, rows(3))()
    assert ids(store) == [1, 3]


def test_a_feature_that_the_library_does_not_know_is_said_at_both_ends(tmp_path):
    make(tmp_path / "t")
    log = tmp_path / "t" / "_delta_log" / f"{0:020d}.json"
    log.write_text(log.read_text().replace('Features": []', 'Features": ["newThing"]'))
    for end in (DeltaStore(path=tmp_path / "t"), DeltaHome(path=tmp_path / "t")):
        with pytest.raises(HyggeError, match="does not know all of this table.*newThing"):
            end.check_here("append")
