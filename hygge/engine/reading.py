"""What every engine does between `Home.read` and `Store.stage`: one schema, batches of a size."""

from __future__ import annotations

from collections.abc import Generator, Iterator

import pyarrow as pa

from hygge.batches import conform, peek, slices
from hygge.home import Home
from hygge.model import Limits, Split


def batches(
    home: Home, split: Split, schema: pa.Schema | None, limits: Limits
) -> Generator[pa.Table]:
    """The split's rows in the plan's schema, cut to `batch_bytes`; closes the Home's iterator."""
    who, planned = home.describe(), schema
    tables = iter(home.read(split))
    try:
        rest = tables
        if schema is None:
            schema, rest = peek(tables, limits.batch_bytes, who)
        came = False
        for table in rest:
            came = came or table.num_rows > 0
            assert schema is not None  # a stream that gives a table has a schema
            whole = conform(table, schema, who)
            del table
            yield from slices(whole, max(1, whole.num_rows), limits.batch_bytes)
            del whole
        if not came and planned is None and schema is not None:
            yield schema.empty_table()  # no row, but the first to say what the columns are
    finally:
        close = getattr(tables, "close", None)
        if close is not None:
            close()


def staged_schema(
    schema: pa.Schema | None, tables: Iterator[pa.Table]
) -> tuple[pa.Schema | None, Iterator[pa.Table]]:
    """The schema to stage with: the plan's, or that of the first batch; and all batches again."""
    if schema is not None:
        return schema, tables
    first = next(tables, None)
    if first is None:
        return None, iter(())
    return first.schema, _again(first, tables)


def _again(first: pa.Table, rest: Iterator[pa.Table]) -> Iterator[pa.Table]:
    yield first
    del first
    yield from rest
