"""Iceberg tables as a Home: one snapshot, its data files in splits.

`open` pins the newest snapshot, or the one that `snapshot` or `as_of` names; every lane reads that
one, whatever others commit meanwhile. Rows that positional deletes name are left out. A table is
found in its catalog, or, read-only, by the newest `metadata/*.metadata.json` of a folder.
"""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, TypedDict, Unpack

import pyarrow as pa
from pydantic import Field

from hygge.arrow_errors import in_words
from hygge.batches import slices
from hygge.connectors.files.file_options import FileOptions, FileOptionsDict
from hygge.connectors.iceberg import changes
from hygge.connectors.iceberg.files import planned, read_task
from hygge.connectors.iceberg.lake import (
    FILE_IO,
    Lake,
    check_installed,
    checked_catalog,
    checked_table,
)
from hygge.connectors.iceberg.types import LOSSY, arrow_schema
from hygge.errors import ConfigError, HomeError, SourceChanged, SourceMissing, one_of
from hygge.home import Home
from hygge.model import Column, HomeTraits, Mode, Plan, Split, Watermark
from hygge.places.names import hint_for_missing
from hygge.settings import Settings
from hygge.shape.settings import missing

_UNREADABLE = (ValueError, EOFError, AttributeError, IndexError, KeyError, TypeError)
"""What the library raises for a manifest that is cut off, or holds other bytes."""
_NUMBER = re.compile(r"v?(\d+)[-.]")


class IcebergHomeArguments(TypedDict, total=False):
    """The keyword arguments of `IcebergHome`."""

    catalog: Mapping[str, Any] | None
    table: str | None
    path: str | os.PathLike[str] | None
    columns: list[str] | tuple[str, ...] | None
    snapshot: int | None
    as_of: str | None
    changes: bool
    options: FileOptions | FileOptionsDict


