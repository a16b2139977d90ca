"""Cut CSV text into blocks of whole, well-formed records, and take out the records that are not.

A malformed record ends with the line that its fault is on. A quoted value that is never closed may
take the records behind it along, so it stays an error, as are two kinds of line ends.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hygge.errors import UnfitValue
from hygge.formats import csv_bits
from hygge.formats.csv_file import CsvFile
from hygge.formats.csv_syntax import Check, Fault, Malformed, count_line_ends, malformed, value_at
from hygge.formats.text import TextReader, misencoded
from hygge.model import MIB

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_SMALL_BYTES = MIB // 4
"""Read at once where a record before was bad: a block is looked at again for each such record."""
_LARGE_BYTES = 4 * MIB
"""Read at once where all records before were right, which costs less."""
_LARGEST_RECORD = 256 * MIB
_PIECE_BYTES = 4096
"""Looked at again behind a bad record; each piece without one doubles that of the next."""
_OF_ONE_RECORD = ("after", "within", "nul", "escape")
"""Faults after which the next line is surely the next record, or a part of this one."""


@dataclass(frozen=True)
class Block:
    """Whole records. `text` is what they are made of, with blank lines in the place of comments;
    `clean` is what a reader gets."""

    text: bytes
    clean: bytes
    line: int
    """Lines of the file before it."""


@dataclass(frozen=True)
class BadRecord:
    """A record that is not well-formed, its first line, and the error that it would be."""

    text: bytes
    line: int
    error: UnfitValue


class Records:
    """The records of one piece of a file, after its header."""

    def __init__(
        self,
        file: CsvFile,
        text: TextReader,
        names: list[str],
        lines: int,
        sample_bytes: int | None = None,
    ) -> None:
        self.file, self.text, self.names, self.line = file, text, names, lines
        self.sample_bytes = sample_bytes
        """The size of the first block, where it is a sample: `blocks` ends behind it then."""
        self.block_bytes = _SMALL_BYTES
        self.quote = file.dialect.quote.encode() if file.newlines_in_values else b""
        self.sign = b"\n"

    def blocks(self) -> Iterator[Block | BadRecord]:
        """Yield all records in order."""
        rest = self.text.read(self.sample_bytes or self.block_bytes)
        if b"\n" not in rest and b"\r" in rest:
            self.sign = b"\r"  # the only line end there is
        chunk = rest
        while chunk:
            self.block_bytes = min(2 * self.block_bytes, _LARGE_BYTES)
            length = len(rest)
            rest = yield from self._cut(rest, is_last=False)
            if len(rest) > _LARGEST_RECORD and self.sign == b"\n":
                raise self._error("open", rest, 0, self.line)
            chunk = self.text.read(max(self.block_bytes, len(rest)))
            if chunk and self.sample_bytes and len(rest) < length:
                return
            rest += chunk
        yield from self._cut(rest, is_last=True)

    def expect_bad(self) -> None:
        """Read small blocks from now on, as bad records seldom come alone."""
        self.block_bytes = _SMALL_BYTES

    def _cut(self, text: bytes, is_last: bool) -> Generator[Block | BadRecord, None, bytes]:
        """Yield the whole records of a text that begins with one; return the rest."""
        most = len(text)  # bytes that are looked at: few behind a bad record, as others may follow
        while text:
            part = text[:most]
            is_all = len(part) == len(text)
            if self.file.dialect.comment:
                part = self._blank_comments(part, is_last and is_all)
                text = part + text[most:]
            end = len(part) if is_last and is_all else self._last_end(part)
            part = part[:end] if end else part
            try:
                clean = self._checked(part, is_whole=end > 0)
            except Malformed as malformed_at:
                fault, place = malformed_at.fault, malformed_at.offset
                start, stop = self._record_at(part, place)
                line = self.line + count_line_ends(part[:start])
                error = self._error(fault, part[start:], place - start, line)
                if fault not in _OF_ONE_RECORD:
                    raise error from None
            else:
                if not end and is_all:
                    return text
                if not end:
                    most *= 2  # a long record
                    continue
                first = _first_misencoded(part)
                if first is None:
                    yield Block(part, clean, self.line)
                    self.line += count_line_ends(part)
                    text = text[end:]
                    most *= 2
                    continue
                start, stop = self._record_at(part, first)
                line = self.line + count_line_ends(part[:start]) + 1
                error = misencoded(self.file.path, line, self.file.encoding)
            if not stop:
                if not end and is_all:
                    return text  # the line of the fault goes on
                if not end:
                    most *= 2
                    continue
                stop = len(part)
            if start:
                yield from self._cut(text[:start], is_last=True)
            self.expect_bad()
            yield BadRecord(text[start:stop], self.line + 1, error)
            self.line += count_line_ends(text[start:stop])
            text = text[stop:]
            most = _PIECE_BYTES
        return b""

    def places(self, block: Block, numbers: Sequence[int]) -> tuple[int, list[tuple[int, int]]]:
        """Return how many records a block has, as the reader counts, and where some are.

        `numbers` are those of the records, from 0; each gets the places where it begins and ends.
        """
        text = block.text
        if self.sign == b"\n":
            found = csv_bits.LineEnds(self._masked(text), self.quote)
            last = len(text) - found.place(found.count - 1) - 1  # bytes behind the last line end
            if len(self.names) == 1 or not (0 < last <= 2 or found.has_short_lines()):
                count = found.count + (last > 0)
                return count, [
                    (
                        found.place(n - 1) + 1,
                        found.place(n) + 1 if n < found.count else len(text),
                    )
                    for n in numbers
                    if n < count
                ]
        starts, ends = self._all_places(text)
        return len(starts), [(int(starts[n]), int(ends[n])) for n in numbers if n < len(starts)]

    def _all_places(self, text: bytes) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return where each record of a block begins, and where it ends; blank lines are none."""
        import numpy as np

        ends = np.asarray(self._ends(text), np.int64) + 1
        if not len(ends) or ends[-1] != len(text):
            ends = np.append(ends, len(text))
        starts = np.concatenate([np.zeros(1, np.int64), ends[:-1]])
        if len(self.names) == 1:
            return starts, ends
        lengths = ends - starts
        is_record = lengths > 2
        if is_record.all():
            return starts, ends
        for at in np.flatnonzero(~is_record).tolist():  # few are so short
            is_record[at] = bool(text[starts[at] : ends[at]].strip(b"\r\n"))
        return starts[is_record], ends[is_record]

    def _checked(self, part: bytes, is_whole: bool) -> bytes:
        dialect, one_column = self.file.dialect, len(self.names) == 1
        line_end = self.sign.decode() if one_column or self.sign == b"\n" else ""
        check = Check(
            dialect, one_column, self.file.newlines_in_values, line_end, self.file.null_values
        )
        if is_whole:
            return check.finish(part) if not part.endswith(self.sign) else self._fed(check, part)
        return check.feed(part[: len(part) - check.carry(part)])

    def _fed(self, check: Check, part: bytes) -> bytes:
        clean = check.feed(part)
        check.finish()
        return clean

    def _last_end(self, text: bytes) -> int:
        """Return where the last whole record ends; 0 where none does."""
        if self.sign == b"\n":
            return csv_bits.last_line_end(self._masked(text), self.quote) + 1
        return 0  # a file with such line ends is read in one piece

    def _ends(self, text: bytes) -> Sequence[int] | NDArray[np.int64]:
        if self.sign == b"\n":
            return csv_bits.line_ends(self._masked(text), self.quote)
        masked = self._masked(text)
        inside = False
        places = []
        for match in re.finditer(rb"\r|" + (re.escape(self.quote) or rb"\r"), masked):
            if match[0] == self.quote:
                inside = not inside
            elif not inside:
                places.append(match.start())
        return places

    def _masked(self, text: bytes) -> bytes:
        """Return a text of the same length without escaped quotes and line ends."""
        dialect = self.file.dialect
        if not dialect.escape:
            return text
        return Check(dialect, False, self.file.newlines_in_values).without_pairs(text)

    def _record_at(self, part: bytes, place: int) -> tuple[int, int]:
        """Return where the record of a fault begins, and where the line of the fault ends.

        0 where it does not end in this part.
        """
        before = part[:place]
        if self.sign == b"\n":
            start = self._last_end(before)
        else:
            start = max(self._ends(before), default=-1) + 1
        return start, part.find(self.sign, place) + 1

    def _blank_comments(self, text: bytes, is_last: bool) -> bytes:
        """Return the text with blank lines in the place of comments."""
        comment = self.file.dialect.comment.encode()
        if not comment or comment not in text:
            return text
        kept, at, is_inside = [], 0, False
        masked = self._masked(text)
        for match in re.finditer(rb"(?:^|(?<=[\r\n]))" + re.escape(comment), masked):
            start = match.start()
            if start < at:
                continue
            if self.quote:
                is_inside ^= masked.count(self.quote, at, start) % 2 == 1
            kept.append(text[at:start])
            at = start
            if not is_inside:
                end = text.find(self.sign, start) + 1
                if not end and not is_last:
                    break  # it may go on
                end = end or len(text)
                kept.append(b"" if len(self.names) == 1 else self.sign)
                at = end
        return b"".join([*kept, text[at:]])

    def _error(self, fault: Fault, record: bytes, place: int, line: int) -> UnfitValue:
        """Return the error for a text that begins with a bad record; `line` lines are before it."""
        column, begin = value_at(record, place, self.file.dialect)
        name = repr(self.names[column]) if column < len(self.names) else f"{column + 1}"
        line += 1 + count_line_ends(record[:begin])
        where = f"{self.file.path}, line {line}, column {name}"
        dialect, newlines = self.file.dialect, self.file.newlines_in_values
        error = malformed(where, fault, record, begin, place, dialect, newlines)
        return error.at(name.strip("'"))


def _first_misencoded(part: bytes) -> int | None:
    """Return the place of the first byte that is not UTF-8; None where all are."""
    if not part.isascii():
        try:
            part.decode()
        except UnicodeDecodeError as error:
            return error.start
    return None
