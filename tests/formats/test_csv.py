"""What a reader and a writer of CSV may rely on."""

from __future__ import annotations

import datetime as dt
import gzip
import json
import random
import weakref
from contextlib import suppress
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import hygge.formats.csv_reader
from hygge.connectors.files.csv import CsvHome, CsvStore
from hygge.errors import ConfigError, HomeError, UnfitValue

EXACT = pa.table(
    {
        "text": pa.array([None, "", 'a "b"\n,c', "007", " é\t😀 ", "NULL"]),
        "money": pa.array(
            [Decimal("1.50"), None, Decimal("-0.01"), Decimal("99999999999999999999.99"),
             Decimal("0.00"), Decimal("12345678901234567890.12")], pa.decimal128(38, 2)),
        "tiny": pa.array([Decimal("1E-20"), None, Decimal("0"), Decimal("-1"), None, None],
                         pa.decimal128(38, 20)),
        "number": pa.array([float("nan"), float("-inf"), -0.0, 0.1, 5e-324, None]),
        "single": pa.array([0.1, None, float("inf"), 3.4028234663852886e38, -0.0, 1.0],
                           pa.float32()),
        "big": pa.array([2**64 - 1, None, 0, 1, 2**53 + 1, 7], pa.uint64()),
        "least": pa.array([-(2**63), 2**63 - 1, None, 2**53 + 1, 0, -1], pa.int64()),
        "yes": pa.array([True, False, None, True, True, False]),
        "day": pa.array([dt.date(1, 1, 1), None, dt.date(9999, 12, 31), dt.date(1970, 1, 1),
                         dt.date(2024, 2, 29), None]),
        "at": pa.array([dt.datetime(9999, 12, 31, 23, 59, 59, 999999), None,
                        dt.datetime(1, 1, 1), dt.datetime(1969, 12, 31, 23, 59, 59, 1), None,
                        dt.datetime(2024, 2, 29)], pa.timestamp("us")),
        "moment": pa.array([dt.datetime(9999, 12, 31, 23, 59, 59, 999999), None,
                            dt.datetime(1, 1, 1), dt.datetime(1969, 12, 31, 23, 59, 59, 1), None,
                            dt.datetime(2024, 2, 29)], pa.timestamp("us", "UTC")),
        "clock": pa.array([dt.time(0), None, dt.time(23, 59, 59, 999999), dt.time(1), None,
                           dt.time(12, 30)], pa.time64("us")),
        "raw": pa.array([b"\x00\xff", None, b"", b"a", b"\n", b'"'], pa.binary()),
    }
)  # fmt: skip
TYPES = {
    "text": "string", "money": "decimal(38,2)", "tiny": "decimal(38, 20)", "number": "double",
    "single": "float32", "big": "uint64", "least": "int", "yes": "bool", "day": "date",
    "at": "timestamp", "moment": "timestamp_tz", "clock": "time", "raw": "binary",
}  # fmt: skip


def read(path: object, columns: list[str] | None = None, **options: Any) -> pa.Table:
    home = CsvHome(path=str(path), columns=columns, options=options)
    with home.open(None) as plan:
        assert plan.columns is not None
        schema = pa.schema([(column.name, column.type) for column in plan.columns])
        splits = [json.loads(json.dumps(split.where)) == split.where for split in plan.splits]
        assert all(splits)
        tables = [table for split in plan.splits for table in home.read(split)]
    return pa.concat_tables([schema.empty_table(), *tables])


def write(path: Path, *tables: pa.Table, **options: Any) -> Path:
    store = CsvStore(path=str(path), options=options)
    store.check_schema(tables[0].schema)
    writer = store.open_writer(str(path), tables[0].schema)
    for table in tables:
        writer.write(table)
    writer.close()
    return path


def same(one: pa.Table, other: pa.Table) -> bool:
    """Equal to the bit: NaN is NaN, -0 is not 0."""
    return one.schema.equals(other.schema) and repr(one.to_pylist()) == repr(other.to_pylist())


@pytest.fixture
def file(tmp_path: Path) -> Any:
    def make(content: str | bytes, name: str = "a.csv") -> Path:
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return make


@pytest.mark.parametrize("suffix", [".csv", ".csv.gz", ".csv.zst", ".tsv", ".tsv.gz"])
def test_every_value_comes_back_exactly_when_its_type_is_stated(tmp_path, suffix):
    path = write(tmp_path / f"a{suffix}", EXACT, EXACT)
    assert same(read(path, types=TYPES), pa.concat_tables([EXACT, EXACT]))


