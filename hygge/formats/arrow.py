"""Arrow IPC files (Feather V2) and IPC streams: open one for reading, write one, join several."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import pyarrow as pa

from hygge import encodings
from hygge.batches import plain
from hygge.errors import HomeError
from hygge.extension_types import as_marked
from hygge.formats import first_bytes, nested
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
def open_arrow(path: str, columns: Sequence[str] = ()) -> Iterator[ArrowReader]:
    """Open a path or an object, as a file where it begins as one does, else as a stream.

    Of `columns` alone are batches read; () is all. They come in the order of the file. Raises
    HomeError where it is neither.
    """
    with open_source(path) as source:
        try:
            is_file = source.read(len(_MAGIC)) == _MAGIC
            source.seek(0)
            open_ipc = pa.ipc.open_file if is_file else pa.ipc.open_stream
            reader = open_ipc(source)
            if columns and len(columns) < len(reader.schema):
                fields = [reader.schema.get_field_index(name) for name in columns]
                source.seek(0)
                reader = open_ipc(source, options=pa.ipc.IpcReadOptions(included_fields=fields))
        except (pa.ArrowException, OSError) as error:
            raise unreadable(path, error) from error
        yield ArrowReader(reader, is_file)


def orders_in(path: str, schema: pa.Schema) -> dict[str, bytes]:
    """Return the notes of the ordered dictionaries of a file, which has one for each column.

    Of a stream they are not known: it may replace them.
    """
    names = encodings.ordered_in(schema)
    if not names:
        return {}
    with open_arrow(path, names) as opened:
        if not opened.is_file or not opened.batch_count:
            return {}
        (batch,) = opened.batches(0, 1)
    notes = {name: encodings.order_of(batch.column(name).dictionary) for name in names}
    return {name: note for name, note in notes.items() if note is not None}


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
    """An Arrow IPC file that is being written.

    A file has one dictionary for each column, before its rows; so where there are some, the rows
    are written plain first, and once more when all their values are known.
    """

    def __init__(self, path: str, schema: pa.Schema, compression: str) -> None:
        self._path = path
        self._kinds = encodings.encodings_of(schema)
        orders = encodings.orders_of(schema)
        self._categories = {
            path: encodings.Categories(each, orders.get(path))
            for name, kind in self._kinds.items()
            for path, each in nested.dictionaries_in(kind, name)
        }
        self._plain_schema = encodings.without_encodings(schema)
        self._counter = RowCounter(schema)
        codec = None if compression == "none" else compression
        self._options = pa.ipc.IpcWriteOptions(compression=codec)
        if self._categories:
            self._open(f"{path}.plain", self._plain_schema)
        else:
            self._open(path, encodings.encoded_schema(schema, self._kinds))

    def write(self, table: pa.Table) -> None:
        self._counter.add(table)
        if self._categories:
            for name, kind in self._kinds.items():
                for array in table.column(name).chunks:
                    nested.add_values(array, kind, name, self._categories)
        if self._kinds and not self._categories:
            self._write_as_kinds(table)
        else:
            self._writer.write_table(table)

    def size(self) -> int:
        return int(self._file.tell())

    def close(self) -> FileStatistics:
        self._close()
        if self._categories:
            self._write_encoded()
        return self._counter.statistics()

    def _open(self, path: str, schema: pa.Schema) -> None:
        self._schema = schema
        self._file = pa.OSFile(path, "wb")
        self._writer = pa.ipc.new_file(self._file, schema, options=self._options)

    def _close(self) -> None:
        self._writer.close()
        self._file.close()

    def _write_as_kinds(self, table: pa.Table) -> None:
        for part in nested.pieces(table, self._kinds):
            for piece in encodings.encoded(self._formed(part), self._schema, self._categories):
                self._writer.write_table(piece)

    def _formed(self, table: pa.Table) -> pa.Table:
        """Return rows with their nested columns in the types of the file."""
        for index, field in enumerate(self._schema):
            column = table.column(index)
            if column.type != field.type and encodings.is_nested(field.type):
                arrays = [
                    nested.in_form(array, field.type, field.name, self._categories)
                    for array in column.chunks
                ]
                chunked = pa.chunked_array(arrays, field.type)
                table = table.set_column(index, field.name, chunked)
        return table

    def _write_encoded(self) -> None:
        """Write the rows of the plain file again, with dictionaries, and remove it."""
        kinds = {
            name: nested.type_in_file(kind, name, self._categories)
            for name, kind in self._kinds.items()
        }
        self._open(self._path, encodings.encoded_schema(self._plain_schema, kinds))
        with pa.OSFile(f"{self._path}.plain", "rb") as source:
            reader = pa.ipc.open_file(source)
            for index in range(reader.num_record_batches):
                rows = as_marked(pa.Table.from_batches([reader.get_batch(index)]))
                self._write_as_kinds(rows)
        self._close()
        os.unlink(f"{self._path}.plain")


def join_arrow(parts: Sequence[str], target: str, schema: pa.Schema, compression: str) -> None:
    """Write several Arrow files, in order, as one."""
    writer = ArrowWriter(target, schema, compression)
    for part in parts:
        with pa.OSFile(part, "rb") as source:
            reader = pa.ipc.open_file(source)
            for index in range(reader.num_record_batches):
                rows = as_marked(pa.Table.from_batches([reader.get_batch(index)]))
                writer.write(plain(rows))
    writer.close()


def count_rows(path: str) -> int:
    """Return the rows of an Arrow file by the headers of its messages; nothing is decompressed."""
    import pyarrow.dataset as ds
    from pyarrow.fs import LocalFileSystem

    return int(ds.IpcFileFormat().make_fragment(path, LocalFileSystem()).count_rows())
