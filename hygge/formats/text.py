"""Text files as bytes in UTF-8: what CSV and JSONL share below their own syntax.

Life of a read: `Text` opens the file, decompresses it by its suffix, turns another encoding into
UTF-8 and takes a byte order mark away; a format reads lines or blocks from it. A truncated or
damaged file, and bytes that are not of the stated encoding, raise here, with file and line.
Life of a write: `open_compressed` is where the bytes go; `concatenate` makes one file of several.

Byte ranges: a range [start, end) owns the lines that *start* within it. So each line belongs to
exactly one range, wherever the borders fall (`owned`).
"""

from __future__ import annotations

import codecs
import gzip
import re
import shutil
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any, Literal

import pyarrow as pa

from hygge.errors import ConfigError, HomeError, UnfitValue
from hygge.formats.source import open_source
from hygge.model import MIB

Compression = Literal["none", "gzip", "zstd"]
SUFFIX_OF: dict[str, str] = {"none": "", "gzip": ".gz", "zstd": ".zst"}
BLOCK_BYTES = 8 * MIB
_LINE_END = re.compile(rb"\r\n|\n|\r")
_UTF8 = "utf-8"


def with_compressed(*suffixes: str) -> tuple[str, ...]:
    """Each suffix, plain and compressed: `.csv` → `.csv`, `.csv.gz`, `.csv.zst`."""
    return tuple(suffix + more for suffix in suffixes for more in SUFFIX_OF.values())


def compression_of(path: str) -> Compression:
    """What a path's ending says."""
    lower = path.lower()
    if lower.endswith(".gz"):
        return "gzip"
    return "zstd" if lower.endswith(".zst") else "none"


def compression_for(path: str, single: bool, stated: Compression | None) -> Compression:
    """What a store's `compression` says, or a single file's suffix; they must not disagree."""
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
    """The canonical name of an encoding; ValueError where Python has none of that name."""
    try:
        return codecs.lookup(name).name
    except LookupError:
        raise ValueError(
            f"there is no encoding '{name}'; utf-8, latin-1, cp1252 and utf-16 are"
        ) from None


class Text:
    """A file's text as UTF-8 bytes, from byte `start` to `end` of the file; file-like."""

    def __init__(
        self, path: str, encoding: str = _UTF8, start: int = 0, end: int | None = None
    ) -> None:
        self.path, self.encoding = path, known_encoding(encoding)
        self.closed = False
        self.line = 1
        """While transcoding: the line that the next byte stands on."""
        self._left = None if end is None else end - start
        self._held = b""
        self._at = 0
        self._raw = open_source(path)
        self._source: Any = self._raw
        if start:
            self._raw.seek(start)
        compression = compression_of(path)
        if compression != "none":
            self._source = pa.CompressedInputStream(self._raw, compression)
        self._decoder = None
        if self.encoding not in (_UTF8, "ascii", "utf-8-sig"):
            self._decoder = codecs.getincrementaldecoder(self.encoding)()
        try:
            if start == 0:
                self._strip_mark()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Text:
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
        """Bytes given so far, a byte order mark included: an offset in an uncompressed file."""
        return self._at

    def read(self, n: int = -1) -> bytes:
        if n is None or n < 0:
            return b"".join(iter(lambda: self.read(BLOCK_BYTES), b""))
        found = [self._take(n)]
        missing = n - len(found[0])
        while missing and found[-1]:
            found.append(self._take(missing))
            missing -= len(found[-1])
        return b"".join(found)

    def _take(self, n: int) -> bytes:
        if not self._held:
            self._held = self._fetch(n)
        given, self._held = self._held[:n], self._held[n:]
        self._at += len(given)
        return given

    def readline(self) -> bytes:
        """Up to and with the next \\n, \\r\\n or \\r; b"" at the end."""
        while True:
            found = _LINE_END.search(self._held)
            # A \r at the very end may be half of \r\n: look further.
            if found and found.end() < len(self._held):
                return self.read(found.end())
            more = self._fetch(64 * 1024)
            if not more:
                return self.read(found.end() if found else len(self._held)) if self._held else b""
            self._held += more

    def _fetch(self, n: int) -> bytes:
        while True:
            if self._left is not None:
                n = min(n, self._left)
            try:
                raw = bytes(self._source.read(n))
            except OSError as error:
                raise damaged(self.path, error) from error
            if self._left is not None:
                self._left -= len(raw)
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
            line = self.line + _good_text(error).count("\n")
            raise misencoded(self.path, line, self.encoding) from error
        self.line += text.count("\n")
        return text.encode("utf-8", "surrogatepass")

    def _strip_mark(self) -> None:
        self._held = self._fetch(64 * 1024)
        if self._held.startswith(codecs.BOM_UTF8):
            self._held = self._held[len(codecs.BOM_UTF8) :]
            self._at = len(codecs.BOM_UTF8)
        elif self._held.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            raise misencoded(self.path, 1, self.encoding, "utf-16")


