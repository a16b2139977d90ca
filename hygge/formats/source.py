"""Open the bytes that a format reads: a file of this machine, or an object of an object store."""

from __future__ import annotations

import pyarrow as pa

from hygge.places.objects import is_object_url, open_object


def open_source(path: str, read_ahead_bytes: int | None = None) -> pa.NativeFile:
    """Open a path or the URL of an object for reading.

    `read_ahead_bytes` is what one request for an object asks for at least; the default suits a
    reader that goes from the start to the end. Raises FileNotFoundError where nothing is there.
    """
    if is_object_url(path):
        return pa.PythonFile(open_object(path, read_ahead_bytes), "r")
    return pa.OSFile(path, "rb")
