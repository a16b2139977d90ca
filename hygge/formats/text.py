"""Text files as bytes in UTF-8: what CSV and JSONL share below their own syntax.

Life of a read: `TextReader` opens the file, decompresses it by its first bytes, turns another
encoding into UTF-8 and takes a byte order mark away; a format reads lines or blocks from it. A
truncated or damaged file, and bytes that are not of the stated encoding, raise here, with file and
line.
Life of a write: the bytes go to a `CompressedFile`; `concatenate` makes one file of several.

Byte ranges: a range [start, end) owns the lines that *start* within it. So each line belongs to
exactly one range, wherever the borders fall (`owned_lines`).
"""

from __future__ import annotations

import codecs
import gzip
import re
import shutil
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Literal

import pyarrow as pa

from hygge.errors import ConfigError, HomeError, UnfitValue
from hygge.formats import first_bytes
from hygge.formats.source import open_source
from hygge.model import MIB

Compression = Literal["none", "gzip", "zstd"]
SUFFIX_OF: dict[str, str] = {"none": "", "gzip": ".gz", "zstd": ".zst"}
BLOCK_BYTES = 8 * MIB
_LINE_END = re.compile(rb"\r\n|\n|\r")
_CONTROL = re.compile(rb"[\x00-\x08\x0e-\x1f]")
_OTHER_MARKS = (
    codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE
)  # fmt: skip
_UTF8 = "utf-8"


def with_compressed(*suffixes: str) -> tuple[str, ...]:
    """Return each suffix plain and compressed: `.csv` → `.csv`, `.csv.gz`, `.csv.zst`."""
    return tuple(suffix + ending for suffix in suffixes for ending in SUFFIX_OF.values())


def compression_of(path: str) -> Compression:
    """Return the compression that a path's ending names."""
    lower = path.lower()
    if lower.endswith(".gz"):
        return "gzip"
    return "zstd" if lower.endswith(".zst") else "none"


def compression_for(path: str, single: bool, stated: Compression | None) -> Compression:
    """Return the compression to write with: the stated one, or that of a single file's suffix.

    Raises ConfigError where a single file's suffix and the stated one disagree.
    """
    if not single:
        return stated or "none"
    by_suffix = compression_of(path)
    if stated is not None and stated != by_suffix:
        raise ConfigError(
            f"{path} ends as compression {by_suffix} does, but compression is {stated}",
            "leave `compression` out: the suffix says it (none, .gz, .zst)",
        )
    return by_suffix


def known_encoding(name: str) -> str:
    """Return the canonical name of an encoding. Raises ValueError where Python does not know it."""
    try:
        return codecs.lookup(name).name
    except LookupError:
        raise ValueError(
            f"there is no encoding '{name}'; utf-8, latin-1, cp1252 and utf-16 are"
        ) from None


class TextReader:
    """Reads a file's text as UTF-8 bytes, from byte `start` to `end` of the file; file-like."""

    def __init__(
        self, path: str, encoding: str = _UTF8, start: int = 0, end: int | None = None
    ) -> None:
        self.path, self.encoding = path, known_encoding(encoding)
        self.closed = False
        self.line = 1
        """While transcoding: the line that the next byte stands on."""
        self.line_end = ""
        """The end of the line that `readline` gave last."""
        self._bytes_left = None if end is None else end - start
        self._buffer = b""
        self._position = 0
        self._raw = open_source(path)
        self._source = self._raw
        self._decoder = None
        if self.encoding not in (_UTF8, "ascii", "utf-8-sig"):
            self._decoder = codecs.getincrementaldecoder(self.encoding)()
        self._first = b""
        self.is_compressed = False
        """Known only of a reader that began at the start of the file."""
        try:
            if start:
                self._raw.seek(start)
            else:
                self._begin(end)
                self._strip_mark()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> TextReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return False

    def seekable(self) -> bool:
        return False

    def close(self) -> None:
        self.closed = True
        if self._source is not self._raw:
            self._source.close()
        self._raw.close()

    def tell(self) -> int:
        """Return the bytes given so far, with a byte order mark: the offset in a plain file."""
        return self._position

    def read(self, n: int = -1) -> bytes:
        if n is None or n < 0:
            return b"".join(iter(lambda: self.read(BLOCK_BYTES), b""))
        pieces = [self._take(n)]
        missing = n - len(pieces[0])
        while missing and pieces[-1]:
            pieces.append(self._take(missing))
            missing -= len(pieces[-1])
        return b"".join(pieces)

    def _take(self, n: int) -> bytes:
        if not self._buffer:
            self._buffer = self._fetch(n)
        taken, self._buffer = self._buffer[:n], self._buffer[n:]
        self._position += len(taken)
        return taken

    def readline(self) -> bytes:
        """Read up to and with the next \\n, \\r\\n or \\r; b"" at the end."""
        while True:
            line_end = _LINE_END.search(self._buffer)
            # A \r at the very end may be half of \r\n: look further.
            if line_end and line_end.end() < len(self._buffer):
                self.line_end = line_end[0].decode()
                return self.read(line_end.end())
            more = self._fetch(64 * 1024)
            if not more:
                # Whatever is left is the last line, with its end or without.
                return self.read(len(self._buffer)) if self._buffer else b""
            self._buffer += more

    def _fetch(self, n: int) -> bytes:
        while True:
            if self._bytes_left is not None:
                n = min(n, self._bytes_left)
            try:
                raw, self._first = self._first or bytes(self._source.read(n)), b""
            except OSError as error:
                raise damaged(self.path, error) from error
            if self._bytes_left is not None:
                self._bytes_left -= len(raw)
            if self._decoder is None:
                return raw
            text = self._decoded(raw)
            if text or not raw:
                return text

    def _decoded(self, raw: bytes) -> bytes:
        assert self._decoder is not None
        try:
            text = self._decoder.decode(raw, final=not raw)
        except UnicodeDecodeError as error:
            line = self.line + _text_before(error).count("\n")
            raise misencoded(self.path, line, self.encoding) from error
        self.line += text.count("\n")
        return text.encode("utf-8", "surrogatepass")

    def _begin(self, end: int | None) -> None:
        """Look at the first bytes, and decompress what is compressed."""
        length = first_bytes.LENGTH
        try:
            start = bytes(self._raw.read(length if end is None else min(length, end)))
        except OSError as error:
            raise damaged(self.path, error) from error
        kind = first_bytes.kind_of(start)
        if kind in first_bytes.READ_AS_TEXT:
            self._raw.seek(0)
            self.is_compressed = True
            self._source = pa.CompressedInputStream(self._raw, kind)
            return
        if kind:
            raise first_bytes.refusal(self.path, kind, "text")
        named = compression_of(self.path)
        if named != "none" and _CONTROL.search(start):
            raise damaged(self.path, ValueError(f"it does not begin as {named} does"))
        self._first = start

    def _strip_mark(self) -> None:
        self._buffer = self._fetch(64 * 1024)
        if self._buffer.startswith(codecs.BOM_UTF8):
            self._buffer = self._buffer[len(codecs.BOM_UTF8) :]
            self._position = len(codecs.BOM_UTF8)
        elif self._decoder is None and self._buffer.startswith(_OTHER_MARKS):
            is_32 = self._buffer.startswith((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE))
            raise misencoded(self.path, 1, self.encoding, "utf-32" if is_32 else "utf-16")


