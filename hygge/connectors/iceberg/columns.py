"""The columns that a table has after a run: by the mode, and by `schema` of the flow.

A column keeps its id for as long as its type is the same or a wider one, so files that are there
stay readable. What changes becomes part of the commit of the rows.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from hygge.connectors.files import heads
from hygge.connectors.files.evolving import followed
from hygge.connectors.iceberg.types import arrow_schema, arrow_type, iceberg_type, mapped
from hygge.connectors.sql.evolving import is_wider
from hygge.errors import StoreError
from hygge.formats.format import Format
from hygge.model import Contract, Mode


@dataclass(frozen=True)
class Columns:
    """The columns of a table after a run."""

    schema: Any
    """As Iceberg has them, with their ids."""
    changes: tuple[str, ...] = ()
    """A sentence for each change that `schema: evolve` makes."""

    @property
    def arrow(self) -> pa.Schema:
        """The same as Arrow, with the ids in the metadata."""
        return arrow_schema(self.schema)


class _Rules(Format):
    """A table takes a wider type without writing its files anew, and knows columns by ids."""

    takes_wider = True


def columns_after(
    where: str, table: Any | None, rows: pa.Schema, mode: Mode, contract: Contract | None
) -> Columns:
    """Return the columns of `table` (None: it is made) after a run with rows of `rows`.

    Raises StoreError for columns that do not go with the table, UnfitValue for a type that Iceberg
    does not have.
    """
    new = mapped(rows)
    _check_names(where, new)
    if table is None:
        return Columns(_with_ids(None, new, 0))
    held = pa.schema([field.remove_metadata() for field in arrow_schema(table.schema())])
    if contract == "evolve":
        # As a replace: whatever the mode, no file that is there is written anew.
        result = followed(where, held, new, _Rules(), None, replaces=True)
        if mode == "merge":
            _refuse_lacking(where, held, new)
        changes = tuple(c for c in result.changes if " any more" not in c or mode != "replace")
        return Columns(_with_ids(table, result.schema, table.metadata.last_column_id), changes)
    if contract == "freeze" or mode != "replace":
        if set(held.names) == set(new.names):
            new = pa.schema([new.field(name) for name in held.names])
        heads.check_same(where, held, new, mode)
        return Columns(table.schema())
    return Columns(_with_ids(table, new, table.metadata.last_column_id))


def _check_names(where: str, columns: pa.Schema) -> None:
    """Raise StoreError where a column is named as a field of another one: Iceberg has one `a.b`."""
    met: set[str] = set()
    for name in itertools.chain.from_iterable(_full_names(field, field.name) for field in columns):
        if name in met:
            raise StoreError(
                f"{where}: '{name}' is a column, and a field of the column "
                f"'{name.partition('.')[0]}', which Iceberg does not tell apart",
                "give the column another name, with `as` of `columns`",
            )
        met.add(name)


def _full_names(field: pa.Field, name: str) -> Iterator[str]:
    yield name
    for index in range(field.type.num_fields):
        inner = field.type.field(index)
        yield from _full_names(inner, f"{name}.{inner.name}")


def alike(columns: pa.Schema) -> list[str]:
    """Return a sentence for each column whose name is that of another one but for its case."""
    met: dict[str, str] = {}
    return [
        f"columns '{met[name.lower()]}' and '{name}' differ in case only: engines that ignore case "
        "(Spark, Trino) cannot tell them apart"
        for name in columns.names
        if met.setdefault(name.lower(), name) != name
    ]


def _refuse_lacking(where: str, held: pa.Schema, new: pa.Schema) -> None:
    lacking = [name for name in held.names if name not in new.names]
    if lacking:
        raise StoreError(
            f"{where}: the rows lack column '{lacking[0]}', and a merge writes whole rows: its "
            "values would be lost",
            "give the rows that column, or drop it from the table",
        )


def _with_ids(table: Any | None, columns: pa.Schema, last: int) -> Any:
    """Return `columns` as Iceberg has them: a column of the table keeps its id."""
    from pyiceberg.schema import Schema, assign_fresh_schema_ids
    from pyiceberg.types import NestedField

    def fresh(field: pa.Field) -> Any:
        kind = iceberg_type(field.type, field.name)
        return NestedField(-1, field.name, kind, required=not field.nullable)

    if table is None:
        return assign_fresh_schema_ids(Schema(*map(fresh, columns)))
    held = {field.name: field for field in table.schema().fields}
    counter = itertools.count(last + 1)
    fields = []
    for field in columns:
        old = held.get(field.name)
        kept = old and _kept_type(old.field_type, field.type, field.name)
        if old is None or kept is None:
            (one,) = assign_fresh_schema_ids(Schema(fresh(field)), lambda: next(counter)).fields
            fields.append(one)
        else:
            required = old.required and not field.nullable
            fields.append(old.model_copy(update={"field_type": kept, "required": required}))
    if fields == list(table.schema().fields):
        return table.schema()
    _check_partitions(table, [field.field_id for field in fields])
    ids = [field.field_id for field in fields]
    keys = table.schema().identifier_field_ids
    kept_keys = list(keys) if set(keys) <= set(ids) else []
    number = max(schema.schema_id for schema in table.metadata.schemas) + 1
    return Schema(*fields, schema_id=number, identifier_field_ids=kept_keys)


def _kept_type(held: Any, kind: pa.DataType, column: str) -> Any | None:
    """Return the type that a column with its id has for rows of `kind`; None: it needs a new id."""
    before = arrow_type(held)
    if before == kind:
        return held
    return iceberg_type(kind, column) if is_wider(before, kind) else None


def _check_partitions(table: Any, ids: Collection[int]) -> None:
    for part in table.spec().fields:
        if part.source_id not in ids:
            name = table.schema().find_column_name(part.source_id)
            raise StoreError(
                f"column '{name}' partitions the table {'.'.join(table.name())}, and the rows lack "
                "it, or have it in another type",
                "give the rows that column, or drop the table and run again",
            )
