"""A Delta table as a Home: versions, what is left unread, what the library reads."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, write_deltalake

from hygge import ConfigError, Coordinator, DeltaHome, DeltaStore, SourceChanged, SourceMissing
from hygge.cli.main import main
from hygge.errors import HomeError, StoreError
from hygge.shape.settings import Shape
from hygge.testing.values import difference
from tests.connectors.delta import foreign
from tests.connectors.delta.staged import ids, staged

ROWS = pa.table({"id": [1, 2, 3], "v": ["a", None, ""]})


def rows_of(home: DeltaHome) -> pa.Table:
    with home.open() as plan:
        batches = [batch for split in plan.splits for batch in home.read(split)]
        schema = pa.schema([pa.field(each.name, each.type) for each in plan.columns])
    return pa.concat_tables([schema.empty_table(), *(b.cast(schema) for b in batches)])


def test_a_version_and_a_moment_are_read_as_they_were(tmp_path):
    path = str(tmp_path / "a table # 100%")
    write_deltalake(path, ROWS)
    write_deltalake(path, ROWS, mode="append")
    assert rows_of(DeltaHome(path=path)).num_rows == 6
    assert rows_of(DeltaHome(path=path, version=0)).equals(ROWS)
    soon = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    assert rows_of(DeltaHome(path=path, as_of=soon)).num_rows == 6
    with pytest.raises(SourceMissing, match="has no version 9"):
        rows_of(DeltaHome(path=path, version=9))
    with pytest.raises(SourceMissing, match="has no version as of 2001"):
        rows_of(DeltaHome(path=path, as_of="2001-01-01T00:00:00Z"))
    for settings, words in (
        ({"as_of": "yesterday"}, "not a moment"),
        ({"as_of": "2024-01-01"}, "with its zone"),
        ({"as_of": soon, "version": 1}, "one of the two"),
    ):
        with pytest.raises(ConfigError, match=words):
            DeltaHome(path=path, **settings)


def test_partitions_of_other_writers_are_read_whatever_their_names(tmp_path):
    table = pa.table(
        {
            "id": [1, 2, 3],
            "k": ["a b/ü=%", "x", None],
            "day": [date(2024, 1, 1), None, date(2024, 1, 2)],
            "at": pa.array([0, 1, None], pa.timestamp("us", "UTC")),
            "b": [True, False, None],
        }
    )
    write_deltalake(str(tmp_path / "t"), table, partition_by=["k", "day", "at", "b"])
    assert difference(rows_of(DeltaHome(path=tmp_path / "t")), table) is None
    two = rows_of(DeltaHome(path=tmp_path / "t", columns=["day", "id"]))
    assert difference(two, table.select(["day", "id"])) is None


def test_files_of_before_a_new_column_have_null_there(tmp_path):
    write_deltalake(str(tmp_path / "t"), ROWS)
    wider = ROWS.append_column("w", pa.array([1, 2, 3]))
    write_deltalake(str(tmp_path / "t"), wider, mode="append", schema_mode="merge")
    rows = rows_of(DeltaHome(path=tmp_path / "t"))
    assert sorted(rows["w"].to_pylist(), key=str) == [1, 2, 3, None, None, None]


def test_files_that_cannot_match_are_left_unread(tmp_path):
    for start in (0, 100, 200):
        part = pa.table({"n": range(start, start + 50), "k": [f"k{start}"] * 50})
        write_deltalake(str(tmp_path / "t"), part, mode="append")
    store = DeltaStore(path=tmp_path / "t")
    staged(store, pa.table({"n": [300, None], "k": ["k300", None]}))()
    home = DeltaHome(path=tmp_path / "t")
    for where, unread in (("n > 120", 1), ("k = 'k0'", 3), ("n IS NULL", 3), ("n > 1000", 4)):
        home.shape = Shape(where=where)
        with home.open() as plan:
            assert f"{unread} more cannot match" in plan.reason, where
            assert len(plan.splits) == 1


def test_a_large_file_is_cut_at_its_row_groups(tmp_path):
    table = pa.table({"n": range(10_000)})
    options = {"row_group_bytes": 1}
    run = staged(DeltaStore(path=tmp_path / "t", options=options), table, splits=1)
    run()
    home = DeltaHome(path=tmp_path / "t", options={"split_bytes": 1000})
    with home.open() as plan:
        assert len(plan.splits) >= 1
    assert difference(rows_of(home), table) is None


def test_a_vacuumed_file_is_a_changed_source(tmp_path):
    write_deltalake(str(tmp_path / "t"), ROWS)
    home = DeltaHome(path=tmp_path / "t")
    with home.open() as plan:
        assert plan.snapshot == "version 0 of the table"
        assert plan.splits[0].version == "delta:0"
        write_deltalake(str(tmp_path / "t"), ROWS, mode="overwrite")
        assert next(iter(home.read(plan.splits[0]))).equals(ROWS)
        table = DeltaTable(str(tmp_path / "t"))
        table.vacuum(0, enforce_retention_duration=False, dry_run=False)
        with pytest.raises(SourceChanged, match="somebody has vacuumed"):
            list(home.read(plan.splits[0]))


@pytest.mark.parametrize(
    ("deleted", "is_mapped", "why"),
    [((1, 3), False, "deletion vectors"), ((), True, "column mapping"), ((0,), True, "column")],
)
def test_what_others_wrote_with_more_features_is_read_by_the_library_and_not_written(
    tmp_path, deleted, is_mapped, why
):
    foreign.make(tmp_path / "t", deleted, is_mapped)
    rows = pa.table({"id": [1, 2, 3, 4], "v": ["a", "b", "c", "d"]})
    kept = rows.take([at for at in range(4) if at not in deleted])
    home = DeltaHome(path=tmp_path / "t")
    with home.open() as plan:
        assert plan.reason.startswith(f"one split: the table has {why}")
        assert difference(pa.concat_tables(home.read(plan.splits[0])), kept) is None
    one = rows_of(DeltaHome(path=tmp_path / "t", columns=["v"]))
    assert difference(one, kept.select(["v"])) is None
    for mode in ("append", "replace", "merge"):
        store = DeltaStore(path=tmp_path / "t", options={"adopt": True})
        with pytest.raises(StoreError, match=f"has .*{why}"):
            staged(store, rows, mode=mode, key=["id"])


def test_a_folder_that_is_no_delta_table_says_so(tmp_path):
    pq.write_table(ROWS, tmp_path / "a.parquet")
    with pytest.raises(SourceMissing, match="no Delta table at"):
        rows_of(DeltaHome(path=tmp_path))
    with pytest.raises(SourceMissing, match="no Delta table at"):
        rows_of(DeltaHome(path=tmp_path / "nothing"))


# In flows.yml


def flows(folder: Path, text: str) -> Coordinator:
    (folder / "flows.yml").write_text(f"flows:\n{text}")
    return Coordinator(folder / "flows.yml", engine="inline")


def test_a_path_that_is_a_delta_table_is_read_as_one_and_a_folder_above_it_is_refused(
    tmp_path, capsys
):
    write_deltalake(str(tmp_path / "lake" / "t"), ROWS)
    DeltaTable(str(tmp_path / "lake" / "t")).delete("id = 1")
    summary = flows(
        tmp_path,
        "  a: {home: lake/t, store: out/a}\n"
        "  b: {home: {path: lake/t, columns: [v, id]}, store: {path: lake/b, type: delta}}\n"
        "  c: {home: lake/b, store: lake/t, mode: merge, key: id, depends_on: [a, b]}\n",
    ).run()
    assert summary.ok, [report.error for report in summary.flows]
    assert sorted(pq.read_table(tmp_path / "out" / "a")["id"].to_pylist()) == [2, 3]
    assert ids(DeltaStore(path=tmp_path / "lake" / "b")) == [2, 3]
    assert main(["discover", str(tmp_path / "lake")]) == 0
    # Two files of `t` are of an older version, or of its log.
    assert {("b", "2", "1", "delta"), ("t", "2", "1", "delta")} <= {
        (words[0], words[1], words[-4], words[-3])
        for line in capsys.readouterr().out.splitlines()
        if len(words := line.split()) > 3
    }
    (report,) = (
        flows(tmp_path, "  a: {home: {type: parquet, path: lake}, store: out/b}\n").run().flows
    )
    assert "is a Delta table" in report.error
    assert "type: delta" in report.hint


def test_a_column_that_is_named_as_a_field_of_another_is_not_pruned_by_its_limits(tmp_path):
    rows = pa.table({"a.b": [100, 200], "a": pa.array([{"b": 1}, {"b": 2}])})
    write_deltalake(tmp_path / "t", rows)
    (tmp_path / "f.yml").write_text(
        "flows: {f: {home: {path: t, where: '\"a.b\" = 100'}, store: out}}"
    )
    assert main([str(tmp_path / "f.yml"), "--inline"]) == 0
    assert pq.read_table(tmp_path / "out").column("a.b").to_pylist() == [100]


def test_a_file_is_compared_with_what_the_log_says_of_it(tmp_path):
    write_deltalake(str(tmp_path / "t"), ROWS)
    (file,) = (tmp_path / "t").glob("*.parquet")
    home = DeltaHome(path=tmp_path / "t")

    def read_with(table: pa.Table) -> pa.Table:
        pq.write_table(table, file)
        return rows_of(home)

    narrow = pa.table({"ID": pa.array([1, 2, 3], pa.int8()), "v": ROWS["v"].dictionary_encode()})
    assert difference(read_with(narrow), ROWS) is None, "names ignore case"
    for other, words in (
        (ROWS.slice(1), r"\.parquet: the log of the table counts 3 rows here, and there are 2"),
        (ROWS.set_column(0, "id", pa.array(["1", "2", "3"])), "'id' is string in this file, and"),
        (ROWS.set_column(0, "id", pa.array([1.0, 2.0, 3.0])), "'id' is float64 in this file, and"),
    ):
        with pytest.raises(HomeError, match=words):
            read_with(other)
    foreign.make(tmp_path / "other", (1, 3))
    (log,), file = (tmp_path / "other" / "_delta_log").iterdir(), tmp_path / "other" / "f.parquet"
    size = file.stat().st_size
    pq.write_table(pa.table({"id": [1], "v": ["a"]}), file)
    with pytest.raises(HomeError, match="cannot be read by its library"):
        rows_of(DeltaHome(path=tmp_path / "other"))
    log.write_text(log.read_text().replace(f": {size},", f": {file.stat().st_size},"))
    with pytest.raises(HomeError, match="counts 2 rows here, and there are 1"):
        rows_of(DeltaHome(path=tmp_path / "other"))
