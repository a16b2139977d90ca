"""One form for the values of a column on both sides, whatever exact types the two ends have.

A database widens `decimal(10,2)` to `decimal(12,2)`, or `int32` to `int64`; that changes no value.
So each pair of types has a form in which equal values are equal.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from decimal import Decimal
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

Form = Literal[
    "integer", "number", "float", "whole", "instant", "time", "text", "bytes", "json", "nested"
]
_PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
_DAY_S = 86_400


def common_form(one: pa.DataType, other: pa.DataType, is_json: bool = False) -> Form | None:
    """Return the form in which values of two types are compared; None: they cannot be."""
    kinds = {_kind(_bare(one)), _kind(_bare(other))}
    if is_json and kinds <= {"text", "nested"}:
        return "json"
    if len(kinds) == 1:
        return kinds.pop()
    if kinds == {"integer", "number"}:
        return "number"
    if kinds == {"integer", "float"}:
        return "whole"
    if kinds == {"number", "float"}:
        return "float"
    if kinds == {"text", "integer"} or kinds == {"text", "bytes"}:
        return "text" if "integer" in kinds else "bytes"
    return "json" if kinds == {"text", "nested"} else None


def in_form(column: pa.ChunkedArray, form: Form) -> list[NDArray[Any]]:
    """Return the values of a column as one array, or two; what stands where it is NULL is any.

    The arrays are of integers, of float64, or of `str` and `bytes` objects.
    """
    return _FORMS[form](_plain(column))


def _bare(kind: pa.DataType) -> pa.DataType:
    if isinstance(kind, pa.BaseExtensionType):
        return _bare(kind.storage_type)
    is_encoded = pa.types.is_dictionary(kind) or pa.types.is_run_end_encoded(kind)
    return _bare(kind.value_type) if is_encoded else kind


def _kind(kind: pa.DataType) -> Form:
    types = pa.types
    if types.is_integer(kind) or types.is_boolean(kind) or types.is_null(kind):
        return "integer"
    if types.is_decimal(kind):
        return "number"
    if types.is_floating(kind):
        return "float"
    if types.is_timestamp(kind) or types.is_date(kind):
        return "instant"
    if types.is_time(kind) or types.is_duration(kind):
        return "time"
    if types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind):
        return "text"
    is_bytes = types.is_binary(kind) or types.is_large_binary(kind) or types.is_binary_view(kind)
    return "bytes" if is_bytes or types.is_fixed_size_binary(kind) else "nested"


def _plain(column: pa.ChunkedArray) -> pa.Array:
    array = column.combine_chunks()
    if isinstance(array, pa.ChunkedArray):
        array = pa.concat_arrays(array.chunks) if array.num_chunks else pa.array([], column.type)
    if isinstance(array.type, pa.BaseExtensionType):
        array = array.storage
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    if pa.types.is_run_end_encoded(array.type):
        array = pc.run_end_decode(array)
    return array


def _integers(array: pa.Array) -> list[NDArray[Any]]:
    if pa.types.is_null(array.type):
        return [np.zeros(len(array), np.int64)]
    if pa.types.is_uint64(array.type):
        numbers = _numpy(array)
        # Below 2**63 it must be equal to the same number as an int64.
        return [numbers.view(np.int64), (numbers >> np.uint64(63)).astype(np.int64)]
    numbers = _numpy(array.cast(pa.int64()))
    return [numbers, np.zeros(len(numbers), np.int64)]


def _numbers(array: pa.Array) -> list[NDArray[Any]]:
    values = [None if value is None else Decimal(value) for value in array.to_pylist()]
    texts = ["" if value is None else f"{value:f}" for value in values]
    return [_objects(_shortened(text) for text in texts)]


def _shortened(text: str) -> str:
    """Return a decimal without zeros at its end: `1.50` and `1.5` are one number."""
    shorter = text.rstrip("0").rstrip(".") if "." in text else text
    return "0" if shorter in ("-0", "", "-") else shorter


def _floats(array: pa.Array) -> list[NDArray[Any]]:
    if pa.types.is_decimal(array.type):  # Arrow's cast is not the nearest float
        values = [0.0 if value is None else float(value) for value in array.to_pylist()]
        array = pa.array(values, pa.float64())
    numbers = _numpy(array.cast(pa.float64(), safe=False)) + 0.0  # no -0.0
    return [np.where(np.isnan(numbers), np.nan, numbers).view(np.int64)]


def _whole(array: pa.Array) -> list[NDArray[Any]]:
    """Return integers as `_integers` does, and what no integer is as the bits of its float."""
    if not pa.types.is_floating(array.type):
        numbers = _integers(array)
        return [*numbers, np.zeros(len(array), np.int64)]
    floats = _numpy(array.cast(pa.float64()))
    is_whole = (np.floor(floats) == floats) & (floats >= -(2.0**63)) & (floats < 2.0**64)
    is_high = is_whole & (floats >= 2.0**63)
    low = np.where(is_whole & ~is_high, floats, 0.0).astype(np.int64)
    high = np.where(is_high, floats, 0.0).astype(np.uint64).view(np.int64)
    (bits,) = _floats(array)
    zeros = np.zeros(len(array), np.int64)
    return [np.where(is_high, high, low), is_high.astype(np.int64), np.where(is_whole, zeros, bits)]


def _instants(array: pa.Array) -> list[NDArray[Any]]:
    """Return (seconds, nanoseconds): a nanosecond counts, and so does the year 9999."""
    if pa.types.is_date32(array.type):
        days = _numpy(array.cast(pa.int32())).astype(np.int64)
        return [days * _DAY_S, np.zeros(len(days), np.int64)]
    unit = "ms" if pa.types.is_date64(array.type) else array.type.unit
    return _seconds(_numpy(array.cast(pa.int64())), unit)


def _times(array: pa.Array) -> list[NDArray[Any]]:
    kind = pa.int32() if pa.types.is_time32(array.type) else pa.int64()
    return _seconds(_numpy(array.cast(kind)).astype(np.int64), array.type.unit)


def _seconds(ticks: NDArray[Any], unit: str) -> list[NDArray[Any]]:
    per_s = _PER_SECOND[unit]
    return [ticks // per_s, (ticks % per_s) * (10**9 // per_s)]


def _texts(array: pa.Array) -> list[NDArray[Any]]:
    if pa.types.is_boolean(array.type):
        array = array.cast(pa.int64())
    return [_objects("" if v is None else v for v in array.cast(pa.string()).to_pylist())]


def _bytes(array: pa.Array) -> list[NDArray[Any]]:
    if pa.types.is_fixed_size_binary(array.type):
        array = array.cast(pa.binary(array.type.byte_width)).cast(pa.binary())
    values = array.cast(pa.binary()).to_pylist()
    return [_objects("" if value is None else value.hex() for value in values)]


def _json(array: pa.Array) -> list[NDArray[Any]]:
    return [_objects(map(_json_text, array.to_pylist()))]


def _json_text(value: Any) -> str:
    if isinstance(value, str):
        with contextlib.suppress(ValueError):  # a text that is no JSON stays one
            value = json.loads(value)
    return json.dumps(value, sort_keys=True, default=str)


def _nested(array: pa.Array) -> list[NDArray[Any]]:
    return [_objects(json.dumps(v, sort_keys=True, default=str) for v in array.to_pylist())]


def _numpy(array: pa.Array) -> NDArray[Any]:
    """Return numbers; 0 stands where there is NULL."""
    filled: NDArray[Any] = pc.fill_null(array, 0).to_numpy(zero_copy_only=False)
    return filled


def _objects(values: Any) -> NDArray[Any]:
    return np.array([*values, None], dtype=object)[:-1]  # a list of lists must not become a matrix


_FORMS: dict[Form, Callable[[pa.Array], list[NDArray[Any]]]] = {
    "integer": _integers, "number": _numbers, "float": _floats, "whole": _whole,
    "instant": _instants, "time": _times, "text": _texts, "bytes": _bytes, "json": _json,
    "nested": _nested,
}  # fmt: skip
