"""One CSV file: its header, its records, and the line that an error is on.

The records are read a second time, slowly, only where an error needs the line and the column.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

from hygge.errors import HomeError, UnfitValue
from hygge.formats.csv_syntax import (
    Check,
    Dialect,
    Malformed,
    count_line_ends,
    malformed,
    value_at,
)
from hygge.formats.text import TextReader, lines_before, misencoded, owned_lines
from hygge.formats.text_forms import Forms
from hygge.model import MIB

if TYPE_CHECKING:
    import _csv

_LONGEST_HEADER = 16 * MIB


@dataclass(frozen=True)
class CsvFile:
    """One file: how it is written, and which of its columns have stated types."""

    path: str
    dialect: Dialect
    column_names: tuple[str, ...] | None
    encoding: str
    stated: frozenset[str]
    sample_bytes: int
    null_values: tuple[str, ...]
    quoted_nulls: bool
    newlines_in_values: bool
    forms: Forms

    def names(self) -> list[str]:
        """Read the names of the columns."""
        with self.opened({}) as (_, names, _):
            return names

    def first_byte(self) -> int | None:
        """Return the offset of the first line after the header; None in a compressed file."""
        with self.opened({}) as (text, _, _):
            return None if text.is_compressed else text.tell()

    def check(self, names: list[str], text: TextReader) -> Check:
        """Return a check for the text after the header."""
        one_column, line_end = len(names) == 1, text.line_end
        if line_end == "\r" and not one_column:
            line_end = ""  # it may be half of \r\r\n
        return Check(self.dialect, one_column, self.newlines_in_values, line_end, self.null_values)

    @contextmanager
    def opened(self, where: Mapping[str, int]) -> Iterator[tuple[TextReader, list[str], int]]:
        """Open the text after the header, or of a range; with the names, and the lines before it.

        Of a range, minus its start stands for the lines: they are counted when an error needs them.
        """
        with TextReader(self.path, self.encoding) as text:
            lines = skip_lines(text, self.dialect.skip_lines)
            names, lines = self._header(text, lines)
            if not where:
                yield text, names, lines
                return
            first = text.tell()
        start, end = owned_lines(self.path, where["start"], where["end"], first)
        with TextReader(self.path, self.encoding, start, end) as text:
            yield text, names, -start

    def records(self, where: Mapping[str, int]) -> Iterator[tuple[int, list[str], int]]:
        """Yield line, values, and expected count of values of each record; slow, for errors."""
        with self.opened(where) as (text, names, before):
            source = _Lines(text, self._lines_before(before), self.dialect.comment)
            for record in self.reader(source):
                if record or len(names) == 1:
                    yield source.first_line, record or [""], len(names)
                source.is_at_start = True

    def reader(self, lines: Iterable[str]) -> _csv.Reader:
        """Return a reader of the standard library for lines of this dialect."""
        csv.field_size_limit(sys.maxsize)
        dialect = self.dialect
        if not dialect.quote:
            return csv.reader(
                lines,
                delimiter=dialect.delimiter,
                quoting=csv.QUOTE_NONE,
                escapechar=dialect.escape or None,
            )
        return csv.reader(
            lines,
            delimiter=dialect.delimiter,
            quotechar=dialect.quote,
            escapechar=dialect.escape or None,
        )

    def raise_malformed(self, where: Mapping[str, int], fault: Malformed) -> NoReturn:
        """Raise UnfitValue with line and column for a text that is not well-formed."""
        with self.opened(where) as (text, names, before):
            source = _Lines(text, self._lines_before(before), self.dialect.comment, fault.offset)
            for _ in self.reader(source):
                if source.is_found:
                    break
                source.is_at_start = True
        record = b"".join(source.record)
        at = max(0, fault.offset - source.record_offset)
        column, start = value_at(record, at, self.dialect)
        name = repr(names[column]) if column < len(names) else f"{column + 1}"
        line = source.first_line + count_line_ends(record[:start])
        place = f"{self.path}, line {line}, column {name}"
        raise malformed(
            place, fault.fault, record, start, at, self.dialect, self.newlines_in_values
        ) from None

    def _lines_before(self, before: int) -> int:
        return before if before >= 0 else lines_before(self.path, -before)

    def _header(self, text: TextReader, lines: int) -> tuple[list[str], int]:
        if self.column_names is not None:
            return list(self.column_names), lines
        comment = self.dialect.comment.encode()
        check = Check(self.dialect, one_column=False)
        record: list[str] = []
        begun = lines
        size = 0
        while raw := text.readline():
            lines += 1
            if not record and ((comment and raw.startswith(comment)) or not raw.strip(b"\r\n")):
                begun = lines
                continue
            try:
                record.append(raw.decode())
            except UnicodeDecodeError as error:
                raise misencoded(self.path, lines, text.encoding) from error
            size += len(raw)
            try:
                check.feed(raw)
                if size > _LONGEST_HEADER:
                    check.finish()
            except Malformed as fault:
                self._raise_bad_header("".join(record).encode(), begun, fault)
            if check.is_inside:
                continue  # a quoted name continues on the next line
            names = next(self.reader(record))
            if repeated := sorted({name for name in names if names.count(name) > 1}):
                raise HomeError(
                    f"{self.path} has more than one column named {', '.join(map(repr, repeated))}",
                    "rename one of them in the header; or, where that line is a row, say "
                    "`options: {header: false, column_names: […]}`",
                )
            return names, lines
        try:
            check.finish()
        except Malformed as fault:
            self._raise_bad_header("".join(record).encode(), begun, fault)
        raise HomeError(
            f"{self.path} is empty: it has no header, so no columns",
            "leave it out, or write its header; `header: false` with column_names reads files "
            "without one",
        )

    def _raise_bad_header(self, record: bytes, begun: int, fault: Malformed) -> NoReturn:
        column, start = value_at(record, fault.offset, self.dialect)
        line = begun + 1 + count_line_ends(record[:start])
        place = f"{self.path}, line {line}, the header's column {column + 1}"
        raise malformed(
            place, fault.fault, record, start, fault.offset, self.dialect, newlines=True
        ) from None


class _Lines:
    """The lines of a text as csv.reader takes them, without comments; it keeps the last record."""

    def __init__(self, text: TextReader, before: int, comment: str, offset: int = -1) -> None:
        self.text, self.comment, self.offset = text, comment.encode(), offset
        self.line = before
        self.first_line = before + 1
        self.record: list[bytes] = []
        """The lines of the record that is being read; kept where an offset is looked for."""
        self.record_offset = self._passed = 0
        self.is_at_start = True
        """Whether the next line begins a record: the reader's user says so."""
        self.is_found = False

    def __iter__(self) -> Iterator[str]:
        while raw := self.text.readline():
            self.line += 1
            if self.is_at_start:
                if self.comment and raw.startswith(self.comment):
                    continue
                self.first_line, self.record = self.line, []
                self.record_offset, self.is_at_start = self._passed, False
            self._passed += len(raw)
            if self.offset >= 0:
                self.record.append(raw)
                if self._passed > self.offset:
                    self.is_found = True
                    yield raw.decode(errors="surrogateescape")
                    return
            yield raw.decode(errors="surrogateescape")


def skip_lines(text: TextReader, count: int) -> int:
    """Read `count` lines away; return how many there were."""
    return sum(1 for _ in range(count) if text.readline())


def unfit_count(path: str, line: int, found: int, expected: int, shown: str) -> UnfitValue:
    """Return the error for a record with another number of values than there are columns."""
    return UnfitValue(
        f"{path}, line {line}: {found} columns were found, {expected} are expected: {shown}",
        "mend the line; perhaps `delimiter` or `quote` is another, or a value that holds the "
        "delimiter is not in quotes",
    )
