"""What a file Home finds, and how a file Store lays its files out."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from hygge import (
    ArrowHome,
    ArrowStore,
    CsvHome,
    Flow,
    ParquetHome,
    ParquetStore,
    SourceMissing,
)
from hygge.errors import HomeError
from hygge.model import MIB


def write(path: Path, **columns: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path)
    return path


def read(home) -> pa.Table:
    with home.open() as plan:
        schema = pa.schema([pa.field(c.name, c.type, c.nullable) for c in plan.columns])
        batches = [table for split in plan.splits for table in home.read(split)]
    return pa.concat_tables([schema.empty_table(), *batches])


def move(home, store, **more):
    return Flow(home, store, name="f", engine="inline", **more).run()


def test_a_file_a_directory_and_a_glob_are_found(tmp_path):
    for n, name in enumerate(["a.parquet", "b.parquet", "deep/c.parquet"]):
        write(tmp_path / name, n=[n])
    (tmp_path / "_hygge.parquet").write_text("no rows are looked for here")
    (tmp_path / ".hidden.parquet").write_text("x")
    (tmp_path / "notes.txt").write_text("x")
    for path, found in {
        "a.parquet": [0],
        "": [0, 1, 2],
        "*.parquet": [0, 1],
        "**/*.parquet": [0, 1, 2],
        "[bc].parquet": [1],
    }.items():
        assert read(ParquetHome(path=tmp_path / path))["n"].to_pylist() == found, path


def test_a_pattern_that_matches_nothing_is_an_error_with_the_nearest_name(tmp_path):
    write(tmp_path / "users.parquet", n=[1])
    for path, said in {"*.pq": "nothing matches", "usrs.parquet": "there is no file"}.items():
        with (
            pytest.raises(SourceMissing, match=said) as caught,
            ParquetHome(path=tmp_path / path).open(),
        ):
            pass
        assert caught.value.hint
    assert "users.parquet" in caught.value.hint


def test_hive_partitions_are_columns(tmp_path):
    write(tmp_path / "year=2025/zip=0815/x.parquet", v=[1])
    write(tmp_path / "year=2026/zip=__HIVE_DEFAULT_PARTITION__/x.parquet", v=[2])
    write(tmp_path / "year=2026/zip=a%2Fb/x.parquet", v=[3])
    table = read(ParquetHome(path=tmp_path))
    assert table.schema.names == ["v", "year", "zip"]
    assert table.to_pydict() == {
        "v": [1, 2, 3],
        "year": [2025, 2026, 2026],
        "zip": ["0815", None, "a/b"],  # a leading zero means text
    }
    assert read(ParquetHome(path=tmp_path, columns=["zip", "v"])).schema.names == ["zip", "v"]


def test_splits_are_runs_of_row_groups_in_order(tmp_path):
    table = pa.table({"n": range(10_000)})
    pq.write_table(table, tmp_path / "n.parquet", row_group_size=1000, compression="none")
    home = ParquetHome(path=tmp_path / "n.parquet", options={"split_bytes": 20_000})
    with home.open() as plan:
        assert len(plan.splits) > 3
        assert sum(split.rows for split in plan.splits) == 10_000
    assert read(home).equals(table)


@pytest.mark.parametrize(("home", "store"), [(ParquetHome, ParquetStore), (ArrowHome, ArrowStore)])
def test_files_roll_at_their_size_and_keep_the_order_of_the_splits(home, store, tmp_path):
    table = pa.table({"n": range(50_000)})
    pq.write_table(table, tmp_path / "n.parquet", row_group_size=2_000, compression="none")
    source = ParquetHome(path=tmp_path / "n.parquet", options={"split_bytes": 100_000})
    options = {"file_bytes": 40_000, "compression": "none"}
    if store is ParquetStore:
        options["row_group_bytes"] = 16_000
    move(source, store(path=tmp_path / "out", options=options))
    parts = sorted(name for name in os.listdir(tmp_path / "out") if not name.startswith("_"))
    assert len(parts) > 4
    kind = store.suffixes[0].lstrip(".")
    files = [ds.dataset(tmp_path / "out" / part, format=kind).to_table() for part in parts]
    assert pa.concat_tables(files)["n"].to_pylist() == list(range(50_000))


@pytest.mark.parametrize("suffix", [".parquet", ".arrow"])
def test_a_single_file_joins_the_splits_in_order(suffix, tmp_path):
    pq.write_table(pa.table({"n": range(9_000)}), tmp_path / "n.parquet", row_group_size=1_000)
    source = ParquetHome(path=tmp_path / "n.parquet", options={"split_bytes": 1})
    with source.open() as plan:
        assert len(plan.splits) == 9
    store = {".parquet": ParquetStore, ".arrow": ArrowStore}[suffix](path=tmp_path / f"o{suffix}")
    for _ in range(2):
        move(source, store)
    table = ds.dataset(store.path, format=suffix.lstrip(".")).to_table()
    assert table["n"].to_pylist() == list(range(9_000))


def test_a_dictionary_is_written_only_where_values_repeat(tmp_path):
    rows = 20_000
    table = pa.table(
        {
            "repeats": [f"city {n % 7}" for n in range(rows)],
            "unique": [f"{n:016x}" for n in range(rows)],
            "flag": [n % 2 == 0 for n in range(rows)],
        }
    )
    pq.write_table(table, tmp_path / "t.parquet")
    move(ParquetHome(path=tmp_path / "t.parquet"), ParquetStore(path=tmp_path / "o.parquet"))
    meta = pq.read_metadata(tmp_path / "o.parquet").row_group(0)
    columns = {meta.column(i).path_in_schema: meta.column(i) for i in range(meta.num_columns)}
    assert columns["repeats"].has_dictionary_page
    assert not columns["unique"].has_dictionary_page
    assert all(column.is_stats_set for column in columns.values())
    assert columns["unique"].statistics.max == f"{rows - 1:016x}"


def test_small_batches_are_gathered_into_row_groups(tmp_path):
    home = ParquetHome(path=tmp_path / "t.parquet", options={"batch_size": 10})
    pq.write_table(pa.table({"n": range(1000)}), tmp_path / "t.parquet")
    move(home, ParquetStore(path=tmp_path / "o.parquet"))
    assert pq.read_metadata(tmp_path / "o.parquet").num_row_groups == 1
    assert os.path.getsize(tmp_path / "o.parquet") < MIB


def test_duckdb_and_pyarrow_see_one_run_after_the_other(tmp_path):
    out = tmp_path / "out"
    for run in (1, 2):
        write(tmp_path / "t.parquet", run=[run] * 10)
        move(ParquetHome(path=tmp_path / "t.parquet"), ParquetStore(path=out))
        query = f"SELECT run, count(*) FROM '{out}/*.parquet' GROUP BY run"
        assert duckdb.sql(query).fetchall() == [(run, 10)]
        assert set(ds.dataset(out).to_table()["run"].to_pylist()) == {run}
    move(ParquetHome(path=tmp_path / "t.parquet"), ParquetStore(path=out), mode="append")
    assert ds.dataset(out).count_rows() == 20
    query = f"SELECT count(*) FROM '{out}/**/*.parquet'"
    assert duckdb.sql(query).fetchall() == [(20,)]
    assert read(ParquetHome(path=out)).num_rows == 20
    move(ParquetHome(path=tmp_path / "t.parquet"), ParquetStore(path=out))
    assert ds.dataset(out).count_rows() == 10


HIDDEN = ("_temporary/0/dt=1/a.parquet", "dt=1/_SUCCESS", "dt=1/.a.parquet.crc", ".old/a.parquet",
          "dt=1/_a.parquet", "dt=1/.a.parquet")  # fmt: skip


@pytest.mark.parametrize("path", ["", "**/*.parquet", "**", "*/*.parquet", "*", "dt=?", "[d_.]*"])
def test_a_folder_and_a_pattern_leave_the_same_names_out(tmp_path, path):
    for name in ("dt=1/a.parquet", *HIDDEN):
        write(tmp_path / name, n=[1])
    assert read(ParquetHome(path=tmp_path / path, columns=["n"]))["n"].to_pylist() == [1]


def test_a_hidden_name_is_read_where_the_path_says_it_and_a_partition_is_none(tmp_path):
    write(tmp_path / "_temporary/a.parquet", n=[1])
    write(tmp_path / "t/_a.parquet", n=[2])
    write(tmp_path / "p/_year=2024/a.parquet", n=[3])
    for path, found in {"_temporary": 1, "_temp*/a.parquet": 1, "t/_*": 2, "p": 3}.items():
        assert read(ParquetHome(path=tmp_path / path))["n"].to_pylist() == [found], path


def test_a_directory_that_a_pattern_matches_is_read_once(tmp_path):
    write(tmp_path / "a.parquet/part-0.parquet", n=[1])
    write(tmp_path / "b.parquet", n=[2])
    for path in ("*.parquet", "**/*.parquet", "*"):
        assert read(ParquetHome(path=tmp_path / path))["n"].to_pylist() == [1, 2], path
    assert read(ParquetHome(path=tmp_path / "a*"))["n"].to_pylist() == [1]


def test_a_compressed_file_beside_plain_ones_is_read_or_said(tmp_path):
    (tmp_path / "a.csv").write_text("n\n1\n")
    with gzip.open(tmp_path / "b.csv.gz", "wt") as file:
        file.write("n\n2\n")
    assert read(CsvHome(path=tmp_path))["n"].to_pylist() == [1, 2]
    (tmp_path / "c.csv.bz2").write_bytes(b"x")
    with pytest.raises(HomeError, match="c.csv.bz2 would be left out"):
        read(CsvHome(path=tmp_path))
    assert read(CsvHome(path=tmp_path / "*.csv"))["n"].to_pylist() == [1]
