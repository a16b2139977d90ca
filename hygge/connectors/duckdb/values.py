"""Values that have an Arrow type of DuckDB's columns, and that DuckDB does not hold."""

from __future__ import annotations

import pyarrow as pa

from hygge.errors import UnfitValue
from hygge.formats import exact_text
from hygge.formats.exact_text import leaves

_SPECIAL = {32: (-(2**31) + 2, 2**31 - 2), 64: (-(2**63) + 2, 2**63 - 2)}
"""The lowest and the highest count of a date or timestamp that is none of DuckDB's infinities."""


def check_values(table: pa.Table, who: str) -> None:
    """Raise UnfitValue for the first value of a table that a column of DuckDB does not hold.

    That is a text that is no UTF-8, a time outside of a day, a moment that DuckDB would take for
    infinity, and a map with one key twice.
    """
    exact_text.check_values(table)
    for name, column in zip(table.column_names, table.columns, strict=True):
        for chunk in column.chunks:
            for leaf in leaves(chunk, is_moment):
                _check_moment(leaf, name, who)
            for leaf in leaves(chunk, pa.types.is_map):
                if exact_text.has_repeated_key(leaf):
                    raise UnfitValue(
                        f"{who}: column '{name}' holds a map with one key twice",
                        "keep one of them, or turn the column into text before",
                    ).at(name)


def is_moment(kind: pa.DataType) -> bool:
    """Whether a type has values that DuckDB has as infinity."""
    return bool(pa.types.is_date32(kind) or pa.types.is_timestamp(kind))


def is_infinite(array: pa.Array) -> bool:
    """Whether dates or timestamps hold what DuckDB has for infinity."""
    import pyarrow.compute as pc

    bits = array.type.bit_width
    ends = pc.min_max(array.cast(pa.int32() if bits == 32 else pa.int64())).as_py()
    low, high = _SPECIAL[bits]
    return ends["min"] is not None and bool(ends["min"] < low or ends["max"] > high)


def _check_moment(array: pa.Array, name: str, who: str) -> None:
    if is_infinite(array):
        raise UnfitValue(
            f"{who}: column '{name}' holds the last moment of its type, which DuckDB takes for "
            "infinity",
            "mend it at the source, or leave these rows out with `where`",
        ).at(name)