class IcebergHome(Home):
    """`IcebergHome("sales.lines", catalog={"uri": "http://…", "warehouse": "s3://…"})`."""

    traits: HomeTraits = HomeTraits(key=True, lossy=LOSSY)
    imports = ("pyarrow.parquet", "pyiceberg.io.pyarrow")

    class Settings(Settings):
        catalog: Mapping[str, Any] | None = Field(default=None, repr=False)
        """How the catalog is reached: `uri` and `warehouse`, and what else pyiceberg takes."""
        table: str | None = None
        """`namespace.table` of the catalog. Default: the name."""
        path: str | None = None
        """A folder with the table itself, instead of a catalog: its newest metadata counts."""
        columns: list[str] | None = None
        """The columns to read, in this order. Default: all."""
        snapshot: int | None = None
        """The id of the snapshot to read. Default: the newest."""
        as_of: str | None = None
        """A time: the snapshot that was the newest then. Without a zone it is in UTC."""
        changes: bool = False
        """Whether only what has changed since the last run is read, as rows that `_op` tells to
        insert or delete, for `mode: merge`."""
        options: FileOptions = FileOptions()

    settings: IcebergHome.Settings
    _tasks: tuple[int, dict[str, Any]] | None = None
    """The files of a snapshot, by their paths, as this process has planned them."""

    def __init__(self, name: str | None = None, **settings: Unpack[IcebergHomeArguments]) -> None:
        if isinstance(settings.get("path"), os.PathLike):
            settings["path"] = os.fspath(settings["path"] or "")
        super().__init__(name, **settings)
        who, given = type(self).__name__, self.settings
        if (given.path is None) == (given.catalog is None):
            raise ConfigError(
                f"{who} needs either 'catalog' or 'path'",
                'IcebergHome("sales.lines", catalog={"uri": …}), or IcebergHome(path="lake/lines")',
            )
        if given.snapshot is not None and given.as_of is not None:
            raise ConfigError(f"{who} was given 'snapshot' and 'as_of'", "give one of the two")
        if given.changes and (given.snapshot, given.as_of) != (None, None):
            raise ConfigError(
                f"{who}: 'changes' reads up to the newest snapshot",
                "take 'snapshot' and 'as_of' out",
            )
        self.traits = replace(self.traits, changes=given.changes)
        self._time_ms = None if given.as_of is None else _milliseconds(given.as_of, who)
        self.lake: Lake | None = None
        self.path = ""
        if given.catalog is not None:
            table = checked_table(given.table or name, who)
            self.lake = Lake(checked_catalog(given.catalog, who), table)
        elif "://" in (given.path or ""):
            raise ConfigError(
                f"{who}: {given.path} is in a bucket, where a table is read through its catalog",
                "give `catalog` and `table`",
            )
        else:
            self.path = os.path.abspath(os.path.expanduser(given.path or ""))

    def describe(self) -> str:
        return self.path if self.lake is None else self.lake.describe()

    def place(self) -> str | None:
        return f"file:{os.path.realpath(self.path)}" if self.lake is None else self.lake.place()

    def on_disk(self) -> str | None:
        return super().on_disk() if self.lake is None else self.lake.on_disk()

    def seen_by_nodes(self) -> dict[str, str]:
        return super().seen_by_nodes() if self.lake is None else self.lake.seen_by_nodes()

    def check_here(self, mode: Mode) -> None:
        check_installed(self.describe())
        if self.lake is None:
            newest_metadata(self.path)

    def primary_key(self) -> tuple[str, ...]:
        with self._table() as table:
            return tuple(sorted(table.schema().identifier_field_names()))

    @contextmanager
    def open(self, since: Watermark = None) -> Iterator[Plan]:
        with self._table() as table:
            snapshot = self._snapshot(table)
            schema = table.schema()
            is_pinned = self.settings.snapshot is not None or self._time_ms is not None
            if snapshot is not None and is_pinned:
                schema = table.schemas()[snapshot.schema_id]
            columns = self._columns(schema)
            tasks = [] if snapshot is None else self._files(table, snapshot)
            count, known, said = len(tasks), list(columns), ""
            if self.settings.changes:
                changes.check(self.describe(), columns)
                known.append(changes.COLUMN)
            if self.settings.changes and since is not None:
                before = changes.snapshot_of(table, since, self.describe())
                gone, came = changes.differing(self._files(table, before), tasks)
                at = schema.schema_id, columns
                splits = changes.in_order(
                    self._splits(gone, before, *at, "delete"),
                    self._splits(came, snapshot, *at, "insert"),
                )
                tasks = [*gone, *came]
                said = f"; they went or came since snapshot {since}"
            else:
                tasks = self._matching(tasks, schema, columns)
                if count > len(tasks):
                    said = f"; {count - len(tasks):,} more cannot match `where`"
                op = "insert" if self.settings.changes else None
                splits = tuple(self._splits(tasks, snapshot, schema.schema_id, columns, op))
        text = "no snapshot: it has no rows"
        if snapshot is not None:
            made = datetime.fromtimestamp(snapshot.timestamp_ms / 1000, UTC)
            text = f"snapshot {snapshot.snapshot_id} of {made:%Y-%m-%d %H:%M:%S} UTC"
        yield Plan(
            tuple(known),
            splits,
            key=tuple(sorted(schema.identifier_field_names())),
            snapshot=text,
            reason=f"{_counted(len(tasks), 'data file')} in {_counted(len(splits), 'split')}{said}",
            dead_driver="the next run goes on with it, if it reads the same snapshot",
            watermark=snapshot.snapshot_id if self.settings.changes and snapshot else None,
        )

    def read(self, split: Split) -> Iterator[pa.Table]:
        where, options = split.where, self.settings.options
        if not where["files"]:
            return
        with in_words(self.describe(), HomeError), self._table() as table:
            snapshot = table.snapshot_by_id(where["snapshot"])
            if snapshot is None:
                raise SourceChanged(
                    f"{self.describe()}: snapshot {where['snapshot']} has expired",
                    "run it again, which reads the newest one",
                )
            try:
                tasks = self._planned(table, snapshot)
                schema = table.schemas()[where["schema"]].select(*where["columns"])
                for path in where["files"]:
                    for rows in read_task(
                        table.metadata, table.io, tasks[path], schema,
                        options.batch_size, options.batch_bytes,
                    ):  # fmt: skip
                        full = rows.select(where["columns"])
                        if where.get("op"):
                            full = changes.with_op(full, where["op"])
                        del rows
                        yield from slices(full, options.batch_size, options.batch_bytes)
                        del full
            except FileNotFoundError as error:
                raise self._gone(error) from error

    def _damaged(self) -> HomeError:
        return HomeError(
            f"{self.describe()}: a manifest of the snapshot cannot be read",
            "it is truncated or damaged: put it back, or read an older `snapshot`",
        )

    def _gone(self, error: Exception) -> SourceChanged:
        return SourceChanged(
            f"{self.describe()}: a file of the snapshot is gone: {str(error).splitlines()[0]}",
            "run it again, which reads the newest snapshot; if it stays so, see what removes files",
        )

    @contextmanager
    def _table(self) -> Iterator[Any]:
        """Yield the table as it is now. Raises SourceMissing where there is none."""
        if self.lake is None:
            path = newest_metadata(self.path)
            check_installed(self.path)
            from pyiceberg.table import StaticTable

            with Lake({"uri": path}, "").in_words(HomeError):
                yield StaticTable.from_metadata(path, {"py-io-impl": FILE_IO})
            return
        self.lake.check_there()
        with self.lake.opened(HomeError) as catalog:
            found = self.lake.load(catalog)
            if found is None:
                raise self._missing(catalog)
            yield found

    def _missing(self, catalog: Any) -> SourceMissing:
        from pyiceberg.exceptions import NoSuchNamespaceError

        assert self.lake is not None
        try:
            names = [".".join(each) for each in catalog.list_tables(self.lake.identifier[:-1])]
        except NoSuchNamespaceError:
            names = [".".join(each) for each in catalog.list_namespaces()]
        return SourceMissing(
            f"there is no table {self.lake.table} in {self.lake.describe().partition('#')[0]}",
            one_of("there are", self.lake.table, names) if names else "the catalog has none there",
        )

    def _snapshot(self, table: Any) -> Any | None:
        """Return the snapshot to read; None for a table without one."""
        wanted = self.settings.snapshot
        if wanted is not None:
            found = table.snapshot_by_id(wanted)
        elif self._time_ms is not None:
            found = table.snapshot_as_of_timestamp(self._time_ms)
        else:
            return table.current_snapshot()
        if found is None:
            ids = [str(each.snapshot_id) for each in table.snapshots()[-5:]]
            what = f"snapshot {wanted}" if wanted is not None else f"as of {self.settings.as_of}"
            raise SourceMissing(
                f"{self.describe()} has nothing of {what}: it is older, or has expired",
                f"the newest snapshots: {', '.join(ids)}" if ids else "it has no snapshots",
            )
        return found

    def _columns(self, schema: Any) -> list[Column]:
        known = {}
        for field, own in zip(arrow_schema(schema), schema.fields, strict=True):
            marks = {k: v for k, v in (field.metadata or {}).items() if k.startswith(b"ARROW:")}
            known[own.name] = Column(
                own.name, field.type, str(own.field_type), not own.required, metadata=marks
            )
        wanted = self.settings.columns
        left_out = () if self.shape is None else self.shape.left_out
        for name in (*(wanted or ()), *left_out):
            if name not in known:
                raise missing(self.describe(), name, list(known))
        names = [name for name in (known if wanted is None else wanted) if name not in left_out]
        return [known[name] for name in names]

    def _files(self, table: Any, snapshot: Any) -> list[Any]:
        """Return the data files of a snapshot, in the order of their paths."""
        scan = table.scan(snapshot_id=snapshot.snapshot_id)
        try:
            tasks = planned(scan, self.describe(), HomeError)
        except _UNREADABLE as error:
            raise self._damaged() from error
        return sorted(tasks, key=lambda task: str(task.file.file_path))

    def _matching(self, tasks: list[Any], schema: Any, columns: Sequence[Column]) -> list[Any]:
        """Return the files that may have rows for the flow's `where`."""
        if self.shape is None or self.shape.where is None:
            return tasks
        from hygge.connectors.iceberg.skipping import may_match
        from hygge.shape.where import expression, for_statistics  # slow to load

        arrow = pa.schema([(column.name, column.type) for column in columns])
        expression(self.shape.where, arrow, self.describe())  # it names a wrong column
        condition = for_statistics(self.shape.where, arrow, self.describe())
        if condition is None:
            return tasks
        return may_match(tasks, schema.select(*arrow.names), condition)

    def _planned(self, table: Any, snapshot: Any) -> dict[str, Any]:
        if self._tasks is None or self._tasks[0] != snapshot.snapshot_id:
            tasks = self._files(table, snapshot)
            self._tasks = (snapshot.snapshot_id, {task.file.file_path: task for task in tasks})
        return self._tasks[1]

    def _splits(
        self,
        tasks: Sequence[Any],
        snapshot: Any | None,
        schema: int,
        columns: Sequence[Column],
        op: str | None = None,
    ) -> Iterator[Split]:
        """Yield splits of about `split_bytes`; a file is in one of them. `op`: see `changes`."""
        names = [column.name for column in columns]
        number = 0 if snapshot is None else snapshot.snapshot_id
        packed: list[list[Any]] = [[]]
        size = 0
        for task in tasks:
            if (
                packed[-1]
                and size + task.file.file_size_in_bytes > self.settings.options.split_bytes
            ):
                packed.append([])
                size = 0
            packed[-1].append(task)
            size += task.file.file_size_in_bytes
        for index, group in enumerate(packed):
            paths = [task.file.file_path for task in group]
            is_exact = not any(task.delete_files for task in group)
            yield Split(
                index,
                version=str(number),
                where={"snapshot": number, "schema": schema, "columns": names, "files": paths}
                | ({} if op is None else {"op": op}),
                label=paths[0] if paths else "",
                rows=sum(task.file.record_count for task in group) if is_exact else None,
                bytes=sum(task.file.file_size_in_bytes for task in group),
            )


