"""Changes in a lake: what a merge stages of `_op`, and of columns that the table never has NULL.

`_op` is staged under another name behind the columns of the table, which may have a column `_op` of
its own. A row that deletes may be NULL in each column, so none of those that are staged is NOT
NULL; the others are looked at one by one (`check_upserts`).
"""

from __future__ import annotations

from collections.abc import Callable

import pyarrow as pa

from hygge.changes import DELETE, OP, has_op, without_op
from hygge.connectors.sql.changes import STAGED

_NOT_NULL = b"hygge.not_null"
"""The metadata of a staged column that is NOT NULL in the table."""


def with_op(columns: pa.Schema, rows: pa.Schema | None) -> pa.Schema:
    """Return what is staged of rows: `columns`, those of the table, and the mark of changes."""
    if rows is None or not has_op(rows):
        return columns
    fields = [field if field.nullable else _relaxed(field) for field in columns]
    return pa.schema([*fields, rows.field(OP).with_name(STAGED)], columns.metadata)


def of_target(schema: pa.Schema | None) -> pa.Schema | None:
    """Return the columns that `with_op` got."""
    if schema is None or not has_op(schema):
        return schema
    kept = without_op(schema)
    return pa.schema([_restored(field) for field in kept], schema.metadata)


def renamed(batch: pa.Table) -> pa.Table:
    """Return rows with `_op` under the name that it has where it is staged."""
    if not has_op(batch.schema):
        return batch
    return batch.rename_columns([STAGED if name == OP else name for name in batch.column_names])


def check_upserts(table: pa.Table, check: Callable[[pa.ChunkedArray, str], None]) -> None:
    """Have `check` look for NULL in the columns that are NOT NULL, of rows that do not delete."""
    import pyarrow.compute as pc

    strict = [field.name for field in table.schema if _NOT_NULL in (field.metadata or {})]
    if any(table.column(name).null_count for name in strict):
        upserts = table.filter(pc.not_equal(table.column(STAGED), DELETE))
        for name in strict:
            check(upserts.column(name), name)


def _relaxed(field: pa.Field) -> pa.Field:
    return field.with_nullable(True).with_metadata({**(field.metadata or {}), _NOT_NULL: b"1"})


def _restored(field: pa.Field) -> pa.Field:
    metadata = dict(field.metadata or {})
    if metadata.pop(_NOT_NULL, None) is None:
        return field
    return field.with_nullable(False).with_metadata(metadata or None)
