"""The types that Parquet, and pyarrow's writer of it, hold exactly: a list of what they can."""

from __future__ import annotations

import pyarrow as pa

from hygge.errors import UnfitValue
from hygge.type_words import word_of

_T = pa.types
_PLAIN = (
    _T.is_null, _T.is_boolean, _T.is_integer, _T.is_floating, _T.is_date, _T.is_time,
    _T.is_timestamp, _T.is_duration, _T.is_string, _T.is_large_string, _T.is_binary,
    _T.is_large_binary, _T.is_fixed_size_binary,
)  # fmt: skip
_LISTS = (_T.is_list, _T.is_large_list, _T.is_fixed_size_list, _T.is_map)


def check_parquet_schema(schema: pa.Schema) -> None:
    """Raise UnfitValue for a column whose type Parquet cannot hold, at whatever depth."""
    for field in schema:
        if (unfit := _unfit(field.type)) is not None:
            is_inside = storage_of(field.type).num_fields > 0
            inside = f" within {word_of(field.type)}" if is_inside else ""
            raise UnfitValue(
                f"column '{field.name}' is {unfit}{inside}, which Parquet cannot hold",
                "leave it out with `columns`, or write `type: arrow`",
            )


def storage_of(kind: pa.DataType) -> pa.DataType:
    """Return the type in which an extension type is stored; any other type itself."""
    return kind.storage_type if isinstance(kind, pa.BaseExtensionType) else kind


def _unfit(kind: pa.DataType) -> str | None:
    kind = storage_of(kind)
    if _T.is_dictionary(kind):
        return _unfit(kind.value_type)
    if _T.is_decimal(kind):
        return None if 0 <= kind.scale <= kind.precision else f"{word_of(kind)} (a negative scale)"
    if _T.is_fixed_size_list(kind) and kind.list_size == 0:
        return f"{word_of(kind)} (a list of no values)"
    if _T.is_struct(kind) and kind.num_fields == 0:
        return "a struct without fields"
    if _T.is_struct(kind) or any(is_list(kind) for is_list in _LISTS):
        inner = (_unfit(kind.field(index).type) for index in range(kind.num_fields))
        return next((unfit for unfit in inner if unfit is not None), None)
    return None if any(is_plain(kind) for is_plain in _PLAIN) else word_of(kind)