@pytest.mark.parametrize("suffix", [".csv", ".csv.gz", ".csv.zst"])
def test_parts_join_to_one_file_with_one_header(tmp_path, suffix):
    store = CsvStore(path=str(tmp_path / f"all{suffix}"))
    parts = [str(write(tmp_path / f"{n}{suffix}", EXACT)) for n in range(3)]
    store.join(parts, store.path, EXACT.schema)
    assert same(read(store.path, types=TYPES), pa.concat_tables([EXACT] * 3))
    if suffix != ".csv.zst":  # for which pandas needs a package of its own
        assert len(pd.read_csv(store.path)) == 3 * EXACT.num_rows
    assert duckdb.sql(f"select count(*) from read_csv('{store.path}')").fetchall() == [(18,)]


def test_a_part_that_is_not_ours_is_not_joined(tmp_path, file):
    store = CsvStore(path=str(tmp_path / "all.csv"))
    with pytest.raises(HomeError, match="does not begin as it was written"):
        store.join([str(file("x\n1\n"))], store.path, EXACT.schema)


def test_a_foreign_reader_sees_the_same_texts_and_nulls(tmp_path):
    path = write(tmp_path / "a.csv", EXACT.select(["text", "least"]))
    found = duckdb.sql(
        f"select text, least from read_csv('{path}', all_varchar=true, header=true, quote='\"')"
    ).fetchall()
    assert [row[1] for row in found] == [None if v is None else str(v)
                                         for v in EXACT["least"].to_pylist()]  # fmt: skip
    assert [row[0] for row in found][2:] == EXACT["text"].to_pylist()[2:]


def test_empty_is_null_and_quoted_empty_is_a_text(file):
    path = file('a,b,c\n,"",1\n"",,\n')
    assert read(path).to_pylist() == [{"a": None, "b": "", "c": 1}, {"a": "", "b": None, "c": None}]


def test_a_quoted_empty_number_names_the_option_that_makes_it_null(file):
    path = file('a,b\n"x","1"\n"y",""\n')
    with pytest.raises(UnfitValue, match="line 3, column 'b': '' is no int64") as caught:
        read(path, types={"b": "int64"})
    assert "quoted_nulls: true" in caught.value.hint
    assert read(path, types={"b": "int64"}, quoted_nulls=True)["b"].to_pylist() == [1, None]


def test_null_values_count_where_they_stand_unquoted(file):
    path = file('a,b\nNULL,NULL\n"NULL",5\n,-\n')
    assert read(path, null_values=["NULL", "-"]).to_pylist() == [
        {"a": None, "b": None}, {"a": "NULL", "b": 5}, {"a": None, "b": None},
    ]  # fmt: skip


def test_a_null_in_a_single_column_is_no_blank_line_to_skip(tmp_path):
    table = pa.table({"a": pa.array([None, "", "x", None])})
    assert same(read(write(tmp_path / "a.csv", table)), table)
    numbers = pa.table({"a": pa.array([None, 1, None, None], pa.int64())})
    assert same(read(write(tmp_path / "b.csv", numbers)), numbers)


@pytest.mark.parametrize("text_first", [True, False])
@pytest.mark.parametrize("line", ["1,2,3", "1"])
def test_a_ragged_line_is_named_with_both_counts(file, line, text_first):
    path = file('a,b\n"x\ny",2\n\n' + line + "\n5,6\n")
    with pytest.raises(UnfitValue, match=rf"line 5: {line.count(',') + 1} columns .* 2 are expect"):
        read(path, types={"a": "string"} if text_first else {})


@pytest.mark.parametrize("compression", ["", ".gz"])
def test_a_wrong_encoding_is_named_with_its_line(file, compression):
    content = "a,b\n1,x\n2,Zürich\n".encode("cp1252")
    path = file(gzip.compress(content) if compression else content, f"a.csv{compression}")
    with pytest.raises(UnfitValue, match=r"line 3: the bytes are not utf-8") as caught:
        read(path)
    assert "encoding: cp1252" in caught.value.hint
    assert read(path, encoding="cp1252")["b"].to_pylist() == ["x", "Zürich"]


def test_other_encodings_and_byte_order_marks_are_understood(file):
    text = 'ä,b\n1,"x\nß"\n'
    for encoding, stated in [("utf-8-sig", "utf-8"), ("utf-16", "utf-16"), ("latin-1", "latin-1")]:
        table = read(file(text.encode(encoding)), encoding=stated)
        assert table.to_pylist() == [{"ä": 1, "b": "x\nß"}]
    with pytest.raises(UnfitValue) as caught:
        read(file(text.encode("utf-16")))
    assert "encoding: utf-16" in caught.value.hint
    with pytest.raises(UnfitValue, match="line 2: the bytes are not cp1252"):
        read(file(b"a,b\n1,\x81\n"), encoding="cp1252")


