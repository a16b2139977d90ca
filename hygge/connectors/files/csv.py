"""CSV and TSV files: a Home and a Store; also in gzip and zstd.

Home: one file, a directory, a glob. CSV has no types. They are stated
(`types: {zip: string, price: "decimal(10,2)"}`, see `hygge/type_words.py`), or inferred from the
first `sample_bytes` of the first file that has rows (see `hygge/formats/text_values.py`: what has
no plain form of a type is text). A later value that does not fit is an error with file, line and
column. Columns with stated types are read fastest: inferred numbers are checked for their form too.
NULL is an unquoted empty value, and what `null_values` says more, unquoted; a quoted "" is the
empty string. Blank lines are skipped, but in a file of one column each is a NULL. Files may differ
in the order of their columns. binary is base64. `hygge/formats/csv_reader.py` reads.

Store: a directory of files, each with its own header, or one file where the path ends in `.csv`. A
foreign reader (DuckDB's glob, `pyarrow.dataset`) sees the old files or the new ones, never a
mixture: a run is shown by one rename. `hygge/formats/csv_writer.py` says how values are written. In
a file of one column a NULL is a blank line: `CsvHome`, DuckDB and polars read a NULL; pandas skips
the line unless told `skip_blank_lines=False`. (DuckDB and pandas read "" as NULL too, as they do
with any CSV.) Types are not in the file: state them (`types:`) where it is read. On an object store
(`s3://bucket/prefix`) files come one by one: see `hygge/connectors/files/prefix.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import ClassVar, Self, Unpack

import pyarrow as pa
from pydantic import Field, field_validator, model_validator

from hygge.connectors.files.home import (
    FileHome,
    FileHomeArguments,
    FileOptions,
    FileOptionsDict,
    Piece,
)
from hygge.connectors.files.source_file import SourceFile
from hygge.connectors.files.store import (
    FileStore,
    FileStoreArguments,
    FileStoreOptions,
    FileStoreOptionsDict,
)
from hygge.errors import ConfigError, HomeError, one_of
from hygge.formats.csv_file import CsvFile
from hygge.formats.csv_reader import CsvReader
from hygge.formats.csv_syntax import Dialect
from hygge.formats.csv_writer import CsvWriter, check_csv_schema, header_line
from hygge.formats.format import Writer
from hygge.formats.text import (
    SUFFIX_OF,
    Compression,
    byte_ranges,
    compression_for,
    concatenate,
    known_encoding,
    with_compressed,
)
from hygge.formats.text_values import NO_TEXT, infer
from hygge.model import MIB, Column, HomeTraits, StoreTraits
from hygge.type_words import types_of


class CsvOptions(FileOptions):
    """How CSV is read."""

    delimiter: str | None = None
    """One character between values. Default: a comma, in `.tsv` files a tab."""
    quote: str = '"'
    """One character around values that hold delimiters or newlines; `none`: nothing is quoted."""
    header: bool = True
    """Whether the first line names the columns."""
    column_names: list[str] | None = None
    """Names of the columns, in a file without a header."""
    encoding: str = "utf-8"
    """The encoding of the files; a byte order mark is understood."""
    types: dict[str, str] = Field(default_factory=dict)
    """Column → type word; the other columns are inferred from the sample."""
    sample_bytes: int = Field(default=MIB, gt=0)
    """How many bytes of the first file types are inferred from."""
    null_values: list[str] = Field(default_factory=list)
    """Texts that mean NULL beside the empty value, where they are unquoted."""
    quoted_nulls: bool = False
    """Whether a quoted empty value (and quoted `null_values`) is NULL too."""
    newlines_in_values: bool = True
    """Whether quoted values may hold newlines; only where they never do is a file split."""

    @field_validator("types")
    @classmethod
    def _known_types(cls, types: dict[str, str]) -> dict[str, str]:
        types_of(types)
        return types

    @field_validator("encoding")
    @classmethod
    def _known_encoding(cls, encoding: str) -> str:
        return known_encoding(encoding)

    @field_validator("quote")
    @classmethod
    def _none_is_empty(cls, sign: str) -> str:
        return "" if sign == "none" else sign

    @field_validator("delimiter", "quote")
    @classmethod
    def _one_sign(cls, sign: str | None) -> str | None:
        if sign and (len(sign) != 1 or not sign.isascii() or sign.isalnum() or sign in "\r\n"):
            raise ValueError(f"{sign!r} is not one ASCII character that separates")
        return sign

    @model_validator(mode="after")
    def _names_from_somewhere(self) -> Self:
        if self.delimiter == "":
            raise ValueError("'delimiter' is empty")
        if self.header == (self.column_names is not None):
            raise ValueError(
                "'column_names' and 'header: false' need each other: names come from the header, "
                "or from column_names"
            )
        return self


class CsvOptionsDict(FileOptionsDict, total=False):
    """`CsvOptions` as a dict."""

    delimiter: str | None
    quote: str
    header: bool
    column_names: list[str] | tuple[str, ...] | None
    encoding: str
    types: Mapping[str, str]
    sample_bytes: int
    null_values: list[str] | tuple[str, ...]
    quoted_nulls: bool
    newlines_in_values: bool


class CsvHomeArguments(FileHomeArguments, total=False):
    """The keyword arguments of `CsvHome`."""

    options: CsvOptions | CsvOptionsDict


class CsvHome(FileHome):
    """`CsvHome("users", path="data/users.csv", options={"types": {"zip": "string"}})`."""

    traits: HomeTraits = HomeTraits(lossy=NO_TEXT)
    suffixes: ClassVar[tuple[str, ...]] = with_compressed(".csv", ".tsv")

    class Settings(FileHome.Settings):
        options: CsvOptions = CsvOptions()

    settings: CsvHome.Settings

    def __init__(self, name: str | None = None, **settings: Unpack[CsvHomeArguments]) -> None:
        super().__init__(name, **settings)

    def schema_of(self, files: Sequence[SourceFile]) -> tuple[Column, ...]:
        first = self._csv_file(files[0]).names()
        for file in files[1:]:
            names = self._csv_file(file).names()
            if set(names) != set(first):
                raise HomeError(
                    f"{file.path} has the columns {', '.join(names)}; "
                    f"{files[0].path} has {', '.join(first)}",
                    "move them in flows of their own",
                )
        stated = types_of(self.settings.options.types)
        for name in stated:
            if name not in first:
                raise ConfigError(
                    f"'types' names column '{name}', which {files[0].path} does not have",
                    one_of("its columns", name, first),
                )
        types = dict(stated)
        if len(stated) < len(first):
            sample = self._sample(files, first)
            types |= {name: infer(sample.column(name)) for name in first if name not in stated}
        return tuple(
            Column(name, types[name], "text, stated" if name in stated else "text, inferred")
            for name in first
        )

    def pieces(self, file: SourceFile) -> Iterator[Piece]:
        options = self.settings.options
        whole = options.newlines_in_values or not options.encoding.startswith("utf-8")
        first = None if whole else self._csv_file(file).first_byte()
        if first is None:
            yield Piece(bytes=file.size)
            return
        for start, end in byte_ranges(first, max(first, file.size), options.split_bytes):
            yield Piece({"start": start, "end": end}, bytes=end - start)

    def open_reader(
        self, file: SourceFile, where: dict[str, int], schema: pa.Schema
    ) -> Iterator[pa.Table]:
        return CsvReader(self._csv_file(file), where, schema).tables()

    def _sample(self, files: Sequence[SourceFile], names: list[str]) -> pa.Table:
        schema = pa.schema([(name, pa.string()) for name in names])
        block = max(1024, self.settings.options.sample_bytes)
        for file in files:
            for table in CsvReader(self._csv_file(file), {}, schema, block).tables():
                return table
        return schema.empty_table()

    def _csv_file(self, file: SourceFile) -> CsvFile:
        options = self.settings.options
        return CsvFile(
            path=file.path,
            dialect=Dialect(_delimiter(options.delimiter, file.path), options.quote),
            column_names=None if options.header else tuple(options.column_names or ()),
            encoding=options.encoding,
            stated=frozenset(options.types),
            sample_bytes=options.sample_bytes,
            null_values=tuple(options.null_values),
            quoted_nulls=options.quoted_nulls,
            newlines_in_values=options.newlines_in_values,
        )


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


class CsvStoreOptionsDict(FileStoreOptionsDict, total=False):
    """`CsvStoreOptions` as a dict."""

    compression: Compression | None
    delimiter: str | None
    header: bool


class CsvStoreArguments(FileStoreArguments, total=False):
    """The keyword arguments of `CsvStore`."""

    options: CsvStoreOptions | CsvStoreOptionsDict


class CsvStore(FileStore):
    """`CsvStore("users", path="data/users.csv.gz")`."""

    traits: StoreTraits = replace(FileStore.traits, lossy=NO_TEXT)
    suffixes: ClassVar[tuple[str, ...]] = with_compressed(".csv", ".tsv")

    class Settings(FileStore.Settings):
        options: CsvStoreOptions = CsvStoreOptions()

    settings: CsvStore.Settings

    def __init__(self, name: str | None = None, **settings: Unpack[CsvStoreArguments]) -> None:
        super().__init__(name, **settings)
        stated = self.settings.options.compression
        self.compression = compression_for(self.path, self.single, stated)
        self.delimiter = _delimiter(self.settings.options.delimiter, self.path)

    def suffix(self) -> str:
        return (".tsv" if _is_tsv(self.path) else ".csv") + SUFFIX_OF[self.compression]

    def open_writer(self, path: str, schema: pa.Schema) -> Writer:
        return CsvWriter(path, schema, self.compression, self.delimiter, self._header(schema))

    def join(self, parts: Sequence[str], target: str, schema: pa.Schema) -> None:
        concatenate(parts, target, self.compression, self._header(schema))

    def check_schema(self, schema: pa.Schema) -> None:
        check_csv_schema(schema)

    def _header(self, schema: pa.Schema) -> bytes:
        return header_line(schema, self.delimiter) if self.settings.options.header else b""


def _is_tsv(path: str) -> bool:
    return path.lower().endswith(with_compressed(".tsv"))


def _delimiter(stated: str | None, path: str) -> str:
    if stated:
        return stated
    return "\t" if _is_tsv(path) else ","
