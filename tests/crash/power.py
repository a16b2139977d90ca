"""What is left after a power cut: of each folder and file only what its last fsync saw.

`record` notes, in the process of a driver, what each fsync made durable: of a file its content, of
a folder the names in it and what they named. `Image` keeps those notes in the test's process, and
`restore` makes the folder look as if nothing else had reached the disk: names that were not synced
are those of before (also such as were removed since), a file that never was is empty. No disk that
keeps POSIX forgets more. SQLite syncs in C, where none of this is seen, so its files are left out.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

_held: dict[int, int] = {}
_numbers = itertools.count()
SOURCE = "source"


def record(log: Path) -> None:
    """Note every fsync of this process from now on in `log`, beside copies of what was synced."""
    log.parent.mkdir(parents=True, exist_ok=True)
    out = open(log, "a", buffering=1)  # noqa: SIM115  # for as long as the process lives
    fsync = os.fsync

    def noted(handle: int) -> None:
        fsync(handle)
        found = os.fstat(handle)
        if stat.S_ISDIR(found.st_mode):
            names = _names(handle)
            for name, number, _ in names:
                _hold(number, lambda name=name: os.open(name, os.O_PATH, dir_fd=handle))
            note: dict[str, Any] = {"folder": found.st_ino, "names": names}
        else:
            _hold(found.st_ino, lambda: os.dup(handle))
            copy = f"{log}-{next(_numbers)}"
            shutil.copyfile(f"/proc/self/fd/{handle}", copy)
            note = {"file": found.st_ino, "copy": copy, "time": found.st_mtime_ns}
        out.write(json.dumps(note) + "\n")

    os.fsync = noted


def _hold(number: int, opened: Callable[[], int]) -> None:
    """Keep open what was synced, so that its number does not come back for something else."""
    if number not in _held:
        _held[number] = opened()


class Image:
    """What of a folder is durable, by the numbers of folders and files."""

    def __init__(self, folder: Path, twin: Path) -> None:
        """All of `folder`, of which `twin` is a copy."""
        self.top = os.stat(folder).st_ino
        self.folders: dict[Any, list[tuple[str, Any, bool]]] = {}
        self.files: dict[Any, tuple[str, int]] = {}
        for at, _, names in os.walk(folder):
            self.folders[os.stat(at).st_ino] = _names(at)
            for name in names:
                found = os.stat(os.path.join(at, name))
                copy = twin / os.path.relpath(os.path.join(at, name), folder)
                self.files[found.st_ino] = str(copy), found.st_mtime_ns

    def learn(self, log: Path, folder: Path) -> None:
        """Take over what a process noted that has ended."""
        for line in log.read_text().splitlines():
            note = json.loads(line)
            if "folder" in note:
                self.folders[note["folder"]] = note["names"]
            else:
                self.files[note["file"]] = note["copy"], note["time"]
        self._rename_the_dead(folder)

    def restore(self, folder: Path) -> None:
        """Make `folder` what is durable of it; the source stays."""
        for name in os.listdir(folder):
            if name != SOURCE:
                shutil.rmtree(folder / name)
        self._build(self.top, folder)

    def _build(self, number: Any, at: Path) -> None:
        for name, inner, is_folder in self.folders.get(number, []):
            path = at / name
            if name == SOURCE:
                continue
            if is_folder:
                path.mkdir()
                self._build(inner, path)
            elif inner in self.files:
                copy, time_ns = self.files[inner]
                shutil.copyfile(copy, path)
                os.utime(path, ns=(time_ns, time_ns))
            else:
                path.touch()

    def _rename_the_dead(self, folder: Path) -> None:
        """The next process may meet the numbers of what is gone again, in something new."""
        alive = {os.stat(at).st_ino for at, _, _ in os.walk(folder)}
        alive |= {
            os.stat(os.path.join(at, name)).st_ino
            for at, _, names in os.walk(folder)
            for name in names
        }
        known = {*self.folders, *self.files}
        known |= {number for names in self.folders.values() for _, number, _ in names}
        new = {old: f"gone {next(_numbers)}" for old in known if old not in alive}
        self.folders = {
            new.get(number, number): [(name, new.get(n, n), is_) for name, n, is_ in names]
            for number, names in self.folders.items()
        }
        self.files = {new.get(number, number): each for number, each in self.files.items()}


def _names(folder: int | str) -> list[tuple[str, Any, bool]]:
    with os.scandir(folder) as found:
        return [(each.name, each.inode(), each.is_dir()) for each in found]
