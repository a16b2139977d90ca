"""Values of PostgreSQL: CSV of COPY, read into Arrow tables of the planned types.

pyarrow's CSV reader reads whole columns. A column in which it meets a value that it does not know
(a far year, a year BC) is read value by value from then on. A value that the Arrow type does not
hold is an UnfitValue with the column and the value.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from hygge.connectors.postgres.session import quoted
from hygge.errors import HomeError, UnfitValue
from hygge.type_words import value_text, word_of

if TYPE_CHECKING:
    from psycopg.abc import Buffer

_DATE = re.compile(r"(\d{4,})-(\d\d)-(\d\d)( BC)?")
_MOMENT = re.compile(
    r"(\d{4,})-(\d\d)-(\d\d) (\d\d):(\d\d):(\d\d)(?:\.(\d{1,6}))?(?:\+00)?( BC)?",
)
_PER_S = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
_LEAD = "\0lead"


class CsvReader:
    """Reads CSV of COPY into tables of `schema`."""

    def __init__(
        self,
        schema: pa.Schema,
        hex_columns: Iterable[str],
        who: str,
        stated: Iterable[str] = (),
        has_lead: bool = False,
    ) -> None:
        """`hex_columns` come as bytea does; the user stated the types of the columns `stated`.

        With `has_lead` each row begins with a cell that belongs to no column.
        """
        self.schema, self.hex_columns, self.who = schema, frozenset(hex_columns), who
        self.stated, self.lead = frozenset(stated), [_LEAD] if has_lead else []
        self.slow_columns: set[str] = set()
        """Columns in which a value was met that the CSV reader does not know (44 BC)."""
        self.newlines = bool(self.stated) or any(
            field.name not in self.hex_columns and _may_hold_newlines(field.type)
            for field in schema
        )

    def table(self, data: Buffer) -> pa.Table:
        """Read one batch; raises UnfitValue for the first value that its column does not hold."""
        kinds = {field.name: self._csv_type(field) for field in self.schema}
        try:
            parsed = self._parse(data, kinds)
        except pa.ArrowInvalid as error:
            self._find_slow_columns(data, kinds, error)
            return self.table(data)
        arrays = [
            self._convert(_one_array(parsed.column(at)), field)
            for at, field in enumerate(self.schema)
        ]
        return pa.Table.from_arrays(arrays, schema=self.schema)

    def _csv_type(self, field: pa.Field) -> pa.DataType:
        """The type that the CSV reader gives to a column, before it is converted."""
        if field.name in self.slow_columns or field.name in self.hex_columns:
            return pa.binary()
        if pa.types.is_decimal256(field.type) or field.type == pa.float16():
            return pa.string()  # the CSV reader does not know these
        if getattr(field.type, "tz", None):
            return pa.timestamp(field.type.unit, "UTC")
        return field.type

    def _parse(
        self, data: Buffer, kinds: dict[str, pa.DataType], only: Sequence[str] | None = None
    ) -> pa.Table:
        from pyarrow import csv

        return csv.read_csv(
            pa.BufferReader(data),
            read_options=csv.ReadOptions(
                column_names=[*self.lead, *self.schema.names],
                use_threads=False,
                block_size=len(data) + 1,
            ),
            # A row of one NULL is an empty line.
            parse_options=csv.ParseOptions(
                newlines_in_values=self.newlines, ignore_empty_lines=False
            ),
            convert_options=csv.ConvertOptions(
                column_types=kinds, include_columns=only or self.schema.names, null_values=[""],
                strings_can_be_null=True, quoted_strings_can_be_null=False,
                true_values=["t", "true"], false_values=["f", "false"],
            ),
        )  # fmt: skip

    def _find_slow_columns(
        self, data: Buffer, kinds: dict[str, pa.DataType], error: Exception
    ) -> None:
        """Find the columns that the CSV reader did not understand; they are read by value."""
        failed = set()
        for name in self.schema.names:
            try:
                self._parse(data, kinds, [name])
            except pa.ArrowInvalid:
                failed.add(name)
        if not failed - self.slow_columns:
            raise HomeError(
                f"{self.who}: the rows that came are not the CSV that was asked for: {error}",
                "this is a defect of hygge: please report it with this message",
            ) from error
        self.slow_columns |= failed

    def _convert(self, array: pa.Array, field: pa.Field) -> pa.Array:
        if field.name in self.hex_columns:
            return unhex(array).cast(field.type)
        if field.name in self.slow_columns:
            return self._convert_slowly(array, field)
        if array.type == field.type:
            return array
        try:
            return array.cast(field.type)
        except pa.ArrowInvalid:
            return self._convert_slowly(array.cast(pa.binary()), field)

    def _convert_slowly(self, array: pa.Array, field: pa.Field) -> pa.Array:
        """Convert texts value by value, those too that the CSV reader does not know."""
        parse = _value_parser(field.type) or self._one_value_parser(field)
        values = []
        for value in array.to_pylist():
            try:
                values.append(None if value is None else parse(value.decode()))
            except (ValueError, pa.ArrowException) as error:
                raise self._unfit(value, field) from error
        if pa.types.is_date(field.type) or pa.types.is_timestamp(field.type):
            counts = pa.int32() if field.type == pa.date32() else pa.int64()
            return pa.array(values, counts).cast(field.type)
        return pa.array(values, field.type)

    def _one_value_parser(self, field: pa.Field) -> Callable[[str], pa.Scalar]:
        """Return a function that reads one value as the CSV reader reads a column."""
        reader = CsvReader(pa.schema([field]), (), self.who)
        kinds = {field.name: reader._csv_type(field)}

        def parse(text: str) -> pa.Scalar:
            line = '"' + text.replace('"', '""') + '"\n'
            return reader._parse(line.encode(), kinds).column(0).cast(field.type)[0]

        return parse

    def _unfit(self, value: bytes, field: pa.Field) -> UnfitValue:
        try:
            shown = value.decode()
        except UnicodeDecodeError:
            return UnfitValue(
                f"{self.who}: column '{field.name}' holds bytes that are not UTF-8: "
                f"{value_text(value)}",
                "the database does not check its text (SQL_ASCII): mend it there, or read the "
                f"bytes with a query: SELECT {quoted(field.name)}::bytea",
            )
        shown = shown if len(shown) < 80 else shown[:77] + "..."
        message = f"{self.who}: column '{field.name}' is {word_of(field.type)}, but holds {shown}"
        if field.name in self.stated:
            return UnfitValue(
                message, f"state another type: options: {{types: {{{field.name}: string}}}}"
            )
        return UnfitValue(
            message,
            f"decide what becomes of such values: options: {{on_value: {{{field.name}: set_null}}}}"
            f" puts NULL there, {{{field.name}: as_text}} reads the column as text",
        )


def _may_hold_newlines(kind: pa.DataType) -> bool:
    t: Any = pa.types
    return any(
        is_kind(kind)
        for is_kind in (t.is_binary, t.is_large_binary, t.is_string, t.is_large_string)
    )


def _one_array(column: pa.ChunkedArray) -> pa.Array:
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def unhex(array: pa.Array) -> pa.Array:
    """Return the bytes of bytea as COPY writes it (`\\x0aff`); all values in one step."""
    import binascii

    import numpy as np

    _, ends, data = array.buffers()
    ends = np.frombuffer(ends, np.int32)[array.offset : array.offset + len(array) + 1]
    text = data.to_pybytes()[ends[0] : ends[-1]] if data is not None else b""
    # Each value has two characters in front (`\x`), and two for each byte.
    sizes = np.diff(ends).astype(np.int64)
    sizes = np.where(sizes > 0, (sizes - 2) // 2, 0)
    starts = np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes)]).astype(np.int32)
    joined = binascii.unhexlify(text.replace(b"\\x", b""))
    nulls = None
    if array.null_count:
        valid = array.is_valid()
        nulls = pa.concat_arrays([valid]).buffers()[1]
    return pa.Array.from_buffers(
        pa.binary(), len(array), [nulls, pa.py_buffer(starts), pa.py_buffer(joined)]
    )


def _value_parser(kind: pa.DataType) -> Callable[[str], int | str] | None:
    """Return a function that reads one value; None where the CSV reader knows every value."""
    if pa.types.is_date(kind):
        scale = 1 if kind == pa.date32() else 86_400_000
        return lambda text: _days(_DATE.fullmatch(text)) * scale
    if pa.types.is_timestamp(kind):
        return lambda text: _count(text, kind.unit)
    if kind in (pa.string(), pa.large_string()):
        return str
    return None


def _days(match: re.Match[str] | None) -> int:
    """Return days since 1970 in the Gregorian calendar, which PostgreSQL and Arrow extend to BC."""
    if match is None:
        raise ValueError("not a date")
    year, month, day = int(match[1]), int(match[2]), int(match[3])
    if match[match.re.groups]:  # BC: the year before 1 is 0 here
        year = 1 - year
    # Years begin in March here, so that the leap day is the last day of its year.
    year -= month <= 2
    era, year_of_era = divmod(year, 400)
    day_of_year = (153 * (month + (-3 if month > 2 else 9)) + 2) // 5 + day - 1
    day_of_era = year_of_era * 365 + year_of_era // 4 - year_of_era // 100 + day_of_year
    return era * 146_097 + day_of_era - 719_468


def _count(text: str, unit: str) -> int:
    """Return a moment as a count of `unit` since 1970; ValueError where it is not exact."""
    match = _MOMENT.fullmatch(text)
    days = _days(match)
    assert match is not None  # _days refuses None
    seconds = (days * 24 + int(match[4])) * 3600 + int(match[5]) * 60 + int(match[6])
    microseconds = seconds * 1_000_000 + int((match[7] or "0").ljust(6, "0"))
    count, rest = divmod(microseconds * _PER_S[unit], 1_000_000)
    if rest or not -(2**63) <= count < 2**63:
        raise ValueError("not exact")
    return count
