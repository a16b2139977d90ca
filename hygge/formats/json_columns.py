"""Nested values as JSON texts, for Stores that keep them so (`StoreTraits.json`).

A struct becomes an object, a list an array, a map with texts as keys an object; NULL inside becomes
null, and a row that is NULL stays NULL. Integers are written whole, whatever their size; decimals,
dates and times as texts, in the forms of JSON lines (`json_writer`). What JSON has no form for
(bytes, NaN, durations) is an error that names the column.

A field that is such a JSON text says so in its metadata: `is_json` tells a Store.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import pyarrow as pa

from hygge.batches import plain, plain_schema
from hygge.errors import UnfitValue
from hygge.extension_types import JSON
from hygge.formats.exact_text import (
    NoText,
    check_utf8,
    has_repeated_key,
    has_text,
    leaves,
    refuse_no_text,
)
from hygge.formats.json_values import NO_JSON
from hygge.formats.json_writer import literals
from hygge.shape.bound import Bound
from hygge.shape.choose import is_nested
from hygge.shape.step import Reading


@dataclass(frozen=True)
class AsJson:
    """The step of a flow that makes JSON texts of nested columns."""

    schema: pa.Schema
    names: tuple[str, ...]

    def apply(self, table: pa.Table, reading: Reading) -> pa.Table:
        """Return the batch with the columns as JSON texts; raise UnfitValue for a value inside."""
        for name in self.names:
            at = table.column_names.index(name)
            (column,) = plain(table.select([at])).columns
            field = self.schema.field(name)
            texts = [_texts(name, chunk).cast(field.type) for chunk in column.chunks]
            table = table.set_column(at, field, pa.chunked_array(texts, field.type))
        return table


def with_json(bound: Bound | None, source: pa.Schema, key: Collection[str] = ()) -> Bound | None:
    """Return what the Home's process does, and behind it the step that makes JSON.

    `source` are the columns that the Home gives; a column of the `key` is a plain text. None where
    nothing is to be done. Raises UnfitValue for a type that JSON has no form for.
    """
    schema = source if bound is None else bound.schema
    nested = tuple(field.name for field in schema if is_nested(field.type))
    if not nested:
        return bound
    if bound is None:
        bound = Bound(source, schema, (), {name: name for name in schema.names})
    step = _step(schema, nested, [name for name in nested if name not in key])
    origins = {new: old for new, old in bound.origins.items() if new not in nested}
    return replace(bound, schema=step.schema, steps=(*bound.steps, step), origins=origins)


def to_text(schema: pa.Schema, names: Sequence[str]) -> AsJson:
    """Return the step that makes plain texts of these columns (`ToText`).

    Raises UnfitValue for a type that JSON has no form for.
    """
    return _step(schema, tuple(names), ())


def _step(schema: pa.Schema, names: tuple[str, ...], marked: Collection[str]) -> AsJson:
    """Return the step for these columns; those that are `marked` say that they are JSON."""
    fields = []
    for field, simple in zip(schema, plain_schema(schema), strict=True):
        if field.name in names:
            _check_type(field.name, simple.type)
            marks = {JSON: b"1"} if field.name in marked else None
            field = pa.field(field.name, pa.string(), field.nullable, marks)
        fields.append(field)
    return AsJson(pa.schema(fields, schema.metadata), names)


def _check_type(column: str, kind: pa.DataType) -> None:
    """Raise UnfitValue for a type, at any depth within `kind`, that has no JSON form."""
    t = pa.types
    if not t.is_nested(kind):
        is_bytes = t.is_binary(kind) or t.is_large_binary(kind) or t.is_fixed_size_binary(kind)
        is_unknown = isinstance(kind, pa.BaseExtensionType)
        unfit = (is_bytes or is_unknown or str(kind).startswith(NO_JSON)) and not has_text(kind)
        if unfit:
            raise _no_json(column, f"is {kind} inside, which JSON has no form for")
        return
    if t.is_union(kind):
        raise _no_json(column, f"is {kind} inside, which JSON has no form for")
    if t.is_map(kind) and not (t.is_string(kind.key_type) or t.is_large_string(kind.key_type)):
        raise _no_json(column, f"is a map with {kind.key_type} as keys, where JSON has texts")
    parts = [kind.field(index) for index in range(kind.num_fields)]
    if t.is_map(kind):
        parts = [kind.item_field]
    if t.is_struct(kind) and len({part.name for part in parts}) < len(parts):
        raise _no_json(column, f"is {kind} with two fields of one name")
    for part in parts:
        _check_type(column, part.type)


def _texts(column: str, chunk: pa.Array) -> pa.Array:
    import pyarrow.compute as pc

    for leaf in leaves(chunk, pa.types.is_floating):
        if pc.all(pc.is_finite(leaf)).as_py() is False:
            raise _no_json(column, "holds NaN or an infinity inside, which JSON has no form for")
    for leaf in leaves(chunk, pa.types.is_map):
        _check_keys(column, leaf)
    try:
        check_utf8(chunk)
        return literals(chunk)
    except NoText as problem:
        raise refuse_no_text(column, problem) from None


def _check_keys(column: str, maps: pa.Array) -> None:
    """Raise UnfitValue for a map that has one key twice: an object would keep one of them."""
    if has_repeated_key(maps):
        raise _no_json(column, "holds a map with one key twice")


def _no_json(column: str, why: str) -> UnfitValue:
    return UnfitValue(
        f"column '{column}' {why}",
        "leave it out with `columns`, spread it with `flatten: 1`, or turn it into something else "
        "with `transform`",
    )
