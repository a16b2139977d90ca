"""What a run stages: Parquet files below the data of its table, which no snapshot names yet.

    <table>/data/hygge-<run>/prepared.parquet        the columns of the run, with their ids,
                                                     where its plan knows them
                             00003-1-0-00000.parquet   a file of a ticket: split, epoch, try, index
                             merge-<hex>-00000.parquet  what a merge wrote anew
                             maybe-<hex>.parquet     the files that a commit is about to show

Each of them is a Parquet file, the notes without rows: catalogs that guard their bucket take no
other kind of file. After a commit the files stay where they are. So `discard` removes no file that
a `maybe` names, unless the head shows that the commit was lost for good. What nobody removes, as
after a death whose flow never runs again, the table's own maintenance does (`remove_orphan_files`).
"""

from __future__ import annotations

import json
import os
import re
import tempfile
import uuid
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any

import pyarrow as pa

from hygge.connectors.files.parts import ticket_name
from hygge.connectors.iceberg.partitions import Part, by_partition, key_text
from hygge.formats.format import check_rows
from hygge.formats.parquet import ParquetSettings, ParquetWriter
from hygge.model import MIB, Head, Ticket
from hygge.places import durable
from hygge.places.objects import at_once

PREPARED = "prepared.parquet"
PARTITION = b"hygge.partition"
"""The key, in the metadata of a file, of the values of its partition."""
_NOTE = b"hygge.note"
_MAYBE = re.compile(r"maybe-\w+\.parquet")
_ENDING = ".parquet"
_MOST_OPEN = 16
"""Files that one attempt writes at a time: each gathers a row group in memory."""
_GROUP_BYTES = 8 * MIB
_COPY_BYTES = 8 * MIB


class Staged:
    """The folder of a run, on a disk or in a bucket."""

    def __init__(self, location: str, io: Any, run: str) -> None:
        self.folder = f"{location.rstrip('/')}/data/hygge-{run}"
        self.io = io
        scheme, netloc, self.path = io.parse_location(self.folder)
        self.is_local = scheme == "file"
        self.files = io.fs_by_scheme(scheme, netloc)

    def url(self, name: str) -> str:
        """Return a file's name as the table knows it."""
        return f"{self.folder}/{name}"

    def sizes(self) -> dict[str, int]:
        """Return the files that are there, with their bytes."""
        from pyarrow.fs import FileSelector, FileType

        found = self.files.get_file_info(FileSelector(self.path, allow_not_found=True))
        return {each.base_name: each.size for each in found if each.type == FileType.File}

    def write_note(self, name: str, schema: pa.Schema, note: Mapping[str, Any]) -> None:
        """Write a note: a Parquet file without rows, with the columns of `schema`."""
        metadata = {**(schema.metadata or {}), _NOTE: json.dumps(note).encode()}
        self.write(name, lambda path: _write_empty(path, schema.with_metadata(metadata)))

    def read_note(self, name: str) -> tuple[pa.Schema, dict[str, Any]] | None:
        """Return the columns of a note, and what it says; None where there is none."""
        footer = self.footer(name)
        if footer is None:
            return None
        schema = footer.schema.to_arrow_schema()
        return schema, json.loads((schema.metadata or {}).get(_NOTE, b"{}"))

    def footer(self, name: str) -> Any | None:
        """Return the footer of a file; None where it is not there, or is cut off."""
        import pyarrow.parquet as pq

        try:
            with self.files.open_input_file(f"{self.path}/{name}") as opened:
                return pq.read_metadata(opened)
        except (FileNotFoundError, pa.ArrowInvalid):
            return None

    def write(self, name: str, fill: Callable[[str], None]) -> None:
        """Have `fill` write a file at the path that it is given, and make it durable here."""
        if self.is_local:
            durable.make_folder(self.path)
            fill(f"{self.path}/{name}")
            self.keep(f"{self.path}/{name}", name)
            return
        with tempfile.TemporaryDirectory(prefix="hygge-") as folder:
            path = os.path.join(folder, name)
            fill(path)
            self.keep(path, name)

    def keep(self, path: str, name: str) -> None:
        """Make a written file durable as `name`: synced where it is, or uploaded and removed."""
        if self.is_local:
            durable.sync(path)
            durable.sync(self.path)
            return
        with (
            open(path, "rb") as source,
            self.files.open_output_stream(f"{self.path}/{name}") as out,
        ):
            while block := source.read(_COPY_BYTES):
                out.write(block)
        os.unlink(path)

    def remove(self, names: Iterable[str]) -> None:
        """Remove files, which may be gone."""

        def one(name: str) -> None:
            with suppress(FileNotFoundError):
                self.files.delete_file(f"{self.path}/{name}")

        at_once(one, list(names))
        if self.is_local and os.path.isdir(self.path) and not os.listdir(self.path):
            with suppress(OSError):
                os.rmdir(self.path)

    def write_maybe(self, base: int, names: Iterable[str], schema: pa.Schema) -> None:
        """Note the files that a commit on top of generation `base` is about to show."""
        note = {"base": base, "files": sorted(names)}
        self.write_note(f"maybe-{uuid.uuid4().hex[:12]}{_ENDING}", schema, note)

    def maybes(self) -> list[dict[str, Any]]:
        """Return what the notes of all commits say."""
        names = [name for name in self.sizes() if _MAYBE.fullmatch(name)]
        return [note[1] for name in names if (note := self.read_note(name)) is not None]

    def removable(self, names: Iterable[str], head: Head | None, run: str) -> list[str]:
        """Return those of `names` that are surely in no snapshot."""
        maybes = self.maybes()
        if not maybes:
            is_committed = head is not None and head.run == run  # and its notes were cleared away
            return [] if is_committed else list(names)
        lost = head is not None and head.run != run
        if lost and all(head and head.generation == maybe["base"] + 1 for maybe in maybes):
            return list(names)
        shown = {name for maybe in maybes for name in maybe["files"]}
        return [name for name in names if name not in shown and not _MAYBE.fullmatch(name)]


