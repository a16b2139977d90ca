"""Each type of Arrow comes through each file format as it is, or is an error before rows move."""

from __future__ import annotations

import json
from decimal import Decimal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hygge import ArrowHome, ArrowStore, Flow, FlowFailed, JsonlHome, ParquetHome, ParquetStore

NUMBERS = [1, None, 5]


def of(kind, values=NUMBERS):
    return pa.array(values, kind)


def time(kind):
    width = pa.int32() if kind.bit_width == 32 else pa.int64()
    return pa.array(NUMBERS, width).cast(kind)


def extension(kind, values):
    return pa.ExtensionArray.from_storage(kind, pa.array(values, kind.storage_type))


INTERVAL = pa.MonthDayNano([1, 2, 3])
UUID = extension(pa.uuid(), [b"0" * 16, None, b"1" * 16])
UNION = [pa.array([0, 1, 0], pa.int8()), pa.array([0, 0, 1], pa.int32())]
KEPT = {
    "null": pa.nulls(3),
    "bool": of(pa.bool_(), [True, None, False]),
    **{str(kind): of(kind) for kind in (pa.int8(), pa.uint16(), pa.uint64(), pa.float16())},
    **{str(kind): time(kind) for kind in (
        pa.timestamp("ms"), pa.timestamp("ns", "Europe/Berlin"), pa.timestamp("us", "+05:30"),
        pa.duration("s"), pa.duration("ns"), pa.date32(), pa.time32("ms"), pa.time64("ns"),
    )},
    **{kind.__name__: of(kind(5, 2), [Decimal("1.10"), None, Decimal(2)]) for kind in (
        pa.decimal32, pa.decimal64, pa.decimal128, pa.decimal256,
    )},
    "large string": of(pa.large_string(), ["a", None, ""]),
    "large binary": of(pa.large_binary(), [b"a", None, b""]),
    "fixed binary": of(pa.binary(2), [b"ab", None, b"cd"]),
    "large list": of(pa.large_list(pa.int64()), [[1], None, []]),
    "fixed list": of(pa.list_(pa.int64(), 2), [[1, 2], None, [3, None]]),
    "struct": of(pa.struct([("a", pa.null())]), [{"a": None}, None, {"a": None}]),
    "sorted map": of(pa.map_(pa.string(), pa.int64(), keys_sorted=True), [[("a", 1)], None, []]),
    "list of durations": of(pa.list_(pa.duration("us")), [[1], None, []]),
    "uuid": UUID,
    "list of uuids": pa.ListArray.from_arrays([0, 1, 2, 3], UUID),
    "json": extension(pa.json_(), ["{}", None, "1"]),
    "bool8": extension(pa.bool8(), [1, None, 0]),
    "opaque": extension(pa.opaque(pa.string(), "t", "v"), ["a", None, ""]),
    "tensor": extension(pa.fixed_shape_tensor(pa.int32(), [2]), [[1, 2], None, [3, 4]]),
}  # fmt: skip
ONLY_ARROW = {
    "interval": of(pa.month_day_nano_interval(), [INTERVAL, None, INTERVAL]),
    "list of intervals": of(pa.list_(pa.month_day_nano_interval()), [[INTERVAL], None, []]),
    "dense union": pa.UnionArray.from_dense(*UNION, [pa.array([1, 2]), pa.array(["s"])]),
    "sparse union": pa.UnionArray.from_sparse(
        UNION[0], [pa.array([1, 2, 3]), pa.array(["s", "t", "u"])]
    ),
    "negative scale": of(pa.decimal128(5, -2), [Decimal(1200), None, Decimal(200)]),
    "empty struct": of(pa.struct([]), [{}, None, {}]),
    "empty struct inside": of(pa.struct([("a", pa.struct([]))]), [{"a": {}}, None, {"a": None}]),
}


def write(table, path):
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)


def read(path):
    if path.suffix == ".parquet":
        return pq.read_table(path)
    with pa.memory_map(str(path)) as file:
        return pa.ipc.open_file(file).read_all()


