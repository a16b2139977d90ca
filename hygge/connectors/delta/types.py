"""Arrow types and values as a Delta table keeps them, and back.

Types that Delta lacks become the nearest one that holds every value: unsigned integers a wider one,
float16 a float, a list of fixed size a list, a uuid and JSON text. What has none is an error, or
text by `on_value`. Timestamps of nanoseconds become microseconds where nothing is lost.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import pyarrow as pa

from hygge.connectors.sql.ask import OnValue
from hygge.errors import UnfitValue
from hygge.formats.exact_text import (
    NoText,
    check_texts,
    extension_as_text,
    has_text,
    refuse_no_text,
    times_as_text,
)
from hygge.type_words import value_text, word_of

Zones = Literal["error", "utc"]
_WIDER = {
    pa.uint8(): pa.int16(),
    pa.uint16(): pa.int32(),
    pa.uint32(): pa.int64(),
    pa.uint64(): pa.decimal128(20, 0),
    pa.float16(): pa.float32(),
    pa.date64(): pa.date32(),
}
_UTC = ("UTC", "Etc/UTC", "+00:00", "Z")
_T = pa.types
_AS_THEY_ARE = (_T.is_boolean, _T.is_signed_integer, _T.is_floating, _T.is_date32)
_TEXTS = (_T.is_string, _T.is_large_string)
_BYTES = (_T.is_binary, _T.is_large_binary, _T.is_fixed_size_binary)
LOSSY = (
    "time32",
    "time64",
    "duration",
    "timestamp[ns",
    "timestamp[us, tz=Europe",
    "timestamp[us, tz=+",
    "decimal256",
)
"""Types of which not every value is kept: each is an error, unless options say otherwise."""


@dataclass(frozen=True)
class Rules:
    """What the options say of values that a table cannot hold."""

    on_value: OnValue | Mapping[str, OnValue] = "error"
    zones: Zones = "error"

    def of(self, column: str) -> OnValue:
        """Return the way to treat values of this column."""
        ways = self.on_value
        return ways if isinstance(ways, str) else ways.get(column, "error")


def stored_schema(schema: pa.Schema, rules: Rules) -> pa.Schema:
    """Return the columns as a table keeps them. Raises UnfitValue for a type that it cannot."""
    fields = []
    for field in schema:
        way = rules.of(field.name)
        kind = _stored(field.type, rules)
        if kind is None and way == "as_text" and not _T.is_nested(field.type):
            kind = pa.string()
        if kind is None:
            raise _unfit(field)
        if way == "as_text" and _is_ns(field.type):
            kind = pa.string()
        nullable = field.nullable or (way == "set_null" and _is_ns(field.type))
        fields.append(pa.field(field.name, kind, nullable))
    return pa.schema(fields)


def stored_table(table: pa.Table, schema: pa.Schema, rules: Rules) -> pa.Table:
    """Return rows with the columns of `schema`, which `stored_schema` gave; NULL for those missing.

    Raises UnfitValue for a value that does not fit, such as a text that is not UTF-8, and for NULL
    where the table has none.
    """
    check_texts(table)
    columns = []
    for field in schema:
        if field.name not in table.column_names:
            columns.append(pa.nulls(table.num_rows, field.type))
            continue
        column = stored_column(table.column(field.name), field, rules)
        if not field.nullable:
            check_not_null(column, field.name)
        columns.append(column)
    return pa.Table.from_arrays(columns, schema=schema)


def check_not_null(column: pa.ChunkedArray, name: str) -> None:
    """Raise UnfitValue where a column that has no NULL in the table has some."""
    if column.null_count:
        raise UnfitValue(
            f"column '{name}' is NOT NULL in the table, and {column.null_count:,} of "
            f"{len(column):,} rows have NULL there",
            "fill it in at the source, or leave such rows out with `where`",
        ).at(name)


def stored_column(column: pa.ChunkedArray, field: pa.Field, rules: Rules) -> pa.ChunkedArray:
    """Return a column with the type of `field`."""
    if column.type == field.type:
        return column
    if isinstance(column.type, pa.BaseExtensionType) and not has_text(column.type):
        storage = column.type.storage_type
        column = pa.chunked_array([chunk.storage for chunk in column.chunks], storage)
    if _T.is_string(field.type) and (has_text(column.type) or _T.is_temporal(column.type)):
        return _as_text(column, field.name)
    if _is_ns(column.type) and _T.is_timestamp(field.type):
        column = _whole_microseconds(column, field.name, rules)
    try:
        return column.cast(field.type)
    except pa.ArrowInvalid as error:
        raise UnfitValue(
            f"column '{field.name}': a value of {word_of(column.type)} does not fit into "
            f"{word_of(field.type)}: {str(error).splitlines()[0]}",
            "mend it at the source, or leave the column out with `columns`",
        ).at(field.name) from error


def _as_text(column: pa.ChunkedArray, name: str) -> pa.ChunkedArray:
    try:
        if has_text(column.type):
            column = extension_as_text(column)
        elif not _T.is_duration(column.type):
            column = times_as_text(column)
    except NoText as problem:
        raise refuse_no_text(name, problem) from None
    return column.cast(pa.string())


def remarks(schema: pa.Schema, rules: Rules) -> list[str]:
    """Return a sentence for what becomes of columns, and for what readers need to know."""
    stored = stored_schema(schema, rules)
    wider = [
        f"'{field.name}' ({word_of(field.type)}) as {word_of(kept.type)}"
        for field, kept in zip(schema, stored, strict=True)
        if word_of(field.type) != word_of(kept.type) and not _is_ns(field.type)
    ]
    said = [f"kept in another type, with every value: {', '.join(wider)}"] if wider else []
    if names := [f"'{field.name}'" for field in stored if _has_naive(field.type)]:
        said.append(
            f"timestamps without a zone ({', '.join(names)}) need readers of Delta that know "
            "timestampNtz (reader version 3, writer version 7)"
        )
    return said


def needs_ntz(schema: pa.Schema) -> bool:
    """Return whether a table of these columns has timestamps without a zone."""
    return any(_has_naive(field.type) for field in schema)


def _stored(kind: pa.DataType, rules: Rules) -> pa.DataType | None:
    """Return the type that a table has for another one; None where it has none."""
    if isinstance(kind, pa.BaseExtensionType):
        return pa.string() if has_text(kind) else _stored(kind.storage_type, rules)
    if kind in _WIDER:
        return _WIDER[kind]
    if any(is_kind(kind) for is_kind in _AS_THEY_ARE):
        return kind
    if any(is_text(kind) for is_text in _TEXTS):
        return pa.string()
    if any(is_bytes(kind) for is_bytes in _BYTES):
        return pa.binary()
    if _T.is_decimal(kind):
        fits = kind.precision <= 38 and 0 <= kind.scale <= kind.precision
        return pa.decimal128(kind.precision, kind.scale) if fits else None
    if _T.is_timestamp(kind):
        if kind.tz is not None and kind.tz not in _UTC and rules.zones == "error":
            return None
        return pa.timestamp("us", None if kind.tz is None else "UTC")
    return _stored_nested(kind, rules)


def _stored_nested(kind: pa.DataType, rules: Rules) -> pa.DataType | None:
    fields = []
    for index in range(kind.num_fields):
        inner = kind.field(index)
        stored = _stored(inner.type, rules)
        if stored is None or _is_ns(inner.type):
            return None
        fields.append(pa.field(inner.name, stored, inner.nullable))
    if _T.is_list(kind) or _T.is_large_list(kind) or _T.is_fixed_size_list(kind):
        return pa.list_(pa.field("element", fields[0].type, fields[0].nullable))
    if _T.is_struct(kind) and fields:
        return pa.struct(fields)
    if _T.is_map(kind):
        return pa.map_(_stored(kind.key_type, rules), kind.item_field.with_type(
            _stored(kind.item_type, rules)))  # fmt: skip
    return None


def _unfit(field: pa.Field) -> UnfitValue:
    kind = field.type
    if _T.is_timestamp(kind) and kind.tz is not None:
        return UnfitValue(
            f"column '{field.name}' is in the zone {kind.tz}, and a Delta table keeps UTC alone",
            "keep the same moments in UTC: `options: {zones: utc}`; or leave the column out with "
            "`columns`",
        ).at(field.name)
    text = ""
    if not _T.is_nested(kind) and not _T.is_null(kind):
        text = f"keep it as text: `options: {{on_value: {{{field.name}: as_text}}}}`; or "
    return UnfitValue(
        f"column '{field.name}' is {word_of(kind)}, which a Delta table cannot hold",
        f"{text}leave it out with `columns`, or write to a store that has the type: parquet or "
        "arrow",
    ).at(field.name)


def _whole_microseconds(column: pa.ChunkedArray, name: str, rules: Rules) -> pa.ChunkedArray:
    """Return timestamps of nanoseconds as microseconds."""
    import pyarrow.compute as pc

    numbers = column.cast(pa.int64())
    is_whole = pc.equal(pc.multiply(pc.divide(numbers, 1000), 1000), numbers)
    if pc.all(is_whole).as_py() is False:
        if rules.of(name) != "set_null":
            value = column[pc.index(is_whole, False).as_py()]
            raise UnfitValue(
                f"column '{name}' holds {value_text(value)}, and a Delta table keeps microseconds",
                f"round it at the source; or `options: {{on_value: {{{name}: set_null}}}}` or "
                "`as_text`",
            ).at(name, value_text(value))
        column = pc.if_else(is_whole, column, pa.scalar(None, column.type))
    return column.cast(pa.timestamp("us", column.type.tz), safe=False)


def _is_ns(kind: pa.DataType) -> bool:
    return bool(_T.is_timestamp(kind) and kind.unit == "ns")


def _has_naive(kind: pa.DataType) -> bool:
    if _T.is_timestamp(kind):
        return kind.tz is None
    return any(_has_naive(kind.field(index).type) for index in range(kind.num_fields))
