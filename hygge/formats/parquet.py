"""Parquet files: open one for reading, write one with its statistics, join several.

The writer gathers batches to row groups of a size, and may encode them in a thread of its own.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import pyarrow as pa

from hygge import encodings
from hygge.batches import DICTIONARY, plain
from hygge.errors import HomeError
from hygge.extension_types import as_marked
from hygge.formats import first_bytes, int96
from hygge.formats.format import FileStatistics, RowCounter
from hygge.formats.parquet_columns import repeating, with_statistics
from hygge.formats.parquet_dictionaries import as_in_file, columns_in, names_in
from hygge.formats.parquet_marks import put_marks
from hygge.formats.parquet_order import Orders
from hygge.formats.parquet_statistics import statistics_of
from hygge.formats.source import open_source
from hygge.model import MIB
from hygge.places.objects import is_object_url

if TYPE_CHECKING:
    import pyarrow.parquet as pq

_BUFFER_BYTES, _OBJECT_BUFFER_BYTES = 64 * 1024, 2 * MIB
"""Read at a time of each column; without it a row group's columns are read whole, into memory."""
_NOT_IN_ARROW = ("Interval", "Enum", "BSON", "Geometry", "Geography", "Variant")


def open_parquet(
    path: str,
    int96_unit: int96.Unit = "us",
    dictionaries: Sequence[str] = (),
    footer: pq.FileMetaData | None = None,
) -> pq.ParquetFile:
    """Open a path or an object, of which `footer` may be known.

    `dictionaries`: columns of text that are read as such.
    Raises HomeError where it is no Parquet file.
    """
    import pyarrow.parquet as pq

    try:
        on_objects = is_object_url(path)  # where each request for a column's bytes takes long
        return pq.ParquetFile(
            open_source(path, 0) if on_objects else path,
            pre_buffer=False,
            buffer_size=_OBJECT_BUFFER_BYTES if on_objects else _BUFFER_BYTES,
            page_checksum_verification=True,
            coerce_int96_timestamp_unit=int96_unit,
            read_dictionary=list(dictionaries),
            metadata=footer,
        )
    except (PermissionError, FileNotFoundError):
        raise
    except (pa.ArrowException, OSError) as error:
        raise unreadable(path, error) from error


def unreadable(path: str, error: Exception) -> HomeError:
    """Return the error for a file that cannot be read as Parquet."""
    if (other := first_bytes.other_format(path, "Parquet")) is not None:
        return other
    reason = str(error).split("\n")[0]
    return HomeError(
        f"{path} cannot be read as Parquet: {reason}",
        "it is truncated, damaged, or of another format; write it again, or give its `type`",
    )


def native_types(file: pq.ParquetFile) -> dict[str, str]:
    """Return what Parquet itself calls the type of each column, by the column's path."""
    types = {}
    for index in range(len(file.schema)):
        column = file.schema.column(index)
        logical = str(column.logical_type)
        types[column.path] = logical if logical != "None" else column.physical_type
    return types


def marks_without_arrow(file: pq.ParquetFile) -> Iterator[tuple[str, str]]:
    """Yield (path of a column, its type in Parquet) where Arrow has no such type.

    DuckDB's TIMETZ is a time that is adjusted to UTC; others mark any time so: "" is its type then.
    """
    is_duckdb = str(file.metadata.created_by).startswith("DuckDB")
    for index in range(len(file.schema)):
        column = file.schema.column(index)
        logical = str(column.logical_type)
        if logical.startswith(_NOT_IN_ARROW):
            yield column.path, logical.partition("(")[0].upper()
        elif logical.startswith("Time(isAdjustedToUTC=true"):
            yield column.path, "TIMETZ" if is_duckdb else ""


def row_groups(file: pq.ParquetFile) -> Iterator[tuple[int, int]]:
    """Yield (rows, bytes in the file) of each row group."""
    for index in range(file.metadata.num_row_groups):
        group = file.metadata.row_group(index)
        sizes = (group.column(i).total_compressed_size for i in range(group.num_columns))
        yield group.num_rows, sum(sizes)


def check_counts(path: str, file: pq.ParquetFile) -> None:
    """Raise HomeError where a footer counts rows in two ways, and they differ."""
    metadata = file.metadata
    columns = [file.schema.column(index) for index in range(len(file.schema))]
    flat = [i for i, column in enumerate(columns) if column.max_repetition_level == 0]
    rows = 0
    for index in range(metadata.num_row_groups):
        group = metadata.row_group(index)
        rows += group.num_rows
        for number in flat:
            values = group.column(number).num_values
            if values != group.num_rows:
                where = f"column '{columns[number].path}' of row group {index}"
                raise _miscounted(path, where, group.num_rows, values)
    if rows != metadata.num_rows:
        raise _miscounted(path, "its row groups", metadata.num_rows, rows)


