"""The row groups of a Parquet file that may have rows for which a condition is true."""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa
import pyarrow.compute as pc

from hygge.formats.source import open_source
from hygge.places.objects import is_object_url


def groups_with(
    path: str, condition: pc.Expression, schema: pa.Schema, keys: Mapping[str, str | None]
) -> set[int] | None:
    """Return the row groups that may have rows for which `condition` is true; None: not known.

    `schema` has the planned columns, `keys` the values of hive partitions. Statistics tell it.
    """
    import pyarrow.dataset as ds

    known = pc.scalar(True)
    try:
        for name, text in keys.items():
            index = schema.get_field_index(name)
            if index >= 0 and text is not None:
                known = known & (pc.field(name) == pa.scalar(text).cast(schema.field(index).type))
        on_objects = is_object_url(path)
        source = open_source(path, 0) if on_objects else pa.OSFile(path)
        fragment = ds.ParquetFileFormat().make_fragment(source, partition_expression=known)
        kept = fragment.subset(condition, schema=schema).row_groups
    except (pa.ArrowException, OSError, ValueError):
        return None  # every row is looked at then
    return {group.id for group in kept}
