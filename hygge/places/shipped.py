"""The folder that was shipped with a Ray job: each node unpacks a copy of its own."""

from __future__ import annotations

import functools
import hashlib
import os

SHIPPED = "/runtime_resources/working_dir_files/"
"""A part of each path in the folder that Ray unpacks for a job and deletes after it."""


def version_of(path: str, stat: os.stat_result) -> int:
    """Return the version of a file's content: its mtime in ns, or a number made of the content.

    The copies of a shipped file have other times on every node, so that its content is its version.
    """
    if SHIPPED not in path:
        return stat.st_mtime_ns
    return _digest(path, stat.st_size, stat.st_mtime_ns)


@functools.lru_cache(maxsize=10_000)
def _digest(path: str, size: int, mtime_ns: int) -> int:
    """Return 63 bits of the SHA-256 of a file, which is read once for each size and mtime."""
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").digest()
    return int.from_bytes(digest[:8]) >> 1
