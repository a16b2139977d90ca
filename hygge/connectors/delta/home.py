"""A Home that reads a Delta Lake table, at one version of it.

`open` pins the newest version (or `version`, or that of `as_of`), takes columns and files from the
log, leaves files out in which the statistics of the log show no row for `where`, and packs files
into splits of about `split_bytes`; a very large file is cut at its row groups. Files of a version
never change, so a split reads the same in any process; a file that `vacuum` has removed meanwhile
is SourceChanged. Tables with deletion vectors, column mapping or other features of their readers
are read by the library, in one split.

With `changes` the first run reads all rows, as inserts, and each later one what the change data
feed has of the versions since (`hygge/connectors/delta/changes.py`).
"""

from __future__ import annotations

import base64
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, ClassVar, TypedDict, Unpack

import pyarrow as pa
from pydantic import Field

from hygge.arrow_errors import in_words
from hygge.connectors.delta import changes, damage, library, source
from hygge.connectors.files.file_options import FileOptions, FileOptionsDict
from hygge.errors import ConfigError, HomeError, SourceMissing
from hygge.home import Home, is_quick
from hygge.model import MIB, Column, HomeTraits, Mode, Plan, Split, Watermark
from hygge.places import objects
from hygge.places.access import Access, AccessDict
from hygge.places.names import expanded, hint_for_missing, refuse_nul
from hygge.places.objects import is_object_url
from hygge.settings import Settings
from hygge.shape.settings import FILE_NAME, missing

if TYPE_CHECKING:
    from deltalake import DeltaTable


class DeltaHomeArguments(TypedDict, total=False):
    """The keyword arguments of `DeltaHome`."""

    path: str | os.PathLike[str] | None
    connection: Access | AccessDict | None
    columns: list[str] | tuple[str, ...] | None
    version: int | None
    as_of: str | None
    changes: bool
    options: FileOptions | FileOptionsDict


