"""What the footer of a Parquet file that was written says of its columns: least and greatest."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from hygge.formats.format import ColumnStatistics, FileStatistics, RowCounter
from hygge.formats.parquet_types import storage_of

if TYPE_CHECKING:
    import pyarrow.parquet as pq


def statistics_of(
    footer: pq.FileMetaData, schema: pa.Schema, counter: RowCounter
) -> FileStatistics:
    """Return rows, min and max by the footer of a file, and the NULLs that were counted."""
    return FileStatistics(footer.num_rows, partial(_columns_of, footer, schema, counter))


def _columns_of(
    footer: pq.FileMetaData, schema: pa.Schema, counter: RowCounter
) -> dict[str, ColumnStatistics]:
    counted = counter.statistics().columns
    groups = [footer.row_group(index) for index in range(footer.num_row_groups)]
    columns = {}
    leaf = 0
    for field in schema:
        least = most = None
        if not isinstance(field.type, pa.BaseExtensionType) and not pa.types.is_nested(field.type):
            least, most = _limits([group.column(leaf).statistics for group in groups], field.type)
        columns[field.name] = ColumnStatistics(counted[field.name].null_count, least, most)
        leaf += _leaf_count(field.type)
    return columns


def _leaf_count(kind: pa.DataType) -> int:
    """Return how many columns Parquet itself makes of one of this type."""
    kind = storage_of(kind)
    if not pa.types.is_nested(kind):
        return 1
    return sum(_leaf_count(kind.field(index).type) for index in range(kind.num_fields))


def _limits(
    groups: Sequence[pq.Statistics | None], kind: pa.DataType
) -> tuple[pa.Scalar | None, pa.Scalar | None]:
    """Return the least and the greatest value of a column by the statistics of its row groups."""
    with_values = [group for group in groups if group is None or group.num_values > 0]
    known = [group for group in with_values if group is not None and group.has_min_max]
    if not known or len(known) < len(with_values):
        return None, None
    least: Any
    most: Any
    if pa.types.is_temporal(kind):
        least, most = min(g.min_raw for g in known), max(g.max_raw for g in known)
        stored = _stored_type(kind)
        number = pa.int32() if stored.bit_width == 32 else pa.int64()
        least, most = pa.scalar(least, number), pa.scalar(most, number)
        return least.cast(stored).cast(kind), most.cast(stored).cast(kind)
    if pa.types.is_float16(kind):
        import numpy as np

        least = min(np.frombuffer(g.min_raw, "<f2")[0] for g in known)
        most = max(np.frombuffer(g.max_raw, "<f2")[0] for g in known)
    else:
        least, most = min(g.min for g in known), max(g.max for g in known)
    return pa.scalar(least, kind), pa.scalar(most, kind)


def _stored_type(kind: pa.DataType) -> pa.DataType:
    """Return the type in which Parquet stores a temporal type: it has no seconds, and no date64."""
    if pa.types.is_timestamp(kind) and kind.unit == "s":
        return pa.timestamp("ms", kind.tz)
    if pa.types.is_time32(kind):
        return pa.time32("ms")
    return pa.date32() if pa.types.is_date64(kind) else kind
