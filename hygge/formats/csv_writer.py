"""CSV (or TSV) as a Store: a directory of files, or one file where the path ends in `.csv`.

A foreign reader (DuckDB's glob, `pyarrow.dataset`) sees the old files or the new ones, never a
mixture: a run is shown by one rename. Each file of a directory has its own header.

NULL is written as nothing, the empty string as "", every text in quotes. Numbers are written with
as many digits as give them back exactly, decimals plainly with their scale; timestamps as
`2024-02-29 10:00:00.000000`, those with a time zone in UTC with a Z; binary as base64; NaN and
infinities as nan, inf, -inf. In a file of one column a NULL is a blank line: `CsvHome`, DuckDB and
polars read a NULL; pandas skips the line unless told `skip_blank_lines=False`. (DuckDB and pandas
read "" as NULL too, as they do with any CSV.) Types are not in the file: state them (`types:`)
where it is read.

On an object store (`s3://bucket/prefix`) files come one by one: see
`hygge/connectors/files/prefix.py`.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar, Self

import pyarrow as pa
from pydantic import model_validator

from hygge.connectors.files.parts import Writer
from hygge.connectors.files.store import FileStore, FileStoreOptions
from hygge.errors import UnfitValue
from hygge.formats.text import (
    SUFFIX_OF,
    Compression,
    compressed_head,
    concatenate,
    open_compressed,
    settled_compression,
    with_compressed,
)
from hygge.formats.text_values import NO_TEXT, base64_text, is_bytes, moments_text, plain_decimals
from hygge.model import StoreTraits


class CsvStoreOptions(FileStoreOptions):
    """How CSV is written."""

    compression: Compression | None = None
    """none, gzip or zstd. Default: what the path's suffix says, else none."""
    delimiter: str | None = None
    """One character between values. Default: a comma, in a `.tsv` file a tab."""
    header: bool = True
    """Whether the first line of each file names the columns."""

    @model_validator(mode="after")
    def _one_sign(self) -> Self:
        sign = self.delimiter
        if sign is not None and (
            len(sign) != 1 or not sign.isascii() or sign.isalnum() or sign in '\r\n"+-.: '
        ):
            raise ValueError(f"delimiter {sign!r} is not one ASCII character that separates")
        return self


class CsvStore(FileStore):
    """`CsvStore("users", path="data/users.csv.gz")`."""

    traits: ClassVar[StoreTraits] = replace(FileStore.traits, lossy=NO_TEXT)
    suffixes: ClassVar[tuple[str, ...]] = with_compressed(".csv", ".tsv")

    class Settings(FileStore.Settings):
        options: CsvStoreOptions = CsvStoreOptions()

    def __init__(self, name: str | None = None, **settings: Any) -> None:
        super().__init__(name, **settings)
        self.compression = settled_compression(
            self.path, self.single, self.settings.options.compression
        )

    def suffix(self) -> str:
        return (".tsv" if self._tabbed() else ".csv") + SUFFIX_OF[self.compression]

    def open_writer(self, path: str, schema: pa.Schema) -> Writer:
        return _CsvWriter(path, schema, self.compression, self._delimiter(), self._header(schema))

    def join(self, parts: Sequence[str], target: str, schema: pa.Schema) -> None:
        concatenate(parts, target, self.compression, self._header(schema))

    def check_schema(self, schema: pa.Schema) -> None:
        for field in schema:
            if str(field.type).startswith(NO_TEXT):
                raise UnfitValue(
                    f"column '{field.name}' is {field.type}, which CSV has no form for",
                    "leave it out with `columns`, or write jsonl or parquet",
                )

    def _tabbed(self) -> bool:
        return self.path.lower().endswith(with_compressed(".tsv"))

    def _delimiter(self) -> str:
        return self.settings.options.delimiter or ("\t" if self._tabbed() else ",")

    def _header(self, schema: pa.Schema) -> bytes:
        import pyarrow.csv as pc

        if not self.settings.options.header:
            return b""
        out = io.BytesIO()
        names = pa.schema([(name, pa.string()) for name in schema.names]).empty_table()
        pc.write_csv(names, out, pc.WriteOptions(delimiter=self._delimiter()))
        return out.getvalue()


class _CsvWriter:
    """One file: its header first, so that `join` finds the same bytes in each part."""

    def __init__(
        self, path: str, schema: pa.Schema, compression: Compression, delimiter: str, header: bytes
    ) -> None:
        import pyarrow.csv as pc

        start = compressed_head(header, compression)
        self.out = open_compressed(path, compression, start)
        if not start:
            self.out.stream.write(header)
        self.options = pc.WriteOptions(include_header=False, delimiter=delimiter)

    def write(self, table: pa.Table) -> None:
        import pyarrow.csv as pc

        pc.write_csv(_writable(table), self.out.stream, self.options)

    def size(self) -> int:
        return self.out.size()

    def close(self) -> None:
        self.out.close()


def _writable(table: pa.Table) -> pa.Table:
    """`table` with the columns as text that pyarrow.csv would write otherwise than we say."""
    t = pa.types
    for at, field in enumerate(table.schema):
        kind, column = field.type, table.column(at)
        if is_bytes(kind):
            column = base64_text(column)
        elif t.is_timestamp(kind) and kind.tz is not None:
            column = moments_text(column)
        elif t.is_decimal(kind):
            column = plain_decimals(column)
        else:
            continue
        table = table.set_column(at, field.name, column)
    return table
