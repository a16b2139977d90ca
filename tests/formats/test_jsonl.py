"""What a reader and a writer of JSON lines may rely on."""

from __future__ import annotations

import datetime as dt
import json
import random
import re
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hygge.connectors.files.jsonl import JsonlHome, JsonlStore
from hygge.errors import ConfigError, HomeError, UnfitValue
from hygge.formats import json_reader
from hygge.formats.json_reader import JsonlFile

MOMENTS = [dt.datetime(9999, 12, 31, 23, 59, 59, 999999), None, dt.datetime(1, 1, 1),
           dt.datetime(1969, 12, 31, 23, 59, 59, 1)]  # fmt: skip
EXACT = pa.table(
    {
        "text": pa.array([None, "", 'a "b"\n\\,\x00\x7f\u2028', " é\t😀 007"]),
        "money": pa.array([Decimal("1.50"), None, Decimal("-0.01"),
                           Decimal("12345678901234567890.12")], pa.decimal128(38, 2)),
        "tiny": pa.array([Decimal("1E-20"), None, Decimal("0"), Decimal("-1")],
                         pa.decimal128(38, 20)),
        "number": pa.array([0.1, 1e300, -0.0, None]),
        "endless": pa.array([float("nan"), float("-inf"), float("inf"), None]),
        "single": pa.array([0.1, None, float("inf"), 3.4028234663852886e38], pa.float32()),
        "big": pa.array([2**64 - 1, None, 0, 2**53 + 1], pa.uint64()),
        "least": pa.array([-(2**63), 2**63 - 1, None, 2**53 + 1], pa.int64()),
        "yes": pa.array([True, False, None, True]),
        "day": pa.array([dt.date(1, 1, 1), None, dt.date(9999, 12, 31), dt.date(2024, 2, 29)]),
        "at": pa.array(MOMENTS, pa.timestamp("us")),
        "moment": pa.array(MOMENTS, pa.timestamp("us", "UTC")),
        "clock": pa.array([dt.time(0), None, dt.time(23, 59, 59, 999999), dt.time(1)],
                          pa.time64("us")),
        "raw": pa.array([b"\x00\xff", None, b"", b"a"], pa.binary()),
    }
)  # fmt: skip
TYPES = {
    "text": "string", "money": "decimal(38,2)", "tiny": "decimal(38,20)", "number": "double",
    "endless": "double", "single": "float32", "big": "uint64", "least": "int", "yes": "bool",
    "day": "date", "at": "timestamp", "moment": "timestamp_tz", "clock": "time", "raw": "binary",
}  # fmt: skip
FINITE = [name for name in EXACT.column_names if name not in ("endless", "single")]


def read(path: object, columns: list[str] | None = None, **options: Any) -> pa.Table:
    home = JsonlHome(path=str(path), columns=columns, options=options)
    with home.open(None) as plan:
        assert plan.columns is not None
        schema = pa.schema([(column.name, column.type) for column in plan.columns])
        tables = [table for split in plan.splits for table in home.read(split)]
    return pa.concat_tables([schema.empty_table(), *tables])


def write(path: Path, *tables: pa.Table) -> Path:
    store = JsonlStore(path=str(path))
    store.check_schema(tables[0].schema)
    writer = store.open_writer(str(path), tables[0].schema)
    for table in tables:
        writer.write(table)
    writer.close()
    return path


def same(one: pa.Table, other: pa.Table) -> bool:
    return one.schema.equals(other.schema) and repr(one.to_pylist()) == repr(other.to_pylist())


@pytest.fixture
def file(tmp_path: Path) -> Any:
    def make(*lines: object, name: str = "a.jsonl") -> Path:
        path = tmp_path / name
        texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
        path.write_text("".join(text + "\n" for text in texts))
        return path

    return make


@pytest.fixture(params=["fast", "slow"])
def way(request, monkeypatch):
    """Both ways must agree: pyarrow's parser, and Python's where that one cannot be asked."""
    if request.param == "slow":
        monkeypatch.setattr(JsonlFile, "fast", lambda *_: None)
    return request.param


