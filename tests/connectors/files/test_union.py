"""`schema: union`: many files of different columns as one table."""

from __future__ import annotations

import itertools

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hygge.connectors.files.arrow import ArrowHome
from hygge.connectors.files.parquet import ParquetHome
from hygge.errors import ConfigError, HomeError

HOMES = {"parquet": ParquetHome, "arrow": ArrowHome}
FORMATS = sorted(HOMES)


def write(kind, path, *tables):
    path.mkdir()
    for at, table in enumerate(tables):
        file = str(path / f"{at}.{kind}")
        if kind == "parquet":
            pq.write_table(table, file)
        else:
            with pa.ipc.new_file(file, table.schema) as writer:
                writer.write_table(table)


def read(kind, path, **settings):
    """Return the rows of all splits as one table."""
    home = HOMES[kind]("t", path=str(path), **settings)
    with home.open() as plan:
        schema = pa.schema([pa.field(c.name, c.type, c.nullable) for c in plan.columns])
        batches = [table for split in plan.splits for table in home.read(split)]
    assert all(batch.schema.types == schema.types for batch in batches)
    return schema, pa.concat_tables(batches)


def column(kind, *values, nullable=True):
    return pa.table([pa.array(values, kind)], schema=pa.schema([pa.field("n", kind, nullable)]))


@pytest.mark.parametrize("kind", FORMATS)
def test_the_order_of_the_files_decides_nothing(kind, tmp_path):
    tables = [
        column(pa.null(), None),
        column(pa.int64(), 2**40, nullable=False),
        column(pa.int32(), 7),
        column(pa.uint8(), 8),
        pa.table({"other": ["x"]}),
    ]
    for at, order in enumerate(itertools.islice(itertools.permutations(tables), 0, 120, 17)):
        write(kind, tmp_path / f"{at}", *order)
        schema, rows = read(kind, tmp_path / f"{at}", schema="union")
        assert schema.field("n").type == pa.int64()
        assert schema.field("n").nullable
        found = rows.select(["n", "other"]).to_pylist()
        assert sorted(found, key=str) == sorted(
            [
                {"n": None, "other": None},
                {"n": 2**40, "other": None},
                {"n": 7, "other": None},
                {"n": 8, "other": None},
                {"n": None, "other": "x"},
            ],
            key=str,
        )


@pytest.mark.parametrize("kind", FORMATS)
def test_types_that_do_not_go_together_name_both_files(kind, tmp_path):
    write(
        kind, tmp_path / "t", column(pa.int32(), 1), pa.table({"id": [1]}), column(pa.string(), "x")
    )
    with pytest.raises(HomeError, match=r"2\.\w+ does not go with .*0\.\w+: column 'n' is int32"):
        read(kind, tmp_path / "t", schema="union")
    _, rows = read(kind, tmp_path / "t", schema="union", columns=["id"])
    assert sorted(rows["id"].to_pylist(), key=str) == [1, None, None]


@pytest.mark.parametrize("kind", FORMATS)
def test_without_it_the_first_file_counts(kind, tmp_path):
    write(kind, tmp_path / "t", column(pa.int32(), 1), pa.table({"n": [1], "m": [2]}))
    for settings in ({}, {"schema": "first"}):
        with pytest.raises(HomeError, match="has no column 'm'") as caught:
            read(kind, tmp_path / "t", **settings)
        assert "schema: union" in caught.value.hint
    with pytest.raises(ConfigError, match="'schema' is 'unite'"):
        read(kind, tmp_path / "t", schema="unite")


def test_what_only_later_files_say_of_a_column_is_kept(tmp_path):
    fields = [pa.field("u", pa.uuid()), pa.field("w", pa.int64(), metadata={"unit": "kg"})]
    marked = pa.table([pa.array([b"1" * 16], pa.uuid()), [5]], schema=pa.schema(fields))
    write("parquet", tmp_path / "t", pa.table({"n": [1]}), marked, pa.table({"n": [2]}))
    with ParquetHome("t", path=str(tmp_path / "t"), schema="union").open() as plan:
        n, u, w = plan.columns
        assert (n.metadata, u.type, w.metadata) == ({}, pa.uuid(), {b"unit": b"kg"})
        assert not plan.lost
    _, rows = read("parquet", tmp_path / "t", schema="union")
    assert [row["w"] for row in rows.to_pylist()] == [None, 5, None]
