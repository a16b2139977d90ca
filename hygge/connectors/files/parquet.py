"""Parquet files: a Home and a Store.

Home: one file, a directory, a glob, hive partitions; splits are runs of row groups. Files of one
Home may differ in column order. A column that one file lacks, or has in a type that does not hold
the first file's values, is an error that names both, unless `schema: union` unites them by name.

Store: a directory of files, or one file where the path ends in `.parquet`. A foreign reader
(DuckDB's glob, `pyarrow.dataset`) sees the old files or the new ones, never a mixture: a run is
shown by one rename. Of one file that holds for a reader that opens it once for a read; DuckDB and
`pyarrow.dataset` open it twice. On an object store (`s3://bucket/prefix`) files come one by one:
see `hygge/connectors/files/prefix.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Unpack

import pyarrow as pa
from pydantic import Field, field_validator

from hygge.batches import plain, plain_schema
from hygge.connectors.files.file_options import FileHomeArguments, FileOptions, FileOptionsDict
from hygge.connectors.files.home import (
    FileHome,
    Piece,
)
from hygge.connectors.files.metadata import FilesMetadata
from hygge.connectors.files.source_file import SourceFile
from hygge.connectors.files.store import (
    FileStore,
    FileStoreArguments,
    FileStoreOptions,
    FileStoreOptionsDict,
)
from hygge.connectors.files.uniting import United, merged
from hygge.encodings import encodings_of, in_parquet
from hygge.extension_types import as_marked, marked_schema
from hygge.formats import parquet
from hygge.formats.format import Writer
from hygge.formats.parquet_dictionaries import small_only
from hygge.formats.parquet_marks import read_marks
from hygge.formats.parquet_order import orders_in
from hygge.formats.parquet_types import check_parquet_schema
from hygge.model import MIB, Column

if TYPE_CHECKING:
    import pyarrow.compute as pc

_MOST_GROUP_BYTES = 256 * MIB


class ParquetHomeArguments(FileHomeArguments, total=False):
    """The keyword arguments of `ParquetHome`."""

    options: FileOptions | FileOptionsDict


class ParquetHome(FileHome):
    """`ParquetHome("users", path="data/users")`."""

    imports = ("pyarrow.parquet",)
    suffixes: ClassVar[tuple[str, ...]] = (".parquet", ".pq", ".parq")

    settings: ParquetHome.Settings

    def __init__(self, name: str | None = None, **settings: Unpack[ParquetHomeArguments]) -> None:
        super().__init__(name, **settings)

    gives_dictionaries = False
    _planned: pa.Schema
    _condition: pc.Expression | None = None
    """The `where` of the flow's shape, by which row groups are left unread."""
    _groups = _groups_unread = 0

    def columns_of(self, files: Sequence[SourceFile]) -> tuple[tuple[Column, ...], FilesMetadata]:
        first: pa.Schema | None = None
        metadata = FilesMetadata()
        may_be_null: set[str] = set()
        united = United(self.is_read)
        native: dict[str, str] = {}
        with parquet.open_parquet(files[0].path) as opened:
            unit = parquet.int96_unit(files[0].path, opened)
        for file in files:
            with parquet.open_parquet(file.path, unit) as opened:
                self.check_names(file, opened.schema_arrow.names)
                own = marked_schema(opened.schema_arrow)
                found = dict(parquet.marks_without_arrow(opened))
                plain_names = [name for name in own.names if name in found]
                marks = read_marks(file.path, plain_names) if plain_names else {}
                marks = {name: f"{found[name]}:".encode() + mark for name, mark in marks.items()}
                metadata.add(own, self.unites, marks, orders_in(opened))
                schema = plain_schema(own)
                may_be_null.update(field.name for field in schema if field.nullable)
                if first is None:
                    first, native = schema, parquet.native_types(opened)
                for path, mark in found.items():
                    if mark and path not in marks:
                        metadata.lose(f"'{mark}' of column '{path}': Arrow has no such type")
            if self.unites:
                united.add(file.path, schema)
            elif not schema.equals(first, check_metadata=True):
                first = merged(file.path, schema, files[0].path, first, self.is_read)
        assert first is not None  # find_files gives at least one file
        if self.unites:
            first = united.schema()
            may_be_null = {field.name for field in first if field.nullable}
        columns = (
            Column(
                f.name,
                f.type,
                native.get(f.name),
                f.name in may_be_null,
                None,
                metadata.of_field(f.name),
            )
            for f in first
        )
        return tuple(columns), metadata

    def note_condition(self, schema: pa.Schema) -> None:
        self._groups_unread = self._groups = 0
        self._planned, self._condition = schema, None
        if self.shape is not None and self.shape.where is not None:
            from hygge.shape.where import expression, for_statistics  # slow to load

            expression(self.shape.where, schema, self.describe())  # it names a wrong column
            self._condition = for_statistics(self.shape.where, schema, self.describe())

    def unread(self) -> str:
        if self._condition is None:
            return ""
        return f"; {self._groups_unread:,} of {self._groups:,} row groups cannot match `where`"

    def names_in(self, file: SourceFile, where: dict[str, Any]) -> Sequence[str] | None:
        if not self.unites:
            return None
        with parquet.open_parquet(file.path) as opened:
            names: list[str] = opened.schema_arrow.names
        return names

    def pieces(self, file: SourceFile) -> Iterator[Piece]:
        with parquet.open_parquet(file.path) as opened:
            parquet.check_counts(file.path, opened)
            groups = dict(enumerate(parquet.row_groups(opened)))
        if self._condition is not None and not self.unites:
            from hygge.formats.parquet_groups import groups_with

            count = len(groups)
            kept = groups_with(file.path, self._condition, self._planned, dict(file.keys))
            groups = {i: group for i, group in groups.items() if kept is None or i in kept}
            self._groups, self._groups_unread = (
                self._groups + count,
                self._groups_unread + count - len(groups),
            )
        for index, (rows, size) in groups.items():
            yield Piece({"group": index}, rows, size)
        if not groups:
            yield Piece({}, 0, 0)

    def open_reader(
        self, file: SourceFile, where: dict[str, int], schema: pa.Schema
    ) -> Iterator[pa.Table]:
        if "group" not in where:
            return
        options = self.settings.options
        try:
            batches = parquet.read_row_group(
                file.path, where["group"], schema, options.batch_size, options.batch_bytes,
                bool(self.gives_dictionaries),
            )  # fmt: skip
            for batch in batches:
                table = as_marked(pa.Table.from_batches([batch]))
                del batch
                table = small_only(table) if self.gives_dictionaries else plain(table)
                yield table.select(schema.names)
                del table
        except (pa.ArrowException, OSError) as error:
            raise parquet.unreadable(file.path, error) from error


