"""CSV of COPY, as PostgreSQL writes it, read into Arrow tables of the planned types.

Where a value is not what the CSV reader knows, its column is read value by value: far years, years
BC. What a type of Arrow does not hold is UnfitValue, with the column and the value.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import pyarrow as pa

from hygge.connectors.postgres.session import quoted
from hygge.errors import HomeError, UnfitValue

_DATE = re.compile(r"(\d{4,})-(\d\d)-(\d\d)( BC)?")
_MOMENT = re.compile(
    r"(\d{4,})-(\d\d)-(\d\d) (\d\d):(\d\d):(\d\d)(?:\.(\d{1,6}))?(?:\+00)?( BC)?",
)
_PER_S = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
_LEAD = "\0lead"


class Cells:
    """Turns CSV of COPY into tables of `schema`; `hexed` are the columns that came as bytea."""

    def __init__(
        self,
        schema: pa.Schema,
        hexed: Sequence[str],
        who: str,
        stated: Iterable[str] = (),
        lead: bool = False,
    ) -> None:
        self.schema, self.hexed, self.who = schema, frozenset(hexed), who
        self.stated, self.lead = frozenset(stated), [_LEAD] if lead else []
        self.slow: set[str] = set()
        """Columns in which a value was met that the CSV reader does not know (44 BC)."""
        binary = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_string)
        self.newlines = bool(self.stated) or any(
            each.name not in self.hexed
            and any(ask(each.type) for ask in (*binary, pa.types.is_large_string))
            for each in schema
        )

    def table(self, data: bytes) -> pa.Table:
        """One batch; UnfitValue for the first value that its column does not hold."""
        kinds = {each.name: self._read_as(each) for each in self.schema}
        try:
            came = self._parsed(data, kinds)
        except pa.ArrowInvalid as error:
            self._look(data, kinds, error)
            return self.table(data)
        arrays = [
            self._finished(_one_array(came.column(at)), field)
            for at, field in enumerate(self.schema)
        ]
        return pa.Table.from_arrays(arrays, schema=self.schema)

    def _read_as(self, field: pa.Field) -> pa.DataType:
        if field.name in self.slow or field.name in self.hexed:
            return pa.binary()
        if pa.types.is_decimal256(field.type) or field.type == pa.float16():
            return pa.string()  # the CSV reader does not know these
        if getattr(field.type, "tz", None):
            return pa.timestamp(field.type.unit, "UTC")
        return field.type

    def _parsed(self, data: bytes, kinds: dict[str, Any], only: list[str] | None = None) -> Any:
        from pyarrow import csv

        return csv.read_csv(
            pa.BufferReader(data),
            read_options=csv.ReadOptions(
                column_names=[*self.lead, *self.schema.names],
                use_threads=False,
                block_size=len(data) + 1,
            ),
            # One column of NULL is an empty line.
            parse_options=csv.ParseOptions(
                newlines_in_values=self.newlines, ignore_empty_lines=False
            ),
            convert_options=csv.ConvertOptions(
                column_types=kinds, include_columns=only or self.schema.names, null_values=[""],
                strings_can_be_null=True, quoted_strings_can_be_null=False,
                true_values=["t", "true"], false_values=["f", "false"],
            ),
        )  # fmt: skip

    def _look(self, data: bytes, kinds: dict[str, Any], error: Exception) -> None:
        """Find the columns that the CSV reader did not understand; they are read another way."""
        fresh = set()
        for name in self.schema.names:
            try:
                self._parsed(data, kinds, [name])
            except pa.ArrowInvalid:
                fresh.add(name)
        if not fresh - self.slow:
            raise HomeError(
                f"{self.who}: the rows that came are not the CSV that was asked for: {error}",
                "this is a defect of hygge: please report it with this message",
            ) from error
        self.slow |= fresh

    def _finished(self, array: Any, field: pa.Field) -> Any:
        if field.name in self.hexed:
            return unhexed(array).cast(field.type)
        if field.name in self.slow:
            return self._slowly(array, field)
        if array.type == field.type:
            return array
        try:
            return array.cast(field.type)
        except pa.ArrowInvalid:
            return self._slowly(array.cast(pa.binary()), field)

    def _slowly(self, array: Any, field: pa.Field) -> Any:
        """Value by value, for what the CSV reader does not know."""
        read = _reader(field.type) or self._one(field)
        values = []
        for value in array.to_pylist():
            try:
                values.append(None if value is None else read(value.decode()))
            except (ValueError, pa.ArrowException) as error:
                raise self._unfit(value, field) from error
        if any(ask(field.type) for ask in (pa.types.is_date, pa.types.is_timestamp)):
            counts = pa.int32() if field.type == pa.date32() else pa.int64()
            return pa.array(values, counts).cast(field.type)
        return pa.array(values, field.type)

    def _one(self, field: pa.Field) -> Callable[[str], Any]:
        """Reads one value as the CSV reader reads many."""
        one = Cells(pa.schema([field]), (), self.who)
        kinds = {field.name: one._read_as(field)}

        def read(text: str) -> Any:
            line = '"' + text.replace('"', '""') + '"\n'
            return one._parsed(line.encode(), kinds).column(0).cast(field.type)[0]

        return read

    def _unfit(self, value: bytes, field: pa.Field) -> UnfitValue:
        try:
            shown = value.decode()
        except UnicodeDecodeError:
            return UnfitValue(
                f"{self.who}: column '{field.name}' holds bytes that are not UTF-8: {value!r:.80}",
                "the database does not check its text (SQL_ASCII): mend it there, or read the "
                f"bytes with a query: SELECT {quoted(field.name)}::bytea",
            )
        shown = shown if len(shown) < 80 else shown[:77] + "..."
        said = f"{self.who}: column '{field.name}' is {field.type}, but holds {shown}"
        if field.name in self.stated:
            return UnfitValue(
                said, f"state another type: options: {{types: {{{field.name}: string}}}}"
            )
        return UnfitValue(
            said,
            f"decide what becomes of such values: options: {{on_value: {{{field.name}: set_null}}}}"
            f" puts NULL there, {{{field.name}: as_text}} reads the column as text",
        )


def _one_array(column: Any) -> Any:
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def unhexed(array: Any) -> Any:
    """bytea as COPY writes it (`\\x0aff`) as its bytes; all values in one go."""
    import binascii

    import numpy as np

    _, ends, data = array.buffers()
    ends = np.frombuffer(ends, np.int32)[array.offset : array.offset + len(array) + 1]
    text = data.to_pybytes()[ends[0] : ends[-1]] if data is not None else b""
    sizes = np.diff(ends).astype(np.int64)
    sizes = np.where(sizes > 0, (sizes - 2) // 2, 0)
    starts = np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes)]).astype(np.int32)
    whole = binascii.unhexlify(text.replace(b"\\x", b""))
    nulls = None
    if array.null_count:
        valid = array.is_valid()
        nulls = pa.concat_arrays([valid]).buffers()[1]
    return pa.Array.from_buffers(
        pa.binary(), len(array), [nulls, pa.py_buffer(starts), pa.py_buffer(whole)]
    )


def _reader(kind: Any) -> Callable[[str], Any] | None:
    """Reads one value that the CSV reader may not know; None where it knows all that there are."""
    t: Any = pa.types
    if t.is_date(kind):
        scale = 1 if kind == pa.date32() else 86_400_000
        return lambda text: _days(_DATE.fullmatch(text)) * scale
    if t.is_timestamp(kind):
        return lambda text: _count(text, kind.unit)
    if kind in (pa.string(), pa.large_string()):
        return str
    return None


def _days(found: re.Match[str] | None) -> int:
    """Days since 1970 in the calendar that PostgreSQL (and Arrow) counts by."""
    if found is None:
        raise ValueError("not a date")
    year, month, day = int(found[1]), int(found[2]), int(found[3])
    if found[found.re.groups]:
        year = 1 - year
    year -= month <= 2
    era, of_era = divmod(year, 400)
    of_year = (153 * (month + (-3 if month > 2 else 9)) + 2) // 5 + day - 1
    return era * 146_097 + of_era * 365 + of_era // 4 - of_era // 100 + of_year - 719_468


def _count(text: str, unit: str) -> int:
    found = _MOMENT.fullmatch(text)
    days = _days(found)
    assert found is not None  # _days refuses it
    seconds = (days * 24 + int(found[4])) * 3600 + int(found[5]) * 60 + int(found[6])
    count = seconds * 1_000_000 + int((found[7] or "0").ljust(6, "0"))
    count, rest = divmod(count * _PER_S[unit], 1_000_000)
    if rest or not -(2**63) <= count < 2**63:
        raise ValueError("not exact")
    return count
