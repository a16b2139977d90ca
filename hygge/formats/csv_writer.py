"""Write CSV text, and join several CSV files.

NULL is written as nothing, the empty string as "", every text in quotes. Numbers are written with
as many digits as give them back exactly, decimals plainly with their scale; timestamps as
`2024-02-29 10:00:00.000000`, those with a time zone in UTC with a Z; binary as base64; NaN and
infinities as nan, inf, -inf.
"""

from __future__ import annotations

import io

import pyarrow as pa

from hygge.errors import UnfitValue
from hygge.formats.exact_text import (
    NoText,
    check_utf8,
    extension_as_text,
    has_far,
    has_text,
    refuse_no_text,
    times_as_text,
)
from hygge.formats.format import FileStatistics, RowCounter
from hygge.formats.text import CompressedFile, Compression, compressed_head
from hygge.formats.text_values import (
    NO_TEXT,
    ArrowColumn,
    base64_text,
    decimals_as_text,
    is_bytes,
)
from hygge.type_words import formats_with, word_of


def header_line(schema: pa.Schema, delimiter: str) -> bytes:
    """Return the line that names the columns."""
    import pyarrow.csv as pc

    out = io.BytesIO()
    names = pa.schema([(name, pa.string()) for name in schema.names]).empty_table()
    pc.write_csv(names, out, pc.WriteOptions(delimiter=delimiter))
    return out.getvalue()


def check_csv_schema(schema: pa.Schema) -> None:
    """Raise UnfitValue for a column whose type CSV has no form for."""
    for field in schema:
        is_unknown = isinstance(field.type, pa.BaseExtensionType) and not has_text(field.type)
        if is_unknown or str(field.type).startswith(NO_TEXT):
            raise UnfitValue(
                f"column '{field.name}' is {word_of(field.type)}, which CSV has no form for",
                f"leave it out with `columns`, or write {formats_with(field.type)}",
            )


class CsvWriter:
    """One file. Its header comes first, so that a join finds the same bytes in each part."""

    def __init__(
        self, path: str, schema: pa.Schema, compression: Compression, delimiter: str, header: bytes
    ) -> None:
        import pyarrow.csv as pc

        start = compressed_head(header, compression)
        self._out = CompressedFile(path, compression, start)
        if not start:
            self._out.stream.write(header)
        self._options = pc.WriteOptions(include_header=False, delimiter=delimiter)
        self._counter = RowCounter(schema)

    def write(self, table: pa.Table) -> None:
        import pyarrow.csv as pc

        self._counter.add(table)
        pc.write_csv(_with_texts(table), self._out.stream, self._options)

    def size(self) -> int:
        return self._out.size()

    def close(self) -> FileStatistics:
        self._out.close()
        return self._counter.statistics()


def _with_texts(table: pa.Table) -> pa.Table:
    """Return the table with the columns as text that pyarrow.csv would write in another form."""
    for index, field in enumerate(table.schema):
        column = table.column(index)
        try:
            text = _text_of(column)
        except NoText as problem:
            raise refuse_no_text(field.name, problem) from None
        if text is not column:
            table = table.set_column(index, field.name, text)
    return table


def _text_of(column: pa.ChunkedArray) -> ArrowColumn:
    """Return a column as text where pyarrow.csv would write another form, else as it is."""
    kind = column.type
    if has_text(kind):
        return extension_as_text(column)
    if is_bytes(kind):
        return base64_text(column)
    if pa.types.is_decimal(kind):
        return decimals_as_text(column)
    if pa.types.is_temporal(kind):
        is_zoned = pa.types.is_timestamp(kind) and kind.tz is not None
        return times_as_text(column) if is_zoned or has_far(column) else column
    check_utf8(column)
    return column
