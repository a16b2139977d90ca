"""Publishing files, written once: staged in a hidden sibling, visible by one rename.

For a target `lake/users` the hidden sibling is `lake/.users.hygge`; a run stages below
`lake/.users.hygge/<run>/`. Everything is fsynced before the rename that shows it, and the rename
itself is made durable by an fsync of the folder that holds it.

    replace a directory   RENAME_EXCHANGE of the new directory and the old one, atomic for every
                          reader; where the file system cannot, two renames with a short gap
    append to one         one rename of the run's sub-directory into it
    a single file         one rename over the old one
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

from hygge.errors import StoreError, Transient

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2
LEFTOVERS = timedelta(hours=24)
"""A run's staging is taken for abandoned when it is older than this."""


def staging(target: str) -> str:
    """The hidden sibling of `target`: the same file system, ignored by every common reader."""
    folder, name = os.path.split(target)
    return os.path.join(folder, f".{name}.hygge")


def sync(path: str) -> None:
    """fsync a file or a directory by path."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_tree(top: str) -> None:
    """fsync every directory below `top`, and `top`; files were synced when they were closed."""
    for folder, _, _ in os.walk(top):
        sync(folder)


def write_synced(path: str, content: bytes) -> None:
    """Write a small file durably beside its place, then rename it into it."""
    temporary = f"{path}.tmp"
    with open(temporary, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
    sync(os.path.dirname(path))


def show_file(staged: str, target: str) -> None:
    """One rename of a staged, synced file over `target`."""
    os.replace(staged, target)
    sync(os.path.dirname(target))


def show_directory(staged: str, target: str) -> None:
    """Make `staged` the content of `target` at once; what was there is left at `staged`."""
    try:
        os.rename(staged, target)  # a target that is absent, or an empty directory
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        _exchange(staged, target)
    sync(os.path.dirname(target))


def show_inside(staged: str, folder: str, name: str) -> bool:
    """One rename of `staged` to `folder`/`name`; False if something has that name already."""
    os.makedirs(folder, exist_ok=True)
    try:
        os.rename(staged, os.path.join(folder, name))
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
            return False
        raise
    sync(folder)
    return True


def _exchange(left: str, right: str) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    renameat2 = getattr(libc, "renameat2", None)
    if renameat2 is not None:
        ends = os.fsencode(left), os.fsencode(right)
        if renameat2(_AT_FDCWD, ends[0], _AT_FDCWD, ends[1], _RENAME_EXCHANGE) == 0:
            return
        number = ctypes.get_errno()
        if number not in (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP):
            raise OSError(number, os.strerror(number), left)
    aside = f"{left}.old"
    os.rename(right, aside)
    os.rename(left, right)
    os.rename(aside, left)


@contextmanager
def one_at_a_time(folder: str, wait_s: float = 30.0) -> Iterator[None]:
    """An exclusive lock on `folder` for the moment of a commit; the kernel frees it at death."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        until = time.monotonic() + wait_s
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > until:
                    raise Transient(
                        f"another hygge run is committing in {folder}, for over {wait_s:.0f} s",
                        "wait for it, or end it, then run again",
                    ) from None
                time.sleep(0.02)
        yield
    finally:
        os.close(handle)


def remove(path: str) -> None:
    """Remove a tree that may be gone already."""
    shutil.rmtree(path, ignore_errors=True)


def sweep(place: str, keep: str) -> None:
    """Remove the staging of other runs in `place` that are too old to be alive."""
    oldest = datetime.now(UTC) - LEFTOVERS
    for name in os.listdir(place) if os.path.isdir(place) else ():
        try:
            began = datetime.strptime(name.split("-")[0], "%Y%m%dT%H%M%S").replace(tzinfo=UTC)
        except ValueError:
            continue
        if name != keep and began < oldest:
            remove(os.path.join(place, name))


@contextmanager
def in_words(what: str) -> Iterator[None]:
    """Turn the operating system's refusals into a StoreError that says what to do."""
    try:
        yield
    except OSError as error:
        path = error.filename or what
        number = error.errno or 0
        reason = os.strerror(number) if number else str(error)
        aside = f" ({path})" if path != what else ""
        if number in (errno.ENOSPC, errno.EDQUOT):
            raise StoreError(
                f"the disk is full while writing {path}",
                "free some space, or give a store on another disk, then run it again; "
                "nothing of this run is visible",
            ) from error
        hint = _HINTS.get(number, "look at the disk and the folder, then run it again")
        raise StoreError(f"{what} cannot be written: {reason}{aside}", hint) from error


_PERMIT = "let this user write the folder; hygge writes beside the target, then renames"
_IN_THE_WAY = "a file stands where a folder is needed; choose another path"
_HINTS = {
    errno.EACCES: _PERMIT,
    errno.EPERM: _PERMIT,
    errno.EROFS: "choose a path on a disk that is not read-only, or mount it for writing",
    errno.ENOTDIR: _IN_THE_WAY,
    errno.EEXIST: _IN_THE_WAY,
    errno.ENOENT: "that folder can have no new entries; choose another path",
    errno.EFBIG: "a limit on the size of files was met (see `ulimit -f`): raise it, or let a "
    "directory store write smaller files with `options: {file_bytes: …}`",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.EMFILE: "raise the limit of open files (see `ulimit -n`)",
}
