"""A Delta table as a Store: what is refused before it, columns, partitions, merges."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from uuid import UUID

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, TableFeatures, write_deltalake

from hygge import DeltaStore, Flow, ParquetHome
from hygge.connectors.delta import types
from hygge.errors import Rejected, StoreError, Superseded, UnfitValue
from hygge.model import Limits, Run
from hygge.testing.values import difference, every_type
from tests.connectors.delta.staged import by_id, ids, read, staged

M, DAY = 2**63 - 1, date(2024, 1, 1)
SCHEMA = pa.schema([pa.field("id", pa.int64()), pa.field("v", pa.string())])


def rows(*numbers: int, v: str = "v") -> pa.Table:
    return pa.table({"id": list(numbers), "v": [v] * len(numbers)}, SCHEMA)


def store_at(path: Path, **options) -> DeltaStore:
    return DeltaStore(path=path / "a table # 100%", options=options)


# Heads


def test_flows_of_any_name_have_heads_of_their_own(tmp_path):
    store = store_at(tmp_path)
    names = ["a", "a#run", "a/b", "run/a", "#made"]
    for number, name in enumerate(names):
        staged(store, rows(number), flow=name)()
    staged(store, rows(9), flow="a")()
    assert [store.head(name).generation for name in names] == [2, 1, 1, 1, 1]


def test_a_replace_takes_their_heads_from_other_flows(tmp_path):
    store = store_at(tmp_path)
    staged(store, rows(1), flow="a")()
    late = staged(store, rows(2), flow="a")
    staged(store, rows(9), flow="b", mode="replace")()
    assert store.head("a") is None
    with pytest.raises(Superseded):
        late()
    assert staged(store, rows(1), flow="a")().head.generation == 1
    assert ids(store) == [1, 9]


def test_a_late_discard_of_a_run_of_long_ago_leaves_its_rows(tmp_path):
    store = store_at(tmp_path)
    staged(store, rows(1))()
    run = Run(store.head("f").run, "f", "append")
    for file in Path(store.path).glob("_hygge/*/*.json"):
        file.unlink()
    store.discard(run)
    assert ids(store) == [1]
    with pytest.raises(StoreError, match=r"\.json is gone: it says how far flow 'f' has come"):
        store.head("f")


# What is refused, before it or in the commit


@pytest.mark.parametrize(
    ("words", "prepare"),
    [
        ("deletion vectors", {"delta.enableDeletionVectors": "true"}),
        ("append-only", {"delta.appendOnly": "true"}),
        ("forgets what hygge wrote", {"delta.setTransactionRetentionDuration": "interval 1 days"}),
    ],
)
def test_tables_whose_writers_must_keep_to_more_are_refused(tmp_path, words, prepare):
    store = store_at(tmp_path)
    DeltaTable.create(store.path, rows(1).schema, configuration=prepare)
    with pytest.raises(StoreError, match=words):
        staged(store, rows(1), mode="merge", key=["id"])


def test_a_table_with_a_rule_is_refused(tmp_path):
    store = store_at(tmp_path)
    write_deltalake(store.path, rows(1))
    DeltaTable(store.path).alter.add_constraint({"positive": "id > 0"})
    with pytest.raises(StoreError, match="the rule 'positive'"):
        staged(store, rows(-1))


def test_a_staged_file_that_is_short_or_gone_is_rejected(tmp_path):
    store = store_at(tmp_path)
    staged(store, rows(1))()
    for damage in (lambda p: p.write_bytes(p.read_bytes()[:-1]), Path.unlink):
        before = set(Path(store.path).glob("hygge-*/*/*.parquet"))
        commit = staged(store, rows(2))
        (new,) = set(Path(store.path).glob("hygge-*/*/*.parquet")) - before
        damage(new)
        with pytest.raises(Rejected, match="gone, or not as it was sealed"):
            commit()
        assert ids(store) == [1]


def test_null_where_the_table_has_none_is_an_error_that_names_the_column(tmp_path):
    store = store_at(tmp_path)
    strict = pa.schema([pa.field("id", pa.int64(), nullable=False), pa.field("v", pa.string())])
    write_deltalake(store.path, rows(1).cast(strict))
    with pytest.raises(UnfitValue, match="'id' is NOT NULL in the table, and 1 of 2 rows"):
        staged(store, pa.table({"id": [1, None], "v": ["a", "b"]}, SCHEMA))
    staged(store, rows(2))()
    assert ids(store) == [1, 2]


@pytest.mark.parametrize(
    ("more", "contract", "words"),
    [
        (pa.array([1]), "freeze", "has the columns id, v; this run has id, v, w"),
        (pa.array([1], pa.int32()), "evolve", None),
    ],
)
def test_a_new_column_is_refused_or_added(tmp_path, more, contract, words):
    store = store_at(tmp_path, schema=contract)
    staged(store, rows(1))()
    wider = rows(2).append_column("w", more)
    if words:
        with pytest.raises(StoreError, match=words):
            staged(store, wider)
        return
    done = staged(store, wider)()
    assert done.changes == ("column 'w' (int32) is added",)
    staged(store, rows(3))()
    assert by_id(store) == {
        1: {"v": "v", "w": None}, 2: {"v": "v", "w": 1}, 3: {"v": "v", "w": None},
    }  # fmt: skip


def test_a_narrower_type_goes_in_and_another_one_does_not(tmp_path):
    store = store_at(tmp_path)
    staged(store, rows(1))()
    staged(store, pa.table({"v": ["n"], "id": pa.array([2], pa.int16())}))()
    assert ids(store) == [1, 2]
    with pytest.raises(StoreError, match="column 'id' is int64"):
        staged(store, pa.table({"id": ["3"], "v": ["n"]}))
    staged(store, pa.table({"id": ["3"]}), mode="replace")()
    assert read(store).column_names == ["id"]


# Partitions


def test_rows_are_partitioned_and_read_by_others(tmp_path):
    store = DeltaStore(path=tmp_path / "t", partition_by=["day", "kind"])
    table = pa.table(
        {
            "id": list(range(40)),
            "day": pa.array([None if n % 10 == 3 else 19_000 + n % 5 for n in range(40)]).cast(
                pa.int32()
            ).cast(pa.date32()),
            "kind": [None if n % 7 == 1 else f"{n % 2} / ü=%" for n in range(40)],
            "v": [f"{n}" for n in range(40)],
        }
    )  # fmt: skip
    staged(store, table, splits=2)()
    staged(store, table.set_column(0, "id", pc.add(table["id"], 100)))()
    expected = pa.concat_tables([table, table.set_column(0, "id", pc.add(table["id"], 100))])
    assert difference(read(store), expected) is None
    assert DeltaTable(store.path).metadata().partition_columns == ["day", "kind"]
    staged(store, table, mode="merge", key=["id"])()
    assert difference(read(store), expected) is None
    with pytest.raises(StoreError, match="is partitioned by day, kind"):
        staged(DeltaStore(path=tmp_path / "t", partition_by=["v"]), table)


@pytest.mark.parametrize(
    ("by", "words"), [("w", "no column 'w'"), ("x", "partitions by text"), ("v", "holds ''")]
)
def test_what_is_no_partition_is_refused(tmp_path, by, words):
    store = DeltaStore(path=tmp_path / "t", partition_by=[by])
    with pytest.raises((StoreError, UnfitValue), match=words):
        staged(store, pa.table({"id": [1], "x": [1.5], "v": [""]}))


# Merges


def test_a_merge_keeps_every_type_and_the_rows_it_does_not_touch(tmp_path):
    columns, most, rules = {}, max(map(len, every_type().values())), types.Rules()
    for name, array in every_type().items():
        alone = pa.table({name: array})
        try:
            types.stored_table(alone, types.stored_schema(alone.schema, rules), rules)
        except UnfitValue:
            continue
        at = pa.array([*range(len(array)), *[None] * (most - len(array))], pa.int64())
        columns[name.replace("/", " ")] = array.take(at)
    assert len(columns) >= 40
    store = store_at(tmp_path)
    table = pa.table({"n": list(range(most)), **columns})
    staged(store, table, mode="merge", key=["n"])()
    staged(store, table.slice(1), mode="merge", key=["n"])()
    assert difference(read(store), table) is None


@pytest.mark.parametrize(
    ("kind", "files", "keys", "unread"),
    [
        (pa.int64(), [[-M, 0], [5, 6], [M]], [5, 7], 2),
        (pa.int64(), [[-M, 0], [5, 6], [M]], [-M, 5, 7, M], 0),
        (pa.int64(), [[-M - 1, 0], [5, 6]], [-M - 1, 5], 0),
        (pa.int8(), [[-128, 2], [5, 6]], [-128, -127], 1),
        (pa.date32(), [[date(1, 1, 1), date(9999, 12, 31)], [DAY], [date(2025, 1, 1)]], [DAY], 1),
        (pa.date32(), [[date(1, 1, 1), date(9999, 12, 31)], [DAY]], [date(9999, 12, 31)], 1),
        (pa.string(), [["a"], ["it's"]], ["it's", "z"], 0),
    ],
)
def test_a_merge_leaves_files_unread_that_cannot_have_its_keys(tmp_path, kind, files, keys, unread):
    store = DeltaStore(path=tmp_path / "t")

    def rows(values, v):
        columns = {"k`é y": pa.array(values, kind), "v": pa.array([v] * len(values), pa.string())}
        return pa.table(columns)

    for values in files:
        staged(store, rows(values, "old"))()
    staged(store, rows(keys, "new"), mode="merge", key=["k`é y"])()
    expected = dict.fromkeys([each for values in files for each in values], "old")
    expected |= dict.fromkeys(keys, "new")
    assert {row["k`é y"]: row["v"] for row in read(store).to_pylist()} == expected
    assert read(store).num_rows == len(expected)
    (entry,) = DeltaTable(store.path).history(1)
    assert entry["operationMetrics"]["num_target_files_skipped_during_scan"] == unread


def test_of_two_rows_of_a_key_the_last_by_cursor_counts_else_it_is_refused(tmp_path):
    store = store_at(tmp_path)
    table = pa.table({"id": [1, 2, 1, 1], "seq": [1, 1, 3, 2], "v": ["a", "b", "c", "d"]})
    with pytest.raises(Rejected, match="two rows have the key id 1"):
        staged(store, table, mode="merge", key=["id"])()
    done = staged(store, table, mode="merge", key=["id"], cursor="seq", splits=2)()
    assert (done.applied, done.superseded, done.head.rows) == (2, 2, 2)
    assert by_id(store) == {1: {"seq": 3, "v": "c"}, 2: {"seq": 1, "v": "b"}}
    with pytest.raises(Rejected, match="NULL in the key"):
        staged(store, pa.table({"id": [None, 5], "seq": [1, 1], "v": ["x", "y"]}).cast(
            table.schema), mode="merge", key=["id"])()  # fmt: skip


def test_changes_insert_update_and_delete_and_the_last_of_a_key_counts(tmp_path):
    store = store_at(tmp_path)
    op = pa.field("_op", pa.string(), nullable=False, metadata={b"hygge.op": b"1"})
    schema = pa.schema([*SCHEMA, op])

    def changes(*each) -> pa.Table:
        columns = zip(*each, strict=True)
        return pa.Table.from_arrays([pa.array(c) for c in columns], names=schema.names).cast(schema)

    first = changes((1, "a", "insert"), (2, "b", "insert"), (2, None, "delete"), (3, "c", "update"))
    done = staged(store, first, mode="merge", key=["id"])()
    assert (done.applied, done.superseded) == (3, 1)
    assert done.note == "changes: 2 inserted or updated, 1 deleted"
    second = changes((3, None, "delete"), (3, "z", "insert"), (1, "x", "update"), (9, "", "delete"))
    staged(store, second, mode="merge", key=["id"], splits=1)()
    assert by_id(store) == {1: {"v": "x"}, 3: {"v": "z"}}


def test_a_merge_that_changes_nothing_moves_the_head(tmp_path):
    store = store_at(tmp_path)
    for generation in (1, 2, 3):
        done = staged(store, rows(), mode="merge", key=["id"])(watermark=generation)
        assert (done.head.generation, store.head("f").watermark) == (generation, generation)


# Types


def test_options_decide_what_becomes_of_values_that_delta_lacks(tmp_path):
    table = pa.table(
        {
            "id": pa.array([1, 2], pa.uint32()),
            "ns": pa.array([1_000, 1_001], pa.timestamp("ns")),
            "at": pa.array([0, None], pa.time64("us")),
            "zone": pa.array([0, None], pa.timestamp("us", "Europe/Berlin")),
        }
    )
    store = store_at(tmp_path)
    for column in ("at", "zone"):
        with pytest.raises(UnfitValue, match=f"column '{column}'"):
            staged(store, table.select(["id", column]))
    with pytest.raises(UnfitValue, match="column 'ns' holds"):
        staged(store, table.select(["id", "ns"]))
    kept = store_at(tmp_path, zones="utc", on_value={"ns": "set_null", "at": "as_text"})
    assert any("timestampNtz" in said for said in kept.remarks(table.schema))
    staged(kept, table)()
    assert [str(kind) for kind in read(kept).schema.types[1:2]] == ["timestamp[us]"]
    assert read(kept)["ns"].null_count == 1
    assert read(kept)["at"].to_pylist() == ["00:00:00.000000", None]


def test_a_timestamp_without_zone_comes_into_a_table_that_had_none(tmp_path):
    store = store_at(tmp_path, schema="evolve")
    staged(store, rows(1))()
    naive = rows(2).append_column("t", pa.array([1], pa.timestamp("us")))
    staged(store, naive)()
    assert "timestampNtz" in DeltaTable(store.path).protocol().writer_features
    assert ids(store) == [1, 2]


def test_features_that_a_table_only_lists_are_no_obstacle(tmp_path):
    store = store_at(tmp_path)
    write_deltalake(store.path, rows(1))
    table = DeltaTable(store.path)
    feature = TableFeatures.ChangeDataFeed
    table.alter.add_feature(feature, allow_protocol_versions_increase=True)
    staged(store, rows(2))()
    assert ids(store) == [1, 2]


def test_a_uuid_becomes_text_and_a_nanosecond_can_be_set_aside(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ids_of = [UUID(int=n) for n in (1, 2, 3)]
    storage = pa.array([each.bytes for each in ids_of], pa.binary(16))
    times = pa.array([1_000, 1_001, None], pa.timestamp("ns"))
    array = pa.ExtensionArray.from_storage(pa.uuid(), storage)
    pq.write_table(pa.table({"u": array, "t": times}), "in.parquet")
    store = store_at(tmp_path)
    limits = Limits(on_bad_row="set_aside", max_bad_share=1.0)
    flow = Flow(ParquetHome(path="in.parquet"), store, name="f", engine="inline", limits=limits)
    report = flow.run()
    assert (report.rows, report.set_aside) == (2, 1)
    assert sorted(read(store)["u"].to_pylist()) == [str(ids_of[0]), str(ids_of[2])]
