"""Arrow arrays of a driver's Python values, without pandas.

`pa.array` imports pandas to see whether it was given a Series: half a second of CPU, once a
process. Whole numbers, floats, texts and bytes are made here from plain buffers instead, which
takes about as long as `pa.array` does. Where pandas is loaded already, and for all other types,
`pa.array` is used.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from hygge.arrays import validity

_MOST_ENCODED = 100_000
"""Texts of a batch that are encoded one by one; for more, pandas is loaded in less time."""


def array_of(values: Sequence[Any], kind: pa.DataType) -> pa.Array:
    """Return `values`, of which some may be None, as `pa.array(values, kind)` does.

    Raises what `pa.array` raises, OverflowError, or UnicodeEncodeError.
    """
    if "pandas" in sys.modules:
        return pa.array(values, kind)
    classes = set(map(type, values))
    only = classes - {type(None)}
    made: pa.Array | None = None
    if pa.types.is_integer(kind) and kind != pa.uint64() and only <= {int}:
        made = _numbers(values, pa.int64()).cast(kind)
    elif kind == pa.float64() and only <= {float}:
        made = _numbers(values, kind)
    elif (kind == pa.string() and only <= {str}) or (kind == pa.binary() and only <= {bytes}):
        made = _pieces(values, kind)
    return pa.array(values, kind) if made is None else made


def _numbers(values: Sequence[Any], kind: pa.DataType) -> pa.Array:
    nulls = validity(values)
    if nulls is not None:
        values = [0 if value is None else value for value in values]
    numbers = array("q" if kind == pa.int64() else "d", values)
    return pa.Array.from_buffers(kind, len(numbers), [nulls, pa.py_buffer(numbers)])


def _pieces(values: Sequence[Any], kind: pa.DataType) -> pa.Array | None:
    """Return an array of texts or bytes; None where `pa.array` is quicker, or they are too long."""
    import numpy as np

    nulls = validity(values)
    empty: Any = "" if kind == pa.string() else b""
    if nulls is not None:
        values = [empty if value is None else value for value in values]
    joined = empty.join(values)
    if isinstance(joined, str):
        if joined.isascii():
            joined = joined.encode()
        elif len(values) > _MOST_ENCODED:
            return None
        else:
            values = [value.encode() for value in values]
            joined = b"".join(values)
    if len(joined) >= 2**31:
        return None
    ends = np.zeros(len(values) + 1, np.int32)
    np.cumsum(np.fromiter(map(len, values), np.int32, len(values)), out=ends[1:])
    buffers = [nulls, pa.py_buffer(ends), pa.py_buffer(joined)]
    return pa.Array.from_buffers(kind, len(values), buffers)
