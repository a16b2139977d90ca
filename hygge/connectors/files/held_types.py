"""In which types the files of a lake table may hold the values of a column."""

from __future__ import annotations

import pyarrow as pa

from hygge.batches import widens


def is_form_of(kind: pa.DataType, wanted: pa.DataType) -> bool:
    """Return whether a file may hold values of the type `wanted` as `kind`.

    A cast of a number or a moment that does not fit is an error, so these may be narrower. Some
    writers do not say whether bytes are a text.
    """
    t = pa.types
    if isinstance(kind, pa.BaseExtensionType):
        kind = kind.storage_type
    if isinstance(wanted, pa.BaseExtensionType):
        wanted = wanted.storage_type
    if t.is_dictionary(kind):
        kind = kind.value_type
    if t.is_nested(wanted):
        if t.is_struct(wanted) and t.is_struct(kind):
            pairs = [
                (kind.field(field.name).type, field.type)
                for field in wanted
                if kind.get_field_index(field.name) >= 0
            ]
        elif t.is_map(wanted) and t.is_map(kind):
            pairs = [(kind.key_type, wanted.key_type), (kind.item_type, wanted.item_type)]
        elif hasattr(kind, "value_type") and hasattr(wanted, "value_type"):
            pairs = [(kind.value_type, wanted.value_type)]
        else:
            return False
        return all(is_form_of(*pair) for pair in pairs)
    alike = (
        (t.is_timestamp, t.is_timestamp), (t.is_integer, t.is_integer), (_is_bytes, _is_bytes),
        (t.is_date, lambda kind: t.is_date(kind) or (t.is_timestamp(kind) and kind.tz is None)),
        (t.is_time, t.is_time),
    )  # fmt: skip
    return widens(kind, wanted) or any(is_a(kind) and is_b(wanted) for is_a, is_b in alike)


def _is_bytes(kind: pa.DataType) -> bool:
    alike = (pa.string(), pa.large_string(), pa.string_view(), pa.binary(), pa.large_binary())
    return kind in (*alike, pa.binary_view()) or pa.types.is_fixed_size_binary(kind)
