"""Parquet files: open one for reading, write one with its statistics, join several.

The writer gathers batches to row groups of a size. Column statistics are written for every column
but those of very long values. A dictionary is written only for columns in which the first rows
repeat themselves: it makes those smaller, and the others slower.
"""

from __future__ import annotations

import base64
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import pyarrow as pa

from hygge import encodings
from hygge.batches import plain
from hygge.errors import HomeError
from hygge.extension_types import as_marked
from hygge.formats import first_bytes, int96
from hygge.formats.format import FileStatistics, RowCounter
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
_SAMPLE_ROWS = 20_000
_LONG_BYTES = 64 * 1024
"""Longer values (of a row, on average) get neither statistics nor a dictionary."""
_NOT_IN_ARROW = ("Interval", "Enum", "BSON", "Geometry", "Geography", "Variant")
_DICTIONARY_BELOW = 0.5
"""A dictionary pays where fewer than this share of the sampled values are distinct."""


def open_parquet(path: str, int96_unit: int96.Unit = "us") -> pq.ParquetFile:
    """Open a path or an object. Raises HomeError where it is no Parquet file."""
    import pyarrow.parquet as pq

    try:
        on_objects = is_object_url(path)  # where each request for a column's bytes takes long
        return pq.ParquetFile(
            open_source(path, 0) if on_objects else path,
            pre_buffer=False,
            buffer_size=_OBJECT_BUFFER_BYTES if on_objects else _BUFFER_BYTES,
            page_checksum_verification=True,
            coerce_int96_timestamp_unit=int96_unit,
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
    path: str, group: int, schema: pa.Schema, batch_rows: int, batch_bytes: int
) -> Iterator[pa.RecordBatch]:
    """Yield one row group in batches of at most `batch_rows` rows and about `batch_bytes`.

    Raises HomeError where other than the rows come that the footer counts.
    """
    with ExitStack() as stack:
        file = stack.enter_context(open_parquet(path))
        file = _in_exact_unit(stack, path, file, group, schema)
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
        self._kinds = {name: known[name] for name in known if name not in self._orders.names()}
        self._categories = {
            name: encodings.Categories(kind)
            for name, kind in self._kinds.items()
            if pa.types.is_dictionary(kind) and kind.index_type.bit_width < 32
        }
        self._counter = RowCounter(schema)
        self._writer: pq.ParquetWriter | None = None
        self._file: pa.NativeFile | None = None
        self._gathered: list[tuple[pa.Buffer, pa.Schema]] = []
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
        # A copy: the batch may lie in shared memory that is given back when we ask for more, or in
        # arrays that their owner fills anew.
        self._gathered += [(batch.serialize(), table.schema) for batch in table.to_batches()]
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
            if self._kinds:
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
        tables = [
            pa.Table.from_batches([pa.ipc.read_record_batch(copy, schema)])
            for copy, schema in self._gathered
        ]
        self._gathered, self._gathered_bytes = [], 0
        is_copy = last is None
        if last is not None:
            tables.append(last)
        table = pa.concat_tables(tables) if tables else pa.Table.from_batches([], self._plain)
        table = self._orders.encoded(table)
        del tables, last
        self._wait()
        if self._writer is None:
            self._writer = self._open(table)
        if not table.num_rows:
            return
        write = partial(self._writer.write_table, table, row_group_size=table.num_rows)
        if is_copy and self._has_background:
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
        return pq.ParquetWriter(
            self._file,
            self.schema,
            compression=self.settings.compression.upper(),
            compression_level=self.settings.compression_level,
            use_dictionary=_repeating_columns(first, self._orders.names()),
            write_statistics=_ordered_columns(first, self._marks),
            write_page_checksum=True,
            store_decimal_as_integer=True,  # up to 18 digits; a third less of all the work
            store_schema=not self._kinds,
        )


def _repeating_columns(table: pa.Table, ordered: Collection[str]) -> list[str] | bool:
    """Return the columns in which the first rows repeat themselves, by their paths in Parquet.

    Those that are `ordered` dictionaries are among them.
    """
    from pyarrow._compute import call_function  # pyarrow.compute is slow to load

    if table.num_rows < 1000:  # too few rows to tell; they matter where their values are long
        return _short_columns(table)
    sample = table.slice(0, _SAMPLE_ROWS)
    repeating = []
    for field, column in zip(sample.schema, sample.columns, strict=True):
        if pa.types.is_boolean(field.type):
            continue
        if field.name in ordered:
            repeating.append(field.name)
            continue
        if pa.types.is_nested(field.type):
            repeating.append(field.name)  # for its leaves Parquet decides
            continue
        try:
            distinct = call_function("count_distinct", [column]).as_py()
        except pa.ArrowNotImplementedError:
            continue
        if distinct < _DICTIONARY_BELOW * sample.num_rows:
            repeating.append(field.name)
    return repeating


def _ordered_columns(table: pa.Table, marks: Collection[str]) -> list[str] | bool:
    """Return `_short_columns` without those whose mark may give their values another order."""
    short = _short_columns(table)
    if not marks:
        return short
    names = table.column_names if short is True else list(short or ())
    times = [field.name for field in table.schema if pa.types.is_time(field.type)]
    return [name for name in names if name not in marks or name in times]


def _short_columns(table: pa.Table) -> list[str] | bool:
    """Return True, or the columns whose values are short where some have long ones.

    Of long values the smallest and the largest are copied while a row group is written, and left
    out of the file then, and so are those of a dictionary: 300 MB for a value of 50 MB.
    """
    most = _LONG_BYTES * max(1, table.num_rows)
    columns = zip(table.column_names, table.columns, strict=True)
    short = [name for name, column in columns if column.nbytes <= most]
    return short if len(short) < table.num_columns else True