def newest_metadata(folder: str) -> str:
    """Return the newest metadata file of a table's folder.

    Raises SourceMissing where there is none, HomeError where only its catalog knows which it is.
    """
    paths = glob.glob(os.path.join(glob.escape(folder), "metadata", "*.metadata.json*"))
    if not paths:
        raise SourceMissing(
            f"{folder} is no Iceberg table: it has no metadata/*.metadata.json",
            hint_for_missing(folder),
        )
    numbers = {path: _number(path) for path in paths}
    newest = [path for path in paths if numbers[path] == max(numbers.values())]
    if len(newest) > 1:
        names = " and ".join(sorted(os.path.basename(path) for path in newest[:2]))
        raise HomeError(
            f"{folder} has two newest metadata files, {names}: only its catalog knows which counts",
            "read it through its catalog: give `catalog` and `table`",
        )
    return newest[0]


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'s'[: count != 1]}"


def _number(path: str) -> int:
    match = _NUMBER.match(os.path.basename(path))
    return -1 if match is None else int(match[1])


def _milliseconds(text: str, who: str) -> int:
    try:
        time = datetime.fromisoformat(text)
    except ValueError as error:
        raise ConfigError(
            f"{who}: 'as_of' is {text!r}, not a time", "as_of: '2024-01-31 12:00:00'"
        ) from error
    return int((time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp() * 1000)
