"""Publishing files, written once: staged in a hidden sibling, visible by one rename.

For a target `lake/users` the hidden sibling is `lake/.users.hygge`; a run stages below
`lake/.users.hygge/<run>/`. Everything is fsynced before the rename that shows it, and the rename
itself is made durable by an fsync of the folder that holds it.

    replace a directory   RENAME_EXCHANGE of the new directory and the old one, atomic for every
                          reader; where the file system cannot, two renames with a short gap, and
                          `put_back` mends what a death in that gap leaves
    append to one         one rename of the run's sub-directory into it
    a single file         one rename over the old one

Locks are the kernel's, which frees them at death: `one_at_a_time` for the moment of a commit, and
`Alive` in a run's staging for as long as somebody works on it; `sweep` takes only what has none.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import glob
import os
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

from hygge.errors import StoreError, Transient
from hygge.places import durable

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2
LEFTOVERS = timedelta(hours=25)
"""A run's staging that nobody holds is swept when it is older: it may be resumed for 24 hours."""
_ASIDE = ".old"
_GONE = ".gone-"
_ALIVE = "alive"
_TRIES = 10


def staging(target: str) -> str:
    """The hidden sibling of `target`: the same file system, ignored by every common reader."""
    folder, name = os.path.split(target)
    return os.path.join(folder, f".{name}.hygge")


def prepared(target: str, run: str) -> str:
    """The staging of `run`, which its driver has made. Raises StoreError where it is not here.

    A node that joined since the disks were compared may not see the driver's, and would stage on
    its own what the driver never finds.
    """
    place = os.path.join(staging(target), run)
    if not os.path.isdir(place):
        raise StoreError(
            f"{target}: run {run} is not prepared on the disk of {socket.gethostname()}",
            "on several nodes use an object store (s3://…, gs://…, az://…), a database, or a "
            "folder that every node mounts; if it is one, the run was decided without this "
            "attempt: run again",
        )
    return place


def show_file(staged: str, target: str) -> None:
    """One rename of a staged, synced file over `target`."""
    os.replace(staged, target)
    durable.sync(os.path.dirname(target))


def show_directory(staged: str, target: str) -> None:
    """Make `staged` the content of `target` at once; what was there is left at `staged`."""
    try:
        os.rename(staged, target)  # a target that is absent, or an empty directory
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        _exchange(staged, target)
    durable.sync(os.path.dirname(target))


def sync_shown(target: str) -> None:
    """What a rename showed at `target`, or inside it, stays after a power cut, whoever made it."""
    if os.path.isdir(target):
        durable.sync(target)
    durable.sync(os.path.dirname(target))


def show_inside(staged: str, folder: str, name: str) -> bool:
    """One rename of `staged` to `folder`/`name`; False if something has that name already."""
    durable.make_folder(folder)
    try:
        os.rename(staged, os.path.join(folder, name))
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
            return False
        raise
    durable.sync(folder)
    return True


def can_exchange(target: str) -> bool:
    """Whether the disk that `target` is on, or would be, can exchange two directories."""
    folder = os.path.dirname(target)
    while not os.path.isdir(folder):
        folder = os.path.dirname(folder)
    try:
        with tempfile.TemporaryDirectory(prefix=".hygge-", dir=folder) as place:
            ends = os.path.join(place, "left"), os.path.join(place, "right")
            for end in ends:
                os.mkdir(end)
            return _exchanged(*ends)
    except OSError:
        return True  # it may not be written, which whoever writes there will be told


def _exchange(left: str, right: str) -> None:
    if _exchanged(left, right):
        return
    aside = f"{left}{_ASIDE}"
    os.rename(right, aside)
    try:
        os.rename(left, right)
    except OSError:
        os.rename(aside, right)
        raise
    os.rename(aside, left)


def _exchanged(left: str, right: str) -> bool:
    """Exchange two directories in one moment; False where that cannot be done."""
    renameat2 = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if renameat2 is None:
        return False
    ends = os.fsencode(left), os.fsencode(right)
    if renameat2(_AT_FDCWD, ends[0], _AT_FDCWD, ends[1], _RENAME_EXCHANGE) == 0:
        return True
    number = ctypes.get_errno()
    if number not in (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP):
        raise OSError(number, os.strerror(number), left)
    return False


