"""Batches are `pyarrow.Table`s, and keep to one schema.

Nothing here changes a value. A cast is made only where the target type holds every value of the
source type (`int32` → `int64`, dictionary → its values); everything else is an error with a hint.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa

from hygge.errors import HomeError, UnfitValue
from hygge.type_words import words_of

RAW_FORMAT, RAW_ABOUT, _RAW_ROWS = b"hygge.format", b"hygge.about", b"hygge.rows"
_KEY, _NOTES, _REACHED = b"hygge.key", b"hygge.notes", b"hygge.reached"


DICTIONARY = pa.dictionary(pa.int32(), pa.string())
"""The type of a column of text that `Home.gives_dictionaries` allows to be one."""


def with_key(schema: pa.Schema | None, key: Sequence[str]) -> pa.Schema | None:
    """Return `schema` with the source's primary key in its metadata, for `Store.prepare`."""
    if schema is None or not key:
        return schema
    return schema.with_metadata({**(schema.metadata or {}), _KEY: json.dumps(list(key)).encode()})


def key_of(schema: pa.Schema | None) -> tuple[str, ...]:
    """Return the key that `with_key` put into a schema; empty where there is none."""
    key = _metadata(schema, _KEY)
    return () if key is None else tuple(json.loads(key))


def with_notes(schema: pa.Schema, notes: Sequence[str]) -> pa.Schema:
    """Return `schema` with what a Store says of columns that become others, for `notes_of`."""
    if not notes:
        return schema
    return schema.with_metadata({**(schema.metadata or {}), _NOTES: json.dumps(notes).encode()})


def notes_of(schema: pa.Schema | None) -> list[str]:
    """Return the sentences that `with_notes` put into a schema; none where there are none."""
    notes = _metadata(schema, _NOTES)
    return [] if notes is None else list(json.loads(notes))


def _metadata(schema: pa.Schema | None, name: bytes) -> bytes | None:
    if schema is None:
        return None
    value: bytes | None = (schema.metadata or {}).get(name)
    return value


def again(first: pa.Table, rest: Iterator[pa.Table]) -> Iterator[pa.Table]:
    """Yield `first`, which was taken out to look at it, and then the rest of the batches."""
    yield first
    del first
    yield from rest


def raw_schema(form: str, about: str) -> pa.Schema:
    """Return the schema of passthrough: bytes of a format `form` that both ends know.

    `about` is the format's own JSON about them. A batch of it is a `raw_table`: one row, whose one
    value holds any number of the source's rows; `rows_in` tells how many.
    """
    metadata = {RAW_FORMAT: form.encode(), RAW_ABOUT: about.encode()}
    return pa.schema([pa.field("raw", pa.large_binary(), nullable=False)], metadata=metadata)


def raw_table(
    schema: pa.Schema, chunk: pa.Buffer | bytes | bytearray | memoryview, rows: int
) -> pa.Table:
    """Return one batch of passthrough: `chunk`, not copied, holds `rows` rows of the source."""
    data = chunk if isinstance(chunk, pa.Buffer) else pa.py_buffer(chunk)
    ends = pa.py_buffer(struct.pack("=qq", 0, data.size))  # pa.array would import pandas for it
    array = pa.Array.from_buffers(pa.large_binary(), 1, [None, ends, data])
    counted = {**(schema.metadata or {}), _RAW_ROWS: str(rows).encode()}
    return pa.Table.from_arrays([array], schema=schema.with_metadata(counted))


def raw_format(schema: pa.Schema | None) -> str | None:
    """Return the format of a passthrough schema, or None for a schema of columns."""
    form = _metadata(schema, RAW_FORMAT)
    return None if form is None else form.decode()


def rows_in(table: pa.Table) -> int:
    """Return the number of the source's rows in a batch, passthrough or not."""
    rows = _metadata(table.schema, _RAW_ROWS)
    return table.num_rows if rows is None else int(rows)


def reached_table(schema: pa.Schema, facts: Mapping[str, Any]) -> pa.Table:
    """Return a table without rows that ends a split: it says what its reading has reached.

    `facts` are JSON: `watermark`, the highest value of the cursor in the transaction that read the
    rows, which takes the place of the plan's. No Store sees the table; its receipt has the facts.
    """
    metadata = {**(schema.metadata or {}), _REACHED: json.dumps(dict(facts)).encode()}
    return schema.with_metadata(metadata).empty_table()


def reached_of(table: pa.Table) -> dict[str, Any] | None:
    """Return the facts of a `reached_table`; None for any other table."""
    facts = _metadata(table.schema, _REACHED)
    return None if facts is None else dict(json.loads(facts))


def serialized(schema: pa.Schema) -> bytes:
    """Return a schema as Arrow IPC writes it, without the key that `with_key` put into it."""
    metadata = {name: text for name, text in (schema.metadata or {}).items() if name != _KEY}
    content: bytes = schema.with_metadata(metadata or None).serialize().to_pybytes()
    return content


