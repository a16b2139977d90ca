"""A table of MariaDB takes rows of its own definition, and changes no value in silence."""

from __future__ import annotations

from datetime import datetime, time

import pyarrow as pa
import pytest

from hygge import Flow
from hygge.errors import StoreError, UnfitValue
from tests.connectors.mariadb.rows import commit_run, home_at, store_at

pytest_plugins = ["tests.servers.mariadb"]

OWN = """
    id int AUTO_INCREMENT PRIMARY KEY, d datetime, d3 datetime(3), ts timestamp NULL,
    ts6 timestamp(6) NOT NULL DEFAULT '2024-01-01', ti time, l1 varchar(20) CHARACTER SET latin1,
    u3 text CHARACTER SET utf8mb3, u2 char(5) CHARACTER SET ucs2, e enum('a','it''s','1','2'),
    s set('x','y','z') CHARACTER SET latin1, y year, bi binary(4), vb varbinary(4), ye bit(9),
    f float, de decimal(9,2) unsigned, tt tinytext, nn bigint unsigned, ch char(4), uu uuid
"""
ROW = """
    7, '2024-01-01 10:00:01', '2024-01-01 10:00:01.125', '2024-01-01 10:00:01',
    '2024-01-01 10:00:01.000125', '10:00:01', 'é', 'ж', 'éж', '2', 'x,z', 1999, 'ab', 'ab',
    b'101010101', 1.5, 1.25, 'tiny', 18446744073709551615, 'ab',
    'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'
"""


@pytest.mark.parametrize("mode", ["append", "merge"])
def test_a_table_takes_rows_of_its_own_definition(my, my_schema, tmp_path, mode):
    for table in ("s", "t"):
        my.ask(f"CREATE TABLE {my_schema}.{table} ({OWN})")
    my.ask(f"INSERT INTO {my_schema}.s VALUES ({ROW.replace('%', '%%')})")
    my.ask(f"INSERT INTO {my_schema}.s (ts6) VALUES ('2024-02-29')")  # the others are NULL
    key = ["id"] if mode == "merge" else []
    ends = home_at(my, my_schema, "s"), store_at(my, my_schema)
    flow = Flow(*ends, name="f", mode=mode, key=key, engine="inline", state=tmp_path)
    for _ in range(1 + (mode == "merge")):
        assert flow.run().applied == 2
    rows = my.ask(f"SELECT * FROM {my_schema}.t ORDER BY id")
    assert rows == my.ask(f"SELECT * FROM {my_schema}.s ORDER BY id")
    checksums = dict(my.ask(f"CHECKSUM TABLE {my_schema}.s, {my_schema}.t"))
    assert len(set(checksums.values())) == 1


US = pa.timestamp("us")
CHANGED = [
    ("datetime", datetime(2024, 1, 1, 10, 0, 0, 700_000), US),
    ("datetime(3)", datetime(2024, 1, 1, 10, 0, 0, 125), US),
    ("timestamp(2) NULL", datetime(2024, 1, 1, 10, 0, 0, 125_000), pa.timestamp("us", "UTC")),
    ("timestamp NOT NULL", None, pa.timestamp("us", "UTC")),
    ("timestamp NULL", datetime(2100, 1, 1), pa.timestamp("s", "UTC")),
    ("time", time(10, 0, 0, 1), pa.time64("us")),
    ("varchar(3) CHARACTER SET latin1", "ж", pa.string()),
    ("text CHARACTER SET utf8mb3", "😀", pa.string()),
    ("varchar(3)", "x   ", pa.string()),
    ("varchar(3)", "xxxx", pa.string()),
    ("char(3)", "x ", pa.string()),
    ("tinytext", "x" * 256, pa.string()),
    ("tinytext CHARACTER SET ucs2", "x" * 128, pa.string()),
    ("text", "x" * 65_536, pa.string()),
    ("tinyblob", b"x" * 256, pa.binary()),
    ("mediumblob", b"x" * 2**24, pa.binary()),
    ("enum('a','b')", "1", pa.string()),
    ("enum('a','b')", "A", pa.string()),
    ("set('a','b')", "b,a", pa.string()),
    ("set('a','b')", "a,a", pa.string()),
    ("set('a','b')", "3", pa.string()),
    ("binary(3)", b"ab", pa.binary()),
    ("varbinary(3)", b"abcd", pa.binary()),
    ("year", 5, pa.uint8()),
    ("bit(3)", 8, pa.uint64()),
    ("mediumint", 2**24, pa.int32()),
    ("decimal(12,2) unsigned", -1, pa.int32()),
]


@pytest.mark.parametrize(
    ("column", "value", "kind"), CHANGED, ids=[f"{c} {v!r:.9}" for c, v, _ in CHANGED]
)
def test_a_value_that_the_column_would_change_fails_the_run(my, my_schema, column, value, kind):
    my.ask(f"CREATE TABLE {my_schema}.t (v {column}) DEFAULT CHARSET utf8mb4")
    with pytest.raises(UnfitValue) as caught:
        commit_run(store_at(my, my_schema), pa.table({"v": pa.array([value], kind)}), mode="append")
    assert caught.value.hint
    assert my.ask(f"SELECT * FROM {my_schema}.t") == []


@pytest.mark.parametrize(
    ("column", "kind"),
    [
        ("float(7,2)", pa.float32()),
        ("decimal(9,1)", pa.decimal128(9, 2)),
        ("int", pa.uint32()),
        ("float", pa.float64()),
        ("datetime(6)", pa.timestamp("us", "UTC")),
        ("tinyint(1)", pa.int8()),
    ],
)
def test_a_type_that_does_not_fit_is_an_error_before_rows_move(my, my_schema, column, kind):
    my.ask(f"CREATE TABLE {my_schema}.t (v {column})")
    with pytest.raises(StoreError, match="cannot keep .* exactly"):
        commit_run(store_at(my, my_schema), pa.table({"v": pa.array([], kind)}), mode="append")


def test_a_type_that_hygge_does_not_write_is_refused_before_rows_move(my, my_schema):
    my.ask(f"CREATE TABLE {my_schema}.t (v point)")
    with pytest.raises(StoreError, match="'v' is point, and hygge writes no values of that type"):
        commit_run(store_at(my, my_schema), pa.table({"v": ["POINT(1 2)"]}), mode="append")


def test_half_of_a_surrogate_pair_is_no_text(my, my_schema):
    data = pa.array([b"\xed\xa0\x80"])
    texts = pa.Array.from_buffers(pa.string(), 1, data.buffers())
    with pytest.raises(UnfitValue, match="'v' holds 0xeda080, which is no UTF-8 text"):
        commit_run(store_at(my, my_schema), pa.table({"v": texts}))
