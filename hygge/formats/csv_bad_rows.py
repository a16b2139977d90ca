"""Read CSV text into tables, and set aside the records that do not fit.

Each block of whole records (`hygge/formats/csv_records.py`) is read at once. pyarrow leaves out
records with another count of values. Of a block with a value that it refuses, the column is read as
text, and each value that `text_values.fit` refuses is found. A mark behind each block shows that no
row was lost.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import asdict
from functools import partial
from typing import IO, Any, cast

import pyarrow as pa

from hygge.bad_rows import BadRow, bad_table, without
from hygge.errors import HomeError, UnfitValue
from hygge.formats import text_values
from hygge.formats.csv_bits import count_of
from hygge.formats.csv_file import unfit_count
from hygge.formats.csv_reader import MARK, CsvReader, has_infinity
from hygge.formats.csv_records import BadRecord, Block, Records
from hygge.formats.text import BLOCK_BYTES, lines_before

_COLUMN = re.compile(r"In CSV column #(\d+):")
_MOST_ROWS = 1_000
"""Bad rows that are given on at once: above the limit of the run, it fails early."""


class SettingAsideReader(CsvReader):
    """A `CsvReader` whose bad records are bad rows, in a `bad_table`, instead of errors."""

    def tables(self) -> Iterator[pa.Table]:
        """Yield the rows in order, and bad rows in between."""
        self.as_text: set[str] = set()
        """The columns that are read as text, as a value of theirs was refused in the last block."""
        with self.file.opened(self.where) as (text, names, before):
            if before < 0:
                before = lines_before(self.file.path, -before)
            is_sample = self.block < BLOCK_BYTES
            sample_bytes = self.block if is_sample else None
            records = Records(self.file, text, names, before, sample_bytes)
            dialect, encoding = asdict(self.file.dialect), self.file.encoding
            self.form = json.dumps(
                {"kind": "csv", "names": names, "dialect": dialect, "encoding": encoding}
            )
            tables: list[pa.Table] = []
            bad: list[BadRow] = []
            size = 0
            for block in records.blocks():
                if isinstance(block, BadRecord):
                    bad.append(self._bad(block.error, block.text, block.line))
                else:
                    tables.append(self._read(records, block, names, bad))
                    size += tables[-1].nbytes
                if len(bad) >= _MOST_ROWS:
                    yield bad_table(bad)
                    bad.clear()
                if tables and size >= self.block and not is_sample:
                    table = pa.concat_tables(tables)
                    tables, size = [], 0
                    yield table
                    del table
            if tables:
                yield pa.concat_tables(tables)
            if bad:
                yield bad_table(bad)

    def _read(
        self, records: Records, block: Block, names: list[str], bad: list[BadRow]
    ) -> pa.Table:
        """Return the rows of a block that fit; add the others to `bad`."""
        self.all_as_text = False
        try:
            batch, skipped = self._parsed_with_texts(records, block, names)
            if any(has_infinity(column) for column in batch.columns):
                self.all_as_text = True  # its text tells "inf" from a number that is too large
        except pa.ArrowInvalid:
            self.all_as_text = True
        if self.all_as_text:
            try:
                batch, skipped = self._parsed(records, block, names)
            except pa.ArrowInvalid as error:
                raise UnfitValue(
                    f"{self.file.path}, from line {block.line + 1} on: "
                    f"{str(error).splitlines()[0]}",
                    "mend the lines; they do not parse, and it is not known which of them",
                ) from error
        arrays, unfit = self._converted(batch)
        if not (skipped or unfit):
            return self._table(arrays, batch.num_rows)
        left_out = sorted(number - 1 for number, _, _ in skipped)
        unfit_at = {_place_among_all(at, left_out): why for at, why in unfit.items()}
        counts = {number - 1: (count, expected) for number, count, expected in skipped}
        numbers = sorted({*counts, *unfit_at})
        found, places = records.places(block, numbers)
        read = batch.num_rows + len(skipped)
        if found != read:
            raise HomeError(
                f"{self.file.path}, from line {block.line + 1} on: {found:,} records were "
                f"found and {read:,} read, so bad ones cannot be set aside",
                "where values hold line ends, say `options: {newlines_in_values: true}`",
            )
        line, before = block.line + 1, 0
        for number, (start, end) in zip(numbers, places, strict=True):
            line, before = line + count_of(block.text, records.sign, before, start), start
            record = block.text[start:end]
            if number in counts:
                shown = text_values.shortened(record.decode(errors="replace").rstrip("\r\n"))
                fault = unfit_count(self.file.path, line, *counts[number], shown)
            else:
                field, value = unfit_at[number]
                fault = self.unfit(field, line, value)
            bad.append(self._bad(fault, record, line))
        return without(self._table(arrays, batch.num_rows), list(unfit))

    def read_as(self, name: str) -> pa.DataType:
        """Return the type that pyarrow.csv is asked for."""
        return pa.string() if name in self.as_text else super().read_as(name)

    def _parsed_with_texts(
        self, records: Records, block: Block, names: list[str]
    ) -> tuple[pa.Table, list[tuple[int, int, int]]]:
        """Return what `_parsed` does; a column with a value that pyarrow refuses becomes text."""
        while True:
            try:
                return self._parsed(records, block, names)
            except pa.ArrowInvalid as error:
                found = _COLUMN.match(str(error))
                name = names[int(found[1])] if found and int(found[1]) < len(names) else None
                if name is None or name in self.as_text:
                    raise
                self.as_text.add(name)

    def _parsed(
        self, records: Records, block: Block, names: list[str]
    ) -> tuple[pa.Table, list[tuple[int, int, int]]]:
        """Return a block's rows, and (number from 1, values, columns) of what was left out."""
        import pyarrow.csv as pc

        wanted = self.schema.names or names[:1]
        types, marked, last_line = self.marked(wanted, names)
        skipped: list[tuple[int, int, int]] = []

        def skip(row: Any) -> str:
            skipped.append((row.number, row.actual_columns, row.expected_columns))
            return "skip"

        ends = block.clean.endswith((b"\n", b"\r"))
        content = block.clean + (b"" if ends else b"\n") + last_line + b"\n"
        table = pc.read_csv(
            cast("IO[bytes]", pa.BufferReader(content)),
            pc.ReadOptions(use_threads=False, block_size=len(content) + 1, column_names=names),
            pc.ParseOptions(**self.parse_options(names), invalid_row_handler=skip),
            pc.ConvertOptions(
                **self.convert_options(wanted, types, self.file.check(names, records.text))
            ),
        )
        if not table.num_rows or table.column(marked)[-1].as_py() != MARK:
            raise HomeError(
                f"{self.file.path}: rows from line {block.line + 1} on were not read",
                "report this as a defect of hygge",
            )
        return table.slice(0, table.num_rows - 1), skipped

    def _converted(self, batch: pa.Table) -> tuple[list[pa.Array], dict[int, tuple[pa.Field, str]]]:
        """Return the columns in their types, and row → field and text of what does not fit.

        The texts that do not fit are NULL in the columns.
        """
        arrays: list[pa.Array] = []
        unfit: dict[int, tuple[pa.Field, str]] = {}
        refused, self.as_text = self.as_text, set()
        for field in self.schema:
            column = batch.column(field.name)
            array = column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
            if array.type != field.type:
                inferred = self.is_inferred(field.name)
                plain = partial(self.file.forms.plain, kind=field.type, inferred=inferred)
                try:
                    if field.name in refused:
                        raise text_values.Unfit(0)
                    converted = text_values.fit(plain(array), field.type, inferred)
                except text_values.Unfit:
                    converted, places = text_values.fit_around(array, field.type, inferred, plain)
                    for at in places:
                        unfit.setdefault(at, (field, array[at].as_py()))
                    if places:
                        self.as_text.add(field.name)
                array = converted
            arrays.append(array)
        return arrays, unfit

    def _table(self, arrays: list[pa.Array], rows: int) -> pa.Table:
        if not arrays:
            return pa.table({"row": pa.nulls(rows)}).select([])
        return pa.Table.from_arrays(arrays, schema=self.schema)

    def _bad(self, error: UnfitValue, record: bytes, line: int) -> BadRow:
        prefix = f"{self.file.path}, line {line}"
        reason = error.message.removeprefix(prefix).lstrip(":, ")
        return BadRow(
            reason,
            record,
            record.decode(errors="backslashreplace").rstrip("\r\n"),
            self.form,
            error.column,
            error.value,
            str(self.file.path),
            line,
        )


def _place_among_all(at: int, left_out: list[int]) -> int:
    """Return the place among all records of the row `at` of those that are not left out."""
    for place in left_out:
        if place > at:
            break
        at += 1
    return at