def plain(table: pa.Table) -> pa.Table:
    """Return `table` with dictionaries, run-end encoding and views made plain, at any depth."""
    schema = pa.schema([field.with_type(_plain_type(field.type)) for field in table.schema])
    if schema.equals(table.schema):
        return table
    columns = []
    for column, field in zip(table.columns, schema, strict=True):
        if column.type != field.type:
            column = pa.chunked_array(map(_plain_array, column.chunks), field.type)
        columns.append(column)
    return pa.Table.from_arrays(columns, schema=schema)


def plain_schema(schema: pa.Schema) -> pa.Schema:
    """Return the schema that `plain` gives, without file-level metadata."""
    return pa.schema([field.with_type(_plain_type(field.type)) for field in schema])


def _plain_type(kind: pa.DataType) -> pa.DataType:
    t = pa.types
    if t.is_dictionary(kind) or t.is_run_end_encoded(kind):
        return _plain_type(kind.value_type)
    if kind == pa.string_view():
        return pa.large_string()
    if kind == pa.binary_view():
        return pa.large_binary()
    if not t.is_nested(kind) or t.is_union(kind):
        return kind
    fields = [_plain_field(kind.field(index)) for index in range(kind.num_fields)]
    if t.is_struct(kind):
        return pa.struct(fields)
    if t.is_map(kind):
        keys, items = _plain_field(kind.key_field), _plain_field(kind.item_field)
        return pa.map_(keys, items, kind.keys_sorted)
    if t.is_fixed_size_list(kind):
        return pa.list_(fields[0], kind.list_size)
    is_large = t.is_large_list(kind) or t.is_large_list_view(kind)
    return pa.large_list(fields[0]) if is_large else pa.list_(fields[0])


def _plain_field(field: pa.Field) -> pa.Field:
    return field.with_type(_plain_type(field.type))


def _plain_array(array: pa.Array) -> pa.Array:
    """Return an array as its `_plain_type`: Arrow's own casts do not know all of these."""
    import pyarrow.compute as pc

    t = pa.types
    kind, wanted = array.type, _plain_type(array.type)
    if kind == wanted:
        return array
    if t.is_dictionary(kind):
        return _plain_array(array.dictionary).take(array.indices)
    if t.is_run_end_encoded(kind):
        return _plain_array(pc.run_end_decode(array))
    if not t.is_nested(kind):
        return array.cast(wanted)
    if t.is_struct(kind):
        children = [_plain_array(array.field(index)) for index in range(kind.num_fields)]
        return pa.StructArray.from_arrays(children, fields=list(wanted), mask=array.is_null())
    if t.is_list_view(kind) or t.is_large_list_view(kind):
        array = _list_of_view(array)
        wanted = _plain_type(array.type)
    if t.is_map(kind):
        entries = [_plain_array(array.keys), _plain_array(array.items)]
        fields = [wanted.key_field, wanted.item_field]
        values: pa.Array = pa.StructArray.from_arrays(entries, fields=fields)
    else:
        values = _plain_array(array.values)
    buffers = array.buffers()[: 1 if t.is_fixed_size_list(kind) else 2]
    return pa.Array.from_buffers(
        wanted, len(array), buffers, offset=array.offset, children=[values]
    )


def _list_of_view(array: pa.Array) -> pa.Array:
    """Return a list view as a list."""
    import pyarrow.compute as pc

    is_large = pa.types.is_large_list_view(array.type)
    number = pa.int64() if is_large else pa.int32()
    counts = pc.fill_null(pc.list_value_length(array), 0).cast(number)
    starts = pa.concat_arrays([pa.array([0], number), pc.cumulative_sum_checked(counts)])
    field = array.type.value_field
    lists = pa.LargeListArray if is_large else pa.ListArray
    kind = pa.large_list(field) if is_large else pa.list_(field)
    return lists.from_arrays(starts, array.flatten(), type=kind, mask=array.is_null())


def conform(table: pa.Table, schema: pa.Schema, who: str) -> pa.Table:
    """Return `table` in the column order and with the types of `schema`.

    Columns may come in another order. Raises HomeError where one is missing or extra, UnfitValue
    where the type in `schema` does not hold every value of the type that came, and for a NULL
    where `schema` has none.
    """
    if table.schema.equals(schema):
        for field, array in zip(schema, table.columns, strict=True):
            _refuse_nulls(array, field, who)
        return table
    missing = [name for name in schema.names if name not in table.column_names]
    extra = [name for name in table.column_names if name not in schema.names]
    if missing or extra:
        problems = [f"lacks {', '.join(missing)}"] if missing else []
        problems += [f"has {', '.join(extra)} besides"] if extra else []
        raise HomeError(
            f"{who} {' and '.join(problems)}; the first had "
            f"{', '.join(schema.names) or 'no columns'}",
            "every batch of a Home has the same columns; fill absent ones with NULL",
        )
    arrays = []
    for field in schema:
        array = table.column(field.name)
        if array.type != field.type:
            if not widens(array.type, field.type):
                came, stated = words_of(array.type, field.type)
                raise UnfitValue(
                    f"{who}: column '{field.name}' came as {came}, but its type is {stated}",
                    "give every batch the same types; `schema = pa.schema([...])` on the class "
                    "states them once",
                )
            array = array.cast(field.type)
        _refuse_nulls(array, field, who)
        arrays.append(array)
    return pa.Table.from_arrays(arrays, schema=schema)