@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.gz", ".ndjson.zst"])
def test_every_value_comes_back_exactly_when_its_type_is_stated(tmp_path, way, suffix):
    path = write(tmp_path / f"a{suffix}", EXACT, EXACT)
    assert same(read(path, types=TYPES), pa.concat_tables([EXACT, EXACT]))


def test_finite_values_take_the_fast_way(tmp_path, monkeypatch):
    monkeypatch.setattr(JsonlFile, "slow", lambda *_: pytest.fail("slow"))
    table = EXACT.select(FINITE)
    path = write(tmp_path / "a.jsonl", table)
    assert same(read(path, types={name: TYPES[name] for name in FINITE}), table)


@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.gz", ".jsonl.zst"])
def test_parts_join_to_one_file(tmp_path, suffix):
    store = JsonlStore(path=str(tmp_path / f"all{suffix}"))
    parts = [str(write(tmp_path / f"{n}{suffix}", EXACT)) for n in range(3)]
    store.join(parts, store.path, EXACT.schema)
    assert same(read(store.path, types=TYPES), pa.concat_tables([EXACT] * 3))
    counted = f"select count(*) from read_json('{store.path}', format='newline_delimited')"
    assert duckdb.sql(counted).fetchall() == [(12,)]


def test_each_line_is_valid_json_for_everybody(tmp_path):
    path = write(tmp_path / "a.jsonl", EXACT)
    rows = [
        json.loads(line, parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))
        for line in path.read_bytes().decode().split("\n")[:-1]
    ]
    assert [row["text"] for row in rows] == EXACT["text"].to_pylist()
    assert [row["big"] for row in rows] == EXACT["big"].to_pylist()
    assert [row["money"] for row in rows] == ["1.50", None, "-0.01", "12345678901234567890.12"]
    assert rows[0]["tiny"] == "0.00000000000000000001"
    assert [row["endless"] for row in rows] == ["NaN", "-Infinity", "Infinity", None]
    assert rows[3]["moment"] == "1969-12-31T23:59:59.000001Z"


def test_nested_values_come_back(tmp_path, way):
    table = pa.table(
        {
            "tags": pa.array([["a", "", None, 'q"'], [], None]),
            "place": pa.array([{"x": 1, "y": ["z"]}, {"x": None, "y": None}, None]),
            "grid": pa.array([[[1, 2], []], None, [[3]]]),
        }
    )
    assert same(read(write(tmp_path / "a.jsonl", table)), table)


def test_nested_leaves_are_written_as_columns_are(tmp_path):
    kind = pa.struct([("d", pa.decimal128(5, 2)), ("t", pa.timestamp("us")), ("f", pa.float64()),
                      ("b", pa.binary())])  # fmt: skip
    row = {"d": Decimal("1.50"), "t": dt.datetime(2024, 1, 1), "f": float("nan"), "b": b"a"}
    path = write(tmp_path / "a.jsonl", pa.table({"s": pa.array([row], kind)}))
    assert json.loads(path.read_text()) == {
        "s": {"d": "1.50", "t": "2024-01-01T00:00:00.000000", "f": "NaN", "b": "YQ=="}
    }


