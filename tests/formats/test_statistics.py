"""What a closed file says of itself: rows, NULLs, and in Parquet the least and greatest values."""

from __future__ import annotations

import datetime as dt
import math
import random
from decimal import Decimal

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from hygge import ArrowStore, CsvStore, JsonlStore, ParquetStore
from hygge.formats.format import ColumnStatistics
from hygge.model import MIB

DAYS = [dt.date(2024, 2, 29), None, dt.date(1, 1, 1), dt.date(9999, 12, 31)]
TIMES = [dt.time(0, 0, 1), None, dt.time(23, 59, 59), dt.time(12, 0)]
COLUMNS = {
    "int8": pa.array([1, None, -128, 127], pa.int8()),
    "uint8": pa.array([1, None, 0, 255], pa.uint8()),
    "uint32": pa.array([1, None, 0, 2**32 - 1], pa.uint32()),
    "int64": pa.array([1, None, -(2**63), 2**63 - 1], pa.int64()),
    "uint64": pa.array([1, None, 0, 2**64 - 1], pa.uint64()),
    "float16": pa.array([1.5, None, -2.0, math.inf], pa.float16()),
    "float32": pa.array([1.5, None, -math.inf, 2.0], pa.float32()),
    "float64": pa.array([0.1, None, -1e300, 1e300], pa.float64()),
    "bool": pa.array([True, None, False, True]),
    "string": pa.array(["b", None, "", "é"]),
    "large_string": pa.array(["b", None, "a", "🙂"], pa.large_string()),
    "binary": pa.array([b"b", None, b"", b"\xff"]),
    "fixed": pa.array([b"bb", None, b"\x00a", b"\xff1"], pa.binary(2)),
    "decimal9": pa.array([Decimal("1.50"), None, Decimal("-2.25"), 3], pa.decimal128(9, 2)),
    "decimal18": pa.array([Decimal("1.5"), None, Decimal("-9.25"), 3], pa.decimal128(18, 2)),
    "decimal38": pa.array([Decimal("1.5"), None, Decimal(-(10**35)), 3], pa.decimal128(38, 2)),
    "decimal256": pa.array([Decimal("1.5"), None, Decimal(-(10**50)), 3], pa.decimal256(60, 2)),
    "date32": pa.array(DAYS, pa.date32()),
    "date64": pa.array(DAYS, pa.date64()),
    "time_s": pa.array(TIMES, pa.time32("s")),
    "time_ms": pa.array(TIMES, pa.time32("ms")),
    "time_ns": pa.array([1, None, 0, 86_399_999_999_999], pa.time64("ns")),
    "timestamp_s": pa.array([1, None, -5, 10**10], pa.timestamp("s")),
    "timestamp_us": pa.array([1, None, -5, 10**15], pa.timestamp("us")),
    "timestamp_ns": pa.array([1, None, -5, 10**18 + 1], pa.timestamp("ns")),
    "zone": pa.array([1, None, -5, 10**15], pa.timestamp("us", "Europe/Berlin")),
    "duration": pa.array([1, None, -5, 10**15], pa.duration("us")),
}
TABLE = pa.table(COLUMNS)
STORES = {
    "parquet": ParquetStore,
    "csv": CsvStore,
    "jsonl": JsonlStore,
    "arrow": ArrowStore,
}


def statistics(tmp_path, *tables, kind="parquet", **options):
    """Those of a file of these tables."""
    path = str(tmp_path / f"a.{kind}")
    store = STORES[kind](path=path, options=options)
    writer = store.open_writer(path, tables[0].schema)
    for table in tables:
        writer.write(table)
    return writer.close()


@pytest.mark.parametrize("name", COLUMNS)
def test_parquet_knows_the_least_and_the_greatest_value_of_a_type(name, tmp_path):
    column = TABLE.select([name])
    seen = statistics(tmp_path, column, column)
    if name == "float16":  # Arrow's own min_max does not know it
        least, most = pa.scalar(-2.0, pa.float16()), pa.scalar(math.inf, pa.float16())
    elif name == "duration":
        least, most = pa.scalar(-5, pa.duration("us")), pa.scalar(10**15, pa.duration("us"))
    else:
        least, most = pc.min_max(column[name]).values()
    assert seen.rows == 8
    assert seen.columns == {name: ColumnStatistics(2, least, most)}
    assert seen.columns[name].min.type == column.schema.field(0).type


