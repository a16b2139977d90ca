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

from hygge.connectors.iceberg.columns import Columns
from hygge.connectors.iceberg.files import Found, read_task
from hygge.connectors.iceberg.goal import Goal
from hygge.connectors.iceberg.partitions import parts_of
from hygge.connectors.iceberg.staging import PartedWriter, Staged, merge_file
from hygge.connectors.iceberg.types import cast, id_of
from hygge.connectors.sql.commit import check_merge
from hygge.errors import Rejected, StoreError
from hygge.model import Run
from hygge.type_words import word_of

OP = "_op"
"""The column that says of each row what became of its key. It is one only where it is marked."""
OP_MARK = b"hygge.op"
"""The key, in the metadata of that column, that marks it."""
_OPS = ("insert", "update", "delete")
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
    return Merged(gone, added, winners.count)


class _Winners:
    """Of staged rows that share a key, the last one: by the cursor, then in their order."""

    def __init__(self, where: str, staged: Staged, run: Run, found: Sequence[Found]) -> None:
        self.where, self.staged, self.run, self.found = where, staged, run, found
        self.has_ops = bool(found) and len(with_ids(found[0].schema)) < len(found[0].schema)
        names = [*run.key, *([run.cursor] if run.cursor else []), *([OP] if self.has_ops else [])]
        tables = [batch for file in found for batch in self._read(file, list(dict.fromkeys(names)))]
        rows = pa.concat_tables(tables).combine_chunks() if tables else None
        self.total = 0 if rows is None else rows.num_rows
        self.kept = np.ones(self.total, bool)
        """Of each staged row, whether it is in the table after the merge."""
        self.keys: pa.Table | None = None
        """The keys of all rows; none twice."""
        if rows is not None and self.total:
            self._find(rows)
        self.count = 0 if self.keys is None else self.keys.num_rows
        self.all_count = bool(self.kept.all()) and not self.has_ops

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
        distinct = self.total if self.has_ops else last.num_rows
        check_merge(self.total, int(nulls.sum()), distinct, self.run, self.where)
        at = order[np.asarray(last.column(f"{_RANK}_max"))]
        self.kept[:] = False
        self.kept[at] = True
        self.keys = last.select(key)
        if self.has_ops:
            ops = rows.column(OP)
            self._check_ops(ops, keys)
            self.kept &= ~np.asarray(pc.equal(ops, "delete"))

    def _check_ops(self, ops: pa.ChunkedArray, keys: pa.Table) -> None:
        known = np.asarray(pc.is_in(ops, pa.array(_OPS, ops.type)))
        if not known.all():
            at = int(np.flatnonzero(~known)[0])
            key = ", ".join(str(column[at].as_py()) for column in keys.columns)
            raise Rejected(
                f"{self.where}: the row of key ({key}) has {ops[at].as_py()!r} in '{OP}'",
                f"it is one of {', '.join(_OPS)}",
            )

    def touched(self, table: Any | None) -> Iterator[tuple[Any, pa.BooleanArray]]:
        """Yield each file of the table that has one of the keys, and which of its rows stay."""
        if table is None or self.keys is None or table.current_snapshot() is None:
            return
        schema = table.schema().select(*self.run.key)
        names = self.keys.column_names
        for task in table.scan(row_filter=self._range()).plan_files():
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


def has_op(schema: pa.Schema) -> bool:
    """Return whether rows say in `_op` what became of their keys."""
    return any(OP_MARK in (field.metadata or {}) for field in schema)


def without_op(schema: pa.Schema) -> pa.Schema:
    """Return the columns of rows without a marked `_op`."""
    return pa.schema([field for field in schema if OP_MARK not in (field.metadata or {})])


def with_ids(schema: pa.Schema) -> pa.Schema:
    """Return the columns of a staged file that become columns of the table: `_op` has no id."""
    return pa.schema([field for field in schema if id_of(field) is not None])
