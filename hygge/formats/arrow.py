"""Arrow IPC files (Feather V2) and IPC streams: open one for reading, write one, join several."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import pyarrow as pa

from hygge.errors import HomeError
from hygge.extension_types import as_marked
from hygge.formats import first_bytes
from hygge.formats.format import FileStatistics, RowCounter
from hygge.formats.source import open_source

_MAGIC = b"ARROW1"


@dataclass(frozen=True)
class ArrowReader:
    """An open file or stream. Only the batches of a file can be read in any order."""

    reader: pa.RecordBatchFileReader | pa.RecordBatchStreamReader
    is_file: bool

    @property
    def schema(self) -> pa.Schema:
        return self.reader.schema

    @property
    def batch_count(self) -> int:
        """The number of record batches; only a file knows it."""
        return int(self.reader.num_record_batches)

    def batches(self, start: int, stop: int) -> Iterator[pa.RecordBatch]:
        """Yield batches `start` to `stop` of a file, or all of a stream."""
        if self.is_file:
            yield from (self.reader.get_batch(index) for index in range(start, stop))
        else:
            yield from self.reader


@contextmanager
def open_arrow(path: str) -> Iterator[ArrowReader]:
    """Open a path or an object, as a file where it begins as one does, else as a stream.

    Raises HomeError where it is neither.
    """
    with open_source(path) as source:
        try:
            is_file = source.read(len(_MAGIC)) == _MAGIC
            source.seek(0)
            reader = pa.ipc.open_file(source) if is_file else pa.ipc.open_stream(source)
        except (pa.ArrowException, OSError) as error:
            raise unreadable(path, error) from error
        yield ArrowReader(reader, is_file)


def unreadable(path: str, error: Exception) -> HomeError:
    """Return the error for a file that Arrow cannot read."""
    if (other := first_bytes.other_format(path, "Arrow")) is not None:
        return other
    reason = str(error).splitlines()[0] if str(error) else "no content"
    return HomeError(
        f"{path} cannot be read as an Arrow file: {reason}",
        "it is truncated, damaged, or of another format (Feather V1 is one); write it again",
    )


class ArrowWriter:
    """An Arrow IPC file that is being written."""

    def __init__(self, path: str, schema: pa.Schema, compression: str) -> None:
        codec = None if compression == "none" else compression
        self._counter = RowCounter(schema)
        self._file = pa.OSFile(path, "wb")
        self._writer = pa.ipc.new_file(
            self._file, schema, options=pa.ipc.IpcWriteOptions(compression=codec)
        )

    def write(self, table: pa.Table) -> None:
        self._writer.write_table(table)
        self._counter.add(table)

    def size(self) -> int:
        return int(self._file.tell())

    def close(self) -> FileStatistics:
        self._writer.close()
        self._file.close()
        return self._counter.statistics()


def join_arrow(parts: Sequence[str], target: str, schema: pa.Schema, compression: str) -> None:
    """Write several Arrow files, in order, as one."""
    writer = ArrowWriter(target, schema, compression)
    for part in parts:
        with pa.OSFile(part, "rb") as source:
            reader = pa.ipc.open_file(source)
            for index in range(reader.num_record_batches):
                writer.write(as_marked(pa.Table.from_batches([reader.get_batch(index)])))
    writer.close()


def count_rows(path: str) -> int:
    """Return the rows of an Arrow file by the headers of its messages; nothing is decompressed."""
    import pyarrow.dataset as ds
    from pyarrow.fs import LocalFileSystem

    return int(ds.IpcFileFormat().make_fragment(path, LocalFileSystem()).count_rows())
