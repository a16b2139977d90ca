"""What every file Home shares. A format adds its schema, how a file is cut, and a reader.

Life of a run: `open` lists the files, asks the format for the schema, and packs pieces of files
into splits of about `split_bytes`. `read` then, in an actor, opens the pieces of one split again,
checks each file's version before and after, and yields batches of the planned schema. The split
holds all that `read` needs, so it reads the same in any process.
"""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypedDict

import pyarrow as pa
from pydantic import Field

from hygge.batches import conform, slices
from hygge.connectors.files.listing import check_unchanged, find_files
from hygge.connectors.files.metadata import FilesMetadata, differ
from hygge.connectors.files.source_file import SourceFile, is_hidden, partition_columns
from hygge.errors import ConfigError, HomeError, HyggeError, SourceChanged, SourceMissing, one_of
from hygge.home import Home
from hygge.model import MIB, Column, HomeTraits, Plan, Split, Watermark
from hygge.places.access import Access, AccessDict, ObjectUrl
from hygge.places.names import fixed_prefix, refuse_nul
from hygge.places.objects import is_object_url
from hygge.settings import Connector, Settings

_MOST_DEPTH = 60
"""Levels of nesting; Arrow IPC refuses more than 64."""


class FileOptions(Settings):
    """How a file Home reads."""

    batch_size: int = Field(default=1_000_000, gt=0)
    """The most rows of a batch."""
    batch_bytes: int = Field(default=32 * MIB, gt=0)
    """About the most Arrow bytes of a batch; whichever limit is met first."""
    split_bytes: int = Field(default=128 * MIB, gt=0)
    """About how many file bytes a split has: the unit of parallel work and of retry."""


class FileOptionsDict(TypedDict, total=False):
    """`FileOptions` as a dict."""

    batch_size: int
    batch_bytes: int
    split_bytes: int


class FileHomeArguments(TypedDict, total=False):
    """The keyword arguments of every file Home; a format adds its `options`."""

    path: str | os.PathLike[str] | None
    connection: Access | AccessDict | None
    columns: list[str] | tuple[str, ...] | None


@dataclass(frozen=True)
class Piece:
    """A part of one file that can be read alone. `where` is JSON for its format alone."""

    where: dict[str, Any] = field(default_factory=dict)
    rows: int | None = None
    bytes: int = 0


