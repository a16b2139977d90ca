"""Objects by their URL: read one in ranges like a file, hint at the name of a missing one.

A reader keeps to one state of its object: each range is asked for on the condition that the object
still has the ETag that it had when it was opened.
"""

from __future__ import annotations

import io
import os
import re
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import TypeVar

from hygge.errors import HyggeError, SourceChanged, nearest
from hygge.model import MIB
from hygge.open_connections import for_this_call
from hygge.places.access import ENVIRONMENT_PREFIXES, SCHEMES, Access, access_of
from hygge.places.bucket import Bucket, Entry
from hygge.places.names import contents

_BLOCK_BYTES = 4 * MIB
"""The least that one request asks for, unless the caller says otherwise."""
_REQUESTS_AT_ONCE = 64
"""Copies, and reads of receipts, under way at one time: each waits for the object store."""
_SCHEME = re.compile(r"(\w+)://")


Item = TypeVar("Item")
Result = TypeVar("Result")


def at_once(work: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
    """Do `work` on several items at once: they wait for the object store, not for each other."""
    with ThreadPoolExecutor(_REQUESTS_AT_ONCE, thread_name_prefix="hygge-objects") as pool:
        return list(pool.map(for_this_call(work), items))


def is_object_url(path: str) -> bool:
    """Whether a path is a URL of an object store."""
    scheme = _SCHEME.match(path)
    return scheme is not None and scheme[1].lower() in SCHEMES


def bucket_and_key(url: str) -> tuple[Bucket, str]:
    """Return the bucket of a URL, and the key of the object (or the prefix) in it.

    A bucket is made once for each environment, so that its connections and tokens are used again.
    """
    scheme, _, rest = url.partition("://")
    host, _, key = rest.partition("/")
    variables = (item for item in os.environ.items() if item[0].startswith(ENVIRONMENT_PREFIXES))
    environment = tuple(sorted(variables))
    return _bucket(f"{scheme}://{host}", access_of(url), environment), key


@lru_cache(maxsize=64)
def _bucket(root: str, access: Access | None, environment: tuple[tuple[str, str], ...]) -> Bucket:
    return Bucket(root, access)


def hint_for_missing(url: str) -> str | None:
    """Return a hint for a URL at which nothing is: the nearest name, or what is there instead.

    None where the bucket cannot be listed: the error to report is the missing object, not that.
    """
    bucket, key = bucket_and_key(url)
    above, _, name = key.strip("/").rpartition("/")
    try:
        names = [other for other in bucket.names(above) if not other.startswith((".", "_"))]
    except HyggeError:
        return None
    close = nearest(name, names)
    folder = f"{bucket.describe()}/{above}".rstrip("/")
    if close:
        return f"did you mean {folder}/{close}?"
    return contents(folder, names)


def open_object(url: str, read_ahead_bytes: int | None = None) -> io.BufferedIOBase:
    """Open an object for reading and seeking. Raises FileNotFoundError where there is none.

    `read_ahead_bytes` is what one request asks for at least.
    """
    bucket, key = bucket_and_key(url)
    entry = bucket.entry(key)
    if entry is None:
        raise FileNotFoundError(2, "no such object", url)
    ahead = _BLOCK_BYTES if read_ahead_bytes is None else read_ahead_bytes
    return _ObjectReader(bucket, key, entry, ahead)


class _ObjectReader(io.BufferedIOBase):
    """One state of an object, read in ranges of at least `read_ahead_bytes`."""

    def __init__(self, bucket: Bucket, key: str, entry: Entry, read_ahead_bytes: int) -> None:
        self.bucket, self.key, self.entry = bucket, key, entry
        self.read_ahead_bytes = read_ahead_bytes
        self.position = 0
        self._buffer = b""
        self._buffer_start = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self.position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        origins = {io.SEEK_SET: 0, io.SEEK_CUR: self.position, io.SEEK_END: self.entry.size}
        self.position = max(0, origins[whence] + offset)
        return self.position

    def size(self) -> int:
        return self.entry.size

    def read(self, size: int | None = -1) -> bytes:
        wanted = self.entry.size - self.position
        if size is not None and size >= 0:
            wanted = min(size, wanted)
        if wanted <= 0:
            return b""
        begin = self.position - self._buffer_start
        if not 0 <= begin <= begin + wanted <= len(self._buffer):
            end = min(self.entry.size, self.position + max(wanted, self.read_ahead_bytes))
            self._buffer = self._fetch(self.position, end)
            self._buffer_start, begin = self.position, 0
        self.position += wanted
        return self._buffer[begin : begin + wanted]

    def _fetch(self, start: int, end: int) -> bytes:
        content = self.bucket.part(self.key, start, end, self.entry.tag)
        if content is None or len(content) != end - start:
            raise SourceChanged(
                f"{self.bucket.describe()}/{self.key} was rewritten while the run was reading it",
                "run it again when nobody writes to it",
            )
        return content
