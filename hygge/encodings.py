"""Dictionaries, views and run-end encoding, for the Stores that have them.

Rows travel as plain values (`hygge/batches.py`). A Home of Arrow or Parquet notes in the metadata
of a field in which type the source holds its values, and their writers give them back in it. Only
types are noted that hold exactly the plain values again: no floats, because equal ones may differ
(-0.0). Of a dictionary whose categories are ordered they are noted, too, since their order tells
something; where they are not known, or too many, it is not kept.
What is within lists, structs and maps is given back by Arrow alone (`hygge/formats/nested.py`).
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping, Sequence

import pyarrow as pa

from hygge.batches import plain, plain_schema

KEY = b"hygge.encoding"
MARKS = b"hygge.parquet_mark"
"""What a Parquet file says of a column beside that, as `INTERVAL:` and the mark itself: see
`hygge/formats/parquet_marks.py`. There is no word where Arrow has the type, too."""
ORDER = b"hygge.categories"
"""The categories of a column that is an ordered dictionary."""
_MOST_NOTED_BYTES = 64 * 1024
"""Of ordered categories: they travel with the schema."""
_MOST_BYTES = 64 * 1024 * 1024
"""Of the categories of one column of one file, which are held in memory."""
_T = pa.types
_VALUES = (
    _T.is_string, _T.is_large_string, _T.is_binary, _T.is_large_binary, _T.is_fixed_size_binary,
    _T.is_integer, _T.is_decimal128, _T.is_decimal256, _T.is_date, _T.is_time, _T.is_timestamp,
)  # fmt: skip
_IN_PARQUET = {
    pa.string(): pa.string(), pa.large_string(): pa.string(),
    pa.binary(): pa.binary(), pa.large_binary(): pa.binary(),
}  # fmt: skip


def can_be_kept(kind: pa.DataType) -> bool:
    """Return whether plain values can be brought back into the type `kind` exactly."""
    if kind in (pa.string_view(), pa.binary_view()):
        return True
    if _T.is_run_end_encoded(kind):
        return any(is_value(kind.value_type) for is_value in _VALUES)
    if _T.is_dictionary(kind) and not kind.ordered:
        return any(is_value(plain_of(kind)) for is_value in _VALUES)
    if not is_nested(kind) or kind == plain_of(kind):
        return False
    return all(inner == plain_of(inner) or can_be_kept(inner) for inner in inner_of(kind))


def is_nested(kind: pa.DataType) -> bool:
    """Return whether a type is a list, a struct or a map, of whatever form."""
    apart = (_T.is_union, _T.is_dictionary, _T.is_run_end_encoded)
    return bool(_T.is_nested(kind)) and not any(is_kind(kind) for is_kind in apart)


def inner_of(kind: pa.DataType) -> list[pa.DataType]:
    """Return the types of the fields of a nested one; of a map those of its keys and items."""
    if _T.is_map(kind):
        return [kind.key_type, kind.item_type]
    return [kind.field(index).type for index in range(kind.num_fields)]


def in_parquet(kind: pa.DataType) -> pa.DataType | None:
    """Return the form of `kind` that readers of Parquet give back; None: they have none.

    They make dictionaries of texts and bytes only, and have one type of each.
    """
    if _T.is_dictionary(kind):
        value = _IN_PARQUET.get(plain_of(kind))
        return None if value is None else pa.dictionary(kind.index_type, value, kind.ordered)
    return None if _T.is_run_end_encoded(kind) or is_nested(kind) else kind


def has_ordered(kind: pa.DataType) -> bool:
    """Return whether a dictionary with an order is in a type, at whatever depth."""
    if _T.is_dictionary(kind):
        return bool(kind.ordered) or has_ordered(kind.value_type)
    if _T.is_run_end_encoded(kind):
        return has_ordered(kind.value_type)
    return any(has_ordered(kind.field(index).type) for index in range(kind.num_fields))


def not_kept(kind: pa.DataType) -> list[str]:
    """Return what is encoded in a type, at whatever depth, and not given back: in words."""
    return [] if can_be_kept(kind) else sorted(set(_encodings_in(kind)))


def _encodings_in(kind: pa.DataType) -> Iterator[str]:
    if _T.is_dictionary(kind) or _T.is_run_end_encoded(kind):
        if not (_T.is_dictionary(kind) and kind.ordered):  # which is said by itself
            yield "dictionary" if _T.is_dictionary(kind) else "run-end encoding"
        yield from _encodings_in(kind.value_type)
        return
    if _T.is_list_view(kind) or _T.is_large_list_view(kind):
        yield "list view"
    elif kind in (pa.string_view(), pa.binary_view()):
        yield "view"
    for index in range(kind.num_fields):
        yield from _encodings_in(kind.field(index).type)


def with_encoding(metadata: Mapping[bytes, bytes], kind: pa.DataType) -> dict[bytes, bytes]:
    """Return the metadata of a field with a note that its source is of the type `kind`."""
    text = base64.b64encode(pa.schema([pa.field("", kind)]).serialize().to_pybytes())
    return {**metadata, KEY: text}


def encoding_of(field: pa.Field) -> pa.DataType | None:
    """Return the type that `with_encoding` noted; None: none, or it is no form of these values."""
    text = (field.metadata or {}).get(KEY)
    if text is None:
        return None
    kind = pa.ipc.read_schema(pa.py_buffer(base64.b64decode(text))).field(0).type
    return kind if plain_of(kind) == field.type else None


def encodings_of(schema: pa.Schema) -> dict[str, pa.DataType]:
    """Return `encoding_of` of the columns that have one."""
    found = ((field.name, encoding_of(field)) for field in schema)
    return {name: kind for name, kind in found if kind is not None}


def following(schema: pa.Schema, held: pa.Schema | None) -> pa.Schema:
    """Return `schema` with the notes that `held` has too: all files of a place are alike."""
    noted, marks = ({}, {}) if held is None else (encodings_of(held), marks_of(held))
    order = {} if held is None else {field.name: _order_note(field) for field in held}
    other = [
        field.name
        for field in schema
        if encoding_of(field) != noted.get(field.name)
        or _order_note(field) != order.get(field.name)
    ]
    unmarked = [name for name, mark in marks_of(schema).items() if marks.get(name) != mark]
    return _without(_without(schema, other, KEY, ORDER), unmarked, MARKS)


def ordered_in(schema: pa.Schema) -> list[str]:
    """Return the columns that are ordered dictionaries which can be kept with their categories."""
    return [
        field.name
        for field in schema
        if _T.is_dictionary(field.type)
        and field.type.ordered
        and any(is_value(plain_of(field.type)) for is_value in _VALUES)
    ]


def order_of(categories: pa.Array) -> bytes | None:
    """Return the note of the categories of an ordered dictionary; None: they are not kept."""
    values = plain(pa.table({"": categories})).column(0).combine_chunks()
    if values.null_count or values.nbytes > _MOST_NOTED_BYTES or len(values.unique()) < len(values):
        return None
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, pa.schema([("", values.type)])) as writer:
        writer.write_batch(pa.record_batch([values], [""]))
    return bytes(base64.b64encode(sink.getvalue().to_pybytes()))


def orders_of(schema: pa.Schema) -> dict[str, pa.Array]:
    """Return the categories of the columns that are ordered dictionaries."""
    notes = ((field.name, _order_note(field)) for field in schema)
    return {
        name: pa.ipc.open_stream(base64.b64decode(note)).read_next_batch().column(0)
        for name, note in notes
        if note is not None
    }


def _order_note(field: pa.Field) -> bytes | None:
    note: bytes | None = (field.metadata or {}).get(ORDER)
    return note if note is not None and encoding_of(field) is not None else None


def has_notes(schema: pa.Schema) -> bool:
    """Return whether a column has a note of its encoding, or a mark of Parquet."""
    return bool(encodings_of(schema) or marks_of(schema))


def marks_of(schema: pa.Schema) -> dict[str, bytes]:
    """Return the marks of Parquet of the columns that have one."""
    notes = ((field.name, (field.metadata or {}).get(MARKS)) for field in schema)
    return {name: note.partition(b":")[2] for name, note in notes if note is not None}


def without_encodings(schema: pa.Schema) -> pa.Schema:
    """Return `schema` without the notes: no file has them."""
    return _without(schema, schema.names, KEY, ORDER, MARKS)


def encoded_schema(schema: pa.Schema, kinds: Mapping[str, pa.DataType]) -> pa.Schema:
    """Return `schema` with the types `kinds` of some columns, and without the notes."""
    fields = [
        field.with_type(kinds.get(field.name, field.type)) for field in without_encodings(schema)
    ]
    return pa.schema(fields, schema.metadata)


def encoded(
    table: pa.Table, schema: pa.Schema, categories: Mapping[str, Categories]
) -> Iterator[pa.Table]:
    """Yield a table of plain values in the types of `schema`, in as few pieces as these allow.

    Nested columns are in these types already.
    """
    import pyarrow.compute as pc

    ends = [k.run_end_type.bit_width for k in schema.types if _T.is_run_end_encoded(k)]
    most = 2 ** (min(ends, default=64) - 1) - 1
    for start in range(0, table.num_rows, most):
        columns = []
        piece = table.slice(start, most)
        for column, field in zip(piece.columns, schema, strict=True):
            if _T.is_dictionary(field.type):
                column = categories[field.name].encoded(column, field.type)
            elif _T.is_run_end_encoded(field.type):
                column = pc.run_end_encode(
                    column.combine_chunks(), run_end_type=field.type.run_end_type
                )
            elif column.type != field.type:
                column = column.cast(field.type)
            columns.append(column)
        yield pa.Table.from_arrays(columns, schema=schema)


class Categories:
    """The distinct values of one column of one file, in the order in which they came.

    Those of an ordered dictionary are given, and stay as they are.
    """

    def __init__(self, kind: pa.DataType, ordered: pa.Array | None = None) -> None:
        self._kind = kind
        self._values: pa.Array | None = pa.array([], plain_of(kind))
        if ordered is not None:
            self._values = ordered.cast(plain_of(kind))

    def add(self, column: pa.ChunkedArray) -> None:
        """Take in the values of more rows."""
        import pyarrow.compute as pc

        if self._values is None:
            return
        new = pc.drop_null(pc.unique(column)).cast(self._values.type)
        if len(self._values):
            new = new.filter(pc.invert(pc.is_in(new, value_set=self._values)))
        if len(new) and self._kind.ordered:
            self._values = None  # it has no place in their order
            return
        if len(new):
            self._values = pa.concat_arrays([self._values, new])
        if self._values.nbytes > _MOST_BYTES:
            self._values = None

    def kind(self) -> pa.DataType:
        """Return the type of the file's column.

        It has a wider index where the values are more than the index can count, and is that of the
        plain values where they are too large to be held in memory.
        """
        if self._values is None:
            return plain_of(self._kind)
        index = self._kind.index_type
        bits = index.bit_width - _T.is_signed_integer(index)
        if len(self._values) <= 2**bits:
            return self._kind
        return pa.dictionary(pa.int32(), self._kind.value_type)

    def encoded(self, column: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
        """Return plain values as a dictionary of the type `kind`."""
        return pa.chunked_array([self.encoded_array(part, kind) for part in column.chunks], kind)

    def encoded_array(self, array: pa.Array, kind: pa.DataType) -> pa.DictionaryArray:
        """Return plain values as a dictionary of the type `kind`."""
        import pyarrow.compute as pc

        assert self._values is not None  # else `kind` is no dictionary
        indices = pc.index_in(array, value_set=self._values).cast(kind.index_type)
        values = self._values.cast(kind.value_type)
        return pa.DictionaryArray.from_arrays(indices, values, ordered=kind.ordered)


def plain_of(kind: pa.DataType) -> pa.DataType:
    """Return the plain type of the values of an encoded one."""
    return plain_schema(pa.schema([pa.field("", kind)])).field(0).type


def _without(schema: pa.Schema, names: Sequence[str], *keys: bytes) -> pa.Schema:
    if not names:
        return schema
    fields = []
    for field in schema:
        metadata = dict(field.metadata or {})
        if field.name in names and any(key in metadata for key in keys):
            metadata = {key: text for key, text in metadata.items() if key not in keys}
            field = field.with_metadata(metadata or None)
        fields.append(field)
    return pa.schema(fields, schema.metadata)