def _good_text(error: UnicodeDecodeError) -> str:
    return bytes(error.object[: error.start]).decode(error.encoding, "replace")


def misencoded(path: str, line: int, encoding: str, likely: str | None = None) -> UnfitValue:
    other = likely or ("cp1252" if encoding.startswith("utf") else "utf-8")
    return UnfitValue(
        f"{path}, line {line}: the bytes are not {encoding} text",
        f"say what it is written in, for example `options: {{encoding: {other}}}`",
    )


def damaged(path: str, error: Exception) -> HomeError:
    said = str(error).splitlines()[0] if str(error) else type(error).__name__
    return HomeError(
        f"{path} cannot be read to its end: {said}",
        "it is truncated or damaged, or its suffix does not fit; copy or write it again",
    )


def owned(path: str, start: int, end: int, first: int) -> tuple[int, int]:
    """The bytes of the lines that start within [start, end); `first` is where the first one is."""
    with open_source(path, 64 * 1024) as file:
        return _line_start(file, start, first), _line_start(file, end, first)


def _line_start(file: Any, at: int, first: int) -> int:
    if at <= first:
        return first
    file.seek(at - 1)
    while chunk := file.read(64 * 1024):
        found: int = chunk.find(b"\n")
        if found >= 0:
            return int(file.tell()) - len(chunk) + found + 1
    return int(file.tell())


def lines_before(path: str, offset: int) -> int:
    """How many lines end before `offset`; looked up only to name a line in an error."""
    count = 0
    with open_source(path) as file:
        while offset > 0 and (chunk := file.read(min(offset, MIB))):
            count += chunk.count(b"\n")
            offset -= len(chunk)
    return count


def cut(first: int, size: int, target: int) -> Iterator[tuple[int, int]]:
    """[first, size) in ranges of about `target` bytes; at least one."""
    count = max(1, -(-(size - first) // target))
    borders = [first + (size - first) * at // count for at in range(count + 1)]
    yield from pairwise(borders)


class open_compressed:
    """Where the bytes of a new file go. `size` counts what has reached the file."""

    def __init__(self, path: str, compression: Compression, head: bytes = b"") -> None:
        self.raw = pa.OSFile(path, "wb")
        self.stream: Any = self.raw
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
    """A file's first bytes as they can be recognised in it: gzip gives them a member of their own.

    Every reader of gzip reads all members. Some of zstd read one frame only, so that a file of
    several would look shorter to them; there the head goes with the rest (and this is empty).
    """
    if compression == "gzip" and head:
        return gzip.compress(head, mtime=0)
    return head if compression == "none" else b""


def concatenate(
    parts: Sequence[str], target: str, compression: Compression, head: bytes = b""
) -> None:
    """Several files as one, in order. Each begins with `head`, which stands once in the target."""
    if compression == "zstd":
        _one_frame(parts, target, head)
        return
    start = compressed_head(head, compression)
    with open(target, "wb") as out:
        out.write(start)
        for part in parts:
            with open(part, "rb") as file:
                _expect(file.read(len(start)), start, part)
                shutil.copyfileobj(file, out, MIB)


def _one_frame(parts: Sequence[str], target: str, head: bytes) -> None:
    out = open_compressed(target, "zstd")
    try:
        out.stream.write(head)
        for part in parts:
            with Text(part) as text:
                _expect(text.read(len(head)) if head else b"", head, part)
                while block := text.read(MIB):
                    out.stream.write(block)
    finally:
        out.close()


def _expect(found: bytes, start: bytes, part: str) -> None:
    if found != start:
        raise HomeError(f"{part} does not begin as it was written", "run it again")
