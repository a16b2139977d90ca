"""Encodings within lists, structs and maps, for Arrow files: see `hygge/encodings.py`.

A dictionary within a column is called by its path: the column's name, and the number of the field
at each depth.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pyarrow as pa

from hygge.encodings import Categories, inner_of, is_nested

_T = pa.types
_MOST_OF_INT16 = 2**15 - 1


def dictionaries_in(kind: pa.DataType, path: str) -> Iterator[tuple[str, pa.DataType]]:
    """Yield the path and type of each dictionary in a type."""
    if _T.is_dictionary(kind):
        yield path, kind
    elif is_nested(kind):
        for index, inner in enumerate(inner_of(kind)):
            yield from dictionaries_in(inner, _below(path, index))


def add_values(
    array: pa.Array, kind: pa.DataType, path: str, categories: Mapping[str, Categories]
) -> None:
    """Take in the plain values of all dictionaries of a column of the type `kind`."""
    if _T.is_dictionary(kind):
        categories[path].add(pa.chunked_array([array]))
    elif is_nested(kind):
        for index, inner in enumerate(_children(_compact(array))):
            add_values(inner, inner_of(kind)[index], _below(path, index), categories)


def type_in_file(kind: pa.DataType, path: str, categories: Mapping[str, Categories]) -> pa.DataType:
    """Return the type of a file's column, whose dictionaries are as wide as they have to be."""
    if _T.is_dictionary(kind):
        return categories[path].kind()
    if not is_nested(kind):
        return kind
    types = [
        type_in_file(inner, _below(path, index), categories)
        for index, inner in enumerate(inner_of(kind))
    ]
    if _T.is_map(kind):
        fields = [kind.key_field.with_type(types[0]), kind.item_field.with_type(types[1])]
        return pa.map_(*fields, kind.keys_sorted)
    fields = [kind.field(index).with_type(each) for index, each in enumerate(types)]
    if _T.is_struct(kind):
        return pa.struct(fields)
    if _T.is_fixed_size_list(kind):
        return pa.list_(fields[0], kind.list_size)
    makers: Any = (
        (_T.is_large_list_view, pa.large_list_view), (_T.is_list_view, pa.list_view),
        (_T.is_large_list, pa.large_list),
    )  # fmt: skip
    return next((make for is_kind, make in makers if is_kind(kind)), pa.list_)(fields[0])


def pieces(table: pa.Table, kinds: Mapping[str, pa.DataType]) -> Iterator[pa.Table]:
    """Yield a table in pieces whose runs within nested values are no longer than they can count.

    The rows of an Arrow file can always be cut so: what was encoded there was no longer, either.
    """
    columns = [(name, kind) for name, kind in kinds.items() if _has_short_runs(kind)]
    too_long = any(
        _is_too_long(array, kind) for name, kind in columns for array in table.column(name).chunks
    )
    if not too_long or table.num_rows < 2:
        yield table
        return
    half = table.num_rows // 2
    for part in (table.slice(0, half), table.slice(half)):
        yield from pieces(part, kinds)


def _has_short_runs(kind: pa.DataType) -> bool:
    if _T.is_run_end_encoded(kind):
        return bool(kind.run_end_type == pa.int16())
    return is_nested(kind) and any(map(_has_short_runs, inner_of(kind)))


def _is_too_long(array: pa.Array, kind: pa.DataType) -> bool:
    """Return whether there are more values in a column within its nested ones than int16 counts."""
    if not is_nested(kind):
        return _has_short_runs(kind) and len(array) > _MOST_OF_INT16
    children = zip(_children(_compact(array)), inner_of(kind), strict=True)
    return any(_is_too_long(child, inner) for child, inner in children if _has_short_runs(inner))


def in_form(
    array: pa.Array, kind: pa.DataType, path: str, categories: Mapping[str, Categories]
) -> pa.Array:
    """Return an array of plain values in the type `kind`, that of a file."""
    import pyarrow.compute as pc

    if array.type == kind:
        return array
    if _T.is_dictionary(kind):
        return categories[path].encoded_array(array, kind)
    if _T.is_run_end_encoded(kind):
        return pc.run_end_encode(array, run_end_type=kind.run_end_type)
    if not is_nested(kind):
        return array.cast(kind)
    array = _compact(array)
    children = [
        in_form(inner, inner_of(kind)[index], _below(path, index), categories)
        for index, inner in enumerate(_children(array))
    ]
    if _T.is_struct(kind):
        return pa.StructArray.from_arrays(children, fields=list(kind), mask=array.is_null())
    if _T.is_list_view(kind) or _T.is_large_list_view(kind):
        views = pa.ListViewArray if _T.is_list_view(kind) else pa.LargeListViewArray
        starts = array.offsets[: len(array)]
        counts = pc.subtract(array.offsets[1:], starts)
        return views.from_arrays(starts, counts, children[0], type=kind, mask=array.is_null())
    if _T.is_map(kind):
        fields = [kind.key_field, kind.item_field]
        children = [pa.StructArray.from_arrays(children, fields=fields)]
    buffers = array.buffers()[: 1 if _T.is_fixed_size_list(kind) else 2]
    return pa.Array.from_buffers(kind, len(array), buffers, children=children)


def _compact(array: pa.Array) -> pa.Array:
    """Return an array that begins with its own first row, and holds the values of its rows only."""
    return array.take(pa.array(range(len(array)), pa.int64()))


def _children(array: pa.Array) -> list[pa.Array]:
    if _T.is_struct(array.type):
        return [array.field(index) for index in range(array.type.num_fields)]
    return [array.keys, array.items] if _T.is_map(array.type) else [array.values]


def _below(path: str, index: int) -> str:
    return f"{path}\0{index}"
