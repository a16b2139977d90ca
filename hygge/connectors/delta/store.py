"""A Store that writes a Delta Lake table.

A reader sees the old version or the new one: one entry of the log shows a run, with its head.
Parts are staged as Parquet files below the table, in `hygge-<run>/`, where the table reads them
later; a full `vacuum` by the table's own tools removes what dead runs left there.

`replace` takes all rows of a table that hygge made, those of others too, and may give it other
columns. A table of anybody else is an error, unless `adopt` is set. Other flows that write to the
table start anew at their next run. `append` and `merge` need columns that fit.

A commit is made on top of the version that was looked at, or not at all. Where another writer was
quicker, hygge looks anew, at the head first, and commits on top of that. So several flows, and
other writers of Delta, may write to one table at once.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, ClassVar, Literal, TypedDict, Unpack

import pyarrow as pa
from pydantic import Field

from hygge.arrow_errors import in_words
from hygge.changes import without_op
from hygge.connectors.delta import heads, library, types
from hygge.connectors.delta.fit import Fitted, check_empty, fitted
from hygge.connectors.delta.home import DeltaHome
from hygge.connectors.delta.log import Log
from hygge.connectors.delta.parts import PartWriter, check_partitions
from hygge.connectors.delta.staging import Staging
from hygge.connectors.delta.table_files import Disk, Objects, files_at
from hygge.connectors.files import table_log
from hygge.connectors.files.changes import check_upserts, renamed, with_op
from hygge.connectors.files.evolving import apart, with_changes
from hygge.connectors.sql.ask import OnValue
from hygge.errors import (
    ConfigError,
    HyggeError,
    StoreError,
    UnfitValue,
)
from hygge.formats.parquet import ParquetSettings
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
from hygge.places.names import expanded, refuse_nul
from hygge.places.objects import is_object_url
from hygge.settings import Settings
from hygge.store import Store

if TYPE_CHECKING:
    from deltalake import DeltaTable


class DeltaStoreOptions(Settings):
    """How a Delta table is written."""

    compression: Literal["none", "snappy", "gzip", "zstd", "lz4", "brotli"] = "snappy"
    """How the pages of a file are compressed."""
    compression_level: int | None = None
    """The level of gzip, zstd or brotli. Default: the codec's own."""
    file_bytes: int = Field(default=512 * MIB, gt=0)
    """A new file is begun when one has grown to about this."""
    row_group_bytes: int = Field(default=32 * MIB, gt=0, le=256 * MIB)
    """Arrow bytes of a row group, about: smaller batches are gathered."""
    on_value: OnValue | dict[str, OnValue] = "error"
    """A value that the table cannot hold exactly (nanoseconds, a time of day): an error, NULL
    instead of it (nanoseconds alone), or the column as text. For all columns, or by column."""
    zones: types.Zones = "error"
    """A column in another time zone than UTC: an error, or the same moments in UTC."""
    contract: Contract | None = Field(default=None, alias="schema")
    """What becomes of the table where the rows have other columns than before: `freeze` is an
    error, `evolve` adds them. Default: `append` and `merge` freeze, `replace` takes what comes."""
    adopt: bool = False
    """Whether `replace` also takes the rows of a table that hygge did not make."""


class DeltaStoreOptionsDict(TypedDict, total=False):
    """`DeltaStoreOptions` as a dict."""

    compression: Literal["none", "snappy", "gzip", "zstd", "lz4", "brotli"]
    compression_level: int | None
    file_bytes: int
    row_group_bytes: int
    on_value: OnValue | Mapping[str, OnValue]
    zones: types.Zones
    schema: Contract | None
    adopt: bool


class DeltaStoreArguments(TypedDict, total=False):
    """The keyword arguments of `DeltaStore`."""

    path: str | os.PathLike[str] | None
    connection: Access | AccessDict | None
    partition_by: list[str] | tuple[str, ...] | None
    options: DeltaStoreOptions | DeltaStoreOptionsDict


