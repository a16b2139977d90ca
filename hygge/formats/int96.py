"""INT96, the timestamp of old Parquet: which unit keeps it, and a check that none is changed.

Each value is a day and the nanoseconds of that day. pyarrow gives it in a unit that it is told; in
nanoseconds the year 9999 becomes 1816, in microseconds digits are lost, and neither is said. So a
row group's INT96 columns are read in both units, and compared.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Literal

import pyarrow as pa

from hygge.errors import UnfitValue
from hygge.formats.exact_text import leaves, times_as_text

if TYPE_CHECKING:
    import pyarrow.parquet as pq

Unit = Literal["us", "ns"]
_ROWS = 65_536
_MOST_US = (2**63 - 1) // 1000
"""The last microsecond that a count of nanoseconds reaches."""


def columns_of(file: pq.ParquetFile) -> list[str]:
    """Return the names of the top-level columns that are INT96, or have some within."""
    columns = (file.schema.column(index) for index in range(len(file.schema)))
    paths = [column.path for column in columns if column.physical_type == "INT96"]
    if not paths:
        return []
    return [
        name
        for name in file.schema_arrow.names
        if any(path == name or path.startswith(f"{name}.") for path in paths)
    ]


def unit_of(schema: pa.Schema, columns: Sequence[str]) -> Unit:
    """Return the unit in which a schema has INT96 columns."""
    kinds = [schema.field(name).type for name in columns]
    while kinds:
        kind = kinds.pop()
        if pa.types.is_timestamp(kind):
            return "ns" if kind.unit == "ns" else "us"
        kinds += [kind.field(index).type for index in range(kind.num_fields)]
    return "us"


def found_unit(in_us: pq.ParquetFile, in_ns: pq.ParquetFile, columns: Sequence[str]) -> Unit:
    """Return ns where one of the first rows has digits beyond microseconds, else us."""
    import pyarrow.compute as pc

    for pair in _pairs(in_us, in_ns, 0, columns) if in_us.num_row_groups else ():
        return "ns" if any(pc.any(_has_digits(us, ns)).as_py() for _, us, ns in pair) else "us"
    return "us"


def check_group(
    path: str, in_us: pq.ParquetFile, in_ns: pq.ParquetFile, group: int, columns: Sequence[str],
    unit: Unit,
) -> None:  # fmt: skip
    """Raise UnfitValue for the first value of a row group that `unit` does not keep."""
    import pyarrow.compute as pc

    for pair in _pairs(in_us, in_ns, group, columns):
        for name, us, ns in pair:
            if unit == "us":
                changed, exact = _has_digits(us, ns), ns
            else:
                count = us.cast(pa.int64())
                changed, exact = pc.or_(pc.less(count, -_MOST_US), pc.greater(count, _MOST_US)), us
            if pc.any(changed).as_py():
                value = times_as_text(exact.filter(pc.fill_null(changed, False)).slice(0, 1))[0]
                raise UnfitValue(
                    f"{path}: column '{name}' holds {value}, which timestamp[{unit}] cannot keep; "
                    "the file's first rows need that unit",
                    "leave it out with `columns`, or write the file again with timestamps that are "
                    "not INT96",
                )


def _has_digits(us: pa.Array, ns: pa.Array) -> pa.Array:
    """Return whether each value has digits beyond microseconds; both counts wrap around alike."""
    import pyarrow.compute as pc

    return pc.not_equal(pc.multiply(us.cast(pa.int64()), 1000), ns.cast(pa.int64()))


def _pairs(
    in_us: pq.ParquetFile, in_ns: pq.ParquetFile, group: int, columns: Sequence[str]
) -> Iterator[list[tuple[str, pa.Array, pa.Array]]]:
    """Yield, batch by batch, (column, its timestamps in us, the same in ns) at any depth."""
    readers = (
        file.iter_batches(
            batch_size=_ROWS, row_groups=[group], columns=list(columns), use_threads=False
        )
        for file in (in_us, in_ns)
    )
    for batch_us, batch_ns in zip(*readers, strict=True):
        yield [
            (name, us, ns)
            for name in columns
            for us, ns in zip(
                leaves(batch_us.column(name), pa.types.is_timestamp),
                leaves(batch_ns.column(name), pa.types.is_timestamp),
                strict=True,
            )
        ]