def put_back(target: str) -> None:
    """Give `target` its old content again, where a commit died between its two renames."""
    if _lost(target):
        with one_at_a_time(staging(target)):
            put_back_locked(target)


def put_back_locked(target: str) -> None:
    """`put_back` for who holds the lock on the staging of `target`."""
    for aside in _lost(target):
        os.rename(aside, target)
        durable.sync(os.path.dirname(target))
        return


def _lost(target: str) -> list[str]:
    """What was moved aside for a new content that still waits beside it."""
    if os.path.lexists(target):
        return []
    found = glob.glob(os.path.join(glob.escape(staging(target)), "*", f"*{_ASIDE}"))
    return [aside for aside in found if os.path.isdir(aside.removesuffix(_ASIDE))]


@contextmanager
def one_at_a_time(folder: str, wait_s: float = 30.0) -> Iterator[None]:
    """An exclusive lock on `folder`, which is made if it is not there."""
    until = time.monotonic() + wait_s
    while (handle := _locked(folder)) is None:
        if time.monotonic() > until:
            raise Transient(
                f"another hygge run is committing in {folder}, for over {wait_s:.0f} s",
                "wait for it, or end it, then run again",
            )
        time.sleep(0.02)
    try:
        yield
    finally:
        os.close(handle)


def _locked(folder: str) -> int | None:
    """A handle that holds the lock on `folder` as it stands at its path, or None."""
    try:
        durable.make_folder(folder)
        handle = os.open(folder, os.O_RDONLY)
    except FileNotFoundError:  # removed by another run in this moment
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        return None
    if _stands_at(folder, handle):
        return handle
    os.close(handle)
    return None


def _stands_at(path: str, handle: int) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(handle))
    except FileNotFoundError:
        return False


class Alive:
    """A shared lock in a run's staging, which is made: nobody sweeps it until all are closed."""

    handle: int | None = None

    def __init__(self, place: str) -> None:
        path = os.path.join(place, _ALIVE)
        for left in reversed(range(_TRIES)):
            try:
                durable.make_folder(place)
                handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
            except FileNotFoundError:  # removed, or swept, by another run in this moment
                if not left:
                    raise
                continue
            fcntl.flock(handle, fcntl.LOCK_SH)
            if _stands_at(path, handle):
                self.handle = handle
                return
            os.close(handle)
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)

    def close(self) -> None:
        handle, self.handle = self.handle, None
        if handle is not None:
            os.close(handle)

    __del__ = close


def remove(path: str) -> None:
    """Remove a tree that may be gone already."""
    shutil.rmtree(path, ignore_errors=True)


def take_away(place: str) -> None:
    """Remove a run's staging, unless a commit is at work in it; then after that."""
    if not os.path.isdir(place):
        return
    gone = os.path.join(os.path.dirname(place), f"{_GONE}{os.path.basename(place)}-{os.getpid()}")
    with one_at_a_time(place):
        os.rename(place, gone)
    remove(gone)


def sweep(target: str, keep: str) -> None:
    """Remove what dead runs staged for `target`; content that waits to be put back is none of it.

    It is renamed away before it is deleted, so that nobody finds a part of it.
    """
    place = staging(target)
    with one_at_a_time(place):
        put_back_locked(target)
        for name in os.listdir(place):
            began = _began(name)
            # One of the future began before the clock was set right.
            if began and abs(datetime.now(UTC) - began) > LEFTOVERS and name != keep:
                with contextlib.suppress(OSError):  # somebody works on it, or not ours to move
                    _rename_away(place, name)
    for name in os.listdir(place) if os.path.isdir(place) else ():
        if name.startswith(_GONE):
            remove(os.path.join(place, name))


def _began(run: str) -> datetime | None:
    """When a run began, by its id; None for what else lies in the staging."""
    try:
        return datetime.strptime(run.split("-")[0], "%Y%m%dT%H%M%S").replace(tzinfo=UTC)
    except ValueError:
        return None


def _rename_away(place: str, name: str) -> None:
    path = os.path.join(place, name)
    handle = os.open(os.path.join(path, _ALIVE), os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.rename(path, os.path.join(place, f"{_GONE}{name}"))
    finally:
        os.close(handle)


@contextmanager
def disk_errors(what: str) -> Iterator[None]:
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