class DeltaStore(Store):
    """`DeltaStore("users", path="data/users", partition_by=["day"])`."""

    traits: StoreTraits = StoreTraits(
        modes=("replace", "append", "merge"),
        visibility="atomic",
        sees="the old version or the new one: one entry of the table's log shows a run",
        lossy=types.LOSSY,
        changes=True,
    )
    imports = ("pyarrow.compute", "pyarrow.parquet", "deltalake")
    is_folder: ClassVar[bool] = True

    class Settings(Settings):
        path: str | None = None
        """The folder of the table; or s3://bucket/prefix. Default: data/<name>."""
        connection: Access | None = Field(default=None, repr=False)
        """How an object store is reached, where the environment does not say it."""
        partition_by: list[str] | None = None
        """The columns that a new table is partitioned by: text, whole numbers, dates, booleans."""
        options: DeltaStoreOptions = DeltaStoreOptions()

    settings: DeltaStore.Settings

    def __init__(self, name: str | None = None, **settings: Unpack[DeltaStoreArguments]) -> None:
        path = settings.get("path")
        if isinstance(path, os.PathLike):
            settings["path"] = os.fspath(path)
        super().__init__(name, **settings)
        given = self.settings
        path = given.path or os.path.join("data", name or type(self).__name__)
        refuse_nul(path, type(self).__name__)
        by = given.partition_by
        if by is not None and (not by or len(set(by)) < len(by)):
            raise ConfigError(
                "DeltaStore: 'partition_by' names no column, or one twice", "partition_by: [day]"
            )
        if is_object_url(path):
            self.path: str = path.rstrip("/")
        else:
            self.path = os.path.realpath(expanded(path, type(self).__name__))
        files_at(self.path, given.connection)  # it complains of a wrong URL
        self.rules = types.Rules(given.options.on_value, given.options.zones)

    def describe(self) -> str:
        return self.path

    def place(self) -> str | None:
        return self.describe() if is_object_url(self.path) else f"file:{self.path}"

    def reader(self, schema: pa.Schema) -> Home:
        return DeltaHome(path=self.path, connection=self.settings.connection)

    def check_packages(self) -> None:
        library.check_installed(self.describe())

    def check_here(self, mode: Mode) -> None:
        self.check_packages()
        if not is_object_url(self.path):
            self.examine(Run("check", "", mode), None)

    def head(self, flow: str) -> Head | None:
        with self._in_words():
            return self._committed(self._load(), flow).head

    def remarks(self, schema: pa.Schema | None) -> list[str]:
        more = [] if schema is None else types.remarks(schema, self.rules)
        return [*super().remarks(schema), *more]

    def prepare(self, run: Run, schema: pa.Schema | None) -> None:
        with self._in_words():
            table = self._load()
            fit = self._fitted(table, run, schema)
            written = fit.schema if fit.followed is None else with_changes(fit.followed)
            if written is not None:
                written = with_op(written, schema)
            version = -1 if table is None else table.version()
            self._staging().prepare(run, written, fit.partition_by, version)

    def examine(self, run: Run, schema: pa.Schema | None) -> TargetState:
        with self._in_words():
            table = self._load()
            fit = self._fitted(table, run, schema)
            self._files().check_rights()
            if table is None:
                return TargetState(False)
            adopts = run.mode == "replace" and not heads.made_by_hygge(table)
            return TargetState(True, table.count(), changes=fit.changes, is_adopted=adopts)

    def stage(
        self, ticket: Ticket, schema: pa.Schema | None, batches: Iterator[pa.Table]
    ) -> Receipt:
        with in_words(self.path, StoreError):
            staging = self._staging()
            how = staging.prepared(ticket.run)
            prepared, _, _ = apart(how.schema)

            def stored(table: pa.Table) -> pa.Table:
                return self._stored(table, prepared, how.partition_by)

            if self.bad_rows is not None:
                batches = self.bad_rows.sifted(batches, stored)
            rows = map(stored, batches)
            options = self.settings.options
            parquet = ParquetSettings(
                options.compression,
                options.compression_level,
                options.row_group_bytes,
                background_below=options.file_bytes,
                copies=not self.batches_stay,
            )
            key = staging.key(ticket)
            writer = PartWriter(self._files(), key, how.split_by, parquet, options.file_bytes)
            staged = writer.write(rows, prepared)
            return Receipt(ticket, "", staged.rows, staged.arrow_bytes, parts=len(staged.parts))

    def resume(self, run: Run, receipts: Sequence[Receipt]) -> list[Receipt]:
        with self._in_words():
            return self._staging().resume(run, receipts)

    def commit(
        self, run: Run, base: Head | None, receipts: Sequence[Receipt], watermark: Watermark
    ) -> Commit:
        with self._in_words(StoreError):
            log = Log(
                self.path, self.settings.connection, self._files(), self._staging(), self._fitted
            )
            return table_log.commit(log, run, base, receipts, watermark)

    def discard(self, run: Run) -> None:
        with self._in_words():
            self._staging().discard(run, lambda: library.files_in(self._load()))

    # How they do it.

    def _fitted(
        self, table: DeltaTable | None, run: Run, schema: pa.Schema | None, head: Head | None = None
    ) -> Fitted:
        columns = None if schema is None else without_op(schema)
        if columns is not None:
            if not columns.names:
                raise StoreError(
                    f"{self.describe()}: the rows have no columns", "choose some with `columns`"
                )
            columns = types.stored_schema(columns, self.rules)
        if table is None:
            check_empty(self.describe(), self._files().names())
        options = self.settings.options
        return fitted(
            self.describe(), table, columns, run, head or self._committed(table, run.flow).head,
            options.contract, self.settings.partition_by, options.adopt,
        )  # fmt: skip

    def _stored(
        self, batch: pa.Table, prepared: pa.Schema | None, partition_by: Sequence[str]
    ) -> pa.Table:
        if prepared is None:
            stored = types.stored_schema(without_op(batch.schema), self.rules)
            prepared = with_op(stored, batch.schema)
        table = types.stored_table(renamed(batch), prepared, self.rules)
        check_upserts(table, types.check_not_null)
        check_partitions(table, partition_by)
        return table

    def _load(self) -> DeltaTable | None:
        return library.load(self.path, self.settings.connection)

    def _files(self) -> Disk | Objects:
        return files_at(self.path, self.settings.connection)

    def _staging(self) -> Staging:
        return Staging(self._files(), self.describe())

    def _committed(self, table: DeltaTable | None, flow: str) -> heads.Committed:
        return heads.committed_of(self._files(), table, flow, self.describe())

    @contextmanager
    def _in_words(self, unfit: type[HyggeError] = UnfitValue) -> Iterator[None]:
        access = self.settings.connection
        with (
            in_words(self.path, StoreError, unfit),
            library.in_words(self.path, access, StoreError),
        ):
            yield
