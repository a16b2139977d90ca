"""The files below a table, on a disk or in an object store, by key: `hygge-<run>/…`.

A file is durable when the verb that wrote it returns.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

from hygge.connectors.files import publish
from hygge.places import durable
from hygge.places.access import Access
from hygge.places.bucket import Bucket
from hygge.places.objects import is_object_url

_CHECK = "_hygge/.check"


class Disk:
    """The files below a folder of this machine."""

    def __init__(self, path: str) -> None:
        self.path = path

    def put(self, key: str, content: bytes) -> None:
        with publish.disk_errors(self.path):
            durable.make_folder(os.path.dirname(self._at(key)))
            durable.write_synced(self._at(key), content)

    def get(self, key: str) -> bytes | None:
        with publish.disk_errors(self.path):
            try:
                with open(self._at(key), "rb") as file:
                    return file.read()
            except (FileNotFoundError, NotADirectoryError):
                return None

    def sizes(self, below: str) -> dict[str, int]:
        """Return the bytes of each file below a key, by its key."""
        found = {}
        with publish.disk_errors(self.path):
            for folder, _, names in os.walk(self._at(below)):
                for path in (os.path.join(folder, name) for name in names):
                    with suppress(FileNotFoundError):  # removed at this moment
                        found[os.path.relpath(path, self.path)] = os.path.getsize(path)
        return dict(sorted(found.items()))

    def drop(self, keys: Sequence[str]) -> None:
        """Remove these files, some of which may be gone, and folders that are empty then."""
        with publish.disk_errors(self.path):
            for key in keys:
                with suppress(FileNotFoundError):
                    os.unlink(self._at(key))
            for folder in sorted({os.path.dirname(key) for key in keys}, reverse=True):
                while folder:
                    try:
                        os.rmdir(self._at(folder))
                    except OSError:
                        break
                    folder = os.path.dirname(folder)

    @contextmanager
    def folder(self, key: str) -> Iterator[str]:
        """Give the folder of this machine to write the files of `key` into."""
        with publish.disk_errors(self.path):
            durable.make_folder(self._at(key))
            yield self._at(key)

    def keep(self, path: str, key: str) -> None:
        """Make a file that was written into `folder` durable as `key`."""
        durable.sync(path)
        durable.sync(os.path.dirname(path))

    def names(self) -> list[str]:
        """Return what lies directly in the folder."""
        with publish.disk_errors(self.path):
            return sorted(os.listdir(self.path)) if os.path.isdir(self.path) else []

    def check_rights(self) -> None:
        """Raise where this user may not write there."""
        with publish.disk_errors(self.path):
            durable.check_rights(self.path)

    def committed(self, version: int) -> None:
        """Make an entry of the table's log durable: the library leaves that to the system."""
        log = self._at("_delta_log")
        with suppress(FileNotFoundError):  # a clean-up of the log was quicker
            durable.sync(os.path.join(log, f"{version:020d}.json"))
        durable.sync(log)
        durable.sync(self.path)

    def _at(self, key: str) -> str:
        return os.path.join(self.path, *key.split("/"))


class Objects:
    """The files below a prefix of an object store."""

    def __init__(self, url: str, access: Access | None) -> None:
        self.bucket = Bucket(url, access)
        self.put, self.get, self.drop = self.bucket.put, self.bucket.get, self.bucket.drop

    def sizes(self, below: str) -> dict[str, int]:
        return {key: entry.size for key, entry in self.bucket.entries(below).items()}

    def names(self) -> list[str]:
        return self.bucket.names("")

    @contextmanager
    def folder(self, key: str) -> Iterator[str]:
        with (
            publish.disk_errors(tempfile.gettempdir()),
            tempfile.TemporaryDirectory(prefix="hygge-") as local,
        ):
            yield local

    def keep(self, path: str, key: str) -> None:
        self.bucket.upload(key, path)
        os.unlink(path)

    def check_rights(self) -> None:
        Bucket(f"{self.bucket.describe()}/{_CHECK}", self.bucket.access).check()

    def committed(self, version: int) -> None:
        """Do nothing: a put that has returned is durable."""


def files_at(url: str, access: Access | None) -> Disk | Objects:
    """Return the files below a path or a URL."""
    return Objects(url, access) if is_object_url(url) else Disk(url)
