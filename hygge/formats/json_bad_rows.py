"""Read JSON lines into tables, and set aside the lines that do not fit.

A block is read the fast way, as where nothing is set aside. Where that does not go, it is read in
a stream of small parts, which tells how far it came; a part that holds a bad line is cut into
smaller ones, until one line is left, which is a bad row. The next block is then read so from the
beginning, since bad lines seldom come alone.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import IO, Any, cast

import pyarrow as pa

from hygge.bad_rows import BadRow, bad_table
from hygge.errors import UnfitValue
from hygge.formats.json_blocks import line_blocks
from hygge.formats.json_reader import JsonlFile
from hygge.formats.text import BLOCK_BYTES, TextReader, lines_before

_PART_BYTES = 128 * 1024
_SMALL_BYTES = 4 * 1024
_PARTS = 4
_LONGEST_RUN = 64
"""Lines that are read one by one where others before them were bad."""
_MOST_ROWS = 1_000
"""Bad rows that are given on at once: above the limit of the run, it fails early."""
_ROW = re.compile(r" in row (\d+)$")


def tables(file: JsonlFile, where: Mapping[str, int], schema: pa.Schema) -> Iterator[pa.Table]:
    """Yield the rows of the file, or of the byte range `where`, and bad rows in between."""
    start, end = where.get("start", 0), where.get("end")
    line = lines_before(file.path, start) if start else 0
    had_bad = False
    with TextReader(file.path, file.encoding, start, end) as text:
        for block in line_blocks(text, BLOCK_BYTES):
            lines = _Lines(file, schema, block, line)
            seen = 0
            for _ in lines.read(is_doubtful=had_bad):
                if len(lines.bad) >= _MOST_ROWS:
                    seen += len(lines.bad)
                    yield bad_table(lines.bad)
                    lines.bad.clear()
            line += block.count(b"\n")
            had_bad = bool(seen or lines.bad)
            if lines.good:
                table = pa.concat_tables(
                    [part for part in lines.good if part.num_rows] or lines.good[:1]
                )
                lines.good.clear()
                yield table
                del table
            if lines.bad:
                yield bad_table(lines.bad)


class _Lines:
    """The lines of one block, by their numbers from 0: the rows that fit, in order, and bad ones.

    `line` lines of the file are before the block.
    """

    def __init__(self, file: JsonlFile, schema: pa.Schema, block: bytes, line: int) -> None:
        self.file, self.schema, self.block, self.line = file, schema, block, line
        self.good: list[pa.Table] = []
        self.bad: list[BadRow] = []

    def read(self, is_doubtful: bool) -> Iterator[None]:
        """Read all lines; yields in between. `is_doubtful`: some may well be bad."""
        has_fast_way = self.file.has_fast_way(self.schema)
        if has_fast_way and not is_doubtful:
            table = self.file.fast(self.block, self.schema)
            if table is not None:
                self.good.append(table)
                return
        self.begins = _begins(self.block)
        count = len(self.begins) - 1
        if not has_fast_way or not self.file.numbers_are_exact(self.block, self.schema):
            for first in range(0, count, _MOST_ROWS):
                self._read_parts(first, min(count, first + _MOST_ROWS), has_fast_way)
                yield
            return
        first = 0
        for odd in [*_odd_lines(self.block, self.begins), count]:
            yield from self._read_stream(first, odd)
            if odd < count:
                self._read_line(odd)
                yield
            first = odd + 1

    def _text(self, first: int, end: int) -> bytes:
        return self.block[self.begins[first] : self.begins[end]]

    def _line_at(self, place: int) -> int:
        """Return the line that begins at a place in the block, or the first one behind it."""
        return int(self.begins.searchsorted(place))

    def _read_stream(self, first: int, end: int) -> Iterator[None]:
        """Read lines that are objects, in UTF-8, until the stream fails; go on behind that."""
        run = 0  # of bad lines that follow each other
        while first < end:
            first, hint = self._streamed(first, end)
            if hint is not None and first + hint < end:
                self._read_parts(first, first + hint)
                first += hint
                run = 1 if hint else min(max(1, 2 * run), _LONGEST_RUN)
                for number in range(first, min(first + run, end)):
                    self._read_line(number)
                first += run
            elif first < end:
                behind = min(end, max(first + 1, self._line_at(self.begins[first] + _PART_BYTES)))
                self._read_parts(first, behind)
                first = behind
            yield

    def _streamed(self, first: int, end: int) -> tuple[int, int | None]:
        """Read parts until one fails, and keep their rows; return the first line not read.

        Also returns how many lines behind that one a bad line is; None where that is not known.
        """
        import pyarrow.json as pj

        begin, behind = int(self.begins[first]), int(self.begins[end])
        batches: list[pa.RecordBatch] = []
        hint, read = None, end
        try:
            reader = pj.open_json(
                cast("IO[bytes]", pa.BufferReader(pa.py_buffer(self.block)[begin:behind])),
                pj.ReadOptions(use_threads=False, block_size=_PART_BYTES),
                self.file.parse_options(self.schema),
            )
            batches.extend(reader)
        except pa.ArrowException as error:
            match = _ROW.search(str(error))
            hint = None if match is None else int(match[1])
            # Each part ends where a line does, before the next multiple of its size.
            most = begin + len(batches) * _PART_BYTES
            read = self._line_at(self.block.rfind(b"\n", begin, most) + 1) if batches else first
        if read <= first:
            return first, hint
        found = pa.Table.from_batches(batches)
        table = self.file.converted(found, self.schema, read - first)
        if table is None:
            return first, None
        self.good.append(table)
        return read, hint

    def _read_parts(self, first: int, end: int, has_fast_way: bool = True) -> None:
        """Read lines in parts, each of which is cut where it holds a bad line."""
        while first < end:
            behind = min(end, max(first + 1, self._line_at(self.begins[first] + _PART_BYTES)))
            self._read_part(first, behind, has_fast_way)
            first = behind

    def _read_part(self, first: int, end: int, has_fast_way: bool) -> None:
        text = self._text(first, end)
        if has_fast_way and (table := self.file.fast(text, self.schema)) is not None:
            self.good.append(table)
            return
        if end - first > 1 and len(text) <= _SMALL_BYTES:
            try:
                self.good.append(self.file.slow(text, self.schema, (0, self.line + first)))
                return
            except UnfitValue:
                pass
        if end - first == 1:
            self._read_line(first)
            return
        step = -(-(end - first) // _PARTS)
        for at in range(first, end, step):
            self._read_part(at, min(end, at + step), has_fast_way)

    def _read_line(self, number: int) -> None:
        text = self._text(number, number + 1)
        try:
            self.good.append(self.file.slow(text, self.schema, (0, self.line + number)))
        except UnfitValue as error:
            self.bad.append(_bad(self.file, text, self.line + number + 1, error))


def _begins(block: bytes) -> Any:
    """Return where each line begins, and where the last one ends."""
    import numpy as np

    ends = np.flatnonzero(np.frombuffer(block, np.uint8) == 10) + 1
    last = [] if len(ends) and ends[-1] == len(block) else [len(block)]
    return np.concatenate([[0], ends, last]).astype(np.int64)


def _odd_lines(block: bytes, begins: Any) -> list[int]:
    """Return the lines that do not begin like an object, or are not UTF-8.

    pyarrow.json crashes on some of the first kind.
    """
    import numpy as np

    signs = np.frombuffer(block, np.uint8)
    odd = set(np.flatnonzero(signs[begins[:-1]] != 123).tolist())
    at = 0
    while at < len(begins) - 1:
        try:
            block[begins[at] :].decode()
            break
        except UnicodeDecodeError as error:
            at = int(begins.searchsorted(begins[at] + error.start, "right"))
            odd.add(at - 1)
    return sorted(odd)


def _bad(file: JsonlFile, line: bytes, number: int, error: UnfitValue) -> BadRow:
    reason = error.message.removeprefix(f"{file.path}, line {number}").lstrip(":, ")
    text = line.decode(errors="backslashreplace").rstrip("\r\n")
    form = json.dumps({"kind": "jsonl", "encoding": file.encoding})
    return BadRow(reason, line, text, form, error.column, error.value, str(file.path), number)
