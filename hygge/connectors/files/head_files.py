"""The file that holds the head of a directory: JSON, where a reader of the directory skips it.

polars, DuckDB and others read every file of a directory, also hidden ones. So in a directory of
Parquet or Arrow files the head is such a file too, `_hygge.parquet`: it has the columns of the
others, no rows, and the JSON in its metadata. Formats without metadata have `_hygge.json`, as all
directories of earlier versions do.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pyarrow as pa

from hygge.formats.format import Format
from hygge.places import durable

_STEM = "_hygge"
_KEY = b"hygge.head"
NAMES = tuple(f"{_STEM}{suffix}" for suffix in (".parquet", ".arrow", ".json"))


def name_of(file_format: Format) -> str:
    """Return the name of the file that holds the head, among files of a format."""
    return f"{_STEM}{file_format.suffixes[0]}" if file_format.keeps_metadata else f"{_STEM}.json"


def write(path: str, head: bytes, file_format: Format, schema: pa.Schema, folder: str) -> None:
    """Write the JSON of a `head` as the file at `path`, durably; `folder` is a staging."""
    if file_format.keeps_metadata:
        draft = os.path.join(folder, os.path.basename(path))
        marked = schema.with_metadata({**(schema.metadata or {}), _KEY: head})
        file_format.open_writer(draft, marked).close()
        with open(draft, "rb") as file:
            head = file.read()
        os.unlink(draft)
    durable.write_synced(path, head)


def head_in(path: str) -> bytes:
    """Return the JSON of the head that a file holds.

    Raises KeyError or ValueError where it holds none, and OSError where it cannot be read.
    """
    if path.endswith(".json"):
        with open(path, "rb") as file:
            return file.read()
    try:
        schema = _schema_of(path)
    except OSError as error:
        if error.errno is None:  # pyarrow's word for bytes that it cannot decode
            raise ValueError(str(error).partition("\n")[0]) from error
        raise
    head: bytes = (schema.metadata or {})[_KEY]
    return head


def _schema_of(path: str) -> pa.Schema:
    if path.endswith(".parquet"):
        import pyarrow.parquet as pq

        return pq.read_schema(path)
    with pa.OSFile(path) as source:
        return pa.ipc.open_file(source).schema


def files_in(folder: str) -> Iterator[str]:
    """Yield the paths of the files in `folder` that hold a head: one, or none."""
    for name in NAMES:
        path = os.path.join(folder, name)
        if os.path.exists(path):
            yield path
