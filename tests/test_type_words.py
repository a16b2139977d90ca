"""The words of `types:`, where a file of text has none; and what JSON lines hold by them."""

import asyncio
import json
import math
from decimal import Decimal

import pyarrow as pa
import pytest

from hygge import CsvHome, JsonlHome, JsonlStore
from hygge.errors import ConfigError, UnfitValue
from hygge.model import Run
from hygge.type_words import nested_type_of, type_of


def read(home):
    with home.open() as plan:
        return pa.concat_tables([t for split in plan.splits for t in home.read(split)])


@pytest.mark.parametrize(
    "kind",
    [
        pa.timestamp("us", "Europe/Berlin"),
        pa.timestamp("ns", "+02:00"),
        pa.binary(4),
        pa.list_(pa.decimal128(38, 10)),
        pa.list_(pa.list_(pa.int32()), 2),
        pa.struct([("Id", pa.int64()), ("tags", pa.list_(pa.string()))]),
    ],
    ids=str,
)
def test_the_text_of_an_arrow_type_is_a_word(kind):
    assert nested_type_of(str(kind)) == kind


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("timestamp[us, tz=Europe/Berlni]", "no time zone 'Europe/Berlni'"),
        ("list<itn64>", "no type 'itn64'.*did you mean 'int64'"),
        ("struct<id>", "'id' is no `name: type`"),
        ("struct<id: int64, id: string>", "two fields have one name"),
    ],
)
def test_a_wrong_word_is_said(word, said):
    with pytest.raises(ValueError, match=said):
        nested_type_of(word)


@pytest.mark.parametrize("word", ["decimal(0,0)", "decimal(77,0)", "decimal(5,6)", "timestamp[xs]"])
def test_an_impossible_type_is_refused(word):
    with pytest.raises(ValueError):
        type_of(word)


def test_lists_are_no_word_where_cells_hold_none(tmp_path):
    with pytest.raises(ValueError, match="there is no type"):
        type_of("list<int64>")
    with pytest.raises(ConfigError, match="column 'v'"):
        CsvHome(path=tmp_path / "t.csv", options={"types": {"v": "list<int64>"}})


def test_a_stated_zone_keeps_the_instant(tmp_path):
    file = tmp_path / "t.csv"
    file.write_text("at\n2024-10-27T02:30:00+02:00\n2024-10-27T02:30:00+01:00\n")
    zone = {"at": "timestamp[us, tz=Europe/Berlin]"}
    column = read(CsvHome(path=file, options={"types": zone})).column("at")
    assert [str(at) for at in column.to_pylist()] == [
        "2024-10-27 02:30:00+02:00",
        "2024-10-27 02:30:00+01:00",
    ]


def test_a_list_of_another_length_is_named(tmp_path):
    file = tmp_path / "t.jsonl"
    file.write_text('{"at": [1.5, 2]}\n{"at": [1.5]}\n')
    home = JsonlHome(path=file, options={"types": {"at": "fixed_size_list<double>[2]"}})
    with pytest.raises(UnfitValue, match="line 2, column 'at'"):
        read(home)


def test_large_and_nested_columns_become_lines(tmp_path):
    pair = pa.struct([("p", pa.decimal128(9, 2)), ("f", pa.float64()), ("none", pa.struct([]))])
    row = {
        "text": 'a "b"\n',
        "data": b"\xff",
        "pairs": [{"p": Decimal("1.10"), "f": -0.0, "none": {}}, None],
        "texts": ["", None],
    }
    large = pa.large_list(pa.large_string())
    columns = {"text": pa.large_string(), "data": pa.large_binary(), "pairs": pa.list_(pair)}
    kinds = pa.schema(columns | {"texts": large})
    table = pa.Table.from_pylist([row, dict.fromkeys(row), row], schema=kinds)
    asyncio.run(JsonlStore(path=tmp_path / "out").write(table.slice(1)))
    (file,) = (tmp_path / "out").rglob("*.jsonl")
    empty, full = map(json.loads, file.read_text().splitlines())
    assert empty == dict.fromkeys(row)
    pairs = [{"p": "1.10", "f": -0.0, "none": {}}, None]
    assert full == {"text": 'a "b"\n', "data": "/w==", "pairs": pairs, "texts": ["", None]}
    assert math.copysign(1, full["pairs"][0]["f"]) == -1, "-0 would be read as an integer"


def test_two_fields_of_one_name_are_refused(tmp_path):
    twice = pa.schema([("v", pa.struct([("a", pa.int64()), ("a", pa.string())]))])
    with pytest.raises(UnfitValue, match="column 'v'"):
        JsonlStore(path=tmp_path / "out").prepare(Run("r", "f"), twice)