@pytest.mark.parametrize("suffix", [".csv.gz", ".csv.zst"])
@pytest.mark.parametrize("keep", [0.3, 0.9, 0.999])
def test_a_truncated_compressed_file_is_an_error_and_never_fewer_rows(tmp_path, suffix, keep):
    rng = random.Random(1)
    numbers = pa.table({"a": pa.array([rng.randrange(10**15) for _ in range(50_000)])})
    path = write(tmp_path / f"a{suffix}", numbers)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * keep)])
    with pytest.raises(HomeError, match="cannot be read to its end"):
        read(path)


def test_a_quote_that_is_never_closed_is_an_error_and_no_long_value(file):
    rows = "".join(f"{n},x\n" for n in range(100))
    path = file('a,b\n1,x\n2,"y\n' + rows)
    with pytest.raises(UnfitValue, match="line 3, column 'b': a quoted value is never closed"):
        read(path)
    with pytest.raises(UnfitValue, match="line 3, column 'b': a quoted value is never closed"):
        read(path, columns=["a"])
    assert read(path, quote="").num_rows == 102
    with pytest.raises(UnfitValue, match="line 2, column 'a': a quoted value is never closed"):
        read(file('a\n"x'))


def test_newlines_in_quotes_survive_the_borders_of_blocks(tmp_path, monkeypatch):
    monkeypatch.setattr(hygge.formats.csv_reader.CsvReader.__init__, "__defaults__", (1024,))
    rng = random.Random(2)
    texts = ["".join(rng.choice('ab\n",\r') for _ in range(rng.randrange(80))) for _ in range(3000)]
    table = pa.table({"a": pa.array(range(3000)), "b": pa.array(texts)})
    path = write(tmp_path / "a.csv", table)
    assert same(read(path, types={"b": "string"}), table)


def test_a_row_longer_than_a_block_passes(tmp_path, monkeypatch):
    monkeypatch.setattr(hygge.formats.csv_reader.CsvReader.__init__, "__defaults__", (1024,))
    table = pa.table({"a": ["x", "y" * 50_000, "z"] * 20, "b": pa.array(range(60))})
    assert same(read(write(tmp_path / "a.csv", table)), table)


@pytest.mark.parametrize("content", ["1,x\n" * 50_000, "1,x\n" * 9 + "1,x,y\n", '1,"x"y\n'])
@pytest.mark.parametrize("rows", [1, None])
def test_no_thread_of_pyarrow_holds_a_file_whose_read_is_over(file, monkeypatch, content, rows):
    monkeypatch.setattr(hygge.formats.csv_reader.CsvReader.__init__, "__defaults__", (1024,))
    handles = weakref.WeakSet()
    init = hygge.formats.csv_reader._Handle.__init__

    def remember(handle, source):
        handles.add(handle)
        init(handle, source)

    monkeypatch.setattr(hygge.formats.csv_reader._Handle, "__init__", remember)
    with suppress(UnfitValue):
        if rows is None:
            read(file("a,b\n" + content))
        else:
            home = CsvHome(path=str(file("a,b\n" + content)))
            with home.open() as plan:
                reading = home.read(plan.splits[0])
                next(reading)
                reading.close()
    assert not list(handles)


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("last", [True, False])
def test_every_line_end_is_understood_and_the_last_may_lack(file, end, last):
    path = file(end.join(["a,b", "1,x", "2,y"]) + (end if last else ""))
    assert read(path).to_pylist() == [{"a": 1, "b": "x"}, {"a": 2, "b": "y"}]


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.tuples(st.integers(), st.text("abé", min_size=1, max_size=9)), max_size=40),
    st.integers(1, 200),
    st.sampled_from(["\n", "\r\n"]),
    st.booleans(),
)
def test_a_file_split_anywhere_gives_the_rows_of_the_whole(tmp_path_factory, rows, size, end, last):
    path = tmp_path_factory.mktemp("s") / "a.csv"
    content = end.join(["n,t", *(f"{n},{t}" for n, t in rows)]) + (end if last else "")
    path.write_text(content, newline="")
    types = {"n": "string", "t": "string"}
    table = read(path, types=types, newlines_in_values=False, split_bytes=size)
    assert table.to_pylist() == [{"n": str(n), "t": t} for n, t in rows]


def test_a_misfit_in_a_later_range_names_its_line_in_the_file(file):
    path = file("a,b\n" + "".join(f"{n},x\n" for n in range(1000)) + "y,x\n")
    options = {"newlines_in_values": False, "split_bytes": 500, "sample_bytes": 1024}
    with pytest.raises(UnfitValue, match="line 1002, column 'a': 'y' is no int64"):
        read(path, **options)


