"""A folder as a place: small files that are there whole or not at all.

An entry is written beside its place, synced, and linked (`create`) or renamed (`put`) into it;
then the folder is synced.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import uuid
from collections.abc import Callable, Iterator

from hygge.errors import HyggeError
from hygge.places.durable import check_rights, make_folder, sync
from hygge.places.names import expanded

_TEMPORARY = ".tmp-"
_IGNORED = ".gitignore"
_TRIES = 20


class Folder:
    """A directory of this machine, or one that is mounted here."""

    at_once = 1

    def __init__(self, path: str) -> None:
        self.path = os.path.abspath(expanded(path, "the state"))

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

    def check_rights(self) -> None:
        with self._explained():
            check_rights(self.path)

    def create(self, key: str, content: bytes) -> bool:
        return self._written(key, content, _linked)

    def put(self, key: str, content: bytes) -> None:
        self._written(key, content, _replaced)

    def get(self, key: str) -> bytes | None:
        with self._explained(reads=True):
            try:
                with open(self._path(key), "rb") as file:
                    return file.read()
            except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
                return None

    def keys(self, below: str) -> list[str]:
        with self._explained(reads=True):
            top = self._path(below)
            paths = [
                os.path.join(folder, name)
                for folder, _, names in os.walk(top, onerror=_raise)
                for name in names
                if not name.startswith(_TEMPORARY) and name != _IGNORED
            ]
        return sorted(os.path.relpath(path, self.path).replace(os.sep, "/") for path in paths)

    def remove(self, below: str) -> None:
        path = self._path(below)
        with self._explained():
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
        """Write a synced file beside its path, `show` it there, and sync the folder."""
        path = self._path(key)
        folder = os.path.dirname(path)
        with self._explained():
            for left in reversed(range(_TRIES)):
                temporary = os.path.join(folder, f"{_TEMPORARY}{uuid.uuid4().hex[:12]}")
                try:
                    self._make(folder)
                    with open(temporary, "xb") as file:
                        file.write(content)
                        file.flush()
                        os.fsync(file.fileno())
                    shown = show(temporary, path)
                    # Also where the entry existed: who linked it may have died before this.
                    sync(folder)
                    return shown
                except FileNotFoundError:  # another process removed the folder at this moment
                    if not left:
                        raise
                finally:
                    with contextlib.suppress(OSError):
                        os.unlink(temporary)
        raise AssertionError("unreachable")

    def _make(self, folder: str) -> None:
        """Make `folder`, and let a state that is new ignore itself in git."""
        is_new = not os.path.exists(self.path)
        make_folder(folder)
        if is_new:  # never in a folder that somebody else made
            ignored = os.path.join(self.path, _IGNORED)
            with contextlib.suppress(FileExistsError), open(ignored, "xb") as file:
                file.write(b"# Made by hygge: the state of its runs.\n*\n")

    @contextlib.contextmanager
    def _explained(self, reads: bool = False) -> Iterator[None]:
        """Turn the operating system's errors into HyggeErrors that say what to do."""
        try:
            yield
        except OSError as error:
            verb = "read" if reads else "written"
            path = error.filename or self.path
            reason = os.strerror(error.errno) if error.errno else str(error)
            hint = "let this user write there, or choose another place: `state: /some/folder`"
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                hint = "make room there, or move the state elsewhere: `state: /some/folder`"
            elif error.errno in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS) and not reads:
                hint = "the disk must know hard links; choose another: `state: /some/folder`"
            raise HyggeError(f"the state {path} cannot be {verb}: {reason}", hint) from error


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