@pytest.mark.parametrize("kind", ["csv", "jsonl", "arrow"])
def test_other_formats_count_rows_and_nulls_and_know_no_limits(kind, tmp_path):
    table = TABLE.drop_columns(["duration"])
    seen = statistics(tmp_path, table, table.slice(0, 1), kind=kind)
    assert seen.rows == 5
    assert seen.columns == dict.fromkeys(table.column_names, ColumnStatistics(1))


@pytest.mark.parametrize("kind", STORES)
def test_a_file_without_rows_has_statistics(kind, tmp_path):
    table = TABLE.select(["int64", "string"])
    for tables in ([table.slice(0, 0)], [table.slice(0, 0)] * 2):
        seen = statistics(tmp_path, *tables, kind=kind)
        assert seen.rows == 0
        assert seen.columns == dict.fromkeys(table.column_names, ColumnStatistics(0))


def test_the_limits_are_those_of_all_row_groups(tmp_path):
    dice = random.Random(1)
    tables = [
        pa.table({
            "id": [dice.randrange(-(10**12), 10**12) for _ in range(100)],
            "text": pa.array([None if n % 3 else str(dice.random()) for n in range(100)]),
            "later": pa.array([None if at < 2 else at] * 100, pa.int64()),
        })
        for at in range(5)
    ]  # fmt: skip
    seen = statistics(tmp_path, *tables, row_group_bytes=1)
    assert pa.parquet.read_metadata(tmp_path / "a.parquet").num_row_groups == 5
    whole = pa.concat_tables(tables)
    for name in whole.column_names:
        limits = pc.min_max(whole[name])
        nulls = whole[name].null_count
        assert seen.columns[name] == ColumnStatistics(nulls, limits["min"], limits["max"])


def test_nan_is_no_limit(tmp_path):
    table = pa.table({"some": [math.nan, 1.0, None], "all": [math.nan] * 3})
    seen = statistics(tmp_path, table)
    assert seen.columns["some"] == ColumnStatistics(1, pa.scalar(1.0), pa.scalar(1.0))
    assert seen.columns["all"] == ColumnStatistics(0)
    # A row group of nothing but NaN: its other values are not known, and neither are the file's.
    both = pa.table({"some": [5.0], "all": [5.0]})
    seen = statistics(tmp_path, table, both, row_group_bytes=1)
    assert seen.columns["some"] == ColumnStatistics(1, pa.scalar(1.0), pa.scalar(5.0))
    assert seen.columns["all"] == ColumnStatistics(0)


def test_a_column_of_nulls_has_no_limits(tmp_path):
    table = pa.table({"typed": pa.nulls(3, pa.int64()), "untyped": pa.nulls(3)})
    seen = statistics(tmp_path, table)
    assert seen.columns == {"typed": ColumnStatistics(3), "untyped": ColumnStatistics(3)}


@pytest.mark.parametrize("size", [5_000, MIB])
def test_values_that_the_footer_does_not_keep_have_no_limits(size, tmp_path):
    table = pa.table({"text": ["a", "z" * size, None], "id": [1, 2, 3]})
    seen = statistics(tmp_path, table)
    assert seen.columns["text"] == ColumnStatistics(1)
    assert seen.columns["id"] == ColumnStatistics(0, pa.scalar(1), pa.scalar(3))


def test_nested_columns_count_their_own_nulls_and_have_no_limits(tmp_path):
    table = pa.table({
        "list": pa.array([[1], None, [None, 3]]),
        "struct": pa.array([{"a": 1}, None, {"a": None}]),
        "map": pa.array([[("a", 1)], None, []], pa.map_(pa.string(), pa.int64())),
    })  # fmt: skip
    seen = statistics(tmp_path, table)
    assert seen.columns == dict.fromkeys(table.column_names, ColumnStatistics(1))


def test_a_column_with_a_point_in_its_name_is_not_taken_for_a_field(tmp_path):
    maps = pa.array([[("a", 1)], None], pa.map_(pa.string(), pa.int64()))
    table = pa.table({"m": maps, "a.b": [1, 2], "a": pa.array([{"b": 7}, None]), "z": [3, 4]})
    seen = statistics(tmp_path, table)
    assert seen.columns["a.b"] == ColumnStatistics(0, pa.scalar(1), pa.scalar(2))
    assert seen.columns["a"] == ColumnStatistics(1)
    assert seen.columns["z"] == ColumnStatistics(0, pa.scalar(3), pa.scalar(4))
