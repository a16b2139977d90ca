"""Publish files of a disk: staged in a hidden sibling, made visible by one rename.

For a target `lake/users` the hidden sibling is `lake/.users.hygge`; a run stages below
`lake/.users.hygge/<run>/`. Everything is fsynced before the rename that shows it, and the rename
itself is made durable by an fsync of the folder that holds it.

    replace a directory   RENAME_EXCHANGE of the new directory and the old one, atomic for every
                          reader; where the file system cannot, two renames with a short gap, and
                          `put_back` mends what a death in that gap leaves
    append to one         one rename of the run's sub-directory into it
    a single file         one rename over the old one

Locks are the kernel's, which frees them when a process dies: `one_at_a_time` during a commit, and
`Alive` in the staging of a run for as long as a process works on it. `sweep` removes only the
staging of runs that nobody holds.
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

from hygge.errors import DiskFull, StoreError, Transient
from hygge.places import durable

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2
LEFTOVERS = timedelta(hours=25)
"""The age from which the staging of a run may be swept: a run can be resumed for 24 hours."""
_OLD = ".old"
"""The ending of a directory that was moved away, for the moment between two renames."""
_REMOVED = ".gone-"
"""The beginning of a folder that is about to be deleted."""
_ALIVE = "alive"
_TRIES = 10


def staging(target: str) -> str:
    """Return the hidden sibling of `target`: on the same file system, and ignored by readers."""
    folder, name = os.path.split(target)
    return os.path.join(folder, f".{name}.hygge")


def prepared_staging(target: str, run: str) -> str:
    """Return the staging folder of `run`, which its driver has made.

    Raises StoreError where it is not on this disk: a node that joined later may not mount the
    driver's, and would stage parts that the driver never finds.
    """
    folder = os.path.join(staging(target), run)
    if not os.path.isdir(folder):
        raise StoreError(
            f"{target}: run {run} is not prepared on the disk of {socket.gethostname()}",
            "on several nodes use an object store (s3://…, gs://…, az://…), a database, or a "
            "folder that every node mounts; if it is one, the run was decided without this "
            "attempt: run again",
        )
    return folder


def show_file(staged: str, target: str) -> None:
    """Rename a staged, synced file over `target`."""
    os.replace(staged, target)
    durable.sync(os.path.dirname(target))


def show_directory(staged: str, target: str) -> None:
    """Make `staged` the content of `target` at once; the old content is left at `staged`."""
    try:
        os.rename(staged, target)  # a target that is absent, or an empty directory
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        _exchange(staged, target)
    durable.sync(os.path.dirname(target))


def sync_shown(target: str) -> None:
    """Sync the folders in which a rename, also another process's, showed `target`."""
    if os.path.isdir(target):
        durable.sync(target)
    durable.sync(os.path.dirname(target))


def show_inside(staged: str, folder: str, name: str) -> bool:
    """Rename `staged` to `folder`/`name`; False if something has that name already."""
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
        with tempfile.TemporaryDirectory(prefix=".hygge-", dir=folder) as scratch:
            left, right = os.path.join(scratch, "left"), os.path.join(scratch, "right")
            os.mkdir(left)
            os.mkdir(right)
            return _exchanged(left, right)
    except OSError:
        return True  # it cannot be written, which is an error of the run that writes there


def _exchange(left: str, right: str) -> None:
    if _exchanged(left, right):
        return
    old = f"{left}{_OLD}"
    os.rename(right, old)
    try:
        os.rename(left, right)
    except OSError:
        os.rename(old, right)
        raise
    os.rename(old, left)


def _exchanged(left: str, right: str) -> bool:
    """Exchange two directories atomically; False where the system or the disk cannot."""
    renameat2 = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if renameat2 is None:
        return False
    paths = os.fsencode(left), os.fsencode(right)
    if renameat2(_AT_FDCWD, paths[0], _AT_FDCWD, paths[1], _RENAME_EXCHANGE) == 0:
        return True
    number = ctypes.get_errno()
    if number not in (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP):
        raise OSError(number, os.strerror(number), left)
    return False


def put_back(target: str) -> None:
    """Give `target` its old content back, where a commit died between its two renames."""
    if _moved_away(target):
        with one_at_a_time(staging(target)):
            put_back_locked(target)


def put_back_locked(target: str) -> None:
    """Do as `put_back`; the caller holds the lock on the staging of `target`."""
    for old in _moved_away(target):
        os.rename(old, target)
        durable.sync(os.path.dirname(target))
        return


def _moved_away(target: str) -> list[str]:
    """Return the old contents of a target that is not there, whose new content still waits."""
    if os.path.lexists(target):
        return []
    paths = glob.glob(os.path.join(glob.escape(staging(target)), "*", f"*{_OLD}"))
    return [path for path in paths if os.path.isdir(path.removesuffix(_OLD))]


