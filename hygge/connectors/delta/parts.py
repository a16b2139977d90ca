"""What one attempt at a split leaves below the table: Parquet files, then `receipt.json`.

The files lie where the table will read them, in `hygge-<run>/<ticket>/`; no reader sees them before
an entry of the log names them. Of a partitioned table each file has the rows of one partition, and
not the columns of it; it lies in a folder `day=2024-01-01`, as some readers (polars) take the
values from the path, and not from the log.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import date
from urllib.parse import quote

import pyarrow as pa

from hygge.connectors.delta.statistics import as_json
from hygge.connectors.delta.table_files import Disk, Objects
from hygge.connectors.files.heads import schema_text
from hygge.connectors.files.parts import RECEIPT
from hygge.errors import StoreError, UnfitValue
from hygge.formats.format import check_rows
from hygge.formats.parquet import ParquetSettings, ParquetWriter
from hygge.model import MIB
from hygge.places import durable
from hygge.type_words import value_text

_GATHERED_BYTES = 64 * MIB
"""Rows of partitions that wait in memory until there are enough for a row group."""
_MOST_FILES = 500
"""Files that are open at one time. Of more partitions the largest file is closed; rows of its
partition that come later go into another one."""
_MOST_PARTITIONS = 10_000
"""Of one split."""
_NULL = "__HIVE_DEFAULT_PARTITION__"
"""What stands for NULL in the name of a folder."""
_MOST_BYTES = 255
"""Of the name of a folder, on the usual disks."""


@dataclass(frozen=True)
class Part:
    """A staged file."""

    name: str
    rows: int
    size: int
    partition: dict[str, str | None]
    statistics: str


@dataclass(frozen=True)
class Staged:
    """The content of a receipt."""

    rows: int
    arrow_bytes: int
    schema: str | None
    parts: tuple[Part, ...]

    def to_json(self) -> bytes:
        return json.dumps(asdict(self)).encode()


def read_staged(content: bytes | None) -> Staged | None:
    """Return what a receipt says; None where there is none, or a damaged one."""
    try:
        fields = json.loads(content or b"")
        parts = tuple(Part(**each) for each in fields.pop("parts"))
        staged = Staged(parts=parts, **fields)
    except (ValueError, TypeError, KeyError, AttributeError):
        return None
    return staged if sum(part.rows for part in parts) == staged.rows else None


@dataclass
class PartWriter:
    """Writes the rows of one ticket."""

    files: Disk | Objects
    key: str
    partition_by: Sequence[str]
    settings: ParquetSettings
    file_bytes: int
    parts: list[Part] = field(default_factory=list)
    _open: dict[tuple[object, ...], _Open] = field(default_factory=dict)
    _gathered: int = 0
    _made: int = 0

    def write(self, batches: Iterator[pa.Table], schema: pa.Schema | None) -> Staged:
        """Write batches of `schema` (None: that of the first), and then the receipt."""
        rows = size = 0
        with self.files.folder(self.key) as local:
            try:
                for batch in batches:
                    schema = batch.schema if schema is None else schema
                    rows += batch.num_rows
                    size += batch.nbytes
                    for values, piece in _partitioned(batch, self.partition_by):
                        self._take(local, values, piece)
                    del batch
                while self._open:
                    self._close(next(iter(self._open.values())))
            finally:
                for each in self._open.values():  # after an error, which is the one to report
                    with suppress(Exception):
                        each.writer.close()
        staged = Staged(rows, size, schema_text(schema), tuple(self.parts))
        self.files.put(f"{self.key}/{RECEIPT}", staged.to_json())
        return staged

    def _take(self, local: str, values: tuple[object, ...], piece: pa.Table) -> None:
        each = self._open.get(values)
        if each is None:
            if len(self._open) == _MOST_PARTITIONS:
                raise StoreError(
                    f"one split has rows of more than {_MOST_PARTITIONS:,} partitions "
                    f"({', '.join(self.partition_by)}), each of them a file",
                    "partition by fewer values, such as the date of a timestamp",
                )
            texts = map(partition_text, self.partition_by, values)
            partition = dict(zip(self.partition_by, texts, strict=True))
            name = "/".join([*_folders(partition), f"{self._made:05d}.parquet"])
            path = os.path.join(local, *name.split("/"))
            durable.make_folder(os.path.dirname(path))
            self._made += 1
            settings = self.settings
            if self.partition_by:  # what is gathered is gathered here
                settings = ParquetSettings(settings.compression, settings.compression_level, 1)
            writer = ParquetWriter(path, piece.schema, settings)
            each = _Open(path, name, partition, values, writer, piece.schema)
            self._open[values] = each
        each.rows += piece.num_rows
        if self.partition_by:
            each.gathered.append(piece)
            each.gathered_bytes += piece.nbytes
            self._gathered += piece.nbytes
            while self._gathered > _GATHERED_BYTES:
                self._flush(max(self._open.values(), key=lambda one: one.gathered_bytes))
        else:
            each.writer.write(piece)
        if values in self._open and each.writer.size() >= self.file_bytes:
            self._close(each)

    def _flush(self, each: _Open) -> None:
        if each.gathered:
            tables, size = each.gathered, each.gathered_bytes
            each.gathered, each.gathered_bytes = [], 0
            self._gathered -= size
            others = [one for one in self._open.values() if one.is_begun and one is not each]
            if len(others) >= _MOST_FILES:
                self._close(max(others, key=lambda one: one.writer.size()))
            each.is_begun = True
            each.writer.write(pa.concat_tables(tables))

    def _close(self, each: _Open) -> None:
        self._flush(each)
        del self._open[each.values]
        statistics = each.writer.close()
        check_rows(each.path, statistics.rows, each.rows)
        size, told = os.path.getsize(each.path), as_json(statistics, each.schema)
        self.files.keep(each.path, f"{self.key}/{each.name}")
        self.parts.append(Part(each.name, each.rows, size, each.partition, told))


@dataclass
class _Open:
    """A file that is being written."""

    path: str
    name: str
    """Below the ticket."""
    partition: dict[str, str | None]
    values: tuple[object, ...]
    writer: ParquetWriter
    schema: pa.Schema
    rows: int = 0
    gathered: list[pa.Table] = field(default_factory=list)
    gathered_bytes: int = 0
    is_begun: bool = False
    """Whether the file is there: before that all its rows are gathered."""


def partition_text(column: str, value: object) -> str | None:
    """Return a value of a partition column as the log has it."""
    if value is None:
        return None
    if isinstance(value, bool):
        return str(value).lower()
    return value.isoformat() if isinstance(value, date) else str(value)


def check_partitions(table: pa.Table, columns: Sequence[str]) -> None:
    """Raise UnfitValue for a text that readers of a partitioned table would take as NULL."""
    import pyarrow.compute as pc

    for name in columns:
        column = table.column(name)
        if pa.types.is_string(column.type):
            for text in ("", _NULL):
                if pc.index(column, text).as_py() >= 0:
                    raise UnfitValue(
                        f"partition column '{name}' holds '{text}', which Delta does not tell "
                        "from NULL",
                        "give such rows another value, or do not partition by it",
                    ).at(name, text)


def _folders(partition: Mapping[str, str | None]) -> Iterator[str]:
    """Yield the names of the folders of a partition, as other writers of Delta have them."""
    for column, text in partition.items():
        name = f"{column.replace('/', '%2F')}={_NULL if text is None else quote(text, safe='')}"
        if len(name.encode()) > _MOST_BYTES:
            raise UnfitValue(
                f"partition column '{column}' holds {value_text(text)}, too long for the name of "
                "a folder",
                "partition by a shorter column",
            ).at(column, text)
        yield name


def _partitioned(
    table: pa.Table, columns: Sequence[str]
) -> Iterator[tuple[tuple[object, ...], pa.Table]]:
    """Yield the rows of each partition in a batch, in their order, without its columns."""
    if not columns:
        if table.num_rows:
            yield (), table
        return
    import numpy as np
    import pyarrow.compute as pc

    codes = np.zeros(table.num_rows, np.int64)
    for name in columns:
        encoded = table.column(name).combine_chunks()
        encoded = pc.dictionary_encode(encoded, null_encoding="encode")
        if isinstance(encoded, pa.ChunkedArray):
            encoded = encoded.combine_chunks()
        codes = codes * (len(encoded.dictionary) + 1) + np.asarray(encoded.indices)
        codes = np.unique(codes, return_inverse=True)[1]
    order = np.argsort(codes, kind="stable")
    starts = np.flatnonzero(np.diff(codes[order], prepend=-1))
    ends = [*starts[1:], len(order)]
    rest = [name for name in table.column_names if name not in columns]
    for start, end in zip(starts, ends, strict=True):
        at = pa.array(order[start:end])
        values = tuple(table.column(name)[int(order[start])].as_py() for name in columns)
        yield values, table.select(rest).take(at)
