"""Ordered dictionaries of Parquet, which lie in its pages: each row group has all categories."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

import pyarrow as pa

from hygge import encodings
from hygge.errors import StoreError

if TYPE_CHECKING:
    import pyarrow.parquet as pq

_MOST_GROUPS = 64
"""Of a file with more row groups they are not looked for: one row of each is read."""


def orders_in(file: pq.ParquetFile) -> dict[str, bytes]:
    """Return the notes of the columns that are one and the same ordered dictionary everywhere."""
    groups = range(file.metadata.num_row_groups)
    names = [
        name
        for name in encodings.ordered_in(file.schema_arrow)
        if all(_has_categories(file.metadata.row_group(group), name) for group in groups)
    ]
    if not names or not 0 < len(groups) <= _MOST_GROUPS:
        return {}
    found: dict[str, set[bytes | None]] = {name: set() for name in names}
    for group in groups:
        for batch in file.iter_batches(batch_size=1, row_groups=[group], columns=names):
            for name in names:
                found[name].add(encodings.order_of(batch.column(name).dictionary))
            break
    notes = {name: notes.pop() for name, notes in found.items() if len(notes) == 1}
    return {name: note for name, note in notes.items() if note is not None}


def _has_categories(group: pq.RowGroupMetaData, name: str) -> bool:
    columns = (group.column(index) for index in range(group.num_columns))
    return any(each.path_in_schema == name and each.has_dictionary_page for each in columns)


class Orders:
    """The columns of a file that are written as ordered dictionaries."""

    def __init__(self, kinds: Mapping[str, pa.DataType], orders: Mapping[str, pa.Array]) -> None:
        self.kinds = {name: kind for name, kind in kinds.items() if name in orders}
        self._categories = {
            name: encodings.Categories(kind, orders[name]) for name, kind in self.kinds.items()
        }

    def names(self) -> Collection[str]:
        """Return the columns."""
        return self.kinds

    def in_schema(self, schema: pa.Schema) -> pa.Schema:
        """Return a schema with these columns in their types."""
        return encodings.encoded_schema(schema, self.kinds) if self.kinds else schema

    def encoded(self, table: pa.Table) -> pa.Table:
        """Return rows of plain values with these columns in their types.

        Raises StoreError for a value that is none of the categories.
        """
        for name, kind in self.kinds.items():
            column = table.column(name)
            encoded = self._categories[name].encoded(column, kind)
            if encoded.null_count > column.null_count:
                raise StoreError(
                    f"column '{name}' is an ordered dictionary, and holds a value that is none of "
                    "the categories with which its file begins",
                    f"keep it as text: `columns: [{{name: {name}, type: string}}, …]`",
                )
            field = table.schema.field(name).with_type(kind)
            table = table.set_column(table.schema.get_field_index(name), field, encoded)
        return table
