"""Files that a Home leaves unread: their bounds in the manifest show no row for its `where`.

A bound of a text may be cut off, and then lies outside of the values. NaN is in no bounds, so that
floats are not looked at (`hygge.shape.where.for_statistics`).
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from hygge.connectors.files.skipping import matching, within
from hygge.connectors.iceberg.types import arrow_type


def may_match(tasks: Sequence[Any], schema: Any, condition: pc.Expression) -> list[Any]:
    """Return the files of a plan that may have rows for which `condition` is true.

    `schema` is Iceberg's, with the columns that the condition may name.
    """
    kinds = {field.name: arrow_type(field.field_type) for field in schema.fields}
    known = [_known(task.file, schema, kinds) for task in tasks]
    return [tasks[at] for at in matching(known, pa.schema(kinds.items()), condition)]


def _known(file: Any, schema: Any, kinds: dict[str, pa.DataType]) -> pc.Expression:
    """Return what the manifest says of all rows of a file."""
    known = pc.scalar(True)
    nulls = file.null_value_counts or {}
    for field in schema.fields:
        number, kind = field.field_id, kinds[field.name]
        if nulls.get(number) == file.record_count:
            known = known & pc.field(field.name).is_null()
            continue
        ends = [
            _scalar(bounds.get(number), field.field_type, kind)
            for bounds in (file.lower_bounds or {}, file.upper_bounds or {})
        ]
        least, most = ends
        if least is not None and most is not None:
            known = known & within(field.name, least, most, nulls.get(number) != 0)
    return known


def _scalar(bound: bytes | None, iceberg_type: Any, kind: pa.DataType) -> pa.Scalar | None:
    """Return a bound as a value; None where there is none, or where it cannot be read."""
    from pyiceberg import types as ice
    from pyiceberg.conversions import from_bytes

    if bound is None or not isinstance(
        iceberg_type,
        ice.BooleanType | ice.IntegerType | ice.LongType | ice.DecimalType | ice.StringType
        | ice.DateType | ice.TimestampType | ice.TimestamptzType,
    ):  # fmt: skip
        return None
    if isinstance(iceberg_type, ice.LongType) and len(bound) == 4:
        iceberg_type = ice.IntegerType()  # the file is older than the wider type
    try:
        return pa.scalar(from_bytes(iceberg_type, bound), kind)
    except (ValueError, struct.error, pa.ArrowException, OverflowError):
        return None
