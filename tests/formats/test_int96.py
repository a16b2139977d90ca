"""INT96 timestamps: far ones and fine ones arrive as they are, or are an error."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hygge import ParquetHome
from hygge.errors import UnfitValue

FAR = [253_402_214_400_000_000, -62_135_596_800_000_000, None, 1_709_168_523_456_789]
FINE = [1_709_168_523_456_789_001, None, -1]


def write(path, *groups):
    """Write one row group for each (unit, counts)."""
    writer = None
    for unit, counts in groups:
        times = pa.array(counts, pa.int64()).cast(pa.timestamp(unit))
        lists = pa.ListArray.from_arrays([*range(len(counts)), len(counts)], times)
        table = pa.table({"t": times, "l": lists})
        if writer is None:
            writer = pq.ParquetWriter(path, table.schema, use_deprecated_int96_timestamps=True)
        else:
            table = table.cast(writer.schema)
        writer.write_table(table)
    writer.close()


def read(path, **settings):
    with ParquetHome(path=path, options={"batch_size": 2}, **settings).open() as plan:
        home = ParquetHome(path=path, options={"batch_size": 2}, **settings)
        tables = [table for split in plan.splits for table in home.read(split)]
    return pa.concat_tables(tables)


def counts(table):
    kinds = {"t": pa.int64(), "l": pa.list_(pa.int64())}
    rows = table.cast(pa.schema([(name, kinds[name]) for name in table.column_names]))
    return rows.to_pydict()


@pytest.mark.parametrize(("unit", "values"), [("us", FAR), ("ns", FINE)])
def test_far_and_fine_moments_are_exact_also_in_lists(tmp_path, unit, values):
    write(tmp_path / "a.parquet", (unit, values))
    table = read(tmp_path / "a.parquet")
    assert table["t"].type == pa.timestamp(unit)
    assert counts(table) == {"t": values, "l": [[value] for value in values]}


def test_a_column_with_a_point_in_its_name_is_checked_too(tmp_path):
    for unit, values in (("us", FAR), ("ns", FINE)):
        times = pa.array(values, pa.int64()).cast(pa.timestamp(unit))
        pq.write_table(pa.table({"a.b": times}), tmp_path / f"{unit}.parquet",
                       use_deprecated_int96_timestamps=True)  # fmt: skip
        table = read(tmp_path / f"{unit}.parquet")
        assert table["a.b"].cast(pa.int64()).to_pylist() == values
    with pytest.raises(UnfitValue, match="us.parquet: column 'a.b' holds 9999-12-31"):
        read(tmp_path)


def test_a_moment_that_the_unit_of_the_first_rows_does_not_keep_is_an_error(tmp_path):
    write(tmp_path / "1-far.parquet", ("us", FAR))
    write(tmp_path / "2-fine.parquet", ("ns", FINE))
    message = r"2-fine.parquet: column 't' holds 2024-02-29 01:02:03.456789001, .*\[us\]"
    with pytest.raises(UnfitValue, match=message):
        read(tmp_path)
    (tmp_path / "1-far.parquet").rename(tmp_path / "3-far.parquet")
    message = r"3-far.parquet: column 'l' holds 9999-12-31 00:00:00.000000, .*\[ns\]"
    with pytest.raises(UnfitValue, match=message):
        read(tmp_path, columns=["l"])