class DeltaHome(Home):
    """`DeltaHome("users", path="data/users", version=3)`."""

    traits: HomeTraits = HomeTraits(lossy=source.NEVER_GIVEN)
    imports = ("pyarrow.compute", "pyarrow.parquet", "deltalake")
    is_folder: ClassVar[bool] = True

    class Settings(Settings):
        path: str | None = None
        """The folder of the table; or s3://bucket/prefix. Default: the name."""
        connection: Access | None = Field(default=None, repr=False)
        """How an object store is reached, where the environment does not say it."""
        columns: list[str] | None = None
        """The columns to read, in this order. Default: all."""
        version: int | None = Field(default=None, ge=0)
        """The version of the table. Default: the newest."""
        as_of: str | None = None
        """A moment, such as 2024-01-31T12:00:00Z: the version that was the newest then."""
        changes: bool = False
        """Whether only what has changed since the last run is read, as rows that `_op` tells to
        insert, update or delete, for `mode: merge`. The table needs its change data feed."""
        options: FileOptions = FileOptions()

    settings: DeltaHome.Settings

    def __init__(self, name: str | None = None, **settings: Unpack[DeltaHomeArguments]) -> None:
        path = settings.get("path")
        if isinstance(path, os.PathLike):
            settings["path"] = os.fspath(path)
        super().__init__(name, **settings)
        given = self.settings
        path = given.path or name
        if not path:
            raise ConfigError("DeltaHome needs a path", "path='data/users'")
        refuse_nul(path, "DeltaHome")
        if given.version is not None and given.as_of is not None:
            raise ConfigError("DeltaHome was given 'version' and 'as_of'", "give one of the two")
        if given.changes and (given.version, given.as_of) != (None, None):
            raise ConfigError(
                "DeltaHome: 'changes' reads up to the newest version",
                "take 'version' and 'as_of' out",
            )
        self.traits = replace(self.traits, changes=given.changes)
        self.moment = None if given.as_of is None else _moment(given.as_of)
        is_url = is_object_url(path)
        self.path = path.rstrip("/") if is_url else os.path.abspath(expanded(path, "DeltaHome"))

    def describe(self) -> str:
        return self.path

    def place(self) -> str | None:
        return self.path if is_object_url(self.path) else f"file:{os.path.realpath(self.path)}"

    def check_here(self, mode: Mode) -> None:
        library.check_installed(self.path)
        if not is_object_url(self.path):
            with self._in_words():
                self._table()

    def glance(self) -> AbstractContextManager[Plan] | None:
        if is_object_url(self.path):
            return None
        with self._in_words():
            sizes = pa.table(self._table().get_add_actions(flatten=True))["size_bytes"].to_pylist()
        return self.open() if is_quick(sizes) else None

    @contextmanager
    def open(self, since: Watermark = None) -> Iterator[Plan]:
        with self._in_words():
            table = self._table()
            columns = self._projected(source.columns_of(table))
            schema = pa.schema([pa.field(c.name, c.type, c.nullable) for c in columns])
            if self.settings.changes:
                changes.check(self.path, self.settings.connection, table, schema, since)
                if since is not None:
                    start = changes.version_at(since)
                    plan = changes.planned(self.path, table, columns, schema, start)
                else:
                    plan = changes.begun(self._planned(table, columns, schema), table)
            else:
                plan = self._planned(table, columns, schema)
        yield plan

    def read(self, split: Split) -> Iterator[pa.Table]:
        schema = pa.ipc.read_schema(pa.py_buffer(base64.b64decode(split.where["schema"])))
        with self._in_words():
            if "until" in split.where:
                table = source.version_of(self.path, self.settings.connection, split)
                yield from changes.read(self.path, table, split, schema, self.settings.options)
            elif "files" in split.where:
                yield from source.read_files(
                    self.path, self.settings.connection, split, schema, self.settings.options
                )
            else:
                table = source.version_of(self.path, self.settings.connection, split)
                yield from source.read_by_library(
                    table, schema, self.settings.options, split.where.get("constants", {})
                )

    # How they do it.

    def _table(self) -> DeltaTable:
        """Return the table at the version to read."""
        given = self.settings
        table = library.load(self.path, given.connection)
        if table is None:
            is_url = is_object_url(self.path)
            is_there = os.path.lexists(self.path)
            hint = objects.hint_for_missing(self.path) if is_url else hint_for_missing(self.path)
            raise SourceMissing(
                f"there is no Delta table at {self.path}",
                "it has no folder _delta_log: say `type: parquet`, or name the table's own folder"
                if is_there
                else hint,
            )
        newest = table.version()
        if given.version is not None:
            if given.version > newest:
                raise SourceMissing(
                    f"{self.path} has no version {given.version}", f"its newest is {newest}"
                )
            self._go_back(table, given.version)
        elif self.moment is not None:
            self._go_back(table, self.moment)  # the first one where all are younger
            made_ms = source.made_at(self.path, given.connection, table.version())
            if made_ms > self.moment.timestamp() * 1000:
                raise SourceMissing(
                    f"{self.path} has no version as of {given.as_of}",
                    f"its first is of {source.time_text(made_ms)}",
                )
        damage.check_not_empty(self.path, table.version())
        return table

    def _go_back(self, table: DeltaTable, to: int | datetime) -> None:
        """Load an older version. Raises SourceMissing where the log does not tell it any more."""
        try:
            table.load_as_version(to)
        except Exception as error:
            if not library.is_of_library(error):
                raise
            oldest = damage.oldest_version(self.path, self.settings.connection)
            if oldest == 0 or (isinstance(to, int) and to >= oldest):
                raise
            as_of = f"version as of {self.settings.as_of}"
            which = f"version {to}" if isinstance(to, int) else as_of
            raise SourceMissing(
                f"{self.path} has no {which} any more: its log was cleaned up",
                f"its oldest version is {oldest}",
            ) from error

    def _planned(self, table: DeltaTable, columns: tuple[Column, ...], schema: pa.Schema) -> Plan:
        text = base64.b64encode(schema.serialize().to_pybytes()).decode()
        at = {"schema": text, "version": table.version()}
        name = f"delta:{table.version()}"
        files: list[source.LogFile] = []
        splits: tuple[Split, ...]
        if because := source.needs_library(table):
            if FILE_NAME in schema.names:
                raise ConfigError(
                    f"{self.path} has {because}, and is read by its library, which names no files",
                    "take `file_name` out of `add`",
                )
            splits = (Split(0, name, at, self.path),)
            reason = f"one split: the table has {because}, and is read by its library"
        else:
            files, unread = source.files_of(table, self._condition(schema))
            options = self.settings.options
            packed = source.packed(self.path, self.settings.connection, files, options.split_bytes)
            splits = tuple(
                Split(index, name, {**at, "files": pieces}, pieces[0][0] if pieces else self.path,
                      rows, size)
                for index, (pieces, rows, size) in enumerate(packed)
            )  # fmt: skip
            reason = (
                f"{len(files):,} file{'s'[: len(files) != 1]} in {len(splits)} "
                f"split{'s'[: len(splits) != 1]} of about {options.split_bytes // MIB} MiB"
            )
            if unread:
                reason += f"; {unread:,} more cannot match `where`"
        return Plan(
            columns,
            splits,
            snapshot=f"version {table.version()} of the table",
            reason=reason,
            dead_driver="the next run goes on with it where the table has no newer version",
        )

    def _condition(self, schema: pa.Schema) -> Any:
        """Return what statistics can tell of the flow's `where`; None: nothing."""
        if self.shape is None or self.shape.where is None:
            return None
        from hygge.shape.where import expression, for_statistics  # slow to load

        expression(self.shape.where, schema, self.path)  # it names a wrong column
        return for_statistics(self.shape.where, schema, self.path)

    def _projected(self, columns: tuple[Column, ...]) -> tuple[Column, ...]:
        known = {column.name: column for column in columns}
        wanted = self.settings.columns
        left_out: frozenset[str] = frozenset()
        if self.shape is not None:
            left_out = self.shape.left_out
            self.shape.check_there(self.path, left_out, list(known))
        for name in wanted or ():
            if name not in known:
                raise missing(self.path, name, list(known))
        kept = [known[name] for name in (wanted or known) if name not in left_out]
        if self.shape is not None and self.shape.wants_file_name:
            kept.append(Column(FILE_NAME, pa.string(), nullable=False))
        return tuple(kept)

    @contextmanager
    def _in_words(self) -> Iterator[None]:
        with (
            library.in_words(self.path, self.settings.connection, HomeError),
            in_words(self.path, HomeError),
            source.changed(self.path),
        ):
            yield


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise ConfigError(
            f"DeltaHome: 'as_of' is {text!r}, not a moment with its zone",
            "as_of: 2024-01-31T12:00:00Z",
        )
    return moment
