"""The commit of `mode: merge`: the library joins the staged rows with those of the table.

It writes anew the files of the table in which it finds a key, and shows them with one entry of the
log, which has the head, too. Files in which the statistics of the log show no whole number or date
between the least and the greatest of the key are left unread: without it the library reads all. It
does not look for two staged rows of one key, and adds both where the table has none; so the keys of
all staged rows are looked at first, in memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa

from hygge.changes import DELETE, has_op
from hygge.connectors.delta.library import no_retries
from hygge.connectors.sql.changes import DELETES, STAGED, check_order
from hygge.errors import Rejected
from hygge.formats.parquet import open_parquet
from hygge.model import Run
from hygge.type_words import value_text

if TYPE_CHECKING:
    import numpy as np
    from deltalake import DeltaTable

_AT, _HAS = "_hygge_at", "_hygge_has"
_LEAST = -(2**63)
"""A number that has no literal in SQL: it would be the negative of one that is too big."""


@dataclass(frozen=True)
class Source:
    """The staged rows that are merged."""

    paths: Sequence[str]
    """Their files, in the order of the rows."""
    schema: pa.Schema
    """Their columns, with what tells changes, where they are some."""
    is_kept: np.ndarray | None
    """Which rows count, by their number; None: all."""
    is_changes: bool
    superseded: int
    """Rows that gave way to a newer one of their key."""
    deleted: int
    """Rows that count, and delete their key."""
    ends: Mapping[str, tuple[str, str]]
    """The least and the greatest value of whole numbers and dates of the key, in words of SQL."""

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
    wanted = [*run.key, *({run.cursor} - {None, *run.key}), *([STAGED] if is_changes else [])]
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
        if run.cursor is not None and is_changes:
            cursors = keys.column(run.cursor).take(order)
            same = pc.equal(cursors.slice(1), cursors.slice(0, keys.num_rows - 1))
            ties = int((is_next & pc.fill_null(same, False).to_numpy()).sum())
            check_order(keys.num_rows, keys.num_rows - ties, run, who)
        is_kept = np.zeros(keys.num_rows, bool)
        is_kept[np.asarray(order)[np.append(~is_next, True)]] = True
    count = keys.num_rows if is_kept is None else int(is_kept.sum())
    deleted = 0
    if is_changes:
        deletes = pc.equal(keys.column(STAGED), DELETE)
        if is_kept is not None:
            deletes = pc.and_(deletes, pa.array(is_kept))
        deleted = pc.sum(deletes).as_py() or 0
    ends = {name: found for name in run.key if (found := _ends(keys.column(name)))}
    return Source(paths, plain, is_kept, is_changes, keys.num_rows - count, deleted, ends)


def _ends(column: pa.ChunkedArray) -> tuple[str, str] | None:
    """Return the least and the greatest value as literals; None for a type that has none here."""
    import pyarrow.compute as pc

    is_number = pa.types.is_signed_integer(column.type)
    if not len(column) or not (is_number or pa.types.is_date32(column.type)):
        return None
    try:
        least, most = pc.min_max(column).as_py().values()
    except (OverflowError, ValueError):  # a year that Python does not know
        return None
    if is_number:
        return (str(least), str(most)) if least > _LEAST else None
    return f"DATE '{least}'", f"DATE '{most}'"


def merge(
    table: DeltaTable,
    source: Source,
    run: Run,
    updated: Sequence[str],
    transactions: Sequence[tuple[str, int]],
) -> None:
    """Merge and commit; `updated` are the columns that rows of the table get anew."""
    reader = pa.RecordBatchReader.from_batches(source.schema, source.batches())
    conditions = [f"t.{_quoted(name)} = s.{_quoted(name)}" for name in run.key]
    for name, (least, most) in source.ends.items():  # by which files are left unread
        conditions.append(f"t.{_quoted(name)} BETWEEN {least} AND {most}")
    columns = [name for name in source.schema.names if name != STAGED or not source.is_changes]
    merger = table.merge(
        reader,
        " AND ".join(conditions),
        source_alias="s",
        target_alias="t",
        commit_properties=no_retries(transactions),
    )
    updates = {_quoted(name): f"s.{_quoted(name)}" for name in columns if name in updated}
    inserts = {_quoted(name): f"s.{_quoted(name)}" for name in columns}
    if source.is_changes:
        merger = merger.when_matched_delete(f"s.{_quoted(STAGED)} {DELETES}")
        merger = merger.when_matched_update(updates)
        merger = merger.when_not_matched_insert(inserts, f"NOT s.{_quoted(STAGED)} {DELETES}")
    else:
        merger = merger.when_matched_update(updates).when_not_matched_insert(inserts)
    merger.execute()


def _quoted(name: str) -> str:
    return "`" + name.replace("`", "``") + "`"
