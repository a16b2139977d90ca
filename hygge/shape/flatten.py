"""`flatten: 1`: the fields of an object become columns of their own, `a__b`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pyarrow as pa

from hygge.batches import plain, plain_schema
from hygge.errors import ConfigError
from hygge.shape.step import Reading

BETWEEN = "__"
"""Stands between the name of a column and that of its field."""


@dataclass(frozen=True)
class Flatten:
    """Spreads the objects of each batch, so many levels deep."""

    schema: pa.Schema
    levels: int

    def apply(self, table: pa.Table, reading: Reading) -> pa.Table:
        """Return the batch with one column for each field; the fields of a NULL object are NULL."""
        columns: list[pa.ChunkedArray] = list(plain(table).columns)
        for _ in range(self.levels):
            columns = [part for column in columns for part in _parts(column)]
        return pa.Table.from_arrays(columns, schema=self.schema)


def flatten(levels: int, schema: pa.Schema, renamed: Callable[[str], str], who: str) -> Flatten:
    """Return the step for rows of `schema`; `renamed` makes the names of fields.

    Raises ConfigError where two columns would have one name.
    """
    kinds = [field.type for field in plain_schema(schema)]
    fields = [field.with_type(kind) for field, kind in zip(schema, kinds, strict=True)]
    for _ in range(levels):
        fields = [part for field in fields for part in _spread(field, renamed)]
        names = [field.name for field in fields]
        double = next((name for name in names if names.count(name) > 1), None)
        if double is not None:
            raise ConfigError(
                f"{who}: two columns would be named '{double}', since `flatten` spreads objects",
                "give one of them another name, with `as` of `columns`, or leave it out",
            )
    return Flatten(pa.schema(fields, schema.metadata), levels)


def _is_object(kind: pa.DataType) -> bool:
    return bool(pa.types.is_struct(kind) and kind.num_fields)


def _spread(field: pa.Field, renamed: Callable[[str], str]) -> list[pa.Field]:
    """Return the fields that a field becomes; those of an object that may be NULL may be so."""
    kind = field.type
    if not _is_object(kind):
        return [field]
    parts = [kind.field(index) for index in range(kind.num_fields)]
    return [
        pa.field(
            f"{field.name}{BETWEEN}{renamed(part.name)}", part.type, field.nullable or part.nullable
        )
        for part in parts
    ]


def _parts(column: pa.ChunkedArray) -> list[pa.ChunkedArray]:
    return column.flatten() if _is_object(column.type) else [column]