def _text_before(error: UnicodeDecodeError) -> str:
    return bytes(error.object[: error.start]).decode(error.encoding, "replace")


def misencoded(path: str, line: int, encoding: str, likely: str | None = None) -> UnfitValue:
    """Return the error for bytes that are not of the stated encoding."""
    other = likely or ("cp1252" if encoding.startswith("utf") else "utf-8")
    return UnfitValue(
        f"{path}, line {line}: the bytes are not {encoding} text",
        f"say what it is written in, for example `options: {{encoding: {other}}}`",
    )


def damaged(path: str, error: Exception) -> HomeError:
    """Return the error for a file that breaks off, or whose compression is damaged."""
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    return HomeError(
        f"{path} cannot be read to its end: {reason}",
        "it is truncated or damaged; copy or write it again",
    )


def owned_lines(path: str, start: int, end: int, first: int) -> tuple[int, int]:
    """Return the byte range of the lines that start within [start, end).

    `first` is where the first line of the file begins.
    """
    with open_source(path, 64 * 1024) as file:
        return _line_start(file, start, first), _line_start(file, end, first)


def _line_start(file: pa.NativeFile, offset: int, first: int) -> int:
    """Return where the first line begins that does not begin before `offset`."""
    if offset <= first:
        return first
    file.seek(offset - 1)
    while chunk := file.read(64 * 1024):
        newline = chunk.find(b"\n")
        if newline >= 0:
            return int(file.tell() - len(chunk) + newline + 1)
    return int(file.tell())


def lines_before(path: str, offset: int) -> int:
    """Return how many lines end before `offset`; counted only to name a line in an error."""
    count = 0
    with open_source(path) as file:
        while offset > 0 and (chunk := file.read(min(offset, MIB))):
            count += chunk.count(b"\n")
            offset -= len(chunk)
    return count


def byte_ranges(first: int, size: int, target_bytes: int) -> Iterator[tuple[int, int]]:
    """Cut [first, size) into ranges of about `target_bytes`; at least one."""
    count = max(1, -(-(size - first) // target_bytes))
    borders = [first + (size - first) * index // count for index in range(count + 1)]
    yield from pairwise(borders)


class CompressedFile:
    """A new file that bytes are written to; `size` counts those that have reached the file."""

    def __init__(self, path: str, compression: Compression, head: bytes = b"") -> None:
        self.raw = pa.OSFile(path, "wb")
        self.stream = self.raw
        self.raw.write(head)
        if compression != "none":
            self.stream = pa.CompressedOutputStream(self.raw, compression)

    def size(self) -> int:
        return int(self.raw.tell())

    def close(self) -> None:
        self.stream.close()
        if not self.raw.closed:
            self.raw.close()


def compressed_head(head: bytes, compression: Compression) -> bytes:
    """Return a file's first bytes as they are recognised in it: in gzip, a member of their own.

    Every reader of gzip reads all members. Some of zstd read one frame only, so that a file of
    several would look shorter to them; there the head goes with the rest, and this is empty.
    """
    if compression == "gzip" and head:
        return gzip.compress(head, mtime=0)
    return head if compression == "none" else b""


def concatenate(
    parts: Sequence[str], target: str, compression: Compression, head: bytes = b""
) -> None:
    """Write several files, in order, as one. Each begins with `head`, which is written once."""
    if compression == "zstd":
        _one_frame(parts, target, head)
        return
    start = compressed_head(head, compression)
    with open(target, "wb") as out:
        out.write(start)
        for part in parts:
            with open(part, "rb") as file:
                _check_head(file.read(len(start)), start, part)
                shutil.copyfileobj(file, out, MIB)


def _one_frame(parts: Sequence[str], target: str, head: bytes) -> None:
    out = CompressedFile(target, "zstd")
    try:
        out.stream.write(head)
        for part in parts:
            with TextReader(part) as text:
                _check_head(text.read(len(head)) if head else b"", head, part)
                while block := text.read(MIB):
                    out.stream.write(block)
    finally:
        out.close()


def _check_head(actual: bytes, head: bytes, part: str) -> None:
    if actual != head:
        raise HomeError(f"{part} does not begin as it was written", "run it again")