@contextmanager
def one_at_a_time(folder: str, wait_s: float = 30.0) -> Iterator[None]:
    """Hold an exclusive lock on `folder`, which is made if it is not there.

    Raises Transient where another process holds it for longer than `wait_s`.
    """
    deadline = time.monotonic() + wait_s
    while (handle := _locked(folder)) is None:
        if time.monotonic() > deadline:
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
    """Return a handle that holds the lock on the folder now at this path; None: another has it."""
    try:
        durable.make_folder(folder)
        handle = os.open(folder, os.O_RDONLY)
    except FileNotFoundError:  # removed by another run at this moment
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        return None
    if _is_at(folder, handle):
        return handle
    os.close(handle)
    return None


def _is_at(path: str, handle: int) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(handle))
    except FileNotFoundError:
        return False


class Alive:
    """A shared lock in a run's staging, which is made: it is not swept while one is open."""

    handle: int | None = None

    def __init__(self, folder: str) -> None:
        path = os.path.join(folder, _ALIVE)
        for left in reversed(range(_TRIES)):
            try:
                durable.make_folder(folder)
                handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
            except FileNotFoundError:  # removed, or swept, by another run at this moment
                if not left:
                    raise
                continue
            fcntl.flock(handle, fcntl.LOCK_SH)
            if _is_at(path, handle):
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


def remove_staging(folder: str) -> None:
    """Remove the staging folder of a run, after a commit that is at work in it.

    It is renamed before it is deleted, so that nobody finds a part of it.
    """
    if not os.path.isdir(folder):
        return
    above, name = os.path.split(folder)
    removed = os.path.join(above, f"{_REMOVED}{name}-{os.getpid()}")
    with one_at_a_time(folder):
        os.rename(folder, removed)
    remove(removed)


def sweep(target: str, keep: str) -> None:
    """Remove what dead runs staged for `target`, but the run `keep`.

    It is renamed before it is deleted, so that nobody finds a part of it. Old content of the target
    that waits to be put back is put back first.
    """
    folder = staging(target)
    with one_at_a_time(folder):
        put_back_locked(target)
        for name in os.listdir(folder):
            started = _start_time(name)
            # A run of the future began before the clock was set right.
            if started and abs(datetime.now(UTC) - started) > LEFTOVERS and name != keep:
                with contextlib.suppress(OSError):  # a process holds it, or it is another user's
                    _rename_dead(folder, name)
    for name in os.listdir(folder) if os.path.isdir(folder) else ():
        if name.startswith(_REMOVED):
            remove(os.path.join(folder, name))


def _start_time(run: str) -> datetime | None:
    """Return when a run began, by its id; None for other entries of the staging."""
    try:
        return datetime.strptime(run.split("-")[0], "%Y%m%dT%H%M%S").replace(tzinfo=UTC)
    except ValueError:
        return None


def _rename_dead(folder: str, name: str) -> None:
    """Rename the staging of a run that no process holds; BlockingIOError where one does."""
    path = os.path.join(folder, name)
    handle = os.open(os.path.join(path, _ALIVE), os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.rename(path, os.path.join(folder, f"{_REMOVED}{name}"))
    finally:
        os.close(handle)


def check_rights(target: str) -> None:
    """Raise OSError where this user may not write the folders that a run of `target` needs."""
    folder, name = os.path.split(target)
    durable.check_rights(folder, f".{name}.hygge")
    if os.path.isdir(target):
        durable.check_rights(target)


@contextmanager
def disk_errors(target: str, side: type[StoreError] = StoreError) -> Iterator[None]:
    """Turn the operating system's errors into a StoreError that says what to do.

    `side`: Rejected in a commit, for what is in the way of the target; a full disk and the like,
    which can be mended, is a StoreError all the same.
    """
    try:
        yield
    except OSError as error:
        path = error.filename or target
        number = error.errno or 0
        reason = os.strerror(number) if number else str(error)
        where = f" ({path})" if path != target else ""
        if number in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFull(
                f"the disk is full while writing {path}",
                "free some space, or give a store on another disk, then run it again; "
                "nothing of this run is visible",
            ) from error
        hint = _HINTS.get(number, "look at the disk and the folder, then run it again")
        if number not in _IN_THE_WAY_OF_IT:
            side = StoreError
        raise side(f"{target} cannot be written: {reason}{where}", hint) from error


_IN_THE_WAY_OF_IT = (
    errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENOTEMPTY,
    errno.ENOENT, errno.ELOOP, errno.ENAMETOOLONG,
)  # fmt: skip
_PERMIT = "let this user write the folder; hygge writes beside the target, then renames"
_IN_THE_WAY = "a file stands where a folder is needed; choose another path"
_NO_ENTRIES_HINT = "that folder can have no new entries; choose another path"
_HINTS = {
    errno.EACCES: _PERMIT,
    errno.EPERM: _PERMIT,
    errno.EROFS: "choose a path on a disk that is not read-only, or mount it for writing",
    errno.ENOTDIR: _IN_THE_WAY,
    errno.EEXIST: _IN_THE_WAY,
    errno.ENOENT: _NO_ENTRIES_HINT,
    errno.EOPNOTSUPP: _NO_ENTRIES_HINT,
    errno.EFBIG: "a limit on the size of files was met (see `ulimit -f`): raise it, or let a "
    "directory store write smaller files with `options: {file_bytes: …}`",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.EMFILE: "raise the limit of open files (see `ulimit -n`)",
}
