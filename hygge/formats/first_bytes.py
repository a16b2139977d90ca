"""What a file is by its first bytes: its name may say another thing, or nothing."""

from __future__ import annotations

import re

from hygge.errors import HomeError, HyggeError
from hygge.formats.source import open_source

LENGTH = 20
"""Bytes that are enough to know every format below."""
_KINDS: tuple[tuple[bytes, str, str], ...] = (
    (rb"\x1f\x8b", "gzip", "gunzip"),
    (rb"\x28\xb5\x2f\xfd|[\x50-\x5f]\x2a\x4d\x18", "zstd", "unzstd"),
    (rb"BZh[1-9]\x31\x41\x59\x26\x53\x59", "bzip2", "bunzip2"),
    (rb"\xfd7zXZ\x00", "xz", "unxz"),
    (rb"\x04\x22\x4d\x18|\x02\x21\x4c\x18", "lz4", "unlz4"),
    (rb"PK\x03\x04|PK\x05\x06", "zip", "unzip"),
    (rb"7z\xbc\xaf\x27\x1c", "7-Zip", "7z x"),
    (rb"\xff\x06\x00\x00sNaPpY", "snappy", "a tool that reads snappy frames"),
    (rb"\x1f\x9d", "compress (.Z)", "uncompress"),
    (rb"PAR1[^ -~\r\n]", "Parquet", ""),
    (rb"ARROW1\x00\x00", "Arrow", ""),
    (rb"FEA1\x00", "Feather V1", ""),
    (rb"ORC[^ -~\r\n]", "ORC", ""),
    (rb"Obj\x01", "Avro", ""),
    (rb"SQLite format 3\x00", "SQLite", ""),
    (rb"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "Excel (.xls)", ""),
    (rb"%PDF-", "PDF", ""),
    (rb"\s*<(?i:!doctype html|html[\s>])", "HTML", ""),
    (rb"\s*<\?xml\s", "XML", ""),
)
_KNOWN = [(re.compile(pattern, re.DOTALL), name, tool) for pattern, name, tool in _KINDS]
READ_AS_TEXT = ("gzip", "zstd")
"""The compressions that text formats read."""
_HOME_OF = {"Parquet": "parquet", "Arrow": "arrow", "SQLite": "sql"}


def kind_of(start: bytes) -> str:
    """Return the format that these first bytes belong to, such as `gzip`; "" for any other."""
    return next((name for pattern, name, _ in _KNOWN if pattern.match(start)), "")


def first_bytes(path: str) -> bytes:
    """Return the first bytes of a file or an object, as they are stored."""
    with open_source(path, LENGTH) as file:
        return bytes(file.read(LENGTH))


def is_compressed(path: str) -> bool:
    """Whether a file is compressed in a way that text formats read."""
    return kind_of(first_bytes(path)) in READ_AS_TEXT


def other_format(path: str, expected: str) -> HomeError | None:
    """Return the error for a file that could not be read as `expected`, where it is another."""
    try:
        kind = kind_of(first_bytes(path))
    except (HyggeError, OSError):
        return None
    return refusal(path, kind, expected) if kind and kind != expected else None


def refusal(path: str, kind: str, expected: str) -> HomeError:
    """Return the error for a file of `kind` where one of `expected` should be."""
    tool = next(tool for _, name, tool in _KNOWN if name == kind)
    if tool:
        hint = f"decompress it first ({tool})"
        if kind == "zip":
            hint += "; an Excel workbook (.xlsx) is a zip file, too: save it as CSV"
        if expected != "text" and kind in READ_AS_TEXT:
            hint += f"; {expected} files compress their own pages, and need nothing around them"
        return HomeError(f"{path} is compressed as {kind}, which is not read here", hint)
    hint = f"write it again as {expected}, or name the file that was meant"
    if kind == "HTML":
        hint = "it is a page, such as a server sends in the place of a file: download it again"
    if kind in _HOME_OF:
        hint = f"say `type: {_HOME_OF[kind]}`, or name the file that was meant"
    return HomeError(f"{path} is a file of {kind}, and not {expected}", hint)
