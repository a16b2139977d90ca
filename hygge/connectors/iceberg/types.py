"""Types of Arrow as those of Iceberg's format 2, and back; what that format cannot hold is refused.

    int8 int16 int32 uint8 uint16    int               uint32 int64    long
    uint64                           decimal(20,0)     float16         float
    timestamp of s, ms, us           timestamp         its zone: UTC, or none
    time of s, ms, us                time              lists, structs, maps    likewise
    uuid, JSON                       string            lists of a fixed size   list

A nanosecond that is no whole microsecond, a duration, a zone other than UTC and a decimal of more
than 38 digits have no type there.
"""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from hygge.batches import with_dictionaries
from hygge.errors import UnfitValue
from hygge.extension_types import marked_schema
from hygge.formats.exact_text import extension_as_text, has_text
from hygge.type_words import type_hint, word_of, words_of

FIELD_ID = b"PARQUET:field_id"
"""The key, in the metadata of a field, of the number by which Iceberg knows a column of a file."""
LOSSY = (
    "timestamp[ns",
    "time64[ns]",
    "duration",
    "decimal256",
    "timestamp[us, tz=Europe/Berlin]",
    "timestamp[us, tz=+02:00]",
)
"""Arrow types that are refused."""
_UTC = ("UTC", "+00:00", "Etc/UTC", "Z")
_NO_ID = -1


def iceberg_type(kind: pa.DataType, column: str) -> Any:
    """Return Iceberg's type for one of Arrow, without ids; raise UnfitValue where it has none."""
    from pyiceberg import types as ice

    t = pa.types
    if t.is_dictionary(kind):
        return iceberg_type(kind.value_type, column)
    if t.is_boolean(kind):
        return ice.BooleanType()
    if t.is_integer(kind):
        if kind == pa.uint64():
            return ice.DecimalType(20, 0)
        bits = kind.bit_width + (0 if t.is_signed_integer(kind) else 1)
        return ice.IntegerType() if bits <= 32 else ice.LongType()
    if t.is_floating(kind):
        return ice.DoubleType() if t.is_float64(kind) else ice.FloatType()
    if t.is_decimal(kind) and kind.precision <= 38 and 0 <= kind.scale <= kind.precision:
        return ice.DecimalType(kind.precision, kind.scale)
    if t.is_string(kind) or t.is_large_string(kind) or t.is_string_view(kind):
        return ice.StringType()
    if t.is_binary(kind) or t.is_large_binary(kind) or t.is_binary_view(kind):
        return ice.BinaryType()
    if t.is_fixed_size_binary(kind):
        return ice.FixedType(kind.byte_width)
    if t.is_date(kind):
        return ice.DateType()
    if t.is_time(kind):
        return ice.TimeType()
    if t.is_timestamp(kind) and (kind.tz is None or kind.tz in _UTC):
        return ice.TimestampType() if kind.tz is None else ice.TimestamptzType()
    if t.is_list(kind) or t.is_large_list(kind) or t.is_fixed_size_list(kind):
        inner = kind.value_field
        element = iceberg_type(inner.type, column)
        return ice.ListType(_NO_ID, element, element_required=not inner.nullable)
    if t.is_struct(kind) and kind.num_fields:
        return ice.StructType(*(_field(kind.field(i), column) for i in range(kind.num_fields)))
    if t.is_map(kind):
        key, item = iceberg_type(kind.key_type, column), iceberg_type(kind.item_type, column)
        return ice.MapType(_NO_ID, key, _NO_ID, item, value_required=not kind.item_field.nullable)
    raise _unfit(column, kind)


def _unfit(column: str, kind: pa.DataType) -> UnfitValue:
    said = f"column '{column}' is {word_of(kind)}, which Iceberg cannot hold"
    return UnfitValue(said, type_hint(column, kind)).at(column)


def _field(field: pa.Field, column: str) -> Any:
    from pyiceberg.types import NestedField

    kind = iceberg_type(field.type, column)
    return NestedField(_NO_ID, field.name, kind, required=not field.nullable)


def mapped(schema: pa.Schema) -> pa.Schema:
    """Return the columns of rows as an Iceberg table gives them back; raise UnfitValue."""

    def kept(field: pa.Field) -> pa.DataType:
        if has_text(field.type):
            return pa.string()
        try:
            return arrow_type(iceberg_type(field.type, field.name))
        except UnfitValue as error:  # which is about the type within
            if not pa.types.is_nested(field.type):
                raise
            raise _unfit(field.name, field.type) from error

    return pa.schema([field.with_type(kept(field)).remove_metadata() for field in schema])


