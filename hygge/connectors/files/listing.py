"""Local files as a Home sees them: a file, a directory, a glob, hive partitions.

A file's version is its size and mtime: `unchanged` compares them before and after it is read, so
that a file rewritten in mid-run is SourceChanged and never half old, half new.
"""

from __future__ import annotations

import fnmatch
import glob
import os
import re
import stat
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

import pyarrow as pa

from hygge.errors import HomeError, SourceChanged, SourceMissing, nearest

_LISTED = 8
HIVE_NULL = "__HIVE_DEFAULT_PARTITION__"


@dataclass(frozen=True)
class SourceFile:
    """One file of a Home, as it was when the run was planned. `keys` are its hive partitions."""

    path: str
    size: int
    mtime_ns: int
    keys: tuple[tuple[str, str | None], ...] = ()


def source(path: str, ahead: int | None = None) -> Any:
    """A file or an object, to be read as bytes: a `pa.NativeFile`.

    `ahead`: bytes of an object that one request gets at least; by default what suits a reader that
    begins at its start and goes to its end.
    """
    from hygge.connectors.files import object_listing

    if object_listing.on_objects(path):
        return pa.PythonFile(object_listing.opened(path, ahead), "r")
    return pa.OSFile(path, "rb")


def find(path: str, suffixes: Sequence[str]) -> list[SourceFile]:
    """Every file that `path` means, in the order of their names.

    In a directory, and below it, files with one of `suffixes` count; names that begin with `.` or
    `_` do not. Links to directories are followed; one that is reached twice is an error, as is one
    that may not be listed. Raises SourceMissing where nothing is there, with the nearest name.
    """
    from hygge.connectors.files import object_listing

    if object_listing.on_objects(path):
        return object_listing.find(path, suffixes)
    if os.path.isdir(path):
        found = [(each, path) for each in _walk(path, suffixes)]
        if not found:
            raise SourceMissing(
                f"no {' or '.join(suffixes)} file in {path}",
                "name the directory that holds the files, or give another `type`",
            )
    elif os.path.exists(path):
        found = [(path, os.path.dirname(path))]
    elif glob.has_magic(path):
        fixed = fixed_prefix(path)
        parts = path[len(fixed) :].lstrip(os.sep).split(os.sep)
        # Not glob.glob: it passes over a directory that it may not list, in silence.
        found = [(each, fixed) for each in sorted(_matches(fixed or os.sep, parts))]
        if not found:
            raise SourceMissing(
                f"nothing matches {path}", "check the pattern; ** matches folders at any depth"
            )
    else:
        raise SourceMissing(f"there is no file or directory {path}", near(path))
    return [_described(each, root) for each, root in found]


def near(path: str) -> str:
    """A hint for a path that is not there: the nearest sibling, or what is there instead."""
    path = path.rstrip(os.sep)
    folder = os.path.dirname(path) or "."
    missing = ""
    while not os.path.isdir(folder):
        path, folder = folder, os.path.dirname(folder) or "."
        missing = f"there is no folder {path}; "
    try:
        names = sorted(name for name in os.listdir(folder) if not name.startswith("."))
    except OSError as error:
        return f"{folder} cannot be listed: {error.strerror}"
    close = nearest(os.path.basename(path), names)
    if close:
        return f"did you mean {os.path.join(folder, close)}?"
    listed = ", ".join(names[:_LISTED]) + (", …" if len(names) > _LISTED else "")
    return f"{missing}{folder} " + (f"holds {listed}" if names else "is empty")


def unchanged(file: SourceFile) -> None:
    """Raise SourceChanged unless `file` is still the one that was planned."""
    from hygge.connectors.files import object_listing

    if object_listing.on_objects(file.path):
        object_listing.unchanged(file)
        return
    try:
        now = os.stat(file.path)
    except FileNotFoundError:
        raise SourceChanged(
            f"{file.path} was there when the run was planned, and is gone", "run it again"
        ) from None
    if (now.st_size, now.st_mtime_ns) != (file.size, file.mtime_ns):
        raise SourceChanged(
            f"{file.path} was rewritten while the run was reading it",
            "run it again when nobody writes to it",
        )


