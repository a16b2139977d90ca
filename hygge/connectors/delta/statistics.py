"""What an entry of the log says of a file: rows, NULLs, the least and the greatest values.

Readers leave a file unread by them, so they must hold for every row. Columns where that is not
sure get none: floats (NaN is in no limits), long texts, wide decimals, nested values.
"""

from __future__ import annotations

import json
from datetime import date, datetime, timedelta
from typing import Any

import pyarrow as pa

from hygge.formats.format import FileStatistics

_MOST_COLUMNS = 32
"""As many as Delta's own writers describe, from the first on."""
_MOST_CHARACTERS = 64
_EXACT_DIGITS = 15
"""Digits of a decimal that every reader of JSON keeps."""


def as_json(statistics: FileStatistics, schema: pa.Schema) -> str:
    """Return the statistics of a file of these columns as Delta writes them."""
    least: dict[str, Any] = {}
    most: dict[str, Any] = {}
    nulls: dict[str, int] = {}
    for field in list(schema)[:_MOST_COLUMNS]:
        if pa.types.is_nested(field.type):
            continue
        column = statistics.columns[field.name]
        nulls[field.name] = column.null_count
        if column.min is None or column.max is None:
            continue
        ends = _limit(column.min, field.type, False), _limit(column.max, field.type, True)
        if None not in ends:
            least[field.name], most[field.name] = ends
    content = {"numRecords": statistics.rows, "minValues": least, "maxValues": most}
    return json.dumps({**content, "nullCount": nulls}, ensure_ascii=False)


def _limit(scalar: pa.Scalar, kind: pa.DataType, is_most: bool) -> Any:
    """Return a limit as JSON; None where the type has none."""
    t = pa.types
    if t.is_signed_integer(kind):
        return scalar.as_py()
    if t.is_string(kind):
        text = scalar.as_py()
        return text if len(text) <= _MOST_CHARACTERS else None
    if t.is_decimal(kind) and kind.precision <= _EXACT_DIGITS:
        return float(scalar.as_py()) if kind.scale else int(scalar.as_py())
    try:
        value = scalar.as_py() if t.is_date32(kind) or t.is_timestamp(kind) else None
        return None if value is None else _moment(value, is_most)
    except (OverflowError, ValueError):  # beyond the years that Python knows
        return None


def _moment(value: date, is_most: bool) -> str | None:
    """Return a date, or a timestamp in whole milliseconds: readers may keep no more."""
    if not 1000 <= value.year < 9999:
        return None
    if not isinstance(value, datetime):
        return value.isoformat()
    whole = value.replace(microsecond=value.microsecond // 1000 * 1000)
    if is_most and whole != value:
        whole += timedelta(milliseconds=1)
    text = whole.replace(tzinfo=None).isoformat(timespec="milliseconds")
    return f"{text}Z" if value.tzinfo is not None else text
