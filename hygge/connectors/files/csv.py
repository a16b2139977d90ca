"""CSV and TSV files: a Home and a Store; also in gzip and zstd.

Home: one file, a directory, a glob. CSV has no types. They are stated
(`types: {zip: string, price: "decimal(10,2)"}`, see `hygge/type_words.py`), or inferred from the
first `sample_bytes` of the first file that has rows (see `hygge/formats/text_values.py`: what has
no plain form of a type is text). A later value that does not fit is an error with file, line and
column. Columns with stated types are read fastest: inferred numbers are checked for their form too.
What is not stated of delimiter, quote and header is found in the first lines of the first file with
rows, for all files (see `hygge/formats/csv_dialect.py`). A text that is not well-formed is an error
with line and column (see `hygge/formats/csv_syntax.py`).
NULL is an unquoted empty value, and what `null_values` says more, unquoted; a quoted "" is the
empty string. Blank lines are skipped, but in a file of one column each is a NULL. Files may differ
in the order of their columns, and with `schema: union` in the columns. binary is
base64. `hygge/formats/csv_reader.py` reads.

Store: a directory of files, each with its own header, or one file where the path ends in `.csv`. A
foreign reader (DuckDB's glob, `pyarrow.dataset`) sees the old files or the new ones, never a
mixture: a run is shown by one rename. `hygge/formats/csv_writer.py` says how values are written. In
a file of one column a NULL is a blank line: `CsvHome`, DuckDB and polars read a NULL; pandas skips
the line unless told `skip_blank_lines=False`. (DuckDB and pandas read "" as NULL too, as they do
with any CSV.) Types are not in the file: state them (`types:`) where it is read. On an object store
(`s3://bucket/prefix`) files come one by one: see `hygge/connectors/files/prefix.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Self, Unpack

import pyarrow as pa
from pydantic import model_validator

from hygge.bad_rows import is_bad
from hygge.connectors.files import bad_lines
from hygge.connectors.files.csv_options import CsvOptions as CsvOptions
from hygge.connectors.files.csv_options import CsvOptionsDict as CsvOptionsDict
from hygge.connectors.files.file_options import FileHomeArguments
from hygge.connectors.files.home import (
    FileHome,
    Piece,
)
from hygge.connectors.files.source_file import SourceFile
from hygge.connectors.files.store import (
    FileStore,
    FileStoreArguments,
    FileStoreOptions,
    FileStoreOptionsDict,
)
from hygge.connectors.files.uniting import (
    APART,
    STATE_IT,
    United,
    widens_sampled,
    with_text,
)
from hygge.errors import ConfigError, HomeError, one_of
from hygge.formats import csv_dialect, exact_text
from hygge.formats.csv_bad_rows import SettingAsideReader
from hygge.formats.csv_file import CsvFile
from hygge.formats.csv_reader import CsvReader
from hygge.formats.csv_syntax import Dialect
from hygge.formats.csv_writer import CsvWriter, check_csv_schema, header_line
from hygge.formats.format import Writer
from hygge.formats.text import (
    SUFFIX_OF,
    Compression,
    TextReader,
    byte_ranges,
    compression_for,
    concatenate,
    with_compressed,
)
from hygge.formats.text_values import NO_TEXT, inferred_text
from hygge.model import Column, HomeTraits, StoreTraits
from hygge.type_words import types_of


class CsvHomeArguments(FileHomeArguments, total=False):
    """The keyword arguments of `CsvHome`."""

    options: CsvOptions | CsvOptionsDict


class CsvHome(FileHome):
    """`CsvHome("users", path="data/users.csv", options={"types": {"zip": "string"}})`."""

    traits: HomeTraits = HomeTraits(lossy=NO_TEXT)
    imports = ("pyarrow.compute", "pyarrow.csv")
    suffixes: ClassVar[tuple[str, ...]] = with_compressed(".csv", ".tsv")

    class Settings(FileHome.Settings):
        options: CsvOptions = CsvOptions()

    settings: CsvHome.Settings

    def __init__(self, name: str | None = None, **settings: Unpack[CsvHomeArguments]) -> None:
        super().__init__(name, **settings)
        self._found: list[str] | None = None
        """The delimiter and the quote that the last `open` found, where they are not the usual."""
        self._found_text = ""

    def schema_of(self, files: Sequence[SourceFile]) -> tuple[Column, ...]:
        given = self._find_dialect(files)
        first = self._csv_file(files[0]).names()
        if self.unites:
            return self._united(files, first, given)
        self._found_text = csv_dialect.describe(self._dialect(files[0].path), given, len(first))
        for file in files[1:]:
            names = self._csv_file(file).names()
            if set(names) != set(first):
                raise HomeError(
                    f"{file.path} has the columns {', '.join(names)}; "
                    f"{files[0].path} has {', '.join(first)}",
                    "read those of all files: `schema: union`; or move them in flows of their own; "
                    "all files of one are read in one way "
                    f"({csv_dialect.shown_delimiter(self._dialect(files[0].path))})",
                )
        stated = types_of(self.settings.options.types)
        for name in list(stated):
            if name not in first and self.only and name not in self.own_columns:
                del stated[name]  # a column of another one of many files
            elif name not in first:
                raise ConfigError(
                    f"'types' names column '{name}', which {files[0].path} does not have",
                    one_of("its columns", name, first),
                )
        types = dict(stated)
        if len(stated) < len(first):
            sample = self._sample(files, first)
            infer = self.settings.options.forms().infer
            types |= {name: infer(sample.column(name)) for name in first if name not in stated}
        return tuple(
            Column(name, types[name], "text, stated")
            if name in stated
            else Column(name, types[name], inferred_text(types[name], sample.column(name)))
            for name in first
        )

    def _united(
        self, files: Sequence[SourceFile], first: list[str], given: csv_dialect.Stated
    ) -> tuple[Column, ...]:
        """Return the columns of all files; those that are not stated by a sample of each."""
        options, found = self.settings.options, self._found
        stated = types_of(options.types)
        united = United(self.is_read, widens_sampled, STATE_IT)
        for file in files:
            names = first
            if file != files[0]:
                self._check_alike(file, files[0], first, found)
                names = self._csv_file(file).names()
            sample = self._sample([file], names) if {*names} - {*stated} else None
            types = dict(stated)
            for name in names:
                if name not in stated and sample is not None:
                    texts = sample.column(name)
                    is_empty = texts.null_count == len(texts) or not self.is_read(name)
                    types[name] = pa.null() if is_empty else options.forms().infer(texts)
            united.add(file.path, pa.schema([(name, types[name]) for name in names]))
        schema = united.schema()
        for name in stated:
            if name not in schema.names and (not self.only or name in self.own_columns):
                raise ConfigError(
                    f"'types' names column '{name}', which no file of {self.path} has",
                    one_of("their columns", name, schema.names),
                )
        self._found_text = csv_dialect.describe(self._dialect(files[0].path), given, len(first))
        how = {name: "text, stated" for name in stated}
        return tuple(
            Column(f.name, with_text(f.type), how.get(f.name, "text, inferred")) for f in schema
        )

    def _check_alike(
        self, file: SourceFile, first_file: SourceFile, first: list[str], found: list[str] | None
    ) -> None:
        """Raise HomeError where a file by itself would be read in another way than the first.

        Its one long line would be a column with a strange name. `found` is how all are read.
        """
        self._find_dialect([file], first)
        own = self._dialect(file.path)
        count = len(self._csv_file(file).names())
        self._found = found
        shared = self._dialect(file.path)
        if own != shared and count > 1:
            raise HomeError(
                f"{file.path} is written with {csv_dialect.shown_delimiter(own)}, quote "
                f"{own.quote}, and {first_file.path} with {csv_dialect.shown_delimiter(shared)}, "
                f"quote {shared.quote}: all files of one flow are read in one way",
                APART,
            )

    def names_in(self, file: SourceFile, where: dict[str, Any]) -> Sequence[str] | None:
        if not self.unites:
            return None
        self._found = where.get("dialect")
        return self._csv_file(file).names()

    def pieces(self, file: SourceFile) -> Iterator[Piece]:
        options = self.settings.options
        whole = options.newlines_in_values or not options.encoding.startswith("utf-8")
        first = None if whole else self._csv_file(file).first_byte()
        found: dict[str, Any] = {"dialect": self._found} if self._found else {}
        if first is None:
            yield Piece(found, bytes=file.size)
            return
        for start, end in byte_ranges(first, max(first, file.size), options.split_bytes):
            yield Piece({"start": start, "end": end, **found}, bytes=end - start)

    def open_reader(
        self, file: SourceFile, where: dict[str, Any], schema: pa.Schema
    ) -> Iterator[pa.Table]:
        piece = {name: value for name, value in where.items() if name != "dialect"}
        self._found = where.get("dialect")
        return self._reader(self._csv_file(file), piece, schema).tables()

    def read_bad(self, rows: pa.Table) -> Iterator[pa.Table]:
        return bad_lines.read(self._open_bad, rows)

    def _open_bad(self, path: str, form: dict[str, Any], schema: pa.Schema) -> Iterator[pa.Table]:
        options, then = self.settings.options, form["dialect"]
        quote = then["quote"] if options.quote is None else options.quote
        self._found = [options.delimiter or then["delimiter"], quote]
        file = replace(
            self._csv_file(SourceFile(path, 0, 0)),
            dialect=replace(self._dialect(path), comment="", skip_lines=0),
            column_names=tuple(form["names"]),
            # Lines of another encoding are in UTF-8 by now.
            encoding=options.encoding if form["encoding"].startswith("utf-8") else "utf-8",
        )
        inside = pa.schema([field for field in schema if field.name in form["names"]])
        return CsvReader(file, {}, inside).tables()

    @property
    def _reader(self) -> type[CsvReader]:
        return CsvReader if self.most_bad_rows is None else SettingAsideReader

    def found(self) -> str:
        return self._found_text

    def _find_dialect(
        self, files: Sequence[SourceFile], known: Sequence[str] = ()
    ) -> csv_dialect.Stated:
        """Find what is not stated of delimiter, quote and header, in the first file with rows.

        Return what is stated. A first line with a name that is `known` is a header.
        """
        options = self.settings.options
        self._found = None
        usual = self._dialect(files[0].path)
        stated = csv_dialect.Stated(
            options.delimiter,
            options.quote,
            options.header,
            len(options.column_names) if options.column_names is not None else None,
            decimal=options.decimal or ".",
            usual=usual.delimiter,
        )
        if None in (stated.delimiter, stated.quote, stated.header):
            path, sample, is_cut = self._first_lines(files)
            found = csv_dialect.find(path, sample, is_cut, usual, stated)
            if (found.delimiter, found.quote) != (usual.delimiter, usual.quote):
                self._found = [found.delimiter, found.quote]
            if stated.header is None:
                nulls = options.null_values
                infer = options.forms().infer
                named = {*options.types, *(self.settings.columns or ()), *known}
                csv_dialect.check_header(path, sample, is_cut, found, infer, nulls, named)
        return stated

    def _first_lines(self, files: Sequence[SourceFile]) -> tuple[str, str, bool]:
        """Return the path of the first file with rows, its beginning, and whether that is cut."""
        path, sample, is_cut = files[0].path, "", False
        for file in files:
            with TextReader(file.path, self.settings.options.encoding) as text:
                begin = text.read(csv_dialect.SAMPLE_BYTES)
                rest = bool(text.read(1)) if len(begin) == csv_dialect.SAMPLE_BYTES else False
            if len(begin.split()) > len(sample.split()):
                path, sample, is_cut = file.path, begin.decode(errors="replace"), rest
            if rest or begin.count(b"\n") + begin.count(b"\r") > 1:
                break
        return path, sample, is_cut

    def _sample(self, files: Sequence[SourceFile], names: list[str]) -> pa.Table:
        schema = pa.schema([(name, pa.string()) for name in names])
        block = max(1024, self.settings.options.sample_bytes)
        for file in files:
            for table in self._reader(self._csv_file(file), {}, schema, block).tables():
                if not is_bad(table):
                    return table
        return schema.empty_table()

    def _dialect(self, path: str) -> Dialect:
        """Return how a file is written: as is stated, as was found, else as is usual."""
        options = self.settings.options
        usual = Dialect(
            _delimiter(options.delimiter, path),
            '"' if options.quote is None else options.quote,
            options.escape or "",
            options.comment or "",
            options.skip_lines or 0,
        )
        return usual.with_found(self._found)

    def _csv_file(self, file: SourceFile) -> CsvFile:
        options = self.settings.options
        return CsvFile(
            path=file.path,
            dialect=self._dialect(file.path),
            column_names=tuple(options.column_names or ()) if options.header is False else None,
            encoding=options.encoding,
            stated=frozenset(options.types),
            sample_bytes=options.sample_bytes,
            null_values=tuple(options.null_values),
            quoted_nulls=options.quoted_nulls,
            newlines_in_values=options.newlines_in_values,
            forms=options.forms(),
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
    unites_columns = False
    takes_wider = True

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

    def check_values(self, table: pa.Table) -> None:
        exact_text.check_values(table)

    def _header(self, schema: pa.Schema) -> bytes:
        return header_line(schema, self.delimiter) if self.settings.options.header else b""


def _is_tsv(path: str) -> bool:
    return path.lower().endswith(with_compressed(".tsv"))


def _delimiter(stated: str | None, path: str) -> str:
    if stated:
        return stated
    return "\t" if _is_tsv(path) else ","
