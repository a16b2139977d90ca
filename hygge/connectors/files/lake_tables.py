"""Refuse the files of a lake table: Delta, Iceberg and Hudi keep beside them which of them count.

A lake table deletes a row by leaving a file out of its log, and removes the file days later. Read
as a plain folder of Parquet it gives such rows back, so nothing below one is read. A path into the
log itself (`t/_delta_log/*.json`) is no part of the table's rows, and is read. A Delta table is
read by its own Home, which is `type: delta`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from hygge.errors import HomeError, HyggeError
from hygge.open_connections import for_this_call
from hygge.places.bucket import Bucket
from hygge.places.objects import bucket_and_key, is_object_url

_DELTA, _HUDI, _ICEBERG = "_delta_log", ".hoodie", "metadata"
_ICEBERG_ENDINGS = (".metadata.json", ".metadata.json.gz")
_KINDS = {_DELTA: "a Delta table", _HUDI: "a Hudi table", _ICEBERG: "an Iceberg table"}
DELTA, ICEBERG = "Delta table", "Iceberg table"
"""Kinds of `lake_tables_in`."""
_AT_ONCE = 8


def refuse_folders(folders: Iterable[str]) -> None:
    """Raise HomeError where one of these directories is, or lies within, a lake table."""
    seen: set[tuple[str, str]] = set()
    for folder in dict.fromkeys(folders):
        for path in dict.fromkeys((os.path.abspath(folder), os.path.realpath(folder))):
            for root, child in _upwards(path, os.sep):
                if (root, child) in seen:
                    break  # what is above it was looked at, too
                seen.add((root, child))
                _refuse(root or os.sep, child, partial(_list, root))


def refuse_prefixes(
    bucket: Bucket, keys: Iterable[str], top: str, listed: Iterable[str] = ()
) -> None:
    """Raise HomeError where one of `keys`, or the prefix `top`, lies within a lake table.

    `listed` are all keys below `top`, hidden ones too; what is above `top` is asked for.
    """
    names: dict[str, list[str]] = {}
    for key in listed:
        parts = key.split("/")
        for index, part in enumerate(parts[:-1]):
            if part in _KINDS:
                inside = "/".join(parts[: index + 1])
                names.setdefault(inside, []).append(parts[index + 1])
    above = [root for root, _ in _upwards(top, "/")]
    asked = [_joined(root, name) for root in above for name in _KINDS]
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        found_names = pool.map(for_this_call(lambda key: _names(bucket, key)), asked)
        for inside, found in zip(asked, found_names, strict=True):
            names.setdefault(inside, []).extend(found)
    seen: set[tuple[str, str]] = set()
    folders = dict.fromkeys([*(key.rpartition("/")[0] for key in keys), top])
    for folder in folders:
        for root, child in _upwards(folder, "/"):
            if (root, child) not in seen:
                seen.add((root, child))
                shown = f"{bucket.describe()}/{root}".rstrip("/")
                _refuse(shown, child, partial(_listed, names, root))


def is_delta_table(path: str) -> bool:
    """Return whether a path, or the URL of an object store, is that of a Delta table."""
    if not is_object_url(path):
        return bool(_list(path, _DELTA))
    bucket, key = bucket_and_key(path)
    return bool(_names(bucket, _joined(key.strip("/"), _DELTA)))


def lake_tables_in(keys: Iterable[str]) -> dict[str, str]:
    """Return the lake tables among files of these names: folder → kind, such as `Delta table`."""
    found: dict[str, str] = {}
    for key in keys:
        parts = key.split("/")
        for index, part in enumerate(parts[:-1]):
            name = parts[index + 1]
            if part in _KINDS and (part != _ICEBERG or name.endswith(_ICEBERG_ENDINGS)):
                kind = _KINDS[part].partition(" ")[2]
                found.setdefault("/".join(parts[:index]), kind)
                break
    return found


def _refuse(root: str, child: str, names_in: Callable[[str], list[str]]) -> None:
    """Raise HomeError where `root` is a lake table, and `child` in it is not its log."""
    for marker, kind in _KINDS.items():
        names = [] if child == marker else names_in(marker)
        if marker == _ICEBERG:
            names = [name for name in names if name.endswith(_ICEBERG_ENDINGS)]
        if names:
            hint = (
                "hygge does not read these yet; export it as plain files, with the engine that "
                "wrote it, and read those"
            )
            if marker == _DELTA:
                hint = f"read the table: {{type: delta, path: {root}}}"
            elif marker == _ICEBERG:
                hint = "read it as `type: iceberg`, or through its catalog (see docs/lakes.md)"
            raise HomeError(
                f"{root} is {kind}: what is in {marker} says which of its files count, and some "
                "of them hold rows that were deleted",
                hint,
            )


def _upwards(folder: str, separator: str) -> Iterator[tuple[str, str]]:
    """Yield a folder and each one above it, with the name in it from which it was reached."""
    child = ""
    while True:
        yield folder, child
        if not folder:
            return
        folder, _, child = folder.rpartition(separator)


def _joined(root: str, name: str) -> str:
    return f"{root}/{name}" if root else name


def _listed(names: dict[str, list[str]], root: str, name: str) -> list[str]:
    return names.get(_joined(root, name), [])


def _list(root: str, name: str) -> list[str]:
    try:
        return os.listdir(f"{root}/{name}")
    except OSError:
        return []


def _names(bucket: Bucket, key: str) -> list[str]:
    try:
        return bucket.names(key)
    except HyggeError:  # who may read a prefix may be refused what is above it
        return []
