"""Files that nobody can move as they are: the error names the file, the column, and a way out."""

from __future__ import annotations

import os

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hygge import ArrowHome, CsvHome, JsonlHome, ParquetHome
from hygge.errors import HomeError, HyggeError


def read(home) -> list[dict]:
    with home.open() as plan:
        return [row for split in plan.splits for t in home.read(split) for row in t.to_pylist()]


def write_ipc(table, path):
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)


def test_two_columns_of_one_name_are_named_with_their_file(tmp_path):
    table = pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["v", "v"])
    pq.write_table(table, tmp_path / "in.parquet")
    write_ipc(table, tmp_path / "in.arrow")
    (tmp_path / "in.csv").write_text("v,v\n1,2\n")
    (tmp_path / "in.jsonl").write_text('{"v": 1, "v": 2}\n')
    for kind, name in ((ParquetHome, "parquet"), (ArrowHome, "arrow"), (CsvHome, "csv"),
                       (JsonlHome, "jsonl")):  # fmt: skip
        with pytest.raises(HyggeError, match=f"in.{name}.*'v'"):
            read(kind(path=tmp_path / f"in.{name}"))


@pytest.mark.parametrize("value", [r'"\ud83d"', r'["x", "\ude00"]', r'{"b": "\ud83dx"}'])
@pytest.mark.parametrize("sample_bytes", [10, 1000])
def test_half_of_a_surrogate_pair_is_named_with_line_and_column(tmp_path, value, sample_bytes):
    good = value.replace(r"\ud83d", r"\ud83d\ude00").replace(r'"\ude00', '"y')
    path = tmp_path / "in.jsonl"
    path.write_text(f'{{"a": {good}}}\n{{"a": {value}}}\n')
    for types in ({}, {"a": "string"}):
        home = JsonlHome(path=path, options={"sample_bytes": sample_bytes, "types": types})
        with pytest.raises(HyggeError, match="in.jsonl, line 2, column 'a': .*surrogate pair"):
            read(home)
    path.write_text(f'{{"a": {good}}}\n')
    assert len(read(JsonlHome(path=path))) == 1


@pytest.mark.parametrize("depth", [70, 400, 900, 5000])
def test_what_is_nested_too_deeply_is_said(tmp_path, depth):
    path = tmp_path / "in.jsonl"
    path.write_text('{"a":' * depth + r'"\u00e9"' + "}" * depth + "\n")
    with pytest.raises(HyggeError, match=r"in.jsonl.* nested (\d+ levels|too) deep"):
        read(JsonlHome(path=path))
    if depth == 70:
        rows = read(JsonlHome(path=path, options={"types": {"a": "string"}}))
        assert rows[0]["a"].count("{") == depth - 1


def test_a_deep_column_of_a_binary_file_is_said_and_can_be_left_out(tmp_path):
    array = pa.array([1])
    for _ in range(61):
        array = pa.StructArray.from_arrays([array], ["x"])
    table = pa.table({"id": [1], "a": array})
    pq.write_table(table, tmp_path / "in.parquet")
    with pytest.raises(HyggeError, match="column 'a' is nested 62 levels deep"):
        read(ParquetHome(path=tmp_path / "in.parquet"))
    assert read(ParquetHome(path=tmp_path / "in.parquet", columns=["id"])) == [{"id": 1}]


@pytest.mark.parametrize("path", ["in/a.csv", "in", "in/*.csv", "in/**"])
def test_a_pipe_is_refused_and_not_waited_for(tmp_path, path):
    (tmp_path / "in").mkdir()
    os.mkfifo(tmp_path / "in/a.csv")
    (tmp_path / "in/b.csv").write_text("id\n1\n")
    with pytest.raises(HomeError, match=r"a\.csv is no file, but a pipe, a device or a socket"):
        CsvHome(path=tmp_path / path).open().__enter__()