def test_null_and_a_missing_field_are_null_and_empty_is_not(file, way):
    table = read(file({"a": ""}, {"a": None, "b": 1}, {}))
    assert table.to_pylist() == [{"a": "", "b": None}, {"a": None, "b": 1}, {"a": None, "b": None}]


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (["1", "-2"], pa.int64()),
        (["9223372036854775808"], pa.uint64()),
        (["9223372036854775808", "-1"], pa.decimal128(38, 0)),
        (["1.5", "2"], pa.float64()),
        (["-0"], pa.float64()),
        (["1e3"], pa.float64()),
        (["true", "null"], pa.bool_()),
        (['"1"', '"007"'], pa.string()),
        (['"true"'], pa.string()),
        (['"2024-02-29"'], pa.date32()),
        (['"2024-02-29"', '"soon"'], pa.string()),
        (['"2024-02-29T10:00:00Z"'], pa.timestamp("us", "UTC")),
        (['"2024-02-29T10:00:00"'], pa.timestamp("us")),
        (["null"], pa.string()),
        (["[]", "[1, null]"], pa.list_(pa.int64())),
        (["[]"], pa.list_(pa.string())),
        (['{"x": 1}', '{"y": "2024-02-29"}'], pa.struct([("x", pa.int64()), ("y", pa.string())])),
    ],
)
def test_a_sample_infers_the_type_that_all_its_values_have(file, way, values, kind):
    table = read(file(*(f'{{"a": {value}}}' for value in values)))
    assert table.schema.field("a").type == kind
    assert table.num_rows == len(values)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (["1", '"x"'], "'a' is a number on line 1, a text on line 2"),
        (['{"x": 1}', '{"x": true}'], "'a.x' is a number on line 1, true or false on line 2"),
        (["1.5", "0.12345678901234567890"], "line 2: 'a' is '0.12345678901234567890', which float"),
        (["1e400"], "line 1: 'a' is '1e400', which float64 does not hold"),
        (["1" * 39], "which float64 does not hold exactly"),
        (["{}"], "'a' is an object without fields"),
    ],
)
def test_what_has_no_one_exact_type_asks_for_it(file, values, said):
    path = file(*(f'{{"a": {value}}}' for value in values))
    with pytest.raises(UnfitValue) as caught:
        read(path)
    assert said in caught.value.message
    assert "types: {a: " in caught.value.hint
    kept = read(path, types={"a": "string"})["a"].to_pylist()
    assert kept == [json.loads(v) if v[0] == '"' else v.replace(" ", "") for v in values]


@pytest.mark.parametrize(
    ("values", "word"),
    [
        (["1.5", "0.12345678901234567890"], "decimal(38,20)"),
        (["123456789012345678901234567890.5", "0.0123456789"], "decimal(40,10)"),
        (["1e400"], "string"), (["1" * 77], "string"), (["1" * 39], "decimal(39,0)"),
    ],
)  # fmt: skip
def test_the_type_that_is_proposed_for_a_number_takes_it(file, values, word):
    path = file(*(f'{{"a": {value}}}' for value in values))
    with pytest.raises(UnfitValue) as caught:
        read(path)
    assert re.findall(r'types: \{a: "?([a-z]+(?:\(\d+,\d+\))?)', caught.value.hint) == [word]
    kept = read(path, types={"a": word})["a"].to_pylist()
    assert kept == values if word == "string" else kept == [Decimal(value) for value in values]


@pytest.mark.parametrize(
    ("first", "later"),
    [
        ("1", '"x"'), ("1", "1.5"), ("1", "9223372036854775808"), ("1", "true"), ("1", '"2"'),
        ("1.5", "0.12345678901234567890"), ("1.5", "1e999"), ("1.5", '"2.5"'), ('"x"', "5"),
        ("true", "1"), ('"2024-01-01"', '"2024-13-01"'), ('"2024-01-01"', "19000"),
        ('"2024-01-01T00:00:00Z"', '"2024-01-01T00:00:00"'),
        ('"2024-01-01T00:00:00"', '"2024-01-01T00:00:00Z"'),
        ("[1]", '["x"]'), ('{"x":1}', '{"x":1,"z":2}'), ("null", "1"),
    ],
)  # fmt: skip
def test_a_misfit_behind_the_sample_names_line_column_value_and_remedy(file, way, first, later):
    lines = [f'{{"n": 1, "value": {first}}}'] * 100
    path = file(*lines, f'{{"n": 1, "value": {later}}}', lines[0])
    with pytest.raises(UnfitValue) as caught:
        read(path, sample_bytes=1024)
    assert f"{path}, line 101, column 'value': " in caught.value.message
    assert "types: {value: string}" in caught.value.hint