class FileHome(Home):
    """A file, a directory, a glob, or hive partitions of one format."""

    traits: HomeTraits = HomeTraits()
    suffixes: ClassVar[tuple[str, ...]] = ()

    class Settings(Settings):
        path: str | None = None
        """A file, a directory or a glob; also in s3://, gs://, az://. Default: the name."""
        connection: Access | None = Field(default=None, repr=False)
        """How that object store is reached, where the environment does not say it."""
        columns: list[str] | None = None
        """The columns to read, in this order. Default: all."""
        options: FileOptions = FileOptions()

    settings: FileHome.Settings

    def __init__(self, name: str | None = None, **settings: Any) -> None:
        if isinstance(settings.get("path"), os.PathLike):
            settings["path"] = os.fspath(settings["path"])
        super().__init__(name, **settings)
        path = self.settings.path or name
        if not path:
            raise ConfigError(f"{type(self).__name__} needs a path", "path='data/users'")
        refuse_nul(path, type(self).__name__)
        # Actors have another working directory, so a relative path is made absolute here.
        self.path: str = os.path.abspath(os.path.expanduser(path))
        if is_object_url(path):
            self.path = ObjectUrl(path, self.settings.connection)

    def describe(self) -> str:
        return self.path

    def place(self) -> str | None:
        if is_object_url(self.path):
            return self.path.rstrip("/")
        return f"file:{os.path.realpath(self.path)}"

    def holds(self, other: Connector) -> bool:
        if super().holds(other):
            return True
        place, suffixes = other.place() or "", getattr(other, "suffixes", ())
        top = f"file:{os.path.realpath(fixed_prefix(self.path))}"
        if is_object_url(self.path):
            top = fixed_prefix(self.path).rstrip("/")
        inside = place.removeprefix(f"{top}/")
        is_inside = inside != place and not any(map(is_hidden, inside.split("/")))
        return is_inside and bool(set(suffixes) & set(self.suffixes))

    def schema_of(self, files: Sequence[SourceFile]) -> tuple[Column, ...]:
        """Return the columns of the files themselves, before projection and partitions."""
        raise HomeError(f"{type(self).__name__} does not say its schema")

    def found(self) -> str:
        """Return how the files are written, where `schema_of` found it, for people."""
        return ""

    def columns_of(self, files: Sequence[SourceFile]) -> tuple[tuple[Column, ...], FilesMetadata]:
        """Return `schema_of`, and what the files say about their rows beside them."""
        return self.schema_of(files), FilesMetadata()

    def pieces(self, file: SourceFile) -> Iterator[Piece]:
        """Yield the parts of `file` that can be read alone, in file order."""
        yield Piece(bytes=file.size)

    def open_reader(
        self, file: SourceFile, where: dict[str, int], schema: pa.Schema
    ) -> Iterator[pa.Table]:
        """Yield tables with the columns of `schema`, lazily, in file order."""
        raise HomeError(f"{type(self).__name__} does not read")

    @contextmanager
    def open(self, since: Watermark = None) -> Iterator[Plan]:
        try:
            files = find_files(self.path, self.suffixes)
            own, metadata = self.columns_of(files)
            self._check_depth(own)
            columns = self._projected((*own, *self._partitions(files, own)))
            # Without metadata: a split is of the same digest with it and without it.
            schema = pa.schema([pa.field(c.name, c.type, c.nullable) for c in columns])
            texts = metadata.of_columns(schema.names)
            splits = tuple(self._pack(files, schema))
        except FileNotFoundError as error:
            raise SourceChanged(
                f"{error.filename or self.path} was there when {self.path} was listed, and is gone",
                "run it again when nobody writes there",
            ) from error
        except (PermissionError, IsADirectoryError) as error:
            raise HomeError(
                f"{error.filename} cannot be read: {error.strerror}",
                "check its permissions, and that hygge runs as a user who may read it",
            ) from error
        count = f"{_counted(f'{len(files):,}', 'file')} in {_counted(str(len(splits)), 'split')}"
        yield Plan(
            columns,
            splits,
            reason=f"{count} of about {self.settings.options.split_bytes // MIB} MiB",
            dead_driver="the next run goes on with it: what was staged of files that stay as they "
            "are is not read again",
            found=self.found(),
            metadata=texts,
            lost=tuple(metadata.lost),
        )

    def read(self, split: Split) -> Iterator[pa.Table]:
        schema = pa.ipc.read_schema(pa.py_buffer(base64.b64decode(split.where["schema"])))
        options = self.settings.options
        for path, size, mtime_ns, keys, pieces in split.where["files"]:
            if is_object_url(path):  # a split holds it as plain text
                path = ObjectUrl(path, self.settings.connection)
            file = SourceFile(path, size, mtime_ns, tuple((k, v) for k, v in keys))
            check_unchanged(file)
            partition = dict(file.keys)
            inside = pa.schema([f for f in schema if f.name not in partition])
            for where in pieces:
                for table in self.open_reader(file, where, inside):
                    full = conform(_with_partitions(table, schema, partition), schema, path)
                    del table
                    yield from slices(full, options.batch_size, options.batch_bytes)
                    del full
            check_unchanged(file)

    def chosen(self, schema: pa.Schema) -> pa.Schema:
        """Return the fields that `columns` names, or all: only these must be alike in all files."""
        wanted = self.settings.columns
        if wanted is None:
            return schema
        return pa.schema([field for field in schema if field.name in wanted])

    def check_alike(
        self, file: SourceFile, schema: pa.Schema, first_file: SourceFile, first: pa.Schema
    ) -> None:
        """Raise HomeError where the chosen columns of `file` do not go with the first file's."""
        for mine in self.chosen(schema):
            index = first.get_field_index(mine.name)
            if index >= 0 and differ(mine, first.field(index)):
                raise HomeError(
                    f"{file.path} does not go with {first_file.path}: column '{mine.name}' is of "
                    "another extension type, so that the same values mean others",
                    "move them in flows of their own, or choose the common ones with `columns`",
                )
        try:
            conform(self.chosen(schema).empty_table(), self.chosen(first), "it")
        except HyggeError as error:
            raise HomeError(
                f"{file.path} does not go with {first_file.path}: {error.message}",
                "move them in flows of their own, or choose the common ones with `columns`",
            ) from error

    def check_names(self, file: SourceFile, names: Sequence[str]) -> None:
        """Raise HomeError where two columns of `file` have one name."""
        repeated = sorted({name for name in names if names.count(name) > 1})
        if repeated:
            raise HomeError(
                f"{file.path} has more than one column named {', '.join(map(repr, repeated))}",
                "write the file again with a name of its own for each column",
            )

    def _check_depth(self, columns: Sequence[Column]) -> None:
        """Raise HomeError for a column that is nested deeper than Arrow itself can hand around."""
        for column in columns:
            if self.settings.columns is not None and column.name not in self.settings.columns:
                continue
            depth = _depth(column.type)
            if depth > _MOST_DEPTH:
                raise HomeError(
                    f"{self.path}: column '{column.name}' is nested {depth} levels deep; "
                    f"{_MOST_DEPTH} are the most that can be moved",
                    self.hint_for_depth(column.name),
                )

    def hint_for_depth(self, column: str) -> str:
        """Return what to do about a column that is nested too deeply."""
        return "leave it out with `columns`"

    def _partitions(
        self, files: Sequence[SourceFile], own: tuple[Column, ...]
    ) -> tuple[Column, ...]:
        keys = partition_columns(files)
        for name in keys:
            if name in (column.name for column in own):
                raise HomeError(
                    f"column '{name}' is both in the files and in their folders ({name}=…)",
                    "rename one of them, or leave one out with `columns`",
                )
        return tuple(Column(name, kind, "hive partition") for name, kind in keys.items())

    def _projected(self, columns: tuple[Column, ...]) -> tuple[Column, ...]:
        wanted = self.settings.columns
        if wanted is None:
            return columns
        known = {column.name: column for column in columns}
        for name in wanted:
            if name not in known:
                raise SourceMissing(
                    f"{self.path} has no column '{name}'", one_of("its columns", name, known)
                )
        return tuple(known[name] for name in wanted)

    def _pack(self, files: Sequence[SourceFile], schema: pa.Schema) -> Iterator[Split]:
        """Yield splits of about `split_bytes`, of pieces in order; one may span small files."""
        text = base64.b64encode(schema.serialize().to_pybytes()).decode()
        target_bytes = self.settings.options.split_bytes
        pieces: list[tuple[SourceFile, Piece]] = []
        index = size = 0
        for file in files:
            for piece in self.pieces(file):
                if pieces and size + piece.bytes > target_bytes:
                    yield _split(index, pieces, text)
                    pieces, index, size = [], index + 1, 0
                pieces.append((file, piece))
                size += piece.bytes
        if pieces or index == 0:
            yield _split(index, pieces, text)


