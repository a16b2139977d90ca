"""Dictionaries, run-end encoding and views are taken apart at every depth, and change no value."""

from __future__ import annotations

import json

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from pyarrow import feather

from hygge import ArrowHome, ArrowStore, Flow, JsonlStore, ParquetHome, ParquetStore
from hygge.batches import plain

WORDS = ["x", None, "y", "x"]
LEAVES = {
    "dictionary": pa.array(WORDS).dictionary_encode(),
    "dictionary of views": pa.DictionaryArray.from_arrays(
        pa.array([0, None, 1, 0], pa.int32()), pa.array(["x", "y"], pa.string_view())
    ),
    "views": pa.array(WORDS, pa.string_view()),
    "runs": pc.run_end_encode(pa.array(WORDS)),
}
STARTS = [0, 1, 1, 4]
NESTED = {
    "itself": lambda leaf: leaf,
    "list": lambda leaf: pa.ListArray.from_arrays(STARTS, leaf),
    "list with null": lambda leaf: pa.ListArray.from_arrays(
        STARTS, leaf, mask=pa.array([False, True, False])
    ),
    "large list": lambda leaf: pa.LargeListArray.from_arrays(STARTS, leaf),
    "fixed list": lambda leaf: pa.FixedSizeListArray.from_arrays(leaf, 2),
    "list view": lambda leaf: pa.ListViewArray.from_arrays([2, 0, 0], [2, 0, 3], leaf),
    "struct": lambda leaf: pa.StructArray.from_arrays(
        [pa.array([1, 2, 3, 4]), leaf], ["n", "s"], mask=pa.array([False, False, True, False])
    ),
    "map": lambda leaf: pa.MapArray.from_arrays(STARTS, pa.array(["a", "b", "c", "d"]), leaf),
    "list of struct": lambda leaf: pa.ListArray.from_arrays(
        STARTS, pa.StructArray.from_arrays([leaf], ["s"])
    ),
}


@pytest.mark.parametrize("leaf", LEAVES)
@pytest.mark.parametrize("nesting", NESTED)
@pytest.mark.parametrize("start", [0, 1])
def test_every_depth_becomes_plain_and_keeps_its_values(leaf, nesting, start):
    array = NESTED[nesting](LEAVES[leaf]).slice(start)
    expected = NESTED[nesting](pa.array(WORDS)).slice(start)
    column = plain(pa.table({"c": array}))["c"]
    column.validate(full=True)
    assert column.to_pylist() == expected.to_pylist()
    for sign in ("dictionary", "run_end", "view"):
        assert sign not in str(column.type)


@pytest.mark.parametrize("leaf", ["dictionary", "dictionary of views", "views"])
@pytest.mark.parametrize("kind", ["parquet", "arrow", "jsonl"])
def test_nested_dictionaries_and_views_come_in_every_format(tmp_path, leaf, kind):
    table = pa.table({"top": LEAVES[leaf], "list": pa.ListArray.from_arrays([0, 1, 1, 3, 4],
                      LEAVES[leaf])})  # fmt: skip
    feather.write_feather(table, str(tmp_path / "in.arrow"), compression="uncompressed")
    out = tmp_path / f"out.{kind}"
    store = {"parquet": ParquetStore, "arrow": ArrowStore, "jsonl": JsonlStore}[kind](path=out)
    Flow(ArrowHome(path=tmp_path / "in.arrow"), store, name="f", engine="inline").run()
    if kind == "jsonl":
        rows = [json.loads(line) for line in out.read_text().splitlines()]
    else:
        home = (ParquetHome if kind == "parquet" else ArrowHome)(path=out)
        with home.open() as plan:
            rows = [r for split in plan.splits for t in home.read(split) for r in t.to_pylist()]
    lists = [["x"], [], [None, "y"], ["x"]]
    assert rows == [{"top": w, "list": n} for w, n in zip(WORDS, lists, strict=True)]


def test_a_nested_category_of_a_parquet_file_comes(tmp_path):
    table = pa.table({"c": pa.ListArray.from_arrays(STARTS, LEAVES["dictionary"])})
    pq.write_table(table, tmp_path / "in.parquet")
    Flow(ParquetHome(path=tmp_path / "in.parquet"), ParquetStore(path=tmp_path / "out.parquet"),
         name="f", engine="inline").run()  # fmt: skip
    assert pq.read_table(tmp_path / "out.parquet")["c"].to_pylist() == [["x"], [], [None, "y", "x"]]


def test_run_end_encoding_of_an_arrow_file_comes(tmp_path):
    table = pa.table({"c": LEAVES["runs"]})
    path = str(tmp_path / "in.arrow")
    with pa.OSFile(path, "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)
    out = tmp_path / "out.jsonl"
    Flow(ArrowHome(path=path), JsonlStore(path=out), name="f", engine="inline").run()
    assert [json.loads(line)["c"] for line in out.read_text().splitlines()] == WORDS