def test_a_stated_string_keeps_what_comes_as_it_is_written(file, way):
    values = ["1.50", '"x"', "true", "null", '{"b": [1.0, "é"]}', "12345678901234567890.10"]
    path = file(*(f'{{"a": {value}}}' for value in values))
    assert read(path, types={"a": "string"})["a"].to_pylist() == [
        "1.50", "x", "true", None, '{"b":[1.0,"é"]}', "12345678901234567890.10",
    ]  # fmt: skip


def test_decimals_never_go_through_a_float(file, way):
    path = file('{"a": 12345678901234567890.12, "b": 0.1}', '{"a": "0.10", "b": 1e2}')
    table = read(path, types={"a": "decimal(38,2)", "b": "decimal(60,5)"})
    assert table["a"].to_pylist() == [Decimal("12345678901234567890.12"), Decimal("0.10")]
    assert table["b"].to_pylist() == [Decimal("0.10000"), Decimal("100.00000")]
    with pytest.raises(UnfitValue, match=r"line 1, column 'a': '0.125' is no decimal"):
        read(file('{"a": 0.125}'), types={"a": "decimal(38,2)"})


def test_numbers_in_texts_fit_where_the_type_is_stated(file, way):
    path = file({"a": "18446744073709551615", "b": "1.5"}, {"a": 5, "b": 2})
    table = read(path, types={"a": "uint64", "b": "float64"})
    assert table.to_pylist() == [{"a": 2**64 - 1, "b": 1.5}, {"a": 5, "b": 2.0}]


def test_overflow_of_a_small_float_is_an_error(file, way):
    with pytest.raises(UnfitValue, match="line 1, column 'a': '1e39' is no float"):
        read(file('{"a": 1e39}'), types={"a": "float32"})


def test_a_field_that_the_sample_did_not_have_is_named(file, way):
    path = file(*[{"a": 1}] * 200, {"a": 1, "extra": 2})
    with pytest.raises(UnfitValue, match="line 201: field 'extra' is none"):
        read(path, sample_bytes=1024)
    assert read(path, sample_bytes=1024, columns=["a"]).num_rows == 201
    assert read(path, sample_bytes=1024, types={"extra": "int64"})["extra"].to_pylist()[-1] == 2


def test_only_the_wanted_columns_are_read(file, way):
    path = file({"a": 1, "b": "x", "c": {"d": 1}}, {"a": 2, "b": 5, "c": 7})
    assert read(path, columns=["a"]).to_pylist() == [{"a": 1}, {"a": 2}]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"a": 1', "no JSON from"), ("null", "no JSON object"), ("[1]", "no JSON object"),
        ("5", "no JSON object"), ('{"a": 1} {"a": 2}', "more stands"), ("{'a': 1}", "no JSON from"),
        ('{"a": 1, "a": 2}', "field 'a' stands twice"), ('{"a": 007}', "no JSON from"),
        ('{"a":\n1}', "no JSON from"),
    ],
)  # fmt: skip
def test_a_line_that_is_no_object_is_named(file, line, said):
    path = file(*[{"a": 1}] * 200, line, {"a": 1})
    with pytest.raises(UnfitValue, match=rf"line 201: .*{said}"):
        read(path, sample_bytes=1024)


def test_bytes_that_are_not_the_encoding_are_named(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"a": "x"}\n' * 200 + '{"a": "Zürich"}\n'.encode("latin-1"))
    with pytest.raises(UnfitValue, match="line 201: the bytes are not utf-8"):
        read(path, sample_bytes=1024)
    assert read(path, encoding="latin-1")["a"].to_pylist()[-1] == "Zürich"


def test_blank_lines_crlf_bom_and_a_missing_last_newline_are_understood(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"a": 1}\r\n\r\n {"a": 2}\n\n{"a": 3}')
    assert read(path)["a"].to_pylist() == [1, 2, 3]


