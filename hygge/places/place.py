"""A place for small entries: what the journal, and the heads on object stores, are written to.

A key is like a path (`flows/orders/runs/…/plan.json`). Every verb is durable when it returns, and
an entry is there whole or not at all: nobody ever reads half of one. `create` is what exactly-once
leans on: of any number of callers, in any number of processes, one gets True.

A folder here (`Folder`): written beside its place, synced, linked into it, and the folder synced.
A URL of an object store: `hygge.places.bucket.Bucket`, by conditional puts.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from typing import Protocol

from hygge.connectors.files.publish import make_folder, sync
from hygge.errors import HyggeError

_TEMPORARY = ".tmp-"
_TRIES = 20


class Place(Protocol):
    """The verbs of a place. Errors are HyggeErrors; Transient where a retry may help."""

    at_once: int
    """How many requests side by side are quicker than one after another."""

    def describe(self) -> str:
        """Where it is, for people."""
        ...

    def check(self) -> None:
        """Raise where `create` does not hold: by creating one key twice. Leaves nothing."""
        ...

    def create(self, key: str, content: bytes) -> bool:
        """Write `key` if there is none; whether there was none."""
        ...

    def put(self, key: str, content: bytes) -> None:
        """Write `key`, in the place of what it was."""
        ...

    def get(self, key: str) -> bytes | None:
        """What `key` holds, or None."""
        ...

    def keys(self, below: str) -> list[str]:
        """Every key below the folder `below`, at any depth, in the order of their names."""
        ...

    def remove(self, below: str) -> None:
        """Remove the key `below`, or every key below it; safe twice."""
        ...


def place_at(url: str) -> Place:
    """The place that a path or a URL names."""
    scheme, separator, _ = url.partition("://")
    if separator and scheme != "file":
        from hygge.places.access import access_of
        from hygge.places.bucket import Bucket

        return Bucket(url, access_of(url))
    return Folder(url.removeprefix("file://"))


class Folder:
    """A directory of this machine, or one that is mounted here."""

    at_once = 1

    def __init__(self, path: str) -> None:
        self.path = os.path.abspath(os.path.expanduser(path))

    def describe(self) -> str:
        return self.path

    def check(self) -> None:
        key = f"{_TEMPORARY}check-{uuid.uuid4().hex[:8]}"
        try:
            if not self.create(key, b"1") or self.create(key, b"2"):
                raise HyggeError(
                    f"{self.path} lets two runs create the same file",
                    "keep the state on a disk where `link` is atomic: state: /path/on/a/local/disk",
                )
        finally:
            self.remove(key)

    def create(self, key: str, content: bytes) -> bool:
        return self._written(key, content, _linked)

    def put(self, key: str, content: bytes) -> None:
        self._written(key, content, _replaced)

    def get(self, key: str) -> bytes | None:
        with self._words(reads=True):
            try:
                with open(self._path(key), "rb") as file:
                    return file.read()
            except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
                return None

    def keys(self, below: str) -> list[str]:
        with self._words(reads=True):
            top = self._path(below)
            found = [
                os.path.join(folder, name)
                for folder, _, names in os.walk(top, onerror=_raise)
                for name in names
                if not name.startswith(_TEMPORARY)
            ]
        return sorted(os.path.relpath(each, self.path).replace(os.sep, "/") for each in found)

    def remove(self, below: str) -> None:
        path = self._path(below)
        with self._words():
            try:
                os.unlink(path)
            except (FileNotFoundError, NotADirectoryError):
                return
            except (IsADirectoryError, PermissionError):
                if not os.path.isdir(path):
                    raise
                _remove_tree(path)
            with contextlib.suppress(FileNotFoundError):
                sync(os.path.dirname(path))

    def _path(self, key: str) -> str:
        return os.path.join(self.path, *key.split("/"))

    def _written(self, key: str, content: bytes, show: Callable[[str, str], bool]) -> bool:
        """Write a synced file beside its place, show it there, and sync the folder."""
        path = self._path(key)
        folder = os.path.dirname(path)
        with self._words():
            for left in reversed(range(_TRIES)):
                temporary = os.path.join(folder, f"{_TEMPORARY}{uuid.uuid4().hex[:12]}")
                try:
                    make_folder(folder)
                    with open(temporary, "xb") as file:
                        file.write(content)
                        file.flush()
                        os.fsync(file.fileno())
                    shown = show(temporary, path)
                    # Also where it was there: whoever linked it may have died before this.
                    sync(folder)
                    return shown
                except FileNotFoundError:  # somebody removed the folder in this moment
                    if not left:
                        raise
                finally:
                    with contextlib.suppress(OSError):
                        os.unlink(temporary)
        raise AssertionError("unreachable")

    @contextlib.contextmanager
    def _words(self, reads: bool = False) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            what = "read" if reads else "written"
            path = error.filename or self.path
            reason = os.strerror(error.errno) if error.errno else str(error)
            hint = "let this user write there, or choose another place: `state: /some/folder`"
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                hint = "make room there, or move the state elsewhere: `state: /some/folder`"
            elif error.errno in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS) and not reads:
                hint = "the disk must know hard links; choose another: `state: /some/folder`"
            raise HyggeError(f"the state {path} cannot be {what}: {reason}", hint) from error


def _linked(temporary: str, path: str) -> bool:
    try:
        os.link(temporary, path)
    except FileExistsError:
        return False
    return True


def _replaced(temporary: str, path: str) -> bool:
    os.replace(temporary, path)
    return True


def _remove_tree(top: str) -> None:
    """Remove a folder, though others may be removing it, or adding to it, too."""
    for left in reversed(range(_TRIES)):
        try:
            shutil.rmtree(top)
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENOTEMPTY) or not left:
                raise
        if not os.path.lexists(top):
            return


def _raise(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError | NotADirectoryError):
        raise error