class ParquetOptions(FileStoreOptions):
    """How Parquet is written."""

    compression: Literal["none", "snappy", "gzip", "zstd", "lz4", "brotli"] = "snappy"
    """How the pages of a file are compressed."""
    compression_level: int | None = None
    """The level of gzip, zstd or brotli. Default: the codec's own."""
    row_group_bytes: int = Field(default=32 * MIB, gt=0)
    """Arrow bytes of a row group, about, at most 256 MiB: smaller batches are gathered."""

    @field_validator("row_group_bytes")
    @classmethod
    def _fits_in_memory(cls, size: int) -> int:
        if size > _MOST_GROUP_BYTES:
            raise ValueError(
                f"{size:,} is more than {_MOST_GROUP_BYTES:,} (256 MiB): every lane gathers a row "
                "group in its memory"
            )
        return size


class ParquetOptionsDict(FileStoreOptionsDict, total=False):
    """`ParquetOptions` as a dict."""

    compression: Literal["none", "snappy", "gzip", "zstd", "lz4", "brotli"]
    compression_level: int | None
    row_group_bytes: int


class ParquetStoreArguments(FileStoreArguments, total=False):
    """The keyword arguments of `ParquetStore`."""

    options: ParquetOptions | ParquetOptionsDict


class ParquetStore(FileStore):
    """`ParquetStore("users", path="data/users", options={"compression": "zstd"})`."""

    traits = replace(FileStore.traits, metadata=True, parquet_types=True)
    imports = ("pyarrow.parquet",)
    suffixes: ClassVar[tuple[str, ...]] = (".parquet", ".pq", ".parq")
    keeps_metadata: ClassVar[bool] = True
    takes_dictionaries: ClassVar[bool] = True

    class Settings(FileStore.Settings):
        options: ParquetOptions = ParquetOptions()

    settings: ParquetStore.Settings

    def __init__(self, name: str | None = None, **settings: Unpack[ParquetStoreArguments]) -> None:
        super().__init__(name, **settings)

    def open_writer(self, path: str, schema: pa.Schema) -> Writer:
        return parquet.ParquetWriter(path, schema, self._written_as())

    def join(self, parts: Sequence[str], target: str, schema: pa.Schema) -> None:
        parquet.join_parquet(parts, target, schema, self._written_as())

    def check_schema(self, schema: pa.Schema) -> None:
        check_parquet_schema(schema)

    def remarks(self, schema: pa.Schema | None) -> list[str]:
        kinds = encodings_of(schema) if schema is not None else {}
        plain = [name for name, kind in kinds.items() if in_parquet(kind) is None]
        listed = ", ".join(f"'{name}'" for name in plain)
        note = f"encodings that Parquet does not give back become plain values: {listed}"
        return [*super().remarks(schema), *[note] * bool(plain)]

    def count(self, path: str) -> int:
        return parquet.count_rows(path)

    def _written_as(self) -> parquet.ParquetSettings:
        options = self.settings.options
        return parquet.ParquetSettings(
            options.compression,
            options.compression_level,
            options.row_group_bytes,
            background_below=options.file_bytes,
            copies=not self.batches_stay,
        )
