"""Merges: files whose range of keys meets that of the rows are written anew, without their keys.

    keys     of all staged rows: of rows that share one, the last counts
    look     into each file of the table that may hold one of them, by its statistics
    rewrite  a file that does hold one, without these rows; other files stay as they are
    add      the staged files as they are, or written anew where some of their rows do not count

All keys of a run are in the driver's memory; rows are not. Everything is redone on the newest
snapshot where another commit was quicker.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from hygge.changes import DELETE, has_op
from hygge.connectors.iceberg.columns import Columns
from hygge.connectors.iceberg.files import Found, planned, read_task
from hygge.connectors.iceberg.goal import Goal
from hygge.connectors.iceberg.partitions import parts_of
from hygge.connectors.iceberg.staging import PartedWriter, Staged, merge_file
from hygge.connectors.iceberg.types import cast
from hygge.connectors.sql.changes import STAGED, check_order
from hygge.connectors.sql.commit import check_merge
from hygge.errors import Rejected, StoreError
from hygge.model import Run
from hygge.type_words import word_of

_SEQ, _RANK = "seq", "rank"


@dataclass(frozen=True)
class Merged:
    """What a merge changes of a table."""

    gone: list[Any]
    """Its files that are replaced."""
    added: list[Found]
    """New files."""
    applied: int
    """Keys that were inserted, updated or deleted."""
    deleted: int | None
    """Those that changes deleted; None where the rows are no changes."""


def check_key(key: Sequence[str], rows: pa.Schema, table: Any | None, where: str) -> None:
    """Raise StoreError for a merge key that cannot find rows of the table."""
    held = [] if table is None else table.schema().column_names
    for name in key:
        index = rows.get_field_index(name)
        if index < 0 or (table is not None and name not in held):
            side = "the rows have" if index < 0 else "the table has"
            raise StoreError(
                f"{where}: {side} no column '{name}' of the merge key", "name a column of both"
            )
        kind = rows.field(index).type
        if pa.types.is_floating(kind) or pa.types.is_nested(kind):
            raise StoreError(
                f"{where}: the merge key '{name}' is {word_of(kind)}, by which rows are not told "
                "apart exactly",
                "use another key, or give it another type under `columns`",
            )


def merged(
    goal: Goal,
    metadata: Any,
    table: Any | None,
    staged: Staged,
    run: Run,
    found: Sequence[Found],
    columns: Columns,
) -> Merged:
    """Return what a merge of the staged files changes, with its new files written."""
    where = goal.lake.describe()
    winners = _Winners(where, staged, run, found)
    parts = (goal.parts or ()) if table is None else parts_of(table, goal.parts, where)
    attempt = uuid.uuid4().hex[:8]
    writer = PartedWriter(
        staged, columns.arrow, parts, goal.written_as, goal.file_bytes,
        lambda index: merge_file(attempt, index),
    )  # fmt: skip
    gone = []
    is_as_staged = not parts and winners.all_count
    with writer:
        for task, kept in winners.touched(table):
            gone.append(task.file)
            at = 0
            for rows in read_task(metadata, table.io, task, columns.schema) if table else ():
                writer.write(cast(rows.filter(kept.slice(at, rows.num_rows)), columns.arrow, where))
                at += rows.num_rows
        for rows in () if is_as_staged else winners.rows():
            writer.write(cast(rows, columns.arrow, where))
    sizes = staged.sizes()
    added = list(found) if is_as_staged else []
    for name in writer.names:
        added.append(Found(name, staged.url(name), staged.footer(name), sizes[name]))
    return Merged(gone, added, winners.count, winners.deleted)


class _Winners:
    """Of staged rows that share a key, the last one: by the cursor, then in their order."""

    def __init__(self, where: str, staged: Staged, run: Run, found: Sequence[Found]) -> None:
        self.where, self.staged, self.run, self.found = where, staged, run, found
        self.are_changes = bool(found) and has_op(found[0].schema)
        told = [STAGED] if self.are_changes else []
        names = [*run.key, *([run.cursor] if run.cursor else []), *told]
        tables = [batch for file in found for batch in self._read(file, list(dict.fromkeys(names)))]
        rows = pa.concat_tables(tables).combine_chunks() if tables else None
        self.total = 0 if rows is None else rows.num_rows
        self.kept = np.ones(self.total, bool)
        """Of each staged row, whether it is in the table after the merge."""
        self.keys: pa.Table | None = None
        """The keys of all rows; none twice."""
        self.deleted = 0 if self.are_changes else None
        if rows is not None and self.total:
            self._find(rows)
        self.count = 0 if self.keys is None else self.keys.num_rows
        self.all_count = bool(self.kept.all()) and not self.are_changes

    def _find(self, rows: pa.Table) -> None:
        key = [f"k{at}" for at in range(len(self.run.key))]
        keys = pa.table([rows.column(name) for name in self.run.key], names=key)
        nulls = np.zeros(self.total, bool)
        for column in keys.columns:
            nulls |= np.asarray(column.is_null())
        order = np.arange(self.total)
        if self.run.cursor:
            cursor = rows.column(self.run.cursor)
            by = pa.table({"has": cursor.is_valid(), "cursor": cursor, _SEQ: order})
            order = np.asarray(
                pc.sort_indices(by, [(name, "ascending") for name in by.schema.names])
            )
        rank = np.empty(self.total, np.int64)
        rank[order] = np.arange(self.total)
        last = keys.append_column(_RANK, pa.array(rank)).group_by(key).aggregate([(_RANK, "max")])
        count = int(nulls.sum())
        check_merge(self.total, count, last.num_rows, self.run, self.where, self.are_changes)
        if self.are_changes and self.run.cursor:
            both = keys.append_column(_SEQ, rows.column(self.run.cursor))
            distinct = both.group_by([*key, _SEQ]).aggregate([]).num_rows
            check_order(self.total, distinct, self.run, self.where)
        at = order[np.asarray(last.column(f"{_RANK}_max"))]
        self.kept[:] = False
        self.kept[at] = True
        self.keys = last.select(key)
        if self.are_changes:
            deletes = self.kept & np.asarray(pc.equal(rows.column(STAGED), DELETE))
            self.deleted = int(deletes.sum())
            self.kept &= ~deletes

    def touched(self, table: Any | None) -> Iterator[tuple[Any, pa.BooleanArray]]:
        """Yield each file of the table that has one of the keys, and which of its rows stay."""
        if table is None or self.keys is None or table.current_snapshot() is None:
            return
        schema = table.schema().select(*self.run.key)
        names = self.keys.column_names
        for task in planned(table.scan(row_filter=self._range()), self.where, Rejected):
            batches = list(read_task(table.metadata, table.io, task, schema))
            if not batches:
                continue
            held = pa.concat_tables(batches).select(list(self.run.key)).rename_columns(names)
            wanted = self.keys.cast(held.schema)
            held = held.append_column(_SEQ, pa.array(np.arange(held.num_rows)))
            there = held.join(wanted, names, join_type="left semi").column(_SEQ)
            if not len(there):
                continue
            stays = np.ones(held.num_rows, bool)
            stays[np.asarray(there)] = False
            yield task, pa.array(stays)

    def _range(self) -> Any:
        """Return the condition that every file meets which may have one of the keys."""
        from pyiceberg.expressions import (
            AlwaysTrue,
            And,
            GreaterThanOrEqual,
            LessThanOrEqual,
        )

        assert self.keys is not None
        condition: Any = AlwaysTrue()
        for name, column in zip(self.run.key, self.keys.columns, strict=True):
            if pa.types.is_boolean(column.type):
                continue
            ends = pc.min_max(column)
            try:
                least, most = ends["min"].as_py(), ends["max"].as_py()
            except (ValueError, OverflowError):  # beyond the dates of Python
                continue
            inside = And(GreaterThanOrEqual(name, least), LessThanOrEqual(name, most))
            condition = And(condition, inside)
        return condition

    def rows(self) -> Iterator[pa.Table]:
        """Yield the staged rows that are in the table after the merge."""
        at = 0
        for file in self.found:
            for batch in self._read(file, None):
                stays = pa.array(self.kept[at : at + batch.num_rows])
                at += batch.num_rows
                yield batch.filter(stays)

    def _read(self, file: Found, names: list[str] | None) -> Iterator[pa.Table]:
        import pyarrow.parquet as pq

        with self.staged.files.open_input_file(f"{self.staged.path}/{file.name}") as source:
            for batch in pq.ParquetFile(source).iter_batches(columns=names, use_threads=False):
                yield pa.Table.from_batches([batch]).replace_schema_metadata()