def move(home, store):
    return Flow(home, store, name="f", engine="inline").run()


@pytest.mark.parametrize("name", KEPT)
def test_a_type_comes_through_arrow_and_parquet_and_back(tmp_path, name):
    table = pa.table({"c": KEPT[name]})
    write(table, tmp_path / "in.arrow")
    move(ArrowHome(path=tmp_path / "in.arrow"), ArrowStore(path=tmp_path / "a.arrow"))
    assert read(tmp_path / "a.arrow").equals(table)
    move(ArrowHome(path=tmp_path / "in.arrow"), ParquetStore(path=tmp_path / "p.parquet"))
    assert read(tmp_path / "p.parquet").equals(table)
    move(ParquetHome(path=tmp_path / "p.parquet"), ArrowStore(path=tmp_path / "b.arrow"))
    assert read(tmp_path / "b.arrow").equals(table)


@pytest.mark.parametrize("name", ONLY_ARROW)
def test_a_type_that_parquet_cannot_hold_is_refused_by_name_and_kept_by_arrow(tmp_path, name):
    table = pa.table({"c": ONLY_ARROW[name]})
    write(table, tmp_path / "in.arrow")
    move(ArrowHome(path=tmp_path / "in.arrow"), ArrowStore(path=tmp_path / "a.arrow"))
    assert read(tmp_path / "a.arrow").equals(table)
    with pytest.raises(FlowFailed, match=r"column 'c' is .* which Parquet cannot hold"):
        move(ArrowHome(path=tmp_path / "in.arrow"), ParquetStore(path=tmp_path / "p.parquet"))
    assert not (tmp_path / "p.parquet").exists()


def test_a_date64_with_a_part_of_a_day_is_an_error(tmp_path):
    day = pa.array([86_400_000, 86_400_005])
    array = pa.Array.from_buffers(pa.date64(), 2, day.buffers())
    write(pa.table({"c": array}), tmp_path / "in.arrow")
    with pytest.raises(FlowFailed, match="in.arrow cannot be read .* whole number of days"):
        move(ArrowHome(path=tmp_path / "in.arrow"), ParquetStore(path=tmp_path / "p.parquet"))


LINES = """{"id": 1, "a": {}}
{"id": 2, "a": "x"}
{"id": 3, "a" : {"b" : 1.50, "\\u00e9": [1, 2e1]} , "c": null}
{ "id": 4, "a": 12345678901234567890.10 }
{"a": null, "id": 5}
{"id": 6}
"""


def test_any_value_of_a_column_is_kept_as_the_json_that_stands_there(tmp_path):
    (tmp_path / "in.jsonl").write_text(LINES)
    home = JsonlHome(path=tmp_path / "in.jsonl", options={"types": {"a": "json"}})
    move(home, ParquetStore(path=tmp_path / "p.parquet"))
    assert read(tmp_path / "p.parquet")["a"].to_pylist() == [
        "{}", '"x"', '{"b" : 1.50, "\\u00e9": [1, 2e1]}', "12345678901234567890.10", None, None,
    ]  # fmt: skip


@pytest.mark.parametrize(
    "lines", ['{"a": {}}', '{"a": {"b": 1}}\n{"a": "x"}', '{"a": [1]}\n{"a": {"b": 1}}']
)
def test_the_remedy_for_values_of_no_one_type_is_named_and_works(tmp_path, lines):
    (tmp_path / "in.jsonl").write_text(lines)
    with pytest.raises(FlowFailed) as caught:
        move(JsonlHome(path=tmp_path / "in.jsonl"), ParquetStore(path=tmp_path / "p.parquet"))
    assert "`options: {types: {a: json}}`" in caught.value.hint
    home = JsonlHome(path=tmp_path / "in.jsonl", options={"types": {"a": "json"}})
    move(home, ParquetStore(path=tmp_path / "p.parquet"))
    texts = read(tmp_path / "p.parquet")["a"].to_pylist()
    assert [{"a": json.loads(text)} for text in texts] == [*map(json.loads, lines.splitlines())]
