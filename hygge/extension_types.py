"""Marks in the metadata of fields: Arrow extension types as their storage, and texts of JSON."""

from __future__ import annotations

import pyarrow as pa

JSON = b"hygge.json"
"""The key that says of a column that its texts are JSON, made of nested values."""
OP = b"hygge.op"
"""The key that says of a column that it tells what became of each row: see `hygge/changes.py`."""
_EXTENSION_NAME, _EXTENSION_PARAMETERS = b"ARROW:extension:name", b"ARROW:extension:metadata"


def extension_of(field: pa.Field) -> tuple[bytes, bytes] | None:
    """Return name and parameters of the extension type that a field is marked as, or None."""
    metadata = field.metadata or {}
    name = metadata.get(_EXTENSION_NAME)
    return None if name is None else (name, metadata.get(_EXTENSION_PARAMETERS, b""))


def as_marked(table: pa.Table) -> pa.Table:
    """Return `table` with columns of extension types of Python as their storage, marked as such.

    Whether Arrow knows such a type depends on what a process has imported; the mark does not.
    """
    if not any(isinstance(kind, pa.ExtensionType) for kind in table.schema.types):
        return table
    columns = [
        pa.chunked_array([chunk.storage for chunk in column.chunks], column.type.storage_type)
        if isinstance(column.type, pa.ExtensionType)
        else column
        for column in table.columns
    ]
    return pa.Table.from_arrays(columns, schema=marked_schema(table.schema))


def marked_schema(schema: pa.Schema) -> pa.Schema:
    """Return the schema that `as_marked` gives."""
    return pa.schema([_marked(field) for field in schema], metadata=schema.metadata)


def _marked(field: pa.Field) -> pa.Field:
    if not isinstance(field.type, pa.ExtensionType):
        return field
    mark = {
        _EXTENSION_NAME: field.type.extension_name.encode(),
        _EXTENSION_PARAMETERS: field.type.__arrow_ext_serialize__(),
    }
    return field.with_type(field.type.storage_type).with_metadata(
        {**(field.metadata or {}), **mark}
    )


def bare(schema: pa.Schema) -> pa.Schema:
    """Return a schema without the metadata of itself and of its columns, but for hygge's marks."""
    return pa.schema([field.with_metadata(_own_marks(field)) for field in schema])


def _own_marks(field: pa.Field) -> dict[bytes, bytes] | None:
    metadata = field.metadata or {}
    return {mark: metadata[mark] for mark in (JSON, OP) if mark in metadata} or None


def is_json(field: pa.Field) -> bool:
    """Return whether the texts of a column are JSON, made of nested values."""
    return JSON in (field.metadata or {})
