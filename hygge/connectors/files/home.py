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
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal

import pyarrow as pa
from pydantic import Field

from hygge.arrow_errors import in_words
from hygge.bad_rows import is_bad
from hygge.batches import conform, slices, with_dictionaries
from hygge.connectors.files import bad_lines
from hygge.connectors.files.file_options import FileOptions
from hygge.connectors.files.listing import check_unchanged, find_files
from hygge.connectors.files.metadata import FilesMetadata
from hygge.connectors.files.source_file import (
    SourceFile,
    is_hidden,
    name_below,
    partition_columns,
    with_partitions,
)
from hygge.connectors.files.uniting import filled
from hygge.errors import ConfigError, HomeError, SourceChanged
from hygge.home import Home, is_quick
from hygge.model import MIB, Column, HomeTraits, Mode, Plan, Split, Watermark
from hygge.places.access import Access, ObjectUrl
from hygge.places.names import expanded, fixed_prefix, refuse_nul
from hygge.places.objects import is_object_url
from hygge.settings import Connector, Settings
from hygge.shape.settings import FILE_NAME, missing

_MOST_DEPTH = 60
"""Levels of nesting; Arrow IPC refuses more than 64."""


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
    batches_stay: ClassVar[bool] = True
    only: bool = False
    """True if it is one of the files of a flow of many."""
    own_columns: tuple[str, ...] = ()
    """Columns that the settings of this one of many name: these must be there."""

    class Settings(Settings):
        path: str | None = None
        """A file, a directory or a glob; also in s3://, gs://, az://. Default: the name."""
        connection: Access | None = Field(default=None, repr=False)
        """How that object store is reached, where the environment does not say it."""
        columns: list[str] | None = None
        """The columns to read, in this order. Default: all."""
        together: Literal["first", "union"] | None = Field(default=None, alias="schema")
        """Columns of many files: `first` (default): those of the first file, which all must have;
        `union`: those of all files by name, NULL where a file lacks one, of the widest type."""
        changes: bool = False
        """Whether the rows are changes in their order, files by their names: `_op` says insert,
        update or delete, and `mode: merge` applies it."""
        options: FileOptions = FileOptions()

    settings: FileHome.Settings

    def __init__(self, name: str | os.PathLike[str] | None = None, **settings: Any) -> None:
        name = None if name is None else os.fspath(name)
        if isinstance(settings.get("path"), os.PathLike):
            settings["path"] = os.fspath(settings["path"])
        super().__init__(name, **settings)
        self.unites = self.settings.together == "union"
        self.traits = replace(self.traits, changes=self.settings.changes)
        path = self.settings.path or name
        if not path:
            raise ConfigError(f"{type(self).__name__} needs a path", "path='data/users'")
        refuse_nul(path, type(self).__name__)
        # Actors have another working directory, so a relative path is made absolute here.
        if is_object_url(path):
            self.path: str = ObjectUrl(path, self.settings.connection)
        else:
            self.path = os.path.abspath(expanded(path, type(self).__name__))

    def describe(self) -> str:
        return self.path

    def check_here(self, mode: Mode) -> None:
        if not is_object_url(self.path):
            self._listed()

    def glance(self) -> AbstractContextManager[Plan] | None:
        if is_object_url(self.path) or not is_quick([file.size for file in self._listed()]):
            return None
        return self.open()

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

    def note_condition(self, schema: pa.Schema) -> None:
        """Take note of the planned columns, of which `where` of the flow's shape speaks."""

    def unread(self) -> str:
        """Return what `pieces` left out since no row of it can be wanted, for people."""
        return ""

    def names_in(self, file: SourceFile, where: dict[str, Any]) -> Sequence[str] | None:
        """Return the columns of one file where it may lack some; None: all files have all.

        `where` is of a piece of it.
        """
        return None

    def pieces(self, file: SourceFile) -> Iterator[Piece]:
        """Yield the parts of `file` that can be read alone, in file order."""
        yield Piece(bytes=file.size)

    def open_reader(
        self, file: SourceFile, where: dict[str, int], schema: pa.Schema
    ) -> Iterator[pa.Table]:
        """Yield tables with the columns of `schema`, lazily, in file order.

        Bad rows come in a `bad_table` where `most_bad_rows` says that they are set aside.
        """
        raise HomeError(f"{type(self).__name__} does not read")

    def _listed(self) -> list[SourceFile]:
        """Return the files that the path means; raise SourceMissing or HomeError."""
        with self._disk_errors():
            return find_files(self.path, self.suffixes)

    @contextmanager
    def _disk_errors(self) -> Iterator[None]:
        """Raise errors of a disk and of Arrow as SourceChanged or HomeError."""
        try:
            with in_words(self.path, HomeError):
                yield
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

    @contextmanager
    def open(self, since: Watermark = None) -> Iterator[Plan]:
        with self._disk_errors():
            files = self._listed()
            own, metadata = self.columns_of(files)
            self._check_depth(own)
            columns = self._projected((*own, *self._partitions(files, own)))
            if self.shape is not None and self.shape.wants_file_name:
                columns = (*columns, Column(FILE_NAME, pa.string(), nullable=False))
            # Without metadata: a split is of the same digest with it and without it.
            schema = pa.schema([pa.field(c.name, c.type, c.nullable) for c in columns])
            texts = metadata.of_columns(schema.names)
            self.note_condition(schema)
            splits = tuple(self._pack(files, schema))
        count = f"{_counted(f'{len(files):,}', 'file')} in {_counted(str(len(splits)), 'split')}"
        yield Plan(
            columns,
            splits,
            reason=f"{count} of about {self.settings.options.split_bytes // MIB} MiB"
            + self.unread(),
            dead_driver="the next run goes on with it: what was staged of files that stay as they "
            "are is not read again",
            found=self.found(),
            metadata=texts,
            lost=tuple(metadata.lost),
        )

    def read(self, split: Split) -> Iterator[pa.Table]:
        with self._disk_errors():
            yield from self._read(split)

    def _read(self, split: Split) -> Iterator[pa.Table]:
        schema = pa.ipc.read_schema(pa.py_buffer(base64.b64decode(split.where["schema"])))
        options = self.settings.options
        for path, size, mtime_ns, keys, pieces in split.where["files"]:
            if is_object_url(path):  # a split holds it as plain text
                path = ObjectUrl(path, self.settings.connection)
            file = SourceFile(path, size, mtime_ns, tuple((k, v) for k, v in keys))
            check_unchanged(file)
            partition = {**dict(file.keys), FILE_NAME: name_below(self.path, path)}
            inside = pa.schema([f for f in schema if f.name not in partition])
            names = self.names_in(file, pieces[0])
            if names is not None:
                inside = pa.schema([f for f in inside if f.name in names])
            for where in pieces:
                for table in self.open_reader(file, where, inside):
                    if is_bad(table):
                        yield bad_lines.with_source(table, partition, schema)
                        continue
                    full = with_partitions(table, schema, partition)
                    if names is not None:
                        full = filled(full, schema)
                    kept = with_dictionaries(schema, full) if self.gives_dictionaries else schema
                    full = conform(full, kept, path)
                    del table
                    yield from slices(full, options.batch_size, options.batch_bytes)
                    del full
            check_unchanged(file)

    def is_read(self, name: str) -> bool:
        """Return whether a column is wanted: by `columns`, and by the flow's shape."""
        wanted = self.settings.columns
        is_out = self.shape is not None and name in self.shape.left_out
        return not is_out and (wanted is None or name in wanted)

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
            if not self.is_read(column.name):
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
            if name not in (column.name for column in own):
                continue
            if self.is_read(name):
                others = [column.name for column in own if column.name not in keys]
                raise HomeError(
                    f"{self.path}: column '{name}' is both in the files and in their folders "
                    f"({name}=…), and hygge does not choose",
                    f"leave it out: `columns: [{', '.join(others)}]`; or rename the folders",
                )
        inside = {column.name for column in own}  # both: `columns` leaves it out
        return tuple(
            Column(name, kind, "hive partition")
            for name, kind in keys.items()
            if name not in inside
        )

    def _projected(self, columns: tuple[Column, ...]) -> tuple[Column, ...]:
        known = {column.name: column for column in columns}
        wanted = self.settings.columns
        if self.shape is not None:
            self.shape.check_there(self.path, self.shape.left_out, list(known))
        for name in wanted or ():
            if name not in known:
                raise missing(self.path, name, list(known))
        names = known if wanted is None else wanted
        return tuple(known[name] for name in names if self.is_read(name))

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


def _counted(count: str, noun: str) -> str:
    return f"{count} {noun}" if count == "1" else f"{count} {noun}s"
