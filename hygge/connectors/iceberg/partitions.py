"""Partitions of a table: `partition_by`, and the rows of a batch by their partition.

    partition_by: [country]         the values of a column
    partition_by: [day(sold_at)]    or year(…), month(…), and hour(…) of a timestamp, as UTC

`bucket[n]`, `truncate` and the like are refused, also where a table has them already.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from hygge.errors import ConfigError, StoreError

_FORM = re.compile(r"(?:(?P<how>\w+)\()?(?P<column>[^()]+)\)?")
_BUILT = ("identity", "year", "month", "day", "hour")
_FIRST_ID = 1000
_HOUR_US = 3_600_000_000

Key = tuple[Any, ...]
"""The values of a partition, in Iceberg's own form: days since 1970 for a date, and so on."""


@dataclass(frozen=True)
class Part:
    """One field of `partition_by`."""

    column: str
    how: str = "identity"

    def __str__(self) -> str:
        return self.column if self.how == "identity" else f"{self.how}({self.column})"


def read_parts(texts: Sequence[str], who: str) -> tuple[Part, ...]:
    """Return the fields of `partition_by`; raise ConfigError for what is not built."""
    parts = []
    for text in texts:
        match = _FORM.fullmatch(text.strip())
        how = (match and match["how"]) or "identity"
        if match is None or how not in _BUILT:
            raise ConfigError(
                f"{who}: 'partition_by' has {text!r}, which hygge does not write",
                "a column, or year(), month(), day() or hour() of one",
            )
        parts.append(Part(match["column"], how))
    return tuple(parts)


def spec_of(parts: Sequence[Part], schema: Any, where: str) -> Any:
    """Return Iceberg's partition spec of a new table. Raises StoreError for a missing column."""
    from pyiceberg.partitioning import PartitionField, PartitionSpec
    from pyiceberg.transforms import parse_transform

    fields = []
    for number, part in enumerate(parts, _FIRST_ID):
        names = [field.name for field in schema.fields]
        if part.column not in names:
            raise StoreError(
                f"{where}: 'partition_by' names '{part.column}', and the rows have "
                f"{', '.join(names)}",
                "name a column of the rows",
            )
        field = schema.find_field(part.column)
        _check_type(part, field.field_type, where)
        name = part.column if part.how == "identity" else f"{part.column}_{part.how}"
        transform = parse_transform(part.how)
        fields.append(PartitionField(field.field_id, number, transform, name))
    return PartitionSpec(*fields)


def _check_type(part: Part, kind: Any, where: str) -> None:
    from pyiceberg import types as ice

    timed = (ice.TimestampType, ice.TimestamptzType)
    dated = (ice.DateType, *timed)
    plain = (ice.BooleanType, ice.IntegerType, ice.LongType, ice.StringType, ice.DecimalType)
    kinds = {"identity": (*dated, *plain), "hour": timed}
    if not isinstance(kind, kinds.get(part.how, dated)):
        raise StoreError(
            f"{where}: a column of type {kind} does not partition a table as {part}",
            "partition by a text, a whole number, a decimal, a date or a timestamp; year(), "
            "month() and day() are of the last two, hour() of a timestamp",
        )


def parts_of(table: Any, wanted: Sequence[Part] | None, where: str) -> tuple[Part, ...]:
    """Return the partition fields that a table has.

    Raises StoreError where these are not what the flow wants (None: it says nothing), or where
    hygge does not write such a partition.
    """
    parts = []
    for field in table.spec().fields:
        how = str(field.transform)
        if how not in _BUILT:
            raise StoreError(
                f"{where} is partitioned by {how} of column "
                f"'{table.schema().find_column_name(field.source_id)}', which hygge does not write",
                "write to a table that is partitioned by a column, its year, month, day or hour",
            )
        part = Part(table.schema().find_column_name(field.source_id), how)
        _check_type(part, table.schema().find_type(field.source_id), where)
        parts.append(part)
    if wanted is not None and tuple(wanted) != tuple(parts):
        there = ", ".join(map(str, parts)) or "nothing"
        raise StoreError(
            f"{where} is partitioned by {there}, and 'partition_by' says "
            f"{', '.join(map(str, wanted)) or 'nothing'}",
            "say what the table has, or drop it and run again",
        )
    return tuple(parts)


def by_partition(table: pa.Table, parts: Sequence[Part]) -> Iterator[tuple[Key, pa.Table]]:
    """Yield the rows of each partition, in their order."""
    if not parts:
        yield (), table
    if not parts or not table.num_rows:  # no rows are of no partition
        return
    arrays = [_values(table.column(part.column), part.how) for part in parts]
    codes = np.zeros(table.num_rows, np.int64)
    for array in arrays:
        encoded = array.combine_chunks().dictionary_encode()
        encoded = encoded.combine_chunks() if isinstance(encoded, pa.ChunkedArray) else encoded
        _, codes = np.unique(codes, return_inverse=True)
        codes = codes * (len(encoded.dictionary) + 1)
        codes = codes + np.asarray(pc.fill_null(encoded.indices, len(encoded.dictionary)))
    _, first, inverse = np.unique(codes, return_index=True, return_inverse=True)
    if len(first) == 1:
        yield _key(arrays, 0), table
        return
    for number, at in enumerate(first):
        rows = np.flatnonzero(inverse == number)
        yield _key(arrays, int(at)), table.take(pa.array(rows))


def _values(column: pa.ChunkedArray, how: str) -> pa.ChunkedArray:
    if how == "identity":
        return column
    if how == "hour":
        hours = pc.floor_temporal(column, unit="hour").cast(pa.int64())
        return pc.divide(hours, _HOUR_US).cast(pa.int32())
    days = column.cast(pa.date32())
    if how == "day":
        return days.cast(pa.int32())
    years = pc.subtract(pc.year(days).cast(pa.int32()), pa.scalar(1970, pa.int32()))
    if how == "year":
        return years
    months = pc.subtract(pc.month(days).cast(pa.int32()), pa.scalar(1, pa.int32()))
    return pc.add(pc.multiply(years, pa.scalar(12, pa.int32())), months)


def _key(arrays: Sequence[pa.ChunkedArray], at: int) -> Key:
    return tuple(_own_form(array[at]) for array in arrays)


def _own_form(scalar: pa.Scalar) -> Any:
    """Return a value as Iceberg has it: a date as its days, a timestamp as its microseconds."""
    if not scalar.is_valid:
        return None
    kind = scalar.type
    if pa.types.is_date(kind) or pa.types.is_timestamp(kind):
        return scalar.value
    return scalar.as_py()


def key_text(key: Key) -> str:
    """Return the values of a partition as JSON that gives them back exactly."""
    from decimal import Decimal

    return json.dumps([["d", str(v)] if isinstance(v, Decimal) else v for v in key])


def text_key(text: str) -> Key:
    """Return the values that `key_text` wrote."""
    from decimal import Decimal

    return tuple(Decimal(v[1]) if isinstance(v, list) else v for v in json.loads(text))