def hive_columns(files: Iterable[SourceFile]) -> dict[str, pa.DataType]:
    """Partition columns and types: int64 where every value is a plain integer, else text."""
    values: dict[str, list[str]] = {}
    names: tuple[str, ...] | None = None
    for file in files:
        mine = tuple(name for name, _ in file.keys)
        if names is not None and mine != names:
            raise HomeError(
                f"{file.path} is partitioned by {', '.join(mine) or 'nothing'}, "
                f"the files before it by {', '.join(names) or 'nothing'}",
                "name one partitioned directory at a time",
            )
        names = mine
        for name, value in file.keys:
            values.setdefault(name, [])
            if value is not None:
                values[name].append(value)
    return {name: pa.int64() if _all_int(each) else pa.string() for name, each in values.items()}


def _all_int(values: list[str]) -> bool:
    def plain(text: str) -> bool:
        return bool(re.fullmatch("-?[0-9]{1,19}", text)) and str(int(text)) == text

    return bool(values) and all(plain(v) and abs(int(v)) < 2**63 for v in values)


def _walk(top: str, suffixes: Sequence[str]) -> Iterator[str]:
    for folder, names in _folders(top, hidden=(".", "_")):
        for name in names:
            if not name.startswith((".", "_")) and name.lower().endswith(tuple(suffixes)):
                yield os.path.join(folder, name)


def _folders(top: str, hidden: tuple[str, ...]) -> Iterator[tuple[str, list[str]]]:
    """Every directory from `top` down, behind links too, with the names of its files, in order."""
    seen: dict[tuple[int, int], str] = {}
    for folder, folders, names in os.walk(top, onerror=_raise, followlinks=True):
        here = os.stat(folder)
        before = seen.setdefault((here.st_dev, here.st_ino), folder)
        if before != folder:
            raise HomeError(
                f"{folder} is the same directory as {before}: its rows would be read twice",
                "remove the link, or name with a pattern what is to be read",
            )
        folders[:] = sorted(name for name in folders if not name.startswith(hidden))
        yield folder, sorted(names)


def _raise(error: OSError) -> None:
    raise error


def _matches(folder: str, parts: Sequence[str]) -> Iterator[str]:
    """The files below `folder` that a pattern means, by glob's rules."""
    part, rest = parts[0], parts[1:]
    if part == "**":
        for below, names in _folders(folder, hidden=(".",)):
            if rest:
                yield from _matches(below, rest)
            else:
                yield from (os.path.join(below, n) for n in names if not n.startswith("."))
        return
    names = [part]
    if glob.has_magic(part):
        names = fnmatch.filter(os.listdir(folder), part)
        names = [n for n in names if part.startswith(".") or not n.startswith(".")]
    for path in (os.path.join(folder, name) for name in names):
        try:
            mode = os.stat(path).st_mode
        except (FileNotFoundError, NotADirectoryError):
            if os.path.islink(path) and not rest:
                yield path  # to nothing: `_described` says so
            continue
        if rest and stat.S_ISDIR(mode):
            yield from _matches(path, rest)
        elif not rest and stat.S_ISREG(mode):
            yield path


def fixed_prefix(pattern: str) -> str:
    """The folder that every match of a glob lies in; a path without magic as it is."""
    parts = pattern.split(os.sep)
    for at, part in enumerate(parts):
        if glob.has_magic(part):
            return os.sep.join(parts[:at])
    return pattern


def _described(path: str, root: str) -> SourceFile:
    try:
        now = os.stat(path)
    except FileNotFoundError:
        if os.path.islink(path):
            raise HomeError(
                f"{path} is a link to a file that is not there", "mend the link, or remove it"
            ) from None
        raise
    inside = os.path.dirname(os.path.relpath(path, root)) if root else os.path.dirname(path)
    keys = partitions(inside.split(os.sep))
    return SourceFile(path, now.st_size, now.st_mtime_ns, keys)


def partitions(folders: Iterable[str]) -> tuple[tuple[str, str | None], ...]:
    """The hive partitions that names of folders say."""
    keys = []
    for folder in folders:
        name, equals, value = folder.partition("=")
        if equals and name:
            keys.append((unquote(name), None if value == HIVE_NULL else unquote(value)))
    return tuple(keys)
