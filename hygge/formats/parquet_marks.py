"""What Parquet says of a column and Arrow has no type for: read from a footer, put into another.

INTERVAL, ENUM, BSON, GEOMETRY, GEOGRAPHY, and DuckDB's TIMETZ come as plain values of the physical
type. A Home notes their marks in the metadata of the column; the writer of Parquet writes the
values, and puts the marks into the footer of the finished file. Of the footer only the schema is
touched: what lies before and after it stays byte for byte. What is within lists, structs and maps
gets no mark.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping

from hygge.formats.source import open_source

_TAIL = 8
"""The bytes after a footer: its length, and `PAR1`."""
_PHYSICAL, _LENGTH, _NAME, _CHILDREN, _CONVERTED, _LOGICAL = 1, 2, 4, 5, 6, 10
"""Fields of a SchemaElement of Parquet's Thrift."""
_BINARY, _LIST, _STRUCT = 8, 9, 12
_Fields = dict[int, tuple[int, bytes]]
"""The fields of a Thrift structure: by their number, the kind and the bytes of the value."""


def read_marks(path: str, names: Collection[str]) -> dict[str, bytes]:
    """Return the marks of columns of a file: a SchemaElement without its name each."""
    with open_source(path) as source:
        source.seek(source.size() - _TAIL)
        length = int.from_bytes(source.read(4), "little")
        source.seek(source.size() - _TAIL - length)
        footer = source.read(length)
    start, end = _schema_in(footer)
    of_mark = (_PHYSICAL, _LENGTH, _CONVERTED, _LOGICAL)
    return {
        name: _structure({number: fields[number] for number in of_mark if number in fields})
        for name, fields in _columns(_elements(footer, start, end))
        if name in names
    }


def put_marks(path: str, marks: Mapping[str, bytes]) -> None:
    """Put marks into the footer of a file on this disk, for columns of the same physical type."""
    with open(path, "r+b") as file:
        file.seek(-_TAIL, os.SEEK_END)
        tail = file.read(_TAIL)
        at = file.seek(-_TAIL - int.from_bytes(tail[:4], "little"), os.SEEK_END)
        footer = file.read(int.from_bytes(tail[:4], "little"))
        start, end = _schema_in(footer)
        elements = _elements(footer, start, end)
        for name, fields in _columns(elements):
            if name in marks:
                _mark(fields, _fields(marks[name], 0)[0])
        content = b"".join(_structure(fields) for fields in elements)
        footer = footer[:start] + content + footer[end:]
        file.seek(at)
        file.write(footer + len(footer).to_bytes(4, "little") + tail[4:])
        file.truncate()


def _mark(fields: _Fields, mark: _Fields) -> None:
    if any(fields.get(number) != mark.get(number) for number in (_PHYSICAL, _LENGTH)):
        return  # its type is another one in this flow
    for number in (_CONVERTED, _LOGICAL):
        fields.pop(number, None)
        if number in mark:
            fields[number] = mark[number]


def _columns(elements: list[_Fields]) -> Iterator[tuple[str, _Fields]]:
    """Yield name and element of the columns that are no lists, structs or maps."""
    inside = 0
    for fields in elements[1:]:  # the first one is the root
        children = _integer(fields, _CHILDREN)
        if not inside and not children:
            _, name = fields[_NAME]
            yield name[_varint(name, 0)[1] :].decode(), fields
        inside += children - (inside > 0)


def _schema_in(footer: bytes) -> tuple[int, int]:
    """Return where the elements of the schema, which is field 2, begin and end."""
    at = 0
    number = 0
    while True:
        number, kind, at = _header(footer, at, number)
        if number == 2:
            end = _skip(footer, at, kind)
            size, start = footer[at] >> 4, at + 1
            return (start if size < 15 else _varint(footer, start)[1]), end
        at = _skip(footer, at, kind)


def _elements(footer: bytes, start: int, end: int) -> list[_Fields]:
    found = []
    while start < end:
        fields, start = _fields(footer, start)
        found.append(fields)
    return found


def _fields(content: bytes, at: int) -> tuple[_Fields, int]:
    """Return the fields of the structure at a position, and where it ends."""
    fields: _Fields = {}
    number = 0
    while content[at]:
        number, kind, at = _header(content, at, number)
        end = _skip(content, at, kind)
        fields[number] = kind, content[at:end]
        at = end
    return fields, at + 1


def _structure(fields: _Fields) -> bytes:
    """Return a structure in the compact protocol of Thrift; the numbers of its fields are small."""
    content, before = b"", 0
    for number, (kind, value) in sorted(fields.items()):
        content += bytes([(number - before) << 4 | kind]) + value
        before = number
    return content + b"\0"


def _header(content: bytes, at: int, before: int) -> tuple[int, int, int]:
    """Return number and kind of the field at a position, and where its value begins."""
    step, kind = content[at] >> 4, content[at] & 15
    if step:
        return before + step, kind, at + 1
    number, at = _varint(content, at + 1)
    return number >> 1, kind, at


def _skip(content: bytes, at: int, kind: int) -> int:
    """Return where the value at a position ends."""
    if kind in (1, 2):  # a boolean is in the header
        return at
    if kind == 3:
        return at + 1
    if kind == 7:
        return at + 8
    if kind == _BINARY:
        size, at = _varint(content, at)
        return at + size
    if kind == _STRUCT:
        return _fields(content, at)[1]
    if kind in (_LIST, _LIST + 1):
        size, inner, at = content[at] >> 4, content[at] & 15, at + 1
        if size == 15:
            size, at = _varint(content, at)
        for _ in range(size):
            at = at + 1 if inner in (1, 2) else _skip(content, at, inner)
        return at
    return _varint(content, at)[1]


def _integer(fields: _Fields, number: int) -> int:
    return _varint(fields[number][1], 0)[0] >> 1 if number in fields else 0


def _varint(content: bytes, at: int) -> tuple[int, int]:
    """Return the number at a position, and where it ends."""
    value = shift = 0
    while True:
        byte = content[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at
