"""Changes: rows that say what became of a row of the source, in a column `_op`.

A Home gives changes where its traits say so (`changes: true`). Each of its rows then has in `_op`
one of three texts:

insert, update
    The row is as its columns say from now on, all of them. Both are applied alike: the row of this
    key is updated, or added where there is none.
delete
    There is no row of this key any more. All columns but those of the key may be NULL.

The order of changes is that of the flow's cursor, and without one that of the splits of the plan,
and of the rows within a split. The last one of a key counts, and those before it are superseded.
So a Home without a cursor MUST give the changes of one key in their order.

A flow moves changes by `mode: merge`, into a Store whose traits say `changes`; anything else is
refused before a row moves. Such a Store finds `_op` marked in the schema of `prepare` and `stage`
(`has_op`), and MUST NOT make a column of the target of it. `Commit.applied` counts the rows that
were updated or added, and the keys that were deleted; `note_of` tells them apart. A column `_op`
that is not marked is a column like any other.
"""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from hygge.batches import plain, plain_schema
from hygge.errors import ConfigError, UnfitValue
from hygge.extension_types import OP as _MARK
from hygge.model import HomeTraits, Mode, StoreTraits
from hygge.type_words import value_text, word_of

OP = "_op"
"""The name of the column."""
DELETE = "delete"
OPS = ("insert", "update", DELETE)


def has_op(schema: pa.Schema | None) -> bool:
    """Return whether the rows of a schema are changes."""
    return schema is not None and any(_MARK in (field.metadata or {}) for field in schema)


def without_op(schema: pa.Schema) -> pa.Schema:
    """Return the columns that changes are about."""
    kept = [field for field in schema if _MARK not in (field.metadata or {})]
    return pa.schema(kept, schema.metadata)


def marked(schema: pa.Schema, who: str) -> pa.Schema:
    """Return the schema with `_op` marked, as Stores get it.

    Raises ConfigError where there is no such column, or where it is no text.
    """
    at = schema.get_field_index(OP)
    if at < 0:
        raise ConfigError(
            f"{who}: `changes: true` says that the rows are changes, and they have no column "
            f"'{OP}'",
            f"name the column that tells insert, update or delete so: columns: [{{name: …, as: "
            f"{OP}}}, …]; or take `changes` out",
        )
    (kind,) = plain_schema(pa.schema([schema.field(at)])).types
    if kind not in (pa.string(), pa.large_string()):
        raise ConfigError(
            f"{who}: '{OP}' is {word_of(kind)}, and must be a text: insert, update or delete",
            "make it one in a query of the home, or with `transform`",
        )
    return schema.set(at, pa.field(OP, pa.string(), nullable=False, metadata={_MARK: b"1"}))


def checked(
    table: pa.Table, schema: pa.Schema, key: Sequence[str], cursor: str | None, who: str
) -> pa.Table:
    """Return a batch with the schema that `marked` gave.

    Raises UnfitValue for the first row whose `_op` is no word for a change, or whose key or cursor
    is NULL.
    """
    import pyarrow.compute as pc

    at = table.column_names.index(OP)
    ops = plain(table.select([at])).column(0).cast(pa.string())
    wrong = pc.invert(pc.is_in(ops, value_set=pa.array(OPS)))
    if pc.any(wrong).as_py():
        row = pc.index(wrong, True).as_py()
        raise UnfitValue(
            f"{who}: '{OP}' is {_value(ops[row])} in {_row_text(table, row, key)}, and must be "
            "insert, update or delete",
            "write one of the three, in a query of the home or with `transform`; or set such rows "
            "aside with `on_bad_row: set_aside`",
        ).at(OP)
    for name in (*key, *([] if cursor is None else [cursor])):
        is_null = pc.is_null(table.column(name))
        if pc.any(is_null).as_py():
            row = pc.index(is_null, True).as_py()
            what = "cursor" if name == cursor else "key"
            raise UnfitValue(
                f"{who}: the {what} '{name}' is NULL in {_row_text(table, row, key)}, so nobody "
                "can tell " + ("when it changed" if name == cursor else "which row it changes"),
                "fill it in at the source, leave such rows out with `where`, or set them aside "
                "with `on_bad_row: set_aside`",
            ).at(name)
    arrays = [ops if number == at else column for number, column in enumerate(table.columns)]
    return pa.Table.from_arrays(arrays, schema=schema)


def refused(
    home: HomeTraits, store: StoreTraits, store_name: str, mode: Mode
) -> tuple[str, str] | None:
    """Return what is wrong with a flow between two ends, and the remedy; None: nothing."""
    if not home.changes:
        return None
    otherwise = "or take `changes` out, and `_op` is a column like any other"
    if not store.changes:
        return (
            f"the home gives changes (`_op`), which {store_name} cannot apply",
            f"write them to a database or a lake, by `mode: merge`; {otherwise}",
        )
    if mode != "merge":
        return (
            f"the home gives changes (`_op`), which `mode: {mode}` cannot apply",
            f"use `mode: merge` with a `key`; {otherwise}",
        )
    return None


def upserts(batch: pa.Table) -> pa.Table:
    """Return a batch without the rows that delete one, where it has changes."""
    import pyarrow.compute as pc

    if not has_op(batch.schema):
        return batch
    return batch.filter(pc.not_equal(batch.column(OP), DELETE))


def places_of_upserts(batch: pa.Table) -> Sequence[int]:
    """Return the places of the rows that `upserts` returns."""
    if not has_op(batch.schema):
        return range(batch.num_rows)
    return [at for at, op in enumerate(batch.column(OP).to_pylist()) if op != DELETE]


def note_of(upserted: int, deleted: int) -> str:
    """Return what a commit of changes says of the rows that it applied."""
    return f"changes: {upserted:,} inserted or updated, {deleted:,} deleted"


def _row_text(table: pa.Table, row: int, key: Sequence[str]) -> str:
    """Return a row for people: by its key, and its first other columns."""
    named = ", ".join(f"{name} {_value(table.column(name)[row])}" for name in key)
    others = [name for name in table.column_names if name not in (*key, OP)][:3]
    more = ", ".join(f"{name} {_value(table.column(name)[row])}" for name in others)
    return f"the row of the key {named}" + (f" ({more})" if more else "")


def _value(value: pa.Scalar) -> str:
    return value_text(value) if value.is_valid else "NULL"
