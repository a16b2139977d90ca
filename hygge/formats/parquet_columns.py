"""The columns of a Parquet file that get a dictionary, and those that get statistics.

Column statistics are written for every column but those of very long values. A dictionary is
written only for columns in which the first rows repeat themselves: it makes those smaller, and the
others slower.
"""

from __future__ import annotations

from collections.abc import Collection

import pyarrow as pa

_SAMPLE_ROWS = 20_000
_LONG_BYTES = 64 * 1024
"""Longer values (of a row, on average) get neither statistics nor a dictionary."""
_DICTIONARY_BELOW = 0.5
"""A dictionary pays where fewer than this share of the sampled values are distinct."""


def repeating(table: pa.Table, ordered: Collection[str]) -> list[str] | bool:
    """Return the columns in which the first rows repeat themselves, by their paths in Parquet.

    Those that are `ordered` dictionaries are among them.
    """
    from pyarrow._compute import call_function  # pyarrow.compute is slow to load

    if table.num_rows < 1000:  # too few rows to tell; they matter where their values are long
        return _short_columns(table)
    sample = table.slice(0, _SAMPLE_ROWS)
    found = []
    for field, column in zip(sample.schema, sample.columns, strict=True):
        if pa.types.is_boolean(field.type):
            continue
        if field.name in ordered:
            found.append(field.name)
            continue
        if pa.types.is_nested(field.type):
            found.append(field.name)  # for its leaves Parquet decides
            continue
        try:
            distinct = call_function("count_distinct", [column]).as_py()
        except pa.ArrowNotImplementedError:
            continue
        if distinct < _DICTIONARY_BELOW * sample.num_rows:
            found.append(field.name)
    return found


def with_statistics(table: pa.Table, marks: Collection[str]) -> list[str] | bool:
    """Return `_short_columns` without those whose mark may give their values another order."""
    short = _short_columns(table)
    if not marks:
        return short
    names = table.column_names if short is True else list(short or ())
    times = [field.name for field in table.schema if pa.types.is_time(field.type)]
    return [name for name in names if name not in marks or name in times]


def _short_columns(table: pa.Table) -> list[str] | bool:
    """Return True, or the columns whose values are short where some have long ones.

    Of long values the smallest and the largest are copied while a row group is written, and left
    out of the file then, and so are those of a dictionary: 300 MB for a value of 50 MB.
    """
    most = _LONG_BYTES * max(1, table.num_rows)
    columns = zip(table.column_names, table.columns, strict=True)
    short = [name for name, column in columns if column.nbytes <= most]
    return short if len(short) < table.num_columns else True
