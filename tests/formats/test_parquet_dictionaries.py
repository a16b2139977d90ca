"""Text that repeats goes from Parquet to Parquet as dictionaries; all readers see it plain."""

from __future__ import annotations

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hygge import Flow, ParquetHome, ParquetStore
from hygge.formats import parquet
from hygge.formats.parquet import ParquetSettings, ParquetWriter

ROWS = 4_000
SCHEMA = pa.schema(
    [
        pa.field("id", pa.int64(), nullable=False),
        pa.field("word", pa.string(), nullable=False),
        pa.field("maybe", pa.string()),
        pa.field("apart", pa.string()),
    ]
)


def rows(start, words=("", "one", "two", "naïve 数据")):
    ids = range(start, start + ROWS)
    return pa.table(
        {
            "id": ids,
            "word": [words[n % len(words)] for n in ids],
            "maybe": [None if n % 3 else f"{n % 5}" for n in ids],
            "apart": [f"text {n}" for n in ids],
        },
        SCHEMA,
    )


@pytest.fixture
def given(monkeypatch):
    """The columns that were dictionaries when a row group was written, of each row group."""
    found = []
    write = ParquetWriter._flush

    def flush(self, last=None):
        tables = [*self._gathered, *([] if last is None else [last])]
        found.extend(parquet.names_in([table]) for table in tables)
        write(self, last)

    monkeypatch.setattr(ParquetWriter, "_flush", flush)
    return found


def move(tmp_path, target, **shape):
    home = ParquetHome(path=str(tmp_path / "in.parquet"))
    store = ParquetStore(path=str(tmp_path / target), options={"row_group_bytes": 100_000})
    state = str(tmp_path / "state")
    return Flow(home, store, name="f", engine="inline", state=state, **shape).run()


def write(tmp_path, tables):
    with pq.ParquetWriter(tmp_path / "in.parquet", SCHEMA) as writer:
        for table in tables:
            writer.write_table(table, row_group_size=ROWS)
    return pa.concat_tables(tables)


@pytest.mark.parametrize("target", ["out", "out.parquet"])
def test_readers_see_the_same_text_in_columns_of_the_same_types(tmp_path, given, target):
    unlike = rows(ROWS, words=[f"{n:05}" * 9 for n in range(ROWS)])  # no small dictionary
    expected = write(tmp_path, [rows(0), unlike, rows(2 * ROWS)])
    move(tmp_path, target)
    assert given[:3] == [["word", "maybe"], ["maybe"], ["word", "maybe"]]
    path = tmp_path / target
    (file,) = [path] if path.is_file() else path.glob("part*.parquet")
    assert pq.read_table(file).equals(expected)
    assert pq.read_schema(file).equals(SCHEMA)
    assert duckdb.read_parquet(str(file)).order("id").to_arrow_table().cast(SCHEMA) == expected
    first = pq.read_metadata(file).row_group(0)
    found = [first.column(at).statistics for at in (1, 2)]
    assert [(each.min, each.max) for each in found] == [("", "two"), ("0", "4")]


def test_a_column_that_begins_with_plain_text_stays_plain(tmp_path, given):
    unlike = rows(0, words=[f"{n:05}" * 9 for n in range(ROWS)])
    expected = write(tmp_path, [unlike, rows(ROWS)])
    move(tmp_path, "out")
    assert given == [["maybe"], ["word", "maybe"]]
    (file,) = (tmp_path / "out").glob("part*.parquet")
    assert pq.read_table(file).equals(expected)


def test_a_flow_that_makes_something_of_its_columns_reads_plain_text(tmp_path, given):
    expected = write(tmp_path, [rows(0)])
    move(tmp_path, "out", shape={"where": "word = 'one'"})
    assert given == [[]]
    (file,) = (tmp_path / "out").glob("part*.parquet")
    kept = [word == "one" for word in expected["word"].to_pylist()]
    assert pq.read_table(file).equals(expected.filter(pa.array(kept)))


def test_dictionaries_of_several_batches_become_one_for_each_row_group(tmp_path):
    path = str(tmp_path / "a.parquet")
    schema = pa.schema([pa.field("word", pa.string())])
    writer = ParquetWriter(path, schema, ParquetSettings("snappy", None, 1 << 20))
    texts = [["a", None, "b"], ["c", "a", None], ["b", "b", "d"]]
    for each in texts:
        writer.write(pa.table({"word": pa.array(each).dictionary_encode()}))
    assert writer.close().columns["word"].null_count == 2
    table = pq.read_table(path)
    assert table["word"].to_pylist() == [text for each in texts for text in each]
    assert table.schema.equals(schema)
    assert pq.read_metadata(path).num_row_groups == 1