def with_dictionaries(schema: pa.Schema, table: pa.Table) -> pa.Schema:
    """Return `schema` with the columns as dictionaries that come so in `table`."""
    for index, field in enumerate(schema):
        at = table.schema.get_field_index(field.name)
        is_given = at >= 0 and table.schema.field(at).type == DICTIONARY
        if is_given and field.type == DICTIONARY.value_type:
            schema = schema.set(index, field.with_type(DICTIONARY))
    return schema


def _refuse_nulls(array: pa.ChunkedArray, field: pa.Field, who: str) -> None:
    """Raise UnfitValue for NULLs where the schema promises that there are none."""
    if not field.nullable and array.null_count:
        raise UnfitValue(
            f"{who}: column '{field.name}' is declared without NULLs, but holds {array.null_count}",
            "declare it nullable, or fill the NULLs before",
        )


_DIGITS = {8: 3, 16: 5, 32: 10, 64: 19}
"""Decimal digits of an integer, by its bits; of uint64 one more."""


def widens(source: pa.DataType, target: pa.DataType) -> bool:
    """Return whether `target` holds every value of `source` unchanged."""
    t = pa.types
    if source == target or t.is_null(source):
        return True
    if t.is_integer(source) and t.is_integer(target):
        if t.is_signed_integer(source):
            return bool(t.is_signed_integer(target) and source.bit_width <= target.bit_width)
        wider = source.bit_width < target.bit_width
        return bool(
            wider or (t.is_unsigned_integer(target) and source.bit_width == target.bit_width)
        )
    if t.is_integer(source) and t.is_decimal(target):
        digits = _DIGITS[source.bit_width] + (source == pa.uint64())
        return bool(target.scale >= 0 and target.precision - target.scale >= digits)
    if t.is_floating(source) and t.is_floating(target):
        return bool(source.bit_width <= target.bit_width)
    if t.is_decimal(source) and t.is_decimal(target):
        whole = target.precision - target.scale >= source.precision - source.scale
        return bool(whole and target.scale >= source.scale)
    if t.is_timestamp(source) and t.is_timestamp(target):
        order = ["s", "ms", "us", "ns"]
        same = order.index(source.unit) == order.index(target.unit)
        return bool(source.tz == target.tz and same)
    text = (pa.string(), pa.large_string(), pa.string_view())
    data = (pa.binary(), pa.large_binary(), pa.binary_view())
    return (source in text and target in text) or (source in data and target in data)


def slices(table: pa.Table, max_rows: int, max_bytes: int) -> Iterator[pa.Table]:
    """Cut `table` into pieces of at most `max_rows` rows and about `max_bytes`; never copies.

    A single row larger than `max_bytes` is a piece of its own.
    """
    if table.num_rows == 0:
        return
    row_bytes = max(1, table.nbytes // table.num_rows)
    step = max(1, min(max_rows, max_bytes // row_bytes))
    for start in range(0, table.num_rows, step):
        piece = table.slice(start, step)
        if piece.num_rows > 1 and piece.nbytes > 2 * max_bytes:
            yield from slices(piece, max(1, piece.num_rows // 2), max_bytes)
        else:
            yield piece


def nulls(schema: pa.Schema) -> list[str]:
    """Return the names of the columns whose type is not known yet (Arrow's null type)."""
    return [field.name for field in schema if pa.types.is_null(field.type)]


def peek(
    tables: Iterator[pa.Table], max_bytes: int, who: str
) -> tuple[pa.Schema | None, Iterator[pa.Table]]:
    """Return the schema of a stream that did not declare one, and the whole stream again.

    Reads ahead until no column is null-typed, or about `max_bytes` are read. The schema is None
    where there is no batch. Raises UnfitValue where a column held only NULLs so far.
    """
    seen: list[pa.Table] = []
    schema: pa.Schema | None = None
    size = 0
    for table in tables:
        seen.append(table)
        size += table.nbytes
        schema = table.schema if schema is None else _fill_nulls(schema, table.schema)
        if not nulls(schema) or size >= max_bytes:
            break
    if schema is None:
        return None, iter(())
    if unknown := nulls(schema):
        raise UnfitValue(
            f"{who}: nothing but NULL in column {', '.join(repr(name) for name in unknown)} "
            f"in the first {sum(t.num_rows for t in seen):,} rows, so its type is unknown",
            'state the types once: `schema = pa.schema([("name", pa.string()), ...])` on the class',
        )
    return schema, _chain(seen, tables)


def _fill_nulls(known: pa.Schema, new: pa.Schema) -> pa.Schema:
    """Return `known` with the types of `new` in the place of its null types."""
    fields = []
    for field in known:
        index = new.get_field_index(field.name)
        if pa.types.is_null(field.type) and index >= 0:
            field = field.with_type(new.field(index).type)
        fields.append(field)
    return pa.schema(fields)


def _chain(seen: list[pa.Table], rest: Iterable[pa.Table]) -> Iterator[pa.Table]:
    while seen:  # each is dropped when it is taken
        yield seen.pop(0)
    yield from rest