def kept_otherwise(schema: pa.Schema) -> list[str]:
    """Return a sentence for each column that Iceberg keeps as another type than it has."""
    remarks = []
    for field, kept in zip(schema, mapped(schema), strict=True):
        was, now = words_of(field.type, kept.type)
        if was != now:
            remarks.append(f"column '{field.name}' ({was}) is kept as {now}")
    return remarks


def arrow_type(kind: Any) -> pa.DataType:
    """Return the Arrow type of one of Iceberg, without ids."""
    from pyiceberg.io.pyarrow import schema_to_pyarrow

    return _small(schema_to_pyarrow(kind, include_field_ids=False))


def arrow_schema(schema: Any) -> pa.Schema:
    """Return the columns of an Iceberg schema, each with its id in the metadata."""
    from pyiceberg.io.pyarrow import schema_to_pyarrow

    fields = [field.with_type(_small(field.type)) for field in schema_to_pyarrow(schema)]
    return marked_schema(pa.schema(fields))


def _small(kind: pa.DataType) -> pa.DataType:
    """Return a type with plain strings, binaries and lists for large ones, at any depth."""
    t = pa.types
    if t.is_large_string(kind):
        return pa.string()
    if t.is_large_binary(kind):
        return pa.binary()
    if t.is_list(kind) or t.is_large_list(kind):
        return pa.list_(_small_field(kind.value_field))
    if t.is_struct(kind):
        return pa.struct([_small_field(kind.field(i)) for i in range(kind.num_fields)])
    if t.is_map(kind):
        return pa.map_(_small_field(kind.key_field), _small_field(kind.item_field))
    return kind


def _small_field(field: pa.Field) -> pa.Field:
    return field.with_type(_small(field.type))


def id_of(field: pa.Field) -> int | None:
    """Return the id of a column of a file; None where it has none."""
    text = (field.metadata or {}).get(FIELD_ID)
    return None if text is None else int(text)


def ids_of(schema: pa.Schema) -> dict[str, int]:
    """Return the ids of columns and of all that is nested in them, by their paths."""
    found: dict[str, int] = {}

    def look(path: str, field: pa.Field) -> None:
        number = id_of(field)
        if number is not None:
            found[path] = number
        t = pa.types
        if t.is_map(field.type):
            look(f"{path}.key", field.type.key_field)
            look(f"{path}.value", field.type.item_field)
        elif t.is_list(field.type) or t.is_large_list(field.type):
            look(f"{path}.element", field.type.value_field)
        elif t.is_struct(field.type):
            for index in range(field.type.num_fields):
                look(f"{path}.{field.type.field(index).name}", field.type.field(index))

    for field in schema:
        look(field.name, field)
    return found


def cast(table: pa.Table, schema: pa.Schema, who: str) -> pa.Table:
    """Return rows with the columns of a file, NULL where they lack one; dictionaries stay so.

    Raises UnfitValue, with the column, for a value that its type does not hold.
    """
    arrays = []
    schema = with_dictionaries(schema, table)
    for field in schema:
        index = table.schema.get_field_index(field.name)
        array = pa.nulls(table.num_rows, field.type) if index < 0 else table.column(index)
        if array.type != field.type:
            if has_text(array.type):
                array = extension_as_text(array)
            try:
                array = array.cast(field.type)
            except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
                reason = str(error).split("\n")[0]
                raise UnfitValue(
                    f"{who}: column '{field.name}' is {word_of(array.type)}, and a value of it "
                    f"does not fit {word_of(field.type)}: {reason}",
                    "state another type for it under `columns`, or leave the column out",
                ).at(field.name) from error
        if not field.nullable:
            check_not_null(array, field.name, who)
        arrays.append(array)
    return pa.Table.from_arrays(arrays, schema=schema)


def check_not_null(column: pa.ChunkedArray, name: str, who: str) -> None:
    """Raise UnfitValue where a column that is never NULL in the table is so."""
    if column.null_count:
        raise UnfitValue(
            f"{who}: column '{name}' has no NULLs in the table, and the rows have "
            f"{column.null_count}",
            "fill them, or let `schema: evolve` allow NULL in the table",
        ).at(name)
