"""Iceberg tables as a Store: one run is one commit of the catalog.

A reader sees the old snapshot or the new one, whoever it is. Rows are staged as Parquet files in
the data folder of the table (`hygge/connectors/iceberg/staging.py`), by as many lanes as there are;
no snapshot names them. The commit (`hygge/connectors/iceberg/commit.py`) adds them to the table
together with the head of the flow, which is a property of the table.

Files of a run that was given up are removed. What a death leaves whose flow never runs again, the
table's own maintenance removes, as it does for every writer of Iceberg (`remove_orphan_files`).
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar, TypedDict, Unpack

import pyarrow as pa
from pydantic import Field

from hygge.arrow_errors import in_words
from hygge.batches import again, plain
from hygge.changes import without_op
from hygge.connectors.files import publish
from hygge.connectors.files.changes import check_upserts, renamed, with_op
from hygge.connectors.files.parquet import ParquetOptions, ParquetOptionsDict
from hygge.connectors.iceberg import log
from hygge.connectors.iceberg.columns import Columns, alike, columns_after
from hygge.connectors.iceberg.commit import check_writable, head_of, place_of, rows_in
from hygge.connectors.iceberg.goal import Goal
from hygge.connectors.iceberg.home import IcebergHome
from hygge.connectors.iceberg.lake import Lake, check_installed, checked_catalog, checked_table
from hygge.connectors.iceberg.merge import check_key
from hygge.connectors.iceberg.partitions import Part, parts_of, read_parts
from hygge.connectors.iceberg.staging import PREPARED, PartedWriter, Staged, ticket_file
from hygge.connectors.iceberg.types import LOSSY, cast, check_not_null, kept_otherwise
from hygge.errors import StoreError
from hygge.formats.exact_text import check_texts
from hygge.formats.parquet import ParquetSettings
from hygge.home import Home
from hygge.model import (
    Commit,
    Head,
    Mode,
    Receipt,
    Run,
    StoreTraits,
    TargetState,
    Ticket,
    Watermark,
)
from hygge.places import durable
from hygge.places.objects import at_once
from hygge.settings import Settings
from hygge.store import Store


class IcebergStoreArguments(TypedDict, total=False):
    """The keyword arguments of `IcebergStore`."""

    catalog: Mapping[str, Any]
    table: str | None
    partition_by: list[str] | tuple[str, ...] | None
    options: ParquetOptions | ParquetOptionsDict


class IcebergStore(Store):
    """`IcebergStore("sales.lines", catalog={"uri": "http://…", "warehouse": "s3://…"})`."""

    traits: StoreTraits = StoreTraits(
        modes=("replace", "append", "merge"),
        visibility="atomic",
        sees="the old snapshot or the new one: a run is one commit of the catalog",
        lossy=LOSSY,
        changes=True,
    )
    imports = ("pyarrow.parquet", "pyiceberg.io.pyarrow")
    takes_dictionaries: ClassVar[bool] = True

    class Settings(Settings):
        catalog: Mapping[str, Any] = Field(repr=False)
        """How the catalog is reached: `uri` and `warehouse`, and what else pyiceberg takes."""
        table: str | None = None
        """`namespace.table`. Default: the name."""
        partition_by: list[str] | None = None
        """The columns of which a new table makes partitions: `country`, `day(sold_at)`,
        `year(…)`, `month(…)` or `hour(…)`. Default: none, or those of the table that is there."""
        options: ParquetOptions = ParquetOptions()

    settings: IcebergStore.Settings

    def __init__(self, name: str | None = None, **settings: Unpack[IcebergStoreArguments]) -> None:
        super().__init__(name, **settings)
        who = type(self).__name__
        given = self.settings
        self.lake = Lake(
            checked_catalog(given.catalog, who), checked_table(given.table or name, who)
        )
        options = given.options
        written_as = ParquetSettings(
            options.compression,
            options.compression_level,
            options.row_group_bytes,
            background_below=options.file_bytes,
        )
        parts = None if given.partition_by is None else read_parts(given.partition_by, who)
        self.goal = Goal(self.lake, parts, options.contract, written_as, options.file_bytes)

    def describe(self) -> str:
        return self.lake.describe()

    def place(self) -> str | None:
        return self.lake.place()

    def on_disk(self) -> str | None:
        return self.lake.on_disk()

    def seen_by_nodes(self) -> dict[str, str]:
        return self.lake.seen_by_nodes()

    def check_packages(self) -> None:
        check_installed(self.describe())

    def check_here(self, mode: Mode) -> None:
        self.check_packages()
        if self.lake.database_file is not None:
            self.examine(Run("check", "", mode), None)

    def remarks(self, schema: pa.Schema | None) -> list[str]:
        said = super().remarks(schema)
        return said if schema is None else [*said, *kept_otherwise(schema), *alike(schema)]

    def reader(self, schema: pa.Schema) -> Home | None:
        return IcebergHome(catalog=self.lake.catalog, table=self.lake.table)

    def head(self, flow: str) -> Head | None:
        if self.lake.is_new():
            return None
        with self.lake.opened() as catalog:
            return head_of(self.lake.load(catalog), flow)

    def examine(self, run: Run, schema: pa.Schema | None) -> TargetState | None:
        table = None
        if self.lake.is_new():
            changes = self._columns(None, run, schema).changes
            return TargetState(False, changes=changes)
        with self.lake.opened() as catalog:
            table = self.lake.load(catalog)
            changes = self._columns(table, run, schema).changes
            rows = None if table is None else rows_in(table)
            return TargetState(table is not None, rows, changes=changes)

    def prepare(self, run: Run, schema: pa.Schema | None) -> None:
        if self.lake.database_file is not None:
            durable.make_folder(os.path.dirname(self.lake.database_file))
        with self.lake.opened() as catalog:
            table = self.lake.load(catalog)
            columns = self._columns(table, run, schema)
            if table is None:
                self._make_namespace(catalog)
                self._check_place(catalog)
            staged = self._staged(catalog, table, run.id)
            if staged.read_note(PREPARED) is not None:
                return
            if schema is None:
                staged.write_note(PREPARED, pa.schema([]), {})
                return
            names = without_op(schema).names
            came = [name for name in columns.arrow.names if name in names]
            files = with_op(columns.arrow, schema)
            parts = self._parts(table) if run.mode != "merge" else ()
            staged.write_note(PREPARED, files, {"came": came, "parts": [*map(str, parts)]})

    def _make_namespace(self, catalog: Any) -> None:
        """Make the namespace of the table, which another flow may make at the same moment."""
        namespace = self.lake.identifier[:-1]
        try:
            catalog.create_namespace_if_not_exists(namespace)
        except Exception:
            if not catalog.namespace_exists(namespace):
                raise

    def stage(
        self, ticket: Ticket, schema: pa.Schema | None, batches: Iterator[pa.Table]
    ) -> Receipt:
        where = self.describe()
        with self.lake.opened() as catalog:
            table = self.lake.load(catalog)
            staged = self._staged(catalog, table, ticket.run)
            prepared = staged.read_note(PREPARED)
            if prepared is None:
                raise StoreError(
                    f"{where}: run {ticket.run} is not prepared, or was given up", "run it again"
                )
            if not prepared[0].names:  # only the rows know their columns
                if schema is None:
                    first = next(batches, None)
                    if first is None:
                        return Receipt(ticket, "", 0, 0, parts=0)
                    schema, batches = first.schema, again(first, batches)
                    del first
                mode = self.flow_mode or "append"
                rows = without_op(schema)
                files = columns_after(where, table, rows, mode, self.goal.contract).arrow
                files = with_op(files, schema)
                parts = self._parts(table) if mode != "merge" else ()
            else:
                files = prepared[0].remove_metadata()
                parts = read_parts(prepared[1]["parts"], where)
            if self.bad_rows is not None:
                batches = self.bad_rows.sifted(batches, lambda rows: _fitted(rows, files, where))
            size = 0
            written_as = replace(self.goal.written_as, copies=not self.batches_stay)
            writer = PartedWriter(
                staged, files, parts, written_as, self.goal.file_bytes,
                partial(ticket_file, ticket),
            )  # fmt: skip
            with in_words(where, StoreError), publish.disk_errors(staged.folder), writer:
                for batch in batches:
                    size += batch.nbytes
                    batch = plain(batch) if parts else batch
                    writer.write(_fitted(batch, files, where))
                    del batch
        return Receipt(ticket, "", writer.rows, size, parts=len(writer.names))

    def resume(self, run: Run, receipts: Sequence[Receipt]) -> list[Receipt]:
        with self.lake.opened() as catalog:
            table = self.lake.load(catalog)
            staged = self._staged(catalog, table, run.id)
            whole = [r for r in receipts if _is_whole(staged, r)]
            kept = {ticket_file(r.ticket, at) for r in whole for at in range(r.parts)}
            rest = [name for name in staged.sizes() if name not in (*kept, PREPARED)]
            staged.remove(staged.removable(rest, head_of(table, run.flow), run.id))
        return whole

    def commit(
        self, run: Run, base: Head | None, receipts: Sequence[Receipt], watermark: Watermark
    ) -> Commit:
        return log.commit(self.goal, run, base, receipts, watermark)

    def discard(self, run: Run) -> None:
        if self.lake.is_new():
            return
        from pyiceberg.exceptions import NoSuchNamespaceError

        with self.lake.opened() as catalog:
            table = self.lake.load(catalog)
            try:
                staged = self._staged(catalog, table, run.id)
            except NoSuchNamespaceError:  # nothing was ever staged
                return
            names = list(staged.sizes())
            staged.remove(staged.removable(names, head_of(table, run.flow), run.id))

    def _columns(self, table: Any | None, run: Run, schema: pa.Schema | None) -> Columns:
        """Return the columns after a run; raise what `prepare` raises."""
        schema = None if schema is None else without_op(schema)
        if schema is not None and run.mode == "merge":
            check_key(run.key, schema, table, self.describe())
        return check_writable(self.goal, table, run, schema)

    def _parts(self, table: Any | None) -> tuple[Part, ...]:
        if table is None:
            return self.goal.parts or ()
        return parts_of(table, self.goal.parts, self.describe())

    def _staged(self, catalog: Any, table: Any | None, run: str) -> Staged:
        return Staged(*place_of(self.goal, catalog, table), run)

    def _check_place(self, catalog: Any) -> None:
        """Raise StoreError where lanes would not find the folder of a table that is not there."""
        places = {place_of(self.goal, catalog, None)[0] for _ in range(2)}
        if len(places) > 1:
            raise StoreError(
                f"{self.describe()}: the catalog gives a new table another folder each time",
                "create the table first, without rows, then run it again",
            )


def _fitted(rows: pa.Table, files: pa.Schema, where: str) -> pa.Table:
    """Return rows as they are staged; raise UnfitValue for what the table does not hold."""
    check_texts(rows)
    table = cast(renamed(rows), files, where)
    check_upserts(table, partial(check_not_null, who=where))
    return table


def _is_whole(staged: Staged, receipt: Receipt) -> bool:
    """Return whether all that a receipt promises is still staged."""
    names = [ticket_file(receipt.ticket, at) for at in range(receipt.parts)]
    footers = at_once(staged.footer, names)
    rows = [-1 if footer is None else footer.num_rows for footer in footers]
    return min(rows, default=0) >= 0 and sum(rows) == receipt.rows
