"""Read JSON lines into tables, and set aside the lines that do not fit.

A block is read in small parts, the fast way where there is one. A part that neither way reads is
cut into smaller ones, until one line is left, which is a bad row.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

import pyarrow as pa

from hygge.bad_rows import BadRow, bad_table
from hygge.errors import UnfitValue
from hygge.formats.json_reader import JsonlFile, line_blocks
from hygge.formats.text import BLOCK_BYTES, TextReader, lines_before

_PART_BYTES = 128 * 1024
_SMALL_BYTES = 4 * 1024
_PARTS = 4


def tables(file: JsonlFile, where: Mapping[str, int], schema: pa.Schema) -> Iterator[pa.Table]:
    """Yield the rows of the file, or of the byte range `where`, and bad rows in between."""
    start, end = where.get("start", 0), where.get("end")
    has_fast_way = file.has_fast_way(schema)
    line = lines_before(file.path, start) if start else 0
    with TextReader(file.path, file.encoding, start, end) as text:
        for block in line_blocks(text, BLOCK_BYTES):
            bad: list[BadRow] = []
            good: list[pa.Table] = []
            for part, before in _parts(block, _PART_BYTES):
                good += _read(file, part, schema, line + before, bad, has_fast_way)
            line += block.count(b"\n")
            if good:
                table = pa.concat_tables([part for part in good if part.num_rows] or good[:1])
                del good
                yield table
                del table
            if bad:
                yield bad_table(bad)


def _parts(text: bytes, size: int) -> Iterator[tuple[bytes, int]]:
    """Yield parts of whole lines of about `size` bytes, and the lines before each."""
    at = lines = 0
    while at < len(text):
        end = text.find(b"\n", min(at + size, len(text)) - 1) + 1 or len(text)
        yield text[at:end], lines
        lines += text.count(b"\n", at, end)
        at = end


def _read(
    file: JsonlFile,
    part: bytes,
    schema: pa.Schema,
    line: int,
    bad: list[BadRow],
    has_fast_way: bool,
) -> list[pa.Table]:
    """Return the rows of a part; add its bad ones to `bad`. `line` lines are before it."""
    if has_fast_way:
        table = file.fast(part, schema)
        if table is not None:
            return [table]
    is_one = part.count(b"\n", 0, len(part) - 1) == 0
    if not has_fast_way or is_one or len(part) <= _SMALL_BYTES:
        try:
            return [file.slow(part, schema, (0, line))]
        except UnfitValue as error:
            if is_one:
                bad.append(_bad(file, part, line + 1, error))
                return []
    good = []
    size = len(part) // _PARTS if len(part) > _SMALL_BYTES else 1
    for smaller, before in _parts(part, max(1, size)):
        good += _read(file, smaller, schema, line + before, bad, has_fast_way)
    return good


def _bad(file: JsonlFile, line: bytes, number: int, error: UnfitValue) -> BadRow:
    reason = error.message.removeprefix(f"{file.path}, line {number}").lstrip(":, ")
    text = line.decode(errors="backslashreplace").rstrip("\r\n")
    form = json.dumps({"kind": "jsonl", "encoding": file.encoding})
    return BadRow(reason, line, text, form, error.column, error.value, str(file.path), number)