@pytest.mark.parametrize("content", ["", "\n", "{}\n"])
def test_a_file_without_any_column_has_none(tmp_path, content):
    path = tmp_path / "a.jsonl"
    path.write_text(content)
    with pytest.raises(HomeError, match="no column"):
        read(path)
    assert read(path, types={"a": "int64"}).num_rows == content.count("{")


@pytest.mark.parametrize("suffix", [".jsonl.gz", ".jsonl.zst"])
@pytest.mark.parametrize("keep", [0.3, 0.999])
def test_a_truncated_compressed_file_is_an_error_and_never_fewer_rows(tmp_path, suffix, keep):
    rng = random.Random(1)
    numbers = pa.table({"a": pa.array([rng.randrange(10**15) for _ in range(50_000)])})
    path = write(tmp_path / f"a{suffix}", numbers)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * keep)])
    with pytest.raises(HomeError, match="cannot be read to its end"):
        read(path)


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.text('abé\\"\n', max_size=9), min_size=1, max_size=40),
    st.integers(1, 300),
    st.integers(1, 80),
)
def test_a_file_split_and_blocked_anywhere_gives_the_whole(tmp_path_factory, texts, size, block):
    table = pa.table({"t": texts, "n": range(len(texts))})
    path = write(tmp_path_factory.mktemp("s") / "a.jsonl", table)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_reader, "BLOCK_BYTES", block)
        types = {"t": "string", "n": "int64"}
        assert same(read(path, types=types, split_bytes=size), table)


def test_a_misfit_in_a_later_range_names_its_line_in_the_file(file):
    path = file(*({"a": n} for n in range(1000)), {"a": "y"})
    with pytest.raises(UnfitValue, match="line 1001, column 'a': '\"y\"' is no int64"):
        read(path, split_bytes=500, sample_bytes=1024)


def test_inferred_floats_of_any_length_stay_exact_and_fast(tmp_path, monkeypatch):
    monkeypatch.setattr(JsonlFile, "slow", lambda *_: pytest.fail("slow"))
    rng = random.Random(3)
    table = pa.table({"a": [rng.random() * 10.0 ** rng.randrange(-20, 20) for _ in range(2000)]})
    assert same(read(write(tmp_path / "a.jsonl", table)), table)


def test_partition_columns_alone_keep_the_count_of_rows(tmp_path, way):
    (tmp_path / "year=2024").mkdir()
    write(tmp_path / "year=2024" / "a.jsonl", EXACT)
    assert read(tmp_path, columns=["year"], types=TYPES)["year"].to_pylist() == [2024] * 4


def test_wrong_options_and_types_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="no type 'strng'"):
        JsonlHome(path="a.jsonl", options={"types": {"a": "strng"}})
    with pytest.raises(ConfigError, match="ends as compression none does"):
        JsonlStore(path="a.jsonl", options={"compression": "zstd"})
    assert JsonlStore(path="folder", options={"compression": "gzip"}).suffix() == ".jsonl.gz"
    schema = pa.schema([("m", pa.map_(pa.string(), pa.int64()))])
    with pytest.raises(UnfitValue, match="column 'm' is map"):
        JsonlStore(path=str(tmp_path / "a.jsonl")).check_schema(schema)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.none() | st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
            st.none() | st.floats(),
            st.none() | st.binary(max_size=5),
        ),
        min_size=1,
        max_size=30,
    )
)
def test_any_table_comes_back(tmp_path_factory, rows):
    schema = pa.schema([("t", pa.string()), ("f", pa.float64()), ("b", pa.binary())])
    columns = [[row[n] for row in rows] for n in range(3)]
    arrays = [pa.array(column, field.type) for column, field in zip(columns, schema, strict=True)]
    table = pa.Table.from_arrays(arrays, schema=schema)
    path = write(tmp_path_factory.mktemp("any") / "a.jsonl", table)
    assert same(read(path, types={"t": "string", "f": "float64", "b": "binary"}), table)
