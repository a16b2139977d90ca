"""Changes in a database: what a merge stages of `_op`, and what it does with it in the commit.

`_op` is staged under a name that no column of a user can have, so that the target may have a
column `_op` of its own. A merge first keeps the last change of each key; then it deletes the rows
of keys whose last change is `delete`, and merges the others as ever.
"""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa

from hygge.changes import DELETE, OP, has_op
from hygge.errors import Rejected, rows_text
from hygge.model import Run

STAGED = "_hygge_op"
"""The name of `_op` in the tables that hold staged rows."""
DELETES = f"= '{DELETE}'"
"""SQL behind the name of that column: the change deletes a row."""


def staged(schema: pa.Schema | None) -> pa.Schema | None:
    """Return the columns that are staged; the same where the rows are no changes."""
    if schema is None or not has_op(schema):
        return schema
    at = schema.get_field_index(OP)
    return schema.set(at, pa.field(STAGED, pa.string(), nullable=False))


def staged_batches(batches: Iterator[pa.Table], schema: pa.Schema | None) -> Iterator[pa.Table]:
    """Yield the batches with the columns that are staged; `schema` is what they were said to be."""
    for batch in batches:
        if has_op(batch.schema if schema is None else schema):
            batch = batch.rename_columns(
                [STAGED if name == OP else name for name in batch.column_names]
            )
        yield batch
        del batch


def with_op_last(batch: pa.Table) -> pa.Table:
    """Return a staged batch with the column that tells changes behind the others."""
    if not are_changes(batch.schema):
        return batch
    return batch.select([*(name for name in batch.column_names if name != STAGED), STAGED])


def are_changes(schema: pa.Schema | None) -> bool:
    """Return whether staged rows of this schema are changes."""
    return schema is not None and STAGED in schema.names


def of_target(schema: pa.Schema | None) -> pa.Schema | None:
    """Return the columns of staged rows that the target has; None where they are not known."""
    if schema is None or not are_changes(schema):
        return schema
    return schema.remove(schema.get_field_index(STAGED))


def check_order(rows: int, distinct: int, run: Run, who: str) -> None:
    """Raise Rejected if two changes of one key have the same cursor.

    `distinct` is the number of keys with their cursors.
    """
    if rows != distinct:
        raise Rejected(
            f"{who}: of {rows_text(rows - distinct)} nobody can tell which change of a key is the "
            f"last one: their cursor ({run.cursor}) is that of another change of the key "
            f"({', '.join(run.key)})",
            "take a cursor that is another one in each change, such as a sequence",
        )
