"""A Parquet file whose row groups are encoded while the next rows are read is the same file."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hygge.formats import parquet
from hygge.formats.parquet import ParquetSettings, ParquetWriter

ROWS, GROUPS = 2_000, 5


@pytest.fixture(autouse=True)
def cores(monkeypatch):
    monkeypatch.setattr(pa, "cpu_count", lambda: 2)


def written(path, background_below):
    """Write groups from one array, which its owner fills anew after each `write`."""
    values = np.zeros(ROWS, np.int64)
    schema = pa.schema([("n", pa.int64()), ("text", pa.string())])
    writer = ParquetWriter(
        str(path), schema, ParquetSettings("snappy", None, 24 * ROWS, background_below)
    )
    # What `write` is given is more than half of a row group: it becomes one.
    sizes = []
    for group in range(GROUPS):
        values[:] = np.arange(ROWS) + group * ROWS
        texts = [f"text {number}" for number in values]
        writer.write(pa.table({"n": pa.array(values), "text": texts}, schema))
        values[:] = -1
        sizes.append(writer.size())
    return writer.close(), sizes


def test_rows_are_those_that_were_given_although_the_array_is_filled_anew(tmp_path):
    here, sizes_here = written(tmp_path / "here.parquet", background_below=0)
    there, sizes_there = written(tmp_path / "there.parquet", background_below=1 << 30)
    assert (tmp_path / "here.parquet").read_bytes() == (tmp_path / "there.parquet").read_bytes()
    assert there.rows == here.rows == GROUPS * ROWS
    assert there.columns == here.columns
    assert pq.read_table(tmp_path / "there.parquet")["n"].to_pylist() == [*range(GROUPS * ROWS)]
    # Of a row group that is not encoded yet the size is guessed, and not too small.
    assert all(guess >= size > 0 for guess, size in zip(sizes_there, sizes_here, strict=True))


def test_rows_that_stay_as_they_are_need_no_copy(tmp_path, monkeypatch):
    """They are the same file, of memory that no other rows were copied to."""
    schema = pa.schema([("n", pa.int64()), ("text", pa.string())])
    rows = [
        pa.table({"n": range(at, at + ROWS), "text": [str(n) for n in range(ROWS)]}, schema)
        for at in range(0, GROUPS * ROWS, ROWS)
    ]
    for copies in (True, False):
        settings = ParquetSettings("snappy", None, 24 * ROWS, 1 << 30, copies)
        writer = ParquetWriter(str(tmp_path / f"{copies}.parquet"), schema, settings)
        for table in rows:
            writer.write(table)
        writer.close()
        monkeypatch.setattr(parquet, "_copied", None)
    assert (tmp_path / "True.parquet").read_bytes() == (tmp_path / "False.parquet").read_bytes()


def test_a_file_ends_where_it_would_without_a_second_core(tmp_path):
    _, sizes = written(tmp_path / "here.parquet", background_below=0)
    _, same = written(tmp_path / "there.parquet", background_below=sizes[0])
    assert same == sizes


def test_an_error_of_the_encoding_comes_with_the_next_call(tmp_path, monkeypatch):
    schema = pa.schema([("n", pa.int64())])
    settings = ParquetSettings("snappy", None, 8 * ROWS, background_below=1 << 30)
    writer = ParquetWriter(str(tmp_path / "a.parquet"), schema, settings)
    rows = pa.table({"n": range(ROWS)}, schema)
    writer.write(rows)

    def write_table(table, row_group_size):
        raise OSError("no space left")

    monkeypatch.setattr(writer._writer, "write_table", write_table)
    writer.write(rows)
    with pytest.raises(OSError, match="no space left"):
        writer.write(rows)
    assert writer.close().rows == ROWS  # fewer than were given: a Store refuses that