def _depth(kind: pa.DataType) -> int:
    """Return the levels of a type: 1 for a plain one. Without recursion: it may be very deep."""
    depth, level = 0, [kind]
    while level:
        depth += 1
        level = [inner.field(i).type for inner in level for i in range(inner.num_fields)]
    return depth


def _split(index: int, pieces: list[tuple[SourceFile, Piece]], schema: str) -> Split:
    entries: list[list[Any]] = []
    for file, piece in pieces:
        entry = [file.path, file.size, file.mtime_ns, [list(key) for key in file.keys], []]
        if not entries or entries[-1][:4] != entry[:4]:
            entries.append(entry)
        entries[-1][4].append(piece.where)
    versions = ";".join(f"{path}:{size}:{mtime}" for path, size, mtime, _, _ in entries)
    rows = [piece.rows for _, piece in pieces if piece.rows is not None]
    return Split(
        index,
        version=hashlib.sha256(versions.encode()).hexdigest()[:16],
        where={"schema": schema, "files": entries},
        label=entries[0][0] if entries else "",
        rows=sum(rows) if len(rows) == len(pieces) else None,
        bytes=sum(piece.bytes for _, piece in pieces),
    )


def _with_partitions(table: pa.Table, schema: pa.Schema, keys: dict[str, str | None]) -> pa.Table:
    """Return the table with a column for each hive partition that `schema` has."""
    for name, text in keys.items():
        index = schema.get_field_index(name)
        if index < 0:
            continue
        field = schema.field(index)
        value: int | str | None = text
        if text is not None and pa.types.is_integer(field.type):
            value = int(text)
        table = table.append_column(field, pa.repeat(pa.scalar(value, field.type), table.num_rows))
    return table


def _counted(count: str, noun: str) -> str:
    return f"{count} {noun}" if count == "1" else f"{count} {noun}s"
