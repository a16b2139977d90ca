"""Types that Parquet alone has come from Parquet to Parquet; elsewhere `plan` says that they go."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hygge import ArrowStore, CsvStore, Flow, ParquetHome, ParquetStore
from hygge.formats.parquet_marks import put_marks, read_marks
from hygge.report.text import plan_text

duckdb = pytest.importorskip("duckdb")
MANY = ", ".join(f"{n} AS column_{n}" for n in range(20))
ROW = "INTERVAL 1 MONTH AS i, '12:00:00+02'::TIMETZ AS t, TIME '12:00' AS plain, {'a': 1} AS s"


def written(path, row=f"{ROW}, {MANY}, 1 AS {'n' * 200}, INTERVAL 3 DAY AS ü"):
    duckdb.sql(f"COPY (SELECT {row}) TO '{path}'")
    return path


def of(path) -> tuple[list, list]:
    found = duckdb.sql(f"SELECT * FROM read_parquet('{path}')")
    return [str(kind) for kind in found.types], found.fetchall()


def move(home, store, name="f", **more) -> Flow:
    return Flow(home, store, name=name, engine="inline", **more)


def test_they_are_kept_over_two_moves_and_by_an_append(tmp_path):
    source = written(tmp_path / "in.parquet")
    move(ParquetHome(path=source), ParquetStore(path=tmp_path / "one.parquet")).run()
    assert of(tmp_path / "one.parquet") == of(source)
    assert "INTERVAL" in of(source)[0]
    assert "TIME WITH TIME ZONE" in of(source)[0]
    for name in ("a", "b"):
        home = ParquetHome(path=tmp_path / "one.parquet")
        move(home, ParquetStore(path=tmp_path / "o"), name, mode="append").run()
    kinds, rows = of(source)
    assert of(f"{tmp_path}/o/**/part-*.parquet") == (kinds, rows * 2)
    read = pq.ParquetFile(tmp_path / "one.parquet")
    assert read.metadata.row_group(0).column(0).statistics is None  # an INTERVAL has no order
    assert read.schema_arrow.field("i").metadata is None


def test_an_append_to_files_without_them_writes_none(tmp_path):
    plain = pa.table({"i": pa.array([b"x" * 12], pa.binary(12))})
    pq.write_table(plain, tmp_path / "plain.parquet")
    for name in ("plain", "in"):
        path = tmp_path / f"{name}.parquet"
        if name == "in":
            written(path, "INTERVAL 1 MONTH AS i")
        move(ParquetHome(path=path), ParquetStore(path=tmp_path / "o"), name, mode="append").run()
    assert of(f"{tmp_path}/o/**/part-*.parquet")[0] == ["BLOB"]


def test_plan_says_where_they_are_lost(tmp_path):
    home = ParquetHome(path=written(tmp_path / "in.parquet", ROW))
    with home.open() as plan:
        for store in (CsvStore(path=tmp_path / "o.csv"), ArrowStore(path=tmp_path / "o")):
            assert (
                "\n  loses   metadata 'INTERVAL' of column 'i': Arrow has no such type; "
                "metadata 'TIMETZ' of column 't': Arrow has no such type"
            ) in plan_text(move(home, store), plan)
        kept = plan_text(move(home, ParquetStore(path=tmp_path / "p")), plan)
    assert "  loses" not in kept


def test_a_mark_of_a_later_file_or_within_a_list_is_said(tmp_path):
    pq.write_table(pa.table({"t": pa.array([1], pa.time64("us"))}), tmp_path / "a.parquet")
    written(tmp_path / "b.parquet", "'12:00:00+02'::TIMETZ AS t")
    with ParquetHome(path=tmp_path).open() as plan:
        assert plan.lost == ("'TIMETZ' of column 't': not all files have it",)
    with ParquetHome(path=written(tmp_path / "c.parquet", "[INTERVAL 1 DAY] AS l")).open() as plan:
        assert plan.lost == ("'INTERVAL' of column 'l.list.element': Arrow has no such type",)


def test_a_column_that_became_another_type_gets_no_mark(tmp_path):
    source = written(tmp_path / "in.parquet")
    pq.write_table(pa.table({"i": ["x"], "t": pa.array([1], pa.int64())}), tmp_path / "o.parquet")
    before = pq.ParquetFile(tmp_path / "o.parquet").schema.column(0).logical_type
    put_marks(str(tmp_path / "o.parquet"), read_marks(str(source), ["i"]))
    assert str(pq.ParquetFile(tmp_path / "o.parquet").schema.column(0).logical_type) == str(before)
