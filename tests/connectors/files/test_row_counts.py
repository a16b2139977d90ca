"""A file that holds other than the rows that it says it holds fails the run."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hygge import ArrowHome, HyggeError, ParquetHome
from hygge.errors import HomeError
from hygge.formats.parquet import read_row_group

ROWS = pa.table({"id": [1, 2, 3, 4, 5], "s": ["a"] * 5})


def miscounting(path: Path) -> Iterator[pq.FileMetaData]:
    """Write Parquet files, one after the other, of which one number of the footer is 4, not 3."""
    pq.write_table(ROWS, path, row_group_size=3, use_dictionary=False, store_schema=False)
    content = bytearray(path.read_bytes())
    start = len(content) - 8 - struct.unpack("<I", content[-8:-4])[0]
    for at in range(start, len(content) - 8):
        if content[at] == 6:  # 3, as thrift writes it
            path.write_bytes(content[:at] + b"\x08" + content[at + 1 :])
            try:
                yield pq.read_metadata(path)
            except OSError:
                continue


def read(home) -> list[int]:
    with home.open() as plan:
        return [table.num_rows for split in plan.splits for table in home.read(split)]


def test_the_rows_of_a_row_group_are_counted_against_the_footer(tmp_path):
    path = tmp_path / "a.parquet"
    for footer in miscounting(path):
        if footer.row_group(0).num_rows == 4:
            break
    with pytest.raises(HomeError, match="a.parquet: column 'id' of row group 0 .* 4 .* 3 "):
        read(ParquetHome(path=path))
    with pytest.raises(HomeError, match="a.parquet: row group 0 should hold 4 rows .* 3 are"):
        list(read_row_group(str(path), 0, pa.schema([("id", pa.int64())]), 10, 1000))


def test_the_values_of_a_flat_column_are_counted_against_its_row_group(tmp_path):
    path = tmp_path / "a.parquet"
    for footer in miscounting(path):
        if footer.row_group(0).column(1).num_values == 4:
            break
    with pytest.raises(HomeError, match="column 's' of row group 0 should hold 3 rows .* 4 "):
        read(ParquetHome(path=path, columns=["id"]))


def test_lists_have_more_values_than_rows_and_are_read(tmp_path):
    pq.write_table(pa.table({"l": [[1, 2], [], None, [3]]}), tmp_path / "a.parquet")
    assert sum(read(ParquetHome(path=tmp_path / "a.parquet"))) == 4


def test_the_rows_of_an_arrow_batch_are_counted_against_its_header(tmp_path):
    path = tmp_path / "a.arrow"
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, ROWS.schema) as writer:
        writer.write_table(ROWS)
    content = path.read_bytes()
    for wrong in (4, 6):
        path.write_bytes(content.replace(struct.pack("<q", 5), struct.pack("<q", wrong), 1))
        with pytest.raises(HyggeError, match="a.arrow .*length did not match"):
            read(ArrowHome(path=path))
