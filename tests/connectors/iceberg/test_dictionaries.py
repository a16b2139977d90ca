"""Text that repeats itself in a Parquet file goes into an Iceberg table as a dictionary."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyiceberg.expressions import EqualTo

from hygge import Flow, ParquetHome
from hygge.errors import FlowFailed
from hygge.formats import parquet
from hygge.formats.parquet import ParquetWriter
from tests.connectors.iceberg import lakes

WORDS = ["naïve", "", "two"]


def move(tmp_path: Path, table: pa.Table, **settings: list[str]) -> None:
    pq.write_table(table, tmp_path / "in.parquet", row_group_size=5_000)
    home = ParquetHome(path=str(tmp_path / "in.parquet"))
    store = lakes.store(tmp_path, **settings)
    Flow(home, store, engine="inline", state=tmp_path / "state").run()


@pytest.mark.parametrize("by", [[], ["word"]])
def test_readers_see_plain_text(tmp_path: Path, by: list[str], monkeypatch) -> None:
    given = []
    flush = ParquetWriter._flush

    def noting(self: ParquetWriter, last: pa.Table | None = None) -> None:
        given.extend(parquet.names_in([table]) for table in self._gathered)
        flush(self, last)

    monkeypatch.setattr(ParquetWriter, "_flush", noting)
    words = [None if n % 7 == 0 else WORDS[n % 3] for n in range(10_000)]
    table = pa.table({"n": range(10_000), "word": words})
    move(tmp_path, table, **({"partition_by": by} if by else {}))
    assert (["word"] in given) == (not by)
    with lakes.table(tmp_path) as written:
        rows = written.scan().to_arrow().sort_by("n")
        assert rows["word"].to_pylist() == words
        assert rows["n"].to_pylist() == [*range(10_000)]
        found = written.scan(row_filter=EqualTo("word", "two")).to_arrow()
        assert found.num_rows == words.count("two")
        for task in written.scan().plan_files():
            kinds = pq.read_schema(task.file.file_path.removeprefix("file://"))
            assert kinds.field("word").type == pa.string()


def test_a_text_that_is_not_utf8_is_refused_in_a_dictionary(tmp_path: Path) -> None:
    data = pa.array([b"ok", b"\xff\xfe"] * 2_000)
    texts = pa.Array.from_buffers(pa.string(), 4_000, data.buffers())
    with pytest.raises(FlowFailed, match="'word' holds 0xfffe, which is no UTF-8 text"):
        move(tmp_path, pa.table({"word": texts}))
