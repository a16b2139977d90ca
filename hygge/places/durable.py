"""Writing to a disk so that it survives a power cut: fsync of files, and of the folders above.

A new or renamed file is durable only when its own bytes *and* the folder that names it are synced.
"""

from __future__ import annotations

import errno
import os

_OF_THE_KERNEL = {
    "proc", "sysfs", "cgroup", "cgroup2", "devpts", "securityfs", "debugfs", "tracefs", "pstore",
    "bpf", "mqueue", "efivarfs", "binfmt_misc", "configfs", "fusectl", "nsfs",
}  # fmt: skip


def sync(path: str) -> None:
    """Call fsync on a file or a directory."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def make_folder(folder: str) -> None:
    """Make a folder, and those above it, durably. Raises NotADirectoryError for a file there."""
    if os.path.isdir(folder):
        return
    above = os.path.dirname(folder)
    make_folder(above)
    try:
        os.mkdir(folder)
    except FileExistsError:  # another process made it a moment ago, unless it is a file
        if not os.path.isdir(folder):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), folder) from None
    sync(above)


def check_rights(folder: str, name: str = "") -> None:
    """Raise OSError where this user may not write into a folder, or make it.

    `name` is what will be made in it: it may be too long.
    """
    names = [name]
    while not os.path.lexists(folder):
        folder, missing = os.path.split(folder)
        names.append(missing)
    if not os.path.isdir(folder):
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), folder)
    if _is_of_the_kernel(folder):  # which root seems to have the rights for
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP), folder)
    if not os.access(folder, os.W_OK | os.X_OK):
        number = errno.EROFS if os.statvfs(folder).f_flag & os.ST_RDONLY else errno.EACCES
        raise PermissionError(number, os.strerror(number), folder)
    longest = os.pathconf(folder, "PC_NAME_MAX")
    if 0 < longest < max(len(os.fsencode(each)) for each in names):
        raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG), folder)


def _is_of_the_kernel(folder: str) -> bool:
    """Return whether a folder shows what Linux says of itself (`/proc`, `/sys`): it holds no files.

    Where nothing is known of what is mounted there, it does not.
    """
    try:
        with open("/proc/self/mountinfo") as mounts:
            lines = [line.split() for line in mounts]
        device = os.stat(folder).st_dev
    except OSError:
        return False
    number = f"{os.major(device)}:{os.minor(device)}"
    kinds = {words[words.index("-") + 1] for words in lines if words[2] == number}
    return bool(kinds & _OF_THE_KERNEL)


def sync_tree(top: str) -> None:
    """Call fsync on `top` and every directory below; files were synced when they were closed."""
    for folder, _, _ in os.walk(top):
        sync(folder)


def write_synced(path: str, content: bytes) -> None:
    """Write a small file durably: beside its path, then renamed to it."""
    temporary = f"{path}.tmp"
    with open(temporary, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
    sync(os.path.dirname(path))


def ignores_case(path: str) -> bool:
    """Return whether the disk that holds `path`, or will hold it, takes `A` and `a` for one name.

    The nearest folder that exists is asked for by its name in the other case.
    """
    while True:
        folder, name = os.path.split(path)
        if name and name != name.swapcase() and os.path.exists(path):
            try:
                return os.path.samefile(path, os.path.join(folder, name.swapcase()))
            except OSError:
                return False
        if folder == path:
            return False
        path = folder
