"""Files that need not be read, since what is known of all their rows excludes a condition."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc


def matching(
    known: Sequence[pc.Expression], schema: pa.Schema, condition: pc.Expression
) -> Sequence[int]:
    """Return the numbers of the files that may have rows for which `condition` is true.

    `known` says of each file what is true of all its rows; `schema` has their columns.
    """
    import pyarrow.dataset as ds
    from pyarrow.fs import LocalFileSystem

    parquet_format, disk = ds.ParquetFileFormat(), LocalFileSystem()
    fragments = [
        parquet_format.make_fragment(str(at), disk, partition_expression=expression)
        for at, expression in enumerate(known)
    ]
    dataset = ds.FileSystemDataset(fragments, schema, parquet_format, disk)
    try:
        return [int(each.path) for each in dataset.get_fragments(filter=condition)]
    except (pa.ArrowException, ValueError):
        return range(len(known))  # every row is looked at then


def within(name: str, least: pa.Scalar, most: pa.Scalar, has_nulls: bool) -> pc.Expression:
    """Return that all values of a column are between two, or NULL where it may have some."""
    column = pc.field(name)
    limits = (column >= least, column <= most)
    first, second = (each | column.is_null() if has_nulls else each for each in limits)
    return first & second
