"""Arrow IPC files (Feather V2) and IPC streams: a Home and a Store.

Home: splits are runs of record batches; a stream is read as a whole.

Store: a directory of files, or one file where the path ends in `.arrow`. A foreign reader sees the
old files or the new ones, never a mixture: a run is shown by one rename. Every Arrow type is
kept exactly; of dictionaries, views and run-end encoding only those that `hygge/encodings.py` can
bring back, and the others become plain values. On an object store (`s3://bucket/prefix`) files come
one by one: see `hygge/connectors/files/prefix.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Literal, Unpack

import pyarrow as pa

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
from hygge.extension_types import as_marked, marked_schema
from hygge.formats import arrow
from hygge.formats.format import Writer
from hygge.model import MIB, Column

_PIECE_BYTES = 16 * MIB


class ArrowHomeArguments(FileHomeArguments, total=False):
    """The keyword arguments of `ArrowHome`."""

    options: FileOptions | FileOptionsDict


class ArrowHome(FileHome):
    """`ArrowHome("users", path="data/users.arrow")`."""

    suffixes: ClassVar[tuple[str, ...]] = (".arrow", ".feather", ".ipc", ".arrows")

    settings: ArrowHome.Settings

    def __init__(self, name: str | None = None, **settings: Unpack[ArrowHomeArguments]) -> None:
        super().__init__(name, **settings)

    def columns_of(self, files: Sequence[SourceFile]) -> tuple[tuple[Column, ...], FilesMetadata]:
        first: pa.Schema | None = None
        metadata = FilesMetadata()
        may_be_null: set[str] = set()
        united = United(self.is_read)
        for file in files:
            with arrow.open_arrow(file.path) as opened:
                self.check_names(file, opened.schema.names)
                own = marked_schema(opened.schema)
            metadata.add(own, self.unites, orders=arrow.orders_in(file.path, own))
            schema = plain_schema(own)
            may_be_null.update(field.name for field in schema if field.nullable)
            if first is None:
                first = schema
            if self.unites:
                united.add(file.path, schema)
                continue
            first = merged(file.path, schema, files[0].path, first, self.is_read)
        assert first is not None  # find_files gives at least one file
        if self.unites:
            first = united.schema()
            may_be_null = {field.name for field in first if field.nullable}
        for name, kind in metadata.types.items():
            if pa.types.is_dictionary(kind) and not kind.ordered:
                metadata.lose(f"'categories' of column '{name}': those of no row are left out")
        columns = (
            Column(
                f.name, f.type, str(f.type), f.name in may_be_null, None, metadata.of_field(f.name)
            )
            for f in first
        )
        return tuple(columns), metadata

    def names_in(self, file: SourceFile, where: dict[str, Any]) -> Sequence[str] | None:
        if not self.unites:
            return None
        with arrow.open_arrow(file.path) as opened:
            names: list[str] = opened.schema.names
        return names

    def pieces(self, file: SourceFile) -> Iterator[Piece]:
        with arrow.open_arrow(file.path) as opened:
            if not opened.is_file:
                yield Piece(bytes=file.size)
                return
            count = opened.batch_count
        # Some writers make small batches: a piece is a run of them of about 16 MiB.
        step = max(1, min(count, _PIECE_BYTES * count // max(1, file.size)))
        for start in range(0, max(count, 1), step):
            stop = min(start + step, count)
            size = file.size * (stop - start) // max(1, count)
            yield Piece({"from": start, "to": stop}, None, size)

    def open_reader(
        self, file: SourceFile, where: dict[str, int], schema: pa.Schema
    ) -> Iterator[pa.Table]:
        try:
            with arrow.open_arrow(file.path, schema.names) as opened:
                for batch in opened.batches(where.get("from", 0), where.get("to", 0)):
                    chosen = pa.Table.from_batches([batch]).select(schema.names)
                    for column in chosen.columns:
                        if pa.types.is_date64(column.type):
                            column.validate(full=True)  # a part of a day would be cut off
                    yield plain(as_marked(chosen))
        except (pa.ArrowException, OSError) as error:
            raise arrow.unreadable(file.path, error) from error


class ArrowOptions(FileStoreOptions):
    """How Arrow files are written."""

    compression: Literal["none", "lz4", "zstd"] = "lz4"
    """How the buffers of a file are compressed."""


class ArrowOptionsDict(FileStoreOptionsDict, total=False):
    """`ArrowOptions` as a dict."""

    compression: Literal["none", "lz4", "zstd"]


class ArrowStoreArguments(FileStoreArguments, total=False):
    """The keyword arguments of `ArrowStore`."""

    options: ArrowOptions | ArrowOptionsDict


class ArrowStore(FileStore):
    """`ArrowStore("users", path="data/users")`."""

    traits = replace(FileStore.traits, metadata=True)
    suffixes: ClassVar[tuple[str, ...]] = (".arrow", ".feather", ".ipc")
    keeps_metadata: ClassVar[bool] = True

    class Settings(FileStore.Settings):
        options: ArrowOptions = ArrowOptions()

    settings: ArrowStore.Settings

    def __init__(self, name: str | None = None, **settings: Unpack[ArrowStoreArguments]) -> None:
        super().__init__(name, **settings)

    def open_writer(self, path: str, schema: pa.Schema) -> Writer:
        return arrow.ArrowWriter(path, schema, self.settings.options.compression)

    def join(self, parts: Sequence[str], target: str, schema: pa.Schema) -> None:
        arrow.join_arrow(parts, target, schema, self.settings.options.compression)

    def count(self, path: str) -> int:
        return arrow.count_rows(path)