def ticket_file(ticket: Ticket, index: int) -> str:
    """Return the name of a file of a ticket."""
    return f"{ticket_name(ticket)}-{index:05d}{_ENDING}"


def merge_file(attempt: str, index: int) -> str:
    """Return the name of a file that a merge writes anew."""
    return f"merge-{attempt}-{index:05d}{_ENDING}"


def _write_empty(path: str, schema: pa.Schema) -> None:
    import pyarrow.parquet as pq

    pq.write_table(schema.empty_table(), path)


class PartedWriter:
    """Writes rows as files of about `file_bytes`, each of one partition."""

    def __init__(
        self,
        staged: Staged,
        schema: pa.Schema,
        parts: tuple[Part, ...],
        settings: ParquetSettings,
        file_bytes: int,
        name: Callable[[int], str],
    ) -> None:
        self.staged, self.schema, self.parts, self.name = staged, schema, parts, name
        self.file_bytes, self.settings = file_bytes, settings
        if parts:
            small = min(settings.row_group_bytes, _GROUP_BYTES)
            self.settings = ParquetSettings(settings.compression, settings.compression_level, small)
        self.names: list[str] = []
        self.rows = 0
        self._open: dict[str, tuple[ParquetWriter, str, int]] = {}
        self._scratch: tempfile.TemporaryDirectory[str] | None = None

    def __enter__(self) -> PartedWriter:
        if not self.staged.is_local:
            self._scratch = tempfile.TemporaryDirectory(prefix="hygge-")
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            for key in list(self._open):
                if kind is None:
                    self._close(key)
                else:  # after an error, which is the one to report
                    with suppress(Exception):
                        self._open.pop(key)[0].close()
        finally:
            if self._scratch is not None:
                self._scratch.cleanup()

    def write(self, table: pa.Table) -> None:
        """Add rows of the schema; they may lie in memory that is given back then."""
        if not table.num_rows:  # which are of no partition
            return
        for key, rows in by_partition(table, self.parts):
            self._write(key_text(key), rows)

    def _write(self, key: str, table: pa.Table) -> None:
        if key not in self._open:
            if len(self._open) >= _MOST_OPEN:
                self._close(next(iter(self._open)))
            self._open[key] = self._begin(key)
        writer, name, rows = self._open[key]
        writer.write(table)
        self._open[key] = (writer, name, rows + table.num_rows)
        self.rows += table.num_rows
        if writer.size() >= self.file_bytes:
            self._close(key)

    def _begin(self, key: str) -> tuple[ParquetWriter, str, int]:
        name = self.name(len(self.names))
        self.names.append(name)
        metadata = {**(self.schema.metadata or {}), PARTITION: key.encode()}
        schema = self.schema.with_metadata(metadata)
        if self.staged.is_local:
            durable.make_folder(self.staged.path)
        return ParquetWriter(self._path(name), schema, self.settings), name, 0

    def _path(self, name: str) -> str:
        folder = self.staged.path if self._scratch is None else self._scratch.name
        return os.path.join(folder, name)

    def _close(self, key: str) -> None:
        writer, name, rows = self._open.pop(key)
        path = self._path(name)
        check_rows(path, writer.close().rows, rows)
        self.staged.keep(path, name)