def test_a_newline_in_a_value_declared_absent_is_an_error_wherever_the_border_falls(file):
    content = "a,b\n" + "1,x\n" * 5 + '1,"x\ny"\n' + "1,x\n" * 5
    wrong = 0
    for size in range(4, 60):
        options = {"newlines_in_values": False, "split_bytes": size}
        try:
            rows = read(file(content), types={"a": "int64", "b": "string"}, **options).num_rows
        except UnfitValue as error:
            assert "newlines_in_values" in str(error) or "columns were found" in str(error)  # noqa: PT017
            wrong += 1
        else:
            assert rows == 11
    assert wrong


def test_compressed_files_and_files_with_newlines_in_values_are_never_split(tmp_path):
    table = pa.table({"a": ["x" * 100] * 1000})
    for name, newlines, whole in [("a.csv", True, True), ("b.csv", False, False),
                                  ("c.csv.gz", False, True)]:  # fmt: skip
        home = CsvHome(path=str(write(tmp_path / name, table)),
                       options={"split_bytes": 1000, "newlines_in_values": newlines})  # fmt: skip
        with home.open(None) as plan:
            assert (len(plan.splits) == 1) == whole


def test_only_the_wanted_columns_are_read(tmp_path):
    path = write(tmp_path / "a.csv", EXACT)
    assert same(read(path, columns=["big", "text"], types=TYPES), EXACT.select(["big", "text"]))


def test_partition_columns_alone_keep_the_count_of_rows(tmp_path):
    (tmp_path / "year=2024").mkdir()
    write(tmp_path / "year=2024" / "a.csv", EXACT)
    assert read(tmp_path, columns=["year"], types=TYPES)["year"].to_pylist() == [2024] * 6


def test_files_may_order_their_columns_as_they_like(tmp_path, file):
    file("a,b\n1,x\n", "1.csv")
    file("b,a\ny,2\n", "2.csv")
    assert read(tmp_path / "*.csv").to_pylist() == [{"a": 1, "b": "x"}, {"a": 2, "b": "y"}]


def test_files_with_other_columns_are_both_named(tmp_path, file):
    one, two = file("a,b\n1,x\n", "1.csv"), file("a,c\n1,x\n", "2.csv")
    with pytest.raises(HomeError) as caught:
        read(tmp_path / "*.csv")
    assert str(one) in caught.value.message
    assert str(two) in caught.value.message


def test_a_header_alone_is_zero_rows_of_text(file):
    for content in ("a,b\n", "a,b", "a,b\r\n"):
        table = read(file(content))
        assert (table.num_rows, table.column_names) == (0, ["a", "b"])
        assert read(file(content), newlines_in_values=False).num_rows == 0


@pytest.mark.parametrize("content", ["", "\n", "\r\n\n"])
def test_an_empty_file_is_an_error(file, content):
    with pytest.raises(HomeError, match="is empty"):
        read(file(content))


def test_a_name_that_stands_twice_in_the_header_is_an_error(file):
    with pytest.raises(HomeError, match="more than one column named 'a'"):
        read(file("a,b,a\n1,2,3\n"))


def test_a_header_may_hold_quotes_and_newlines(file):
    table = read(file('"a\n""b""","c,d"\n1,x\n2,\n'))
    assert table.column_names == ['a\n"b"', "c,d"]
    with pytest.raises(UnfitValue, match="line 4, column 'c,d'"):
        read(file('"a\n""b""","c,d"\n1,5\n2,x\n'), types={"c,d": "int64"})


def test_without_a_header_the_names_are_given(file):
    path = file("1;'x;y'\n2;\n")
    options = {"header": False, "column_names": ["n", "t"], "delimiter": ";", "quote": "'"}
    assert read(path, **options).to_pylist() == [{"n": 1, "t": "x;y"}, {"n": 2, "t": None}]
    assert read(file(""), **options).num_rows == 0
    with pytest.raises(ConfigError, match="column_names"):
        CsvHome(path="a.csv", options={"header": False})
    with pytest.raises(ConfigError, match="column_names"):
        CsvHome(path="a.csv", options={"column_names": ["a"]})


def test_wrong_options_are_refused_with_the_nearest_word(file):
    with pytest.raises(ConfigError, match=r"column 'a': .*no type 'strng'.*'string'"):
        CsvHome(path="a.csv", options={"types": {"a": "strng"}})
    with pytest.raises(ConfigError, match="no encoding 'utf-99'"):
        CsvHome(path="a.csv", options={"encoding": "utf-99"})
    with pytest.raises(ConfigError, match="separates"):
        CsvHome(path="a.csv", options={"delimiter": "ab"})
    with pytest.raises(ConfigError) as caught:
        read(file("name\nx\n"), types={"nam": "string"})
    assert "'name'" in caught.value.hint
