"""Values of a driver that SQLAlchemy knows, as Arrow arrays, and back."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from math import copysign
from typing import Any

import pyarrow as pa

from hygge.connectors.sql.arrays import array_of
from hygge.errors import UnfitValue
from hygge.type_words import value_text, word_of

_CLASSES: dict[str, set[type]] = {
    "integer": {int},
    "floating": {float, int},
    "decimal": {Decimal, int},
    "string": {str},
    "binary": {bytes},
    "boolean": {bool},
    "date": {date},
    "timestamp": {datetime},
    "time": {time},
}


class Infinity:
    """A date or timestamp of PostgreSQL that Python has none for: `infinity` or `-infinity`."""

    def __init__(self, text: str) -> None:
        self.text = text


def refuse_infinity(values: Iterable[Any], who: str, column: str) -> None:
    """Raise UnfitValue that names the column where one of its values is infinite."""
    found = next((value for value in values if isinstance(value, Infinity)), None)
    if found is not None:
        raise UnfitValue(
            f"{who}: column '{column}' holds {found.text}, and the dates and timestamps of Python "
            "end with the year 9999",
            "read the column as text in a query (CAST(… AS text)), or connect with "
            "postgresql:// and decide with `on_value`",
        ).at(column, found.text)


def decode(values: Sequence[Any], kind: Any, who: str, column: str) -> Any:
    """Values of a driver as an Arrow array of `kind`, or UnfitValue that names the first misfit."""
    allowed: set[type] = next(
        (found for name, found in _CLASSES.items() if getattr(pa.types, f"is_{name}")(kind)), set()
    )
    if memoryview in set(map(type, values)):
        values = [bytes(v) if isinstance(v, memoryview) else v for v in values]
    if Infinity in set(map(type, values)):
        refuse_infinity(values, who, column)
    if pa.types.is_time(kind) and timedelta in set(map(type, values)):
        values = [_time_of(value) for value in values]
    zoned = bool(getattr(kind, "tz", None))

    def made(some: Sequence[Any]) -> Any:
        if not set(map(type, some)) - {type(None)} <= allowed:
            raise TypeError("another class")
        if datetime in allowed and any(v is not None and bool(v.tzinfo) != zoned for v in some):
            raise TypeError("with or without a zone")
        return array_of(some, kind)

    try:
        return made(values)
    except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
        for value in values:
            try:
                made([value])
            except (pa.ArrowException, TypeError, ValueError, OverflowError) as misfit:
                raise UnfitValue(
                    f"{who}: column '{column}' is {word_of(kind)}, but holds {value_text(value)}",
                    f"read it as text: options: {{types: {{{column}: string}}}}",
                ) from misfit
        raise UnfitValue(f"{who}: column '{column}': {error}") from error


def _time_of(value: Any) -> Any:
    """A TIME of MySQL, which its drivers give as a duration, as a time of a day where it is one."""
    if isinstance(value, timedelta) and timedelta(0) <= value < timedelta(days=1):
        return (datetime.min + value).time()
    return value


def encode(column: Any, who: str, name: str, driver: str = "") -> list[Any]:
    """An Arrow column as Python values for a driver."""
    kind = column.type
    if driver == "psycopg2" and pa.types.is_floating(kind):
        # It would write the literal -0.0, which is a numeric, and has no sign.
        return ["-0.0" if v == 0 and copysign(1, v) < 0 else v for v in column.to_pylist()]
    if pa.types.is_timestamp(kind) and kind.tz:
        column = column.cast(pa.timestamp(kind.unit, "UTC"))
    try:
        values: list[Any] = column.to_pylist()
        return values
    except (ValueError, OverflowError) as error:
        raise UnfitValue(
            f"{who}: column '{name}' holds a moment outside of the years 1 to 9999: {error}",
            "leave these rows out, or turn the column into text before",
        ) from error
