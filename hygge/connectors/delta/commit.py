"""The entry of the log that shows a run: made on top of the version that was loaded, or not at all.

    no table    one entry makes it, with rows and head; for a merge an empty one is made first
    replace     one entry takes all files out and the new ones in, with other columns where they are
    append      one entry takes the new files in
    merge       the library's own (`hygge/connectors/delta/merge.py`)

Columns that are added, and NOT NULL that is dropped, are an entry of their own before it: a run
that dies between the two leaves the columns, and the next run finds them.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from hygge.connectors.delta import heads, merge
from hygge.connectors.delta.fit import Fitted, held_schema
from hygge.connectors.delta.library import no_retries, options
from hygge.connectors.delta.parts import Part
from hygge.connectors.delta.table_files import Disk, Objects
from hygge.connectors.delta.types import needs_ntz
from hygge.model import Head, Run
from hygge.places.access import Access

if TYPE_CHECKING:
    from deltalake import DeltaTable


@dataclass(frozen=True)
class Goal:
    """What is committed, and where."""

    url: str
    access: Access | None
    files: Disk | Objects
    run: Run
    head: Head
    number: int
    """Of the commit, among those of the flow."""
    parts: Mapping[str, Part]
    source: merge.Source | None = None
    """The rows of a merge."""
    came: Sequence[str] = ()
    """The columns of the rows; the table may have more."""


def create(goal: Goal, schema: pa.Schema, partition_by: Sequence[str], is_empty: bool) -> None:
    """Make the table: with rows and head, or empty and without a head, for a merge."""
    from deltalake import Schema
    from deltalake.transaction import create_table_with_add_actions

    moves = [] if is_empty else _announced(goal)
    create_table_with_add_actions(
        goal.url,
        Schema.from_arrow(schema),
        [] if is_empty else _adds(goal),
        mode="error",
        partition_by=list(partition_by),
        storage_options=options(goal.url, goal.access),
        commit_properties=no_retries([*moves, (heads.MADE, 1)]),
    )
    goal.files.committed(0)


def alter(table: DeltaTable, fitted: Fitted, replaces: bool) -> bool:
    """Change the columns of the table as the run needs it; return whether anything was changed."""
    from deltalake import Schema, TableFeatures

    assert fitted.schema is not None
    if needs_ntz(fitted.schema) and "timestampNtz" not in (table.protocol().writer_features or ()):
        table.alter.add_feature(
            TableFeatures.TimestampWithoutTimezone,
            allow_protocol_versions_increase=True,
            commit_properties=no_retries(),
        )
        return True
    if replaces or fitted.followed is None:
        return False
    held = held_schema(table)
    for field in fitted.schema:
        index = held.get_field_index(field.name)
        if index >= 0 and field.nullable and not held.field(index).nullable:
            table.alter.drop_column_not_null(field.name, commit_properties=no_retries())
            return True
    added = [field for field in fitted.schema if field.name not in held.names]
    if added:
        fields = Schema.from_arrow(pa.schema(added)).fields
        table.alter.add_columns(fields, commit_properties=no_retries())
    return bool(added)


def commit(goal: Goal, table: DeltaTable, fitted: Fitted) -> None:
    """Show the run on top of the version of `table`."""
    from deltalake import Schema

    base, moves = table.version(), _announced(goal)
    if goal.source is not None:
        merge.merge(table, goal.source, goal.run, goal.came, moves)
        if table.version() > base:
            goal.files.committed(table.version())
            return  # else nothing was changed, and the head is still to be moved
    mode, schema = "append", table.schema()
    if goal.run.mode == "replace":
        mode = "overwrite"
        moves += heads.without_others(goal.files, table, goal.run.flow)
        if fitted.schema is not None:
            schema = Schema.from_arrow(fitted.schema)
    table.create_write_transaction(
        _adds(goal) if goal.source is None else [],
        mode,
        schema,
        partition_by=list(fitted.partition_by),
        commit_properties=no_retries(moves),
    )
    goal.files.committed(base + 1)


def _announced(goal: Goal) -> list[tuple[str, int]]:
    """Write the file of the head, which comes before its entry; return how that moves the head."""
    parts = goal.parts if goal.source is None else ()
    heads.write(goal.files, goal.head, goal.number, list(parts))
    return heads.transactions(goal.run.flow, goal.number, goal.run.id)


def _adds(goal: Goal) -> list[Any]:
    from deltalake.transaction import AddAction

    now_ms = int(time.time() * 1000)
    return [
        AddAction(key, part.size, part.partition, now_ms, True, part.statistics)
        for key, part in goal.parts.items()
    ]