def _miscounted(path: str, where: str, counted: int, held: int) -> HomeError:
    return HomeError(
        f"{path}: {where} should hold {counted:,} rows by the footer, and {held:,} are there",
        "the file is damaged, or was written wrongly; write it again",
    )


def int96_unit(path: str, file: pq.ParquetFile) -> int96.Unit:
    """Return the unit that keeps the INT96 timestamps of the first rows of `file`, opened in us."""
    columns = int96.columns_of(file)
    if not columns:
        return "us"
    with open_parquet(path, "ns") as in_ns:
        return int96.found_unit(file, in_ns, columns)


def _in_exact_unit(
    stack: ExitStack, path: str, file: pq.ParquetFile, group: int, schema: pa.Schema
) -> pq.ParquetFile:
    """Return `file`, or it opened in ns, as `schema` has INT96; raise where that changes values."""
    columns = [name for name in int96.columns_of(file) if name in schema.names]
    if not columns:
        return file
    unit = int96.unit_of(schema, columns)
    in_ns = stack.enter_context(open_parquet(path, "ns"))
    int96.check_group(path, file, in_ns, group, columns, unit)
    return in_ns if unit == "ns" else file


def read_row_group(
    path: str,
    group: int,
    schema: pa.Schema,
    batch_rows: int,
    batch_bytes: int,
    gives_dictionaries: bool = False,
) -> Iterator[pa.RecordBatch]:
    """Yield one row group in batches of at most `batch_rows` rows and about `batch_bytes`.

    `gives_dictionaries`: columns of text that are dictionaries in the file come as such.
    Raises HomeError where other than the rows come that the footer counts.
    """
    with ExitStack() as stack:
        file = stack.enter_context(open_parquet(path))
        file = _in_exact_unit(stack, path, file, group, schema)
        names = columns_in(file, group, schema.names) if gives_dictionaries else []
        if names and not int96.columns_of(file):
            file = stack.enter_context(open_parquet(path, "us", names, file.metadata))
        metadata = file.metadata.row_group(group)
        rows = 0
        # The uncompressed size of encoded pages is below that of Arrow's arrays.
        size = max(1, metadata.total_byte_size * 2)
        fitting = int(batch_bytes * metadata.num_rows // size)
        for batch in file.iter_batches(
            batch_size=max(1, min(batch_rows, fitting)),
            row_groups=[group],
            columns=schema.names,
            use_threads=False,
        ):
            rows += batch.num_rows
            yield batch
        if rows != metadata.num_rows:
            raise _miscounted(path, f"row group {group}", metadata.num_rows, rows)


def count_rows(path: str) -> int:
    """Return the rows of a file by its footer."""
    import pyarrow.parquet as pq

    return int(pq.read_metadata(path).num_rows)


def join_parquet(
    parts: Sequence[str], target: str, schema: pa.Schema, settings: ParquetSettings
) -> None:
    """Write several Parquet files, in order, as one."""
    import pyarrow.parquet as pq

    writer = ParquetWriter(target, schema, settings)
    for part in parts:
        with pq.ParquetFile(part) as file:
            for group in range(file.num_row_groups):
                writer.write(plain(as_marked(file.read_row_group(group, use_threads=False))))
    writer.close()


@dataclass(frozen=True)
class ParquetSettings:
    """How a file is written; `row_group_bytes` counts Arrow bytes, about."""

    compression: str
    compression_level: int | None
    row_group_bytes: int
    background_below: int = 0
    """While a file is smaller, another core may encode a row group as the next rows are read."""
    copies: bool = True
    """Whether rows are copied that wait for that; False: their memory stays as it is."""


class ParquetWriter:
    """Gathers batches to row groups; opens the file when the first rows show what repeats."""

    def __init__(self, path: str, schema: pa.Schema, settings: ParquetSettings) -> None:
        self.path, self.settings = path, settings
        self._plain = encodings.without_encodings(schema)
        kinds = encodings.encodings_of(schema).items()
        forms = {name: encodings.in_parquet(kind) for name, kind in kinds}
        known = {name: kind for name, kind in forms.items() if kind is not None}
        self._orders = Orders(known, encodings.orders_of(schema))
        self.schema = self._orders.in_schema(self._plain)
        self._marks = encodings.marks_of(schema)
        self._dictionaries: list[str] = []
        """The columns that are given on as dictionaries; no reader is told."""
        self._kinds = {name: known[name] for name in known if name not in self._orders.names()}
        self._categories = {
            name: encodings.Categories(kind)
            for name, kind in self._kinds.items()
            if pa.types.is_dictionary(kind) and kind.index_type.bit_width < 32
        }
        self._counter = RowCounter(schema)
        self._writer: pq.ParquetWriter | None = None
        self._file: pa.NativeFile | None = None
        self._gathered: list[pa.Table] = []
        self._gathered_bytes = 0
        self._has_background = settings.background_below > 0 and pa.cpu_count() > 1
        self._encoder: ThreadPoolExecutor | None = None
        """A thread of this file alone: a process that is forked later has no use of it."""
        self._pending: Future[None] | None = None
        """The row group that is encoded in the background."""
        self._size = self._pending_bytes = 0

    def write(self, table: pa.Table) -> None:
        self._counter.add(table)
        for name, categories in self._categories.items():
            categories.add(table.column(name))
        size = self.settings.row_group_bytes
        is_full = self._gathered_bytes + table.nbytes >= size // 2
        if is_full and not (self._has_background and table.nbytes <= 2 * size):
            self._flush(table)
            return
        self._gathered.append(_copied(table) if self.settings.copies else table)
        self._gathered_bytes += table.nbytes
        if is_full:
            self._flush()

    def size(self) -> int:
        most = self._size + self._pending_bytes  # of Arrow, which is more than what is written
        if self._pending is not None and most < self.settings.background_below:
            return most
        self._wait()
        return int(self._file.tell()) if self._file is not None else 0

    def close(self) -> FileStatistics:
        import pyarrow.parquet as pq

        self._has_background = False
        if self._gathered or self._writer is None:
            self._flush()
        assert self._writer is not None
        assert self._file is not None
        try:
            self._wait()
            if self._kinds or self._dictionaries:
                self._writer.add_key_value_metadata(self._file_metadata())
            self._writer.close()
        finally:
            self._file.close()
            if self._encoder is not None:
                self._encoder.shutdown()
        if self._marks:
            put_marks(self.path, self._marks)
        return statistics_of(pq.read_metadata(self.path), self._plain, self._counter)

    def _flush(self, last: pa.Table | None = None) -> None:
        """Write what is gathered, and `last`, as one row group."""
        tables, self._gathered, self._gathered_bytes = self._gathered, [], 0
        can_wait = last is None
        if last is not None:
            tables.append(last)
        if self._writer is None:
            self._dictionaries = names_in(tables)
        table = as_in_file(tables or [pa.Table.from_batches([], self._plain)], self._dictionaries)
        table = self._orders.encoded(table)
        del tables, last
        self._wait()
        if self._writer is None:
            self._writer = self._open(table)
        if not table.num_rows:
            return
        write = partial(self._writer.write_table, table, row_group_size=table.num_rows)
        if can_wait and self._has_background:
            assert self._file is not None
            self._size, self._pending_bytes = int(self._file.tell()), table.nbytes
            if self._encoder is None:
                self._encoder = ThreadPoolExecutor(1, "hygge-encode")
            self._pending = self._encoder.submit(write)
        else:
            write()

    def _wait(self) -> None:
        """Wait for what is encoded in the background; raise what failed there."""
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.result()

    def _file_metadata(self) -> dict[bytes, bytes]:
        """Return the metadata of a file of which readers make dictionaries and views.

        Its pages are those of plain values: only the schema of Arrow in it says what they were.
        """
        kinds = self._kinds | {name: each.kind() for name, each in self._categories.items()}
        schema = encodings.encoded_schema(self.schema, kinds)
        text = base64.b64encode(schema.serialize().to_pybytes())
        return {**(self.schema.metadata or {}), b"ARROW:schema": text}

    def _open(self, first: pa.Table) -> pq.ParquetWriter:
        import pyarrow.parquet as pq

        self._file = pa.OSFile(self.path, "wb")
        given_on = dict.fromkeys(self._dictionaries, DICTIONARY)
        return pq.ParquetWriter(
            self._file,
            encodings.encoded_schema(self.schema, given_on) if given_on else self.schema,
            compression=self.settings.compression.upper(),
            compression_level=self.settings.compression_level,
            use_dictionary=repeating(first, [*self._orders.names(), *self._dictionaries]),
            write_statistics=with_statistics(first, self._marks),
            write_page_checksum=True,
            store_decimal_as_integer=True,  # up to 18 digits; a third less of all the work
            store_schema=not (self._kinds or self._dictionaries),
        )


def _copied(table: pa.Table) -> pa.Table:
    """Return a copy: a batch may lie in shared memory that is given back when we ask for more, or
    in arrays that their owner fills anew.
    """
    sink = pa.MockOutputStream()
    _write_stream(table, sink)
    copy = pa.allocate_buffer(sink.size())
    _write_stream(table, pa.FixedSizeBufferWriter(copy))
    return pa.ipc.open_stream(copy).read_all()


def _write_stream(table: pa.Table, sink: pa.NativeFile) -> None:
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
