"""The files that a Home's path means: one file, a directory, a glob, hive partitions.

Objects are listed in `hygge/connectors/files/object_listing.py`. The version of a file is its size
and mtime, or its content where it was shipped with a Ray job. `check_unchanged` compares them
before and after the file is read, so that a file rewritten during the run raises SourceChanged, and
is never read half old, half new.
"""

from __future__ import annotations

import fnmatch
import glob
import os
import stat
from collections.abc import Iterator, Sequence

from hygge.connectors.files import lake_tables, object_listing
from hygge.connectors.files.source_file import (
    SourceFile,
    check_compression,
    is_hidden,
    partitions,
)
from hygge.errors import HomeError, SourceChanged, SourceMissing
from hygge.places.names import fixed_prefix, hint_for_missing
from hygge.places.objects import is_object_url
from hygge.places.shipped import version_of


def find_files(path: str, suffixes: Sequence[str]) -> list[SourceFile]:
    """Return every file that `path` means, in the order of their names; at least one.

    In a directory, and below it, files with one of `suffixes` count; names that begin with `.` or
    `_` do not, and a wildcard does not match them. A directory that a glob matches is read as one.
    Links to directories are followed. Raises SourceMissing, with the nearest name,
    where nothing is there; HomeError for a directory that is reached twice, and for files of a lake
    table; OSError for a directory that may not be listed.
    """
    if is_object_url(path):
        return object_listing.find_objects(path, suffixes)
    if os.path.isdir(path):
        paths, top = list(_walk(path, suffixes)), path
        lake_tables.refuse_folders([path])
        if not paths:
            raise SourceMissing(
                f"no {' or '.join(suffixes)} file in {path}",
                "name the directory that holds the files, or give another `type`",
            )
    elif os.path.exists(path):
        paths, top = [path], os.path.dirname(path)
    elif glob.has_magic(path):
        top = fixed_prefix(path)
        # Not glob.glob: it passes over a directory that it may not list, in silence.
        paths = sorted(set(matches(path, suffixes)))
        if not paths:
            raise SourceMissing(
                f"nothing matches {path}", "check the pattern; ** matches folders at any depth"
            )
    else:
        raise SourceMissing(f"there is no file or directory {path}", hint_for_missing(path))
    lake_tables.refuse_folders(os.path.dirname(file) for file in paths)
    lake_tables.refuse_ducklake(paths)
    return [_described(file, top) for file in paths]


def check_unchanged(file: SourceFile) -> None:
    """Raise SourceChanged unless `file` is still as it was planned."""
    if is_object_url(file.path):
        object_listing.check_unchanged(file)
        return
    try:
        now = os.stat(file.path)
    except FileNotFoundError:
        raise SourceChanged(
            f"{file.path} was there when the run was planned, and is gone", "run it again"
        ) from None
    if (now.st_size, version_of(file.path, now)) != (file.size, file.mtime_ns):
        raise SourceChanged(
            f"{file.path} was rewritten while the run was reading it",
            "run it again when nobody writes to it",
        )


def _walk(top: str, suffixes: Sequence[str]) -> Iterator[str]:
    for folder, names in _folders(top):
        paths = [os.path.join(folder, name) for name in names if not is_hidden(name)]
        check_compression(paths, suffixes)
        yield from (path for path in paths if path.lower().endswith(tuple(suffixes)))


def _folders(top: str) -> Iterator[tuple[str, list[str]]]:
    """Yield `top` and every directory below it, also behind links, with its file names, sorted."""
    seen: dict[tuple[int, int], str] = {}
    for folder, folders, names in os.walk(top, onerror=_raise, followlinks=True):
        inode = os.stat(folder)
        first_path = seen.setdefault((inode.st_dev, inode.st_ino), folder)
        if first_path != folder:
            raise HomeError(
                f"{folder} is the same directory as {first_path}: its rows would be read twice",
                "remove the link, or name with a pattern what is to be read",
            )
        folders[:] = sorted(name for name in folders if not is_hidden(name))
        yield folder, sorted(names)


def _raise(error: OSError) -> None:
    raise error


def matches(pattern: str, suffixes: Sequence[str]) -> Iterator[str]:
    """Yield every file that a glob means, in no order, some of them twice; see `find_files`."""
    top = fixed_prefix(pattern)
    parts = pattern[len(top) :].lstrip(os.sep).split(os.sep)
    yield from _matches(top or os.sep, parts, suffixes)


def _matches(folder: str, parts: Sequence[str], suffixes: Sequence[str]) -> Iterator[str]:
    """Yield the files below `folder` that the parts of a pattern match, by glob's rules."""
    part, rest = parts[0], parts[1:]
    if part == "**":
        for below, names in _folders(folder):
            if rest:
                yield from _matches(below, rest, suffixes)
            else:
                yield from (os.path.join(below, n) for n in names if not is_hidden(n))
        return
    names = [part]
    if glob.has_magic(part):
        names = fnmatch.filter(os.listdir(folder), part)
        names = [name for name in names if part[0] in "._" or not is_hidden(name)]
    for path in (os.path.join(folder, name) for name in names):
        try:
            mode = os.stat(path).st_mode
        except (FileNotFoundError, NotADirectoryError):
            if os.path.islink(path) and not rest:
                yield path  # a link to nothing: `_described` reports it
            continue
        if stat.S_ISDIR(mode):
            yield from _matches(path, rest, suffixes) if rest else _walk(path, suffixes)
        elif not rest:
            yield path


def _described(path: str, top: str) -> SourceFile:
    try:
        now = os.stat(path)
    except FileNotFoundError:
        if os.path.islink(path):
            raise HomeError(
                f"{path} is a link to a file that is not there", "mend the link, or remove it"
            ) from None
        raise
    if not stat.S_ISREG(now.st_mode):
        raise HomeError(
            f"{path} is no file, but a pipe, a device or a socket, which cannot be read twice",
            "write what it gives to a file, and read that",
        )
    folder = os.path.dirname(os.path.relpath(path, top)) if top else os.path.dirname(path)
    return SourceFile(path, now.st_size, version_of(path, now), partitions(folder.split(os.sep)))
