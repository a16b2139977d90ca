"""Refuse the files of a lake table: beside them stands which of them count.

Delta, Iceberg, Hudi, Paimon and Lance keep that in a log; so does Spark for files that a stream
writes. DuckLake keeps it in a database, and its files are known by their names. A transactional
table of Hive has a folder for each change (`delta_0000001_0000001`), and the metastore knows which
of them count.

A lake table deletes a row by leaving a file out of its log, and removes the file days later. Read
as a plain folder of Parquet it gives such rows back, so nothing below one is read. A path into the
log itself (`t/_delta_log/*.json`) is no part of the table's rows, and is read. A Delta table is
read by its own Home, which is `type: delta`. Files are not written into a lake table either: its
readers would not see them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from hygge.errors import HomeError, HyggeError, StoreError
from hygge.open_connections import for_this_call
from hygge.places.bucket import Bucket
from hygge.places.objects import bucket_and_key, is_object_url

_DELTA, _HUDI, _ICEBERG = "_delta_log", ".hoodie", "metadata"
_KINDS = {
    _DELTA: "a Delta table", _HUDI: "a Hudi table", _ICEBERG: "an Iceberg table",
    "snapshot": "a Paimon table", "_spark_metadata": "a folder that a stream of Spark writes",
    "_versions": "a Lance dataset",
}  # fmt: skip
"""Folders in a lake table, by which it is known."""
_NAMES = {
    _ICEBERG: re.compile(r".*\.metadata\.json(\.gz)?"),
    "snapshot": re.compile(r"snapshot-\d+|LATEST|EARLIEST"),
    "_versions": re.compile(r".*\.manifest"),
}
"""What has to lie in such a folder, where its name says too little."""
_DUCKLAKE = re.compile(r"ducklake-[0-9a-f-]{36}(-delete)?\.parquet")
_HIVE = "a transactional table of Hive"
_OF_HIVE = re.compile(r"((delete_)?delta_\d{7,}_\d{7,}(_\d{4,})?|base_\d{7,})(_v\d{7,})?")
"""The folders of such a table: of a change, or of all rows up to one."""
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
                _refuse_hive(root or os.sep, [child] if child else _list(root, ""))
                _refuse(root or os.sep, child, partial(_list, root))


def refuse_writing(folder: str) -> None:
    """Raise StoreError where files would be written into a lake table."""
    for path in dict.fromkeys((os.path.abspath(folder), os.path.realpath(folder))):
        for root, child in _upwards(path, os.sep):
            for marker, kind in _KINDS.items():
                if _of_log(marker, _list(root, marker)):
                    raise _unseen(root or os.sep, kind)
            of_table = root in (path, os.path.dirname(path))  # a list of what is above may be long
            if any(map(_OF_HIVE.fullmatch, [child, *(_list(root, "") if of_table else [])])):
                raise _unseen(root or os.sep, _HIVE)


def refuse_writing_below(bucket: Bucket, prefix: str) -> None:
    """Raise StoreError where objects would be written into a lake table."""
    way = list(_upwards(prefix.strip("/"), "/"))
    asked = [(root, marker) for root, _ in way for marker in _KINDS]
    for root, child in way:
        if _OF_HIVE.fullmatch(child):
            raise _unseen(f"{bucket.describe()}/{root}".rstrip("/"), _HIVE)
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        found = pool.map(for_this_call(lambda at: _names(bucket, _joined(*at))), asked)
        for (root, marker), names in zip(asked, found, strict=True):
            if _of_log(marker, names):
                raise _unseen(f"{bucket.describe()}/{root}".rstrip("/"), _KINDS[marker])


def _unseen(root: str, kind: str) -> StoreError:
    return StoreError(
        f"{root} is {kind}: its readers would not see files that are not in its log",
        "choose another path, outside of it; a Delta table is written as `type: delta`, one of "
        "Iceberg through its catalog",
    )


def refuse_ducklake(paths: Iterable[str]) -> None:
    """Raise HomeError where one of these files is one of DuckLake's."""
    for path in paths:
        if _DUCKLAKE.fullmatch(path.rpartition("/")[2]):
            raise _not_read(
                f"{path} is a file of a DuckLake table: a database says which of its files count, "
                "and some of them hold rows that were deleted"
            )


def _not_read(message: str) -> HomeError:
    return HomeError(
        message,
        "hygge does not read these yet; export it as plain files, with the engine that wrote it, "
        "and read those",
    )


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
            if _OF_HIVE.fullmatch(part):
                _refuse_hive("/".join([bucket.describe(), *parts[:index]]), [part])
            if part in _KINDS:
                inside = "/".join(parts[: index + 1])
                names.setdefault(inside, []).append(parts[index + 1])
    above = [root for root, _ in _upwards(top, "/")]
    asked = [_joined(root, name) for root in above for name in _KINDS]
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        found_names = pool.map(for_this_call(lambda key: _names(bucket, key)), asked)
        for inside, found in zip(asked, found_names, strict=True):
            names.setdefault(inside, []).extend(found)
    keys = list(keys)
    refuse_ducklake(f"{bucket.describe()}/{key}" for key in keys)
    seen: set[tuple[str, str]] = set()
    folders = dict.fromkeys([*(key.rpartition("/")[0] for key in keys), top])
    for folder in folders:
        for root, child in _upwards(folder, "/"):
            if (root, child) not in seen:
                seen.add((root, child))
                shown = f"{bucket.describe()}/{root}".rstrip("/")
                _refuse_hive(shown, [child])
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
            if _OF_HIVE.fullmatch(part):
                found.setdefault("/".join(parts[:index]), _HIVE.partition(" ")[2])
                break
            if part in _KINDS and _of_log(part, [name]):
                kind = _KINDS[part].partition(" ")[2]
                found.setdefault("/".join(parts[:index]), kind)
                break
    return found


def _refuse_hive(root: str, children: Iterable[str]) -> None:
    """Raise HomeError where one of the names in `root` is that of a folder of Hive's."""
    for child in filter(_OF_HIVE.fullmatch, children):
        raise _not_read(
            f"{root} is {_HIVE}: the metastore says which of its folders count ({child} is one), "
            "and some of them hold rows that were deleted"
        )


def _refuse(root: str, child: str, names_in: Callable[[str], list[str]]) -> None:
    """Raise HomeError where `root` is a lake table, and `child` in it is not its log."""
    for marker, kind in _KINDS.items():
        names = [] if child == marker else _of_log(marker, names_in(marker))
        if not names:
            continue
        message = (
            f"{root} is {kind}: what is in {marker} says which of its files count, and some of "
            "them hold rows that were deleted"
        )
        if marker == _DELTA:
            raise HomeError(message, f"read the table: {{type: delta, path: {root}}}")
        if marker == _ICEBERG:
            raise HomeError(
                message, "read it as `type: iceberg`, or through its catalog (see docs/lakes.md)"
            )
        raise _not_read(message)


def _of_log(marker: str, names: list[str]) -> list[str]:
    """Return what of the names in a folder `marker` is of the log of a lake table."""
    pattern = _NAMES.get(marker)
    return [name for name in names if pattern is None or pattern.fullmatch(name)]


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
