"""What every file Store shares: its settings, and its target. A format adds how files are written.

The target is chosen once, by the path: a directory or a single file of a disk
(`hygge/connectors/files/directory.py`), or a prefix of an object store
(`hygge/connectors/files/prefix.py`). Each verb is that of the target.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any, TypedDict

import pyarrow as pa
from pydantic import Field

from hygge.arrow_errors import in_words
from hygge.connectors.files import directory, lake_tables, prefix, reading_back
from hygge.connectors.files.directory import Directory
from hygge.connectors.files.prefix import Prefix
from hygge.connectors.files.target import Target
from hygge.errors import HyggeError, StoreError, UnfitValue
from hygge.formats.format import Format
from hygge.home import Home
from hygge.model import (
    MIB,
    Commit,
    Contract,
    Head,
    Mode,
    Receipt,
    Run,
    StoreTraits,
    TargetState,
    Ticket,
    Watermark,
)
from hygge.places.access import Access, AccessDict
from hygge.places.bucket import Bucket
from hygge.places.names import refuse_nul
from hygge.settings import Settings
from hygge.store import Store


class FileStoreOptions(Settings):
    """How a file Store writes."""

    file_bytes: int = Field(default=512 * MIB, gt=0)
    """A new file is begun when one has grown to about this."""
    contract: Contract | None = Field(default=None, alias="schema")
    """What becomes of rows that have other columns than the files that are there: `freeze` is an
    error, `evolve` writes the columns of both. Default: an append freezes, a `replace` writes what
    comes."""


class FileStoreOptionsDict(TypedDict, total=False):
    """`FileStoreOptions` as a dict."""

    file_bytes: int
    schema: Contract | None


class FileStoreArguments(TypedDict, total=False):
    """The keyword arguments of every file Store; a format adds its `options`."""

    path: str | os.PathLike[str] | None
    connection: Access | AccessDict | None


class FileStore(Format, Store):
    """A directory of files, or (with the format's suffix) one file, of one format."""

    traits: StoreTraits = StoreTraits(
        modes=("replace", "append"), visibility="atomic", sees=directory.SEES
    )

    class Settings(Settings):
        path: str | None = None
        """A directory, or a file by its suffix; or s3://bucket/prefix. Default: data/<name>."""
        connection: Access | None = Field(default=None, repr=False)
        """How an object store is reached, where the environment does not say it."""
        options: FileStoreOptions = FileStoreOptions()

    settings: FileStore.Settings

    def __init__(self, name: str | os.PathLike[str] | None = None, **settings: Any) -> None:
        name = None if name is None else os.fspath(name)
        if isinstance(settings.get("path"), os.PathLike):
            settings["path"] = os.fspath(settings["path"])
        super().__init__(name, **settings)
        path = self.settings.path or os.path.join("data", name or type(self).__name__)
        refuse_nul(path, type(self).__name__)
        file_bytes = self.settings.options.file_bytes
        self.evolves = self.settings.options.contract == "evolve"
        self.freezes = self.settings.options.contract == "freeze"
        self.target: Target
        if "://" in path:
            self.target = Prefix(path, self.settings.connection, self, file_bytes)
            self.traits = replace(self.traits, visibility="manifest", sees=prefix.SEES)
        else:
            self.target = Directory(path, self, file_bytes)
        self.path = self.target.describe()
        self.single = self.path.lower().endswith(self.suffixes)

    def describe(self) -> str:
        return self.path

    def sees(self) -> str:
        return self.target.sees(self.traits.sees)

    def place(self) -> str | None:
        return self.target.place()

    def is_also(self, place: str) -> bool:
        # The names of objects in a bucket are bytes.
        return isinstance(self.target, Directory) and self.target.is_also(place)

    def head(self, flow: str) -> Head | None:
        with self._in_words():
            return self.target.head(flow)

    def prepare(self, run: Run, schema: pa.Schema | None) -> None:
        with self._in_words():
            if schema is not None:
                self.check_schema(schema)
            self._refuse_lakes()
            self.target.prepare(run, schema)

    def check_here(self, mode: Mode) -> None:
        with self._in_words():
            if isinstance(self.target, Directory):
                self._refuse_lakes()
            self.target.check_here(mode)

    def examine(self, run: Run, schema: pa.Schema | None) -> TargetState:
        with self._in_words():
            if schema is not None:
                self.check_schema(schema)
            self._refuse_lakes()
            return self.target.examine(run, schema)

    def stage(
        self, ticket: Ticket, schema: pa.Schema | None, batches: Iterator[pa.Table]
    ) -> Receipt:
        if self.bad_rows is not None:
            batches = self.bad_rows.sifted(batches, self.check_values)
        with self._in_words():
            return self.target.stage(ticket, schema, batches)

    def reader(self, schema: pa.Schema) -> Home | None:
        return reading_back.reader(self, self.path, schema)

    def resume(self, run: Run, receipts: Sequence[Receipt]) -> list[Receipt]:
        with self._in_words():
            return self.target.resume(run, receipts)

    def commit(
        self, run: Run, base: Head | None, receipts: Sequence[Receipt], watermark: Watermark
    ) -> Commit:
        with self._in_words(StoreError):
            return self.target.commit(run, base, receipts, watermark)

    def discard(self, run: Run) -> None:
        with self._in_words():
            self.target.discard(run)

    def _refuse_lakes(self) -> None:
        if "://" not in self.path:
            lake_tables.refuse_writing(self.path)
        else:
            host, _, prefix = self.path.partition("://")[2].partition("/")
            scheme = self.path.partition("://")[0]
            whole = Bucket(f"{scheme}://{host}", self.settings.connection)
            lake_tables.refuse_writing_below(whole, prefix)

    def _in_words(self, unfit: type[HyggeError] = UnfitValue) -> AbstractContextManager[None]:
        return in_words(self.path, StoreError, unfit)
