"""The commit of `mode: merge`: the library joins the staged rows with those of the table.

It writes anew the files of the table in which it finds a key, and shows them with one entry of the
log, which has the head, too. It does not look for two staged rows of one key, and adds both where
the table has none; so the keys of all staged rows are looked at first, in memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa

from hygge.connectors.delta.library import no_retries
from hygge.connectors.delta.types import check_not_null
from hygge.errors import Rejected
from hygge.extension_types import OP as _MARK
from hygge.formats.parquet import open_parquet
from hygge.model import Run
from hygge.type_words import value_text

if TYPE_CHECKING:
    import numpy as np
    from deltalake import DeltaTable

OP = "_op"
"""The column that says what became of a row: insert, update or delete."""
_NOT_NULL = b"hygge.not_null"
"""The metadata of a column that may be NULL where a row deletes, and is not in the table."""
_AT, _HAS = "_hygge_at", "_hygge_has"


def has_op(schema: pa.Schema | None) -> bool:
    """Return whether the rows of a schema are changes."""
    return schema is not None and any(_MARK in (field.metadata or {}) for field in schema)


def without_op(schema: pa.Schema | None) -> pa.Schema | None:
    """Return the columns that rows are about, as `with_op` got them."""
    if schema is None or not has_op(schema):
        return schema
    kept = [field for field in schema if _MARK not in (field.metadata or {})]
    return pa.schema([_restored(field) for field in kept], schema.metadata)


def with_op(written: pa.Schema, rows: pa.Schema | None, key: Sequence[str]) -> pa.Schema:
    """Return the columns that are staged, with `_op` where the rows have it."""
    if not has_op(rows):
        return written
    fields = [
        field
        if field.nullable or field.name in key
        else field.with_nullable(True).with_metadata({_NOT_NULL: b"1"})
        for field in written
    ]
    op = pa.field(OP, pa.string(), nullable=False, metadata={_MARK: b"1"})
    return pa.schema([*fields, op], written.metadata)


def check_upserts(table: pa.Table) -> None:
    """Raise UnfitValue for NULL in a column that has none, in a row that does not delete."""
    import pyarrow.compute as pc

    strict = [f.name for f in table.schema if _NOT_NULL in (f.metadata or {})]
    if strict and any(table.column(name).null_count for name in strict):
        upserts = table.filter(pc.not_equal(table.column(OP), "delete"))
        for name in strict:
            check_not_null(upserts.column(name), name)


def _restored(field: pa.Field) -> pa.Field:
    is_strict = _NOT_NULL in (field.metadata or {})
    return field.remove_metadata().with_nullable(False) if is_strict else field


@dataclass(frozen=True)
class Source:
    """The staged rows that are merged."""

    paths: Sequence[str]
    """Their files, in the order of the rows."""
    schema: pa.Schema
    """Their columns; `_op` is one of them where they are changes."""
    is_kept: np.ndarray | None
    """Which rows count, by their number; None: all."""
    is_changes: bool
    superseded: int
    """Rows that gave way to a newer one of their key."""
    deleted: int
    """Rows that count, and delete their key."""

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Yield the rows that count."""
        start = 0
        for path in self.paths:
            with open_parquet(path) as file:
                for batch in file.iter_batches(use_threads=False):
                    end = start + batch.num_rows
                    rows = pa.Table.from_batches([batch]).select(self.schema.names)
                    rows = rows.cast(self.schema)
                    if self.is_kept is not None:
                        rows = rows.filter(pa.array(self.is_kept[start:end]))
                    start = end
                    yield from rows.to_batches()


def source_of(paths: Sequence[str], schema: pa.Schema, run: Run, who: str) -> Source:
    """Return the rows to merge.

    Raises Rejected for NULL in the key, and for two rows of one key where none is the newer one.
    """
    import numpy as np
    import pyarrow.compute as pc

    is_changes = has_op(schema)
    plain = pa.schema([field.remove_metadata() for field in schema])
    wanted = [*run.key, *({run.cursor} - {None, *run.key}), *([OP] if is_changes else [])]
    tables = []
    for path in paths:
        with open_parquet(path) as file:
            tables.append(file.read(columns=wanted, use_threads=False))
    keys = pa.concat_tables(tables) if tables else plain.empty_table().select(wanted)
    for name in run.key:
        if count := keys.column(name).null_count:
            raise Rejected(
                f"{who}: {count:,} rows have NULL in the key '{name}', so no row is theirs",
                "fill it in at the source, or leave such rows out with `where`",
            )
    is_kept = None
    if keys.select(list(run.key)).group_by(list(run.key)).aggregate([]).num_rows < keys.num_rows:
        at = pa.array(np.arange(keys.num_rows))
        numbered = keys.append_column(_AT, at)
        names = [*run.key, _AT]
        if run.cursor is not None:  # a row without a cursor is older than any with one
            numbered = numbered.append_column(_HAS, pc.is_valid(keys.column(run.cursor)))
            names = [*run.key, _HAS, run.cursor, _AT]
        order = pc.sort_indices(numbered, sort_keys=[(name, "ascending") for name in names])
        ordered = keys.select(list(run.key)).take(order)
        is_next = np.ones(keys.num_rows - 1, bool)
        for column in ordered.columns:
            same = pc.equal(column.slice(1), column.slice(0, keys.num_rows - 1))
            is_next &= same.to_numpy(zero_copy_only=False).astype(bool)
        if run.cursor is None and not is_changes:
            first = int(np.flatnonzero(is_next)[0])
            shown = ", ".join(
                f"{name} {value_text(ordered.column(name)[first])}" for name in run.key
            )
            raise Rejected(
                f"{who}: two rows have the key {shown}, and which one counts is not known",
                "name a `cursor`, by which the last one counts; or leave one out at the source",
            )
        is_kept = np.zeros(keys.num_rows, bool)
        is_kept[np.asarray(order)[np.append(~is_next, True)]] = True
    count = keys.num_rows if is_kept is None else int(is_kept.sum())
    deleted = 0
    if is_changes:
        deletes = pc.equal(keys.column(OP), "delete")
        if is_kept is not None:
            deletes = pc.and_(deletes, pa.array(is_kept))
        deleted = pc.sum(deletes).as_py() or 0
    return Source(paths, plain, is_kept, is_changes, keys.num_rows - count, deleted)


def merge(
    table: DeltaTable,
    source: Source,
    run: Run,
    updated: Sequence[str],
    transactions: Sequence[tuple[str, int]],
) -> None:
    """Merge and commit; `updated` are the columns that rows of the table get anew."""
    reader = pa.RecordBatchReader.from_batches(source.schema, source.batches())
    columns = [name for name in source.schema.names if name != OP or not source.is_changes]
    merger = table.merge(
        reader,
        " AND ".join(f"t.{_quoted(name)} = s.{_quoted(name)}" for name in run.key),
        source_alias="s",
        target_alias="t",
        commit_properties=no_retries(transactions),
    )
    updates = {_quoted(name): f"s.{_quoted(name)}" for name in columns if name in updated}
    inserts = {_quoted(name): f"s.{_quoted(name)}" for name in columns}
    if source.is_changes:
        merger = merger.when_matched_delete(f"s.{_quoted(OP)} = 'delete'")
        merger = merger.when_matched_update(updates)
        merger = merger.when_not_matched_insert(inserts, f"s.{_quoted(OP)} <> 'delete'")
    else:
        merger = merger.when_matched_update(updates).when_not_matched_insert(inserts)
    merger.execute()


def _quoted(name: str) -> str:
    return "`" + name.replace("`", "``") + "`"
