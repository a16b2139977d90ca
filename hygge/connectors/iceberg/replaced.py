"""What a replace says of rows that others wrote: they go, and an older snapshot still has them."""

from __future__ import annotations

from typing import Any

from hygge.model import Head

RUN = "hygge.run"
"""The property of a snapshot that names the run which made it."""
_BRINGS_ROWS = ("append", "overwrite")
"""Operations of a snapshot; a compaction is `replace`."""


def rows_of_others(table: Any, base: Head | None) -> str:
    """Return a sentence about rows that came after the run of `base`; "" where none are known."""
    newest = snapshot = table.current_snapshot()
    rows = 0
    while snapshot is not None:
        summary = snapshot.summary
        if base is not None and summary and summary.get(RUN) == base.run:
            break
        if summary and summary.operation.value in _BRINGS_ROWS:
            rows += int(summary.get("added-records") or 0)
        if snapshot.parent_snapshot_id is None and base is not None:
            return ""  # the table was rolled back to before that run
        snapshot = table.snapshot_by_id(snapshot.parent_snapshot_id or 0)
    if not rows:
        return ""
    since = "" if base is None else " since the last run"
    return (
        f"{rows:,} row{'s'[: rows != 1]} that others wrote there{since} went, too: snapshot "
        f"{newest.snapshot_id} still has them"
    )
