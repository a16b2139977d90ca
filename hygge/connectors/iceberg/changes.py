"""What has changed between two snapshots, as rows of changes: `_op` says delete or insert.

Files that the older snapshot has and the newer one has not give their rows as deletes, files that
came give theirs as inserts; all deletes come first. So the last row of a key is how the newer
snapshot has it, whatever was done in between: appends, rows that were deleted or written anew, a
compaction, which deletes and inserts the same rows, and a table that was rolled back. A file of
which other rows are deleted than before goes and comes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import pyarrow as pa

from hygge.changes import OP
from hygge.errors import HomeError, SourceMissing
from hygge.extension_types import OP as _MARK
from hygge.model import Column, Split, Watermark

COLUMN = Column(OP, pa.string(), nullable=False, metadata={_MARK: b"1"})


def check(where: str, columns: Sequence[Column]) -> None:
    """Raise HomeError for a table that has the column which tells changes."""
    if any(column.name == OP for column in columns):
        raise HomeError(
            f"{where} has a column '{OP}', which is what tells its changes",
            "leave it out with `columns`",
        )


def snapshot_of(table: Any, since: Watermark, where: str) -> Any:
    """Return the snapshot that the last run has read; SourceMissing where it has expired."""
    found = table.snapshot_by_id(int(since or 0))
    if found is None:
        raise SourceMissing(
            f"{where}: snapshot {since}, up to which the flow has read, has expired, or the table "
            "was made anew: nobody knows what has changed since",
            "keep snapshots for longer than it is from run to run; now give the flow another name "
            "and another store, which begin anew",
        )
    return found


def differing(before: Sequence[Any], now: Sequence[Any]) -> tuple[list[Any], list[Any]]:
    """Return the files of a plan that the other one lacks: those that went, those that came."""
    old, new = _by_rows(before), _by_rows(now)
    gone = [task for rows, task in old.items() if rows not in new]
    return gone, [task for rows, task in new.items() if rows not in old]


def _by_rows(tasks: Sequence[Any]) -> dict[Any, Any]:
    """Return files by what tells which rows they have: their paths, and what deletes some."""
    return {
        (
            task.file.file_path,
            frozenset(
                (each.file_path, getattr(each, "content_offset", None))
                for each in task.delete_files
            ),
        ): task
        for task in tasks
    }


def in_order(gone: Iterable[Split], came: Iterable[Split]) -> tuple[Split, ...]:
    """Return the splits of what went, then of what came; one without files where nothing did."""
    splits = [*gone, *came]
    full = [split for split in splits if split.where["files"]]
    return tuple(replace(split, index=index) for index, split in enumerate(full or splits[-1:]))


def with_op(table: pa.Table, op: str) -> pa.Table:
    """Return rows with what became of all of them."""
    field = pa.field(OP, pa.string(), nullable=False, metadata={_MARK: b"1"})
    return table.append_column(field, pa.repeat(op, table.num_rows))
