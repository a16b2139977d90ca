"""Parquet as a Store: a directory of files, or one file where the path ends in `.parquet`.

A foreign reader (DuckDB's glob, `pyarrow.dataset`) sees the old files or the new ones, never a
mixture: a run is shown by one rename. Of one file that holds for who opens it once for a read;
DuckDB and `pyarrow.dataset` open it twice. Column statistics are written for every column. A
dictionary is written only for columns in which the first rows repeat themselves: it makes those
smaller and the others slower.

On an object store (`s3://bucket/prefix`) files come one by one: see
`hygge/connectors/files/prefix.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import pyarrow as pa
from pydantic import Field, field_validator

from hygge.connectors.files.parts import Writer
from hygge.connectors.files.store import FileStore, FileStoreOptions
from hygge.errors import UnfitValue
from hygge.model import MIB

_SAMPLE_ROWS = 20_000
_MOST_BYTES = 256 * MIB
_LONG_BYTES = 64 * 1024
"""Longer values (of a row, on average) get neither statistics nor a dictionary."""
_PAYS_BELOW = 0.5
"""A dictionary pays where fewer than this share of the sampled values are distinct."""


class ParquetOptions(FileStoreOptions):
    """How Parquet is written."""

    compression: Literal["none", "snappy", "gzip", "zstd", "lz4", "brotli"] = "snappy"
    compression_level: int | None = None
    row_group_bytes: int = Field(32 * MIB, gt=0)
    """Arrow bytes of a row group, about, at most 256 MiB: smaller batches are gathered."""

    @field_validator("row_group_bytes")
    @classmethod
    def _fits_in_memory(cls, given: int) -> int:
        if given > _MOST_BYTES:
            raise ValueError(
                f"{given:,} is more than {_MOST_BYTES:,} (256 MiB): every lane gathers a row group "
                "in its memory"
            )
        return given


class ParquetStore(FileStore):
    """`ParquetStore("users", path="data/users", options={"compression": "zstd"})`."""

    imports = ("pyarrow.compute", "pyarrow.parquet")
    suffixes: ClassVar[tuple[str, ...]] = (".parquet", ".pq", ".parq")

    class Settings(FileStore.Settings):
        options: ParquetOptions = ParquetOptions()

    def open_writer(self, path: str, schema: pa.Schema) -> Writer:
        return _ParquetWriter(path, schema, self.settings.options)

    def join(self, parts: Sequence[str], target: str, schema: pa.Schema) -> None:
        import pyarrow.parquet as pq

        writer = _ParquetWriter(target, schema, self.settings.options)
        for part in parts:
            with pq.ParquetFile(part) as opened:
                for group in range(opened.num_row_groups):
                    writer.write(opened.read_row_group(group, use_threads=False))
        writer.close()

    def check_schema(self, schema: pa.Schema) -> None:
        for field in schema:
            if pa.types.is_struct(field.type) and field.type.num_fields == 0:
                raise UnfitValue(
                    f"column '{field.name}' is a struct without fields, which Parquet cannot hold",
                    "leave it out with `columns`",
                )

    def count(self, path: str) -> int:
        import pyarrow.parquet as pq

        return int(pq.read_metadata(path).num_rows)


class _ParquetWriter:
    """Gathers batches to row groups; opens the file when the first rows show what repeats."""

    def __init__(self, path: str, schema: pa.Schema, options: ParquetOptions) -> None:
        self.path, self.schema, self.options = path, schema, options
        self.writer: Any = None
        self.file: Any = None
        self.held: list[tuple[pa.Buffer, pa.Schema]] = []
        self.held_bytes = 0

    def write(self, table: pa.Table) -> None:
        if self.held_bytes + table.nbytes >= self.options.row_group_bytes // 2:
            self._flush(table)
        else:
            # A copy: the batch may lie in shared memory that is given back when we ask for more.
            self.held += [(batch.serialize(), table.schema) for batch in table.to_batches()]
            self.held_bytes += table.nbytes

    def size(self) -> int:
        return int(self.file.tell()) if self.file is not None else 0

    def close(self) -> None:
        if self.held or self.writer is None:
            self._flush()
        self.writer.close()
        self.file.close()

    def _flush(self, last: pa.Table | None = None) -> None:
        tables = [
            pa.Table.from_batches([pa.ipc.read_record_batch(copy, schema)])
            for copy, schema in self.held
        ]
        self.held, self.held_bytes = [], 0
        if last is not None:
            tables.append(last)
        table = pa.concat_tables(tables) if tables else self.schema.empty_table()
        del tables, last
        if self.writer is None:
            self._open(table)
        if table.num_rows:
            self.writer.write_table(table, row_group_size=table.num_rows)

    def _open(self, first: pa.Table) -> None:
        import pyarrow.parquet as pq

        self.file = pa.OSFile(self.path, "wb")
        self.writer = pq.ParquetWriter(
            self.file,
            self.schema,
            compression=self.options.compression.upper(),
            compression_level=self.options.compression_level,
            use_dictionary=_repeating(first),
            write_statistics=_short(first),
            write_page_checksum=True,
            store_decimal_as_integer=True,  # up to 18 digits; a third less of all the work
            store_schema=True,
        )


def _repeating(table: pa.Table) -> list[str] | bool:
    """Columns in which the first rows repeat themselves, by their paths in Parquet."""
    import pyarrow.compute as pc

    if table.num_rows < 1000:  # too few rows to tell; they matter where their values are long
        return _short(table)
    sample = table.slice(0, _SAMPLE_ROWS)
    pays = []
    for field, column in zip(sample.schema, sample.columns, strict=True):
        if pa.types.is_boolean(field.type):
            continue
        if pa.types.is_nested(field.type):
            pays.append(field.name)  # its leaves are Parquet's to decide
            continue
        try:
            distinct = pc.count_distinct(column).as_py()
        except pa.ArrowNotImplementedError:
            continue
        if distinct < _PAYS_BELOW * sample.num_rows:
            pays.append(field.name)
    return pays


def _short(table: pa.Table) -> list[str] | bool:
    """True, or the columns whose values are short where some have long ones.

    Of long values the smallest and the largest are copied while a row group is written, and left
    out of the file then, and so are those of a dictionary: 300 MB for a value of 50 MB.
    """
    most = _LONG_BYTES * max(1, table.num_rows)
    short = [n for n, c in zip(table.column_names, table.columns, strict=True) if c.nbytes <= most]
    return short if len(short) < table.num_columns else True
