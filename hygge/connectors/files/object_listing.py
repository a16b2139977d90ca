"""Objects as a file Home sees them: one, all below a prefix, a glob, hive partitions.

A prefix that hygge wrote is read by its newest manifest, so that a run that is being shown, or was
left half way, is never seen in part. An object's version is its size and its ETag: it is read in
ranges on the condition that it still has that, and one rewritten in mid-run is SourceChanged.
"""

from __future__ import annotations

import glob
import hashlib
import io
import os
import re
from collections.abc import Sequence
from functools import lru_cache

from hygge.connectors.files.listing import SourceFile, fixed_prefix, partitions
from hygge.connectors.files.manifests import being_copied, look
from hygge.errors import HomeError, HyggeError, SourceChanged, SourceMissing, nearest
from hygge.model import MIB
from hygge.places.access import AROUND, SCHEMES, Access, ObjectUrl, access_of
from hygge.places.bucket import Bucket, Entry

_BLOCK_BYTES = 4 * MIB
"""One request's, at least."""
_LISTED = 8
_SCHEME = re.compile(r"(\w+)://")


def on_objects(path: str) -> bool:
    """Whether a path is a URL of an object store."""
    found = _SCHEME.match(path)
    return found is not None and found[1].lower() in SCHEMES


def find(url: str, suffixes: Sequence[str]) -> list[SourceFile]:
    """Every object that `url` means, in the order of their names; as `found.find`."""
    bucket, path = _parts(url)
    if glob.has_magic(path):
        return _matching(bucket, path, url)
    single = bucket.entry(path) if path and not url.endswith("/") else None
    if single is not None:
        return [_described(bucket, path, single, path.rpartition("/")[0])]
    path = path.strip("/")
    written = _written(bucket, path, url) if path else None
    if written is not None:
        return [_described(bucket, key, written[key], path) for key in sorted(written)]
    entries = bucket.entries(path)
    if not entries:
        raise SourceMissing(f"there is nothing at {url}", near(url))
    ends = tuple(suffixes)
    found = [key for key in entries if _visible(key, path) and key.lower().endswith(ends)]
    if not found:
        raise SourceMissing(
            f"no {' or '.join(suffixes)} object below {url}",
            "name the prefix that holds them, or give another `type`",
        )
    return [_described(bucket, key, entries[key], path) for key in found]


def _matching(bucket: Bucket, pattern: str, url: str) -> list[SourceFile]:
    fixed = fixed_prefix(pattern)
    entries, matches = bucket.entries(fixed), _pattern(pattern).fullmatch
    found = [key for key in entries if _visible(key, fixed, pattern) and matches(key)]
    if not found:
        raise SourceMissing(
            f"nothing matches {url}", "check the pattern; ** matches folders at any depth"
        )
    return [_described(bucket, key, entries[key], fixed) for key in found]


def _written(bucket: Bucket, path: str, url: str) -> dict[str, Entry] | None:
    """What the newest manifest of a prefix names; None where hygge did not write there."""
    shown = look(bucket, path)
    if shown.manifest is None:
        return None
    above, _, name = path.rpartition("/")
    staging = "/".join(filter(None, (above, f".{name}.hygge")))
    copied = being_copied(bucket, staging, shown)
    if (foreign := shown.foreign(copied)) is not None:  # its rows would be left out in silence
        raise HomeError(
            f"{url} is no longer as hygge wrote it: {foreign}",
            "move what others put there elsewhere, or name the objects to read by a pattern",
        )
    found = {}
    for each in shown.manifest.files:
        # Else its copy is still to be made, or on its way.
        there = each.name in shown.entries and each.name not in copied
        key = f"{path}/{each.name}" if there else f"{staging}/{each.staged}"
        entry = shown.entries[each.name] if there else bucket.entry(key)
        if entry is None:
            raise SourceChanged(f"{url} was replaced in this moment", "run it again")
        found[key] = entry
    return found


def near(url: str) -> str | None:
    """A hint for a URL at which nothing is: the nearest sibling, or what is there instead.

    None where it cannot be listed: that nothing is there is the error, and not this.
    """
    bucket, path = _parts(url)
    above, _, name = path.strip("/").rpartition("/")
    try:
        names = [each for each in bucket.names(above) if not each.startswith((".", "_"))]
    except HyggeError:
        return None
    close = nearest(name, names)
    place = f"{bucket.describe()}/{above}".rstrip("/")
    if close:
        return f"did you mean {place}/{close}?"
    listed = ", ".join(names[:_LISTED]) + (", …" if len(names) > _LISTED else "")
    return f"{place} " + (f"holds {listed}" if names else "is empty")


def unchanged(file: SourceFile) -> None:
    """Raise SourceChanged unless `file` is still the one that was planned."""
    bucket, key = _parts(file.path)
    now = bucket.entry(key)
    if now is None:
        raise SourceChanged(
            f"{file.path} was there when the run was planned, and is gone", "run it again"
        )
    if (now.size, _version(now)) != (file.size, file.mtime_ns):
        raise SourceChanged(
            f"{file.path} was rewritten while the run was reading it",
            "run it again when nobody writes to it",
        )


def opened(url: str, ahead: int | None = None) -> io.BufferedIOBase:
    """An object as a file that is read, forth and back; FileNotFoundError where there is none."""
    bucket, key = _parts(url)
    entry = bucket.entry(key)
    if entry is None:
        raise FileNotFoundError(2, "no such object", url)
    return _Object(bucket, key, entry, _BLOCK_BYTES if ahead is None else ahead)


class _Object(io.BufferedIOBase):
    """One state of an object, in ranges of at least `ahead` bytes."""

    def __init__(self, bucket: Bucket, key: str, entry: Entry, ahead: int) -> None:
        self.bucket, self.key, self.entry, self.ahead = bucket, key, entry, ahead
        self.at = 0
        self._held, self._start = b"", 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self.at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self.at, io.SEEK_END: self.entry.size}[whence]
        self.at = max(0, base + offset)
        return self.at

    def size(self) -> int:
        return self.entry.size

    def read(self, size: int | None = -1) -> bytes:
        wanted = self.entry.size - self.at
        if size is not None and size >= 0:
            wanted = min(size, wanted)
        if wanted <= 0:
            return b""
        begin = self.at - self._start
        if not 0 <= begin <= begin + wanted <= len(self._held):
            end = min(self.entry.size, self.at + max(wanted, self.ahead))
            self._held, self._start, begin = self._fetched(self.at, end), self.at, 0
        self.at += wanted
        return self._held[begin : begin + wanted]

    def _fetched(self, start: int, end: int) -> bytes:
        came = self.bucket.part(self.key, start, end, self.entry.tag)
        if came is None or len(came) != end - start:
            raise SourceChanged(
                f"{self.bucket.describe()}/{self.key} was rewritten while the run was reading it",
                "run it again when nobody writes to it",
            )
        return came


def _parts(url: str) -> tuple[Bucket, str]:
    scheme, _, rest = url.partition("://")
    host, _, path = rest.partition("/")
    around = tuple(sorted(each for each in os.environ.items() if each[0].startswith(AROUND)))
    return _bucket(f"{scheme}://{host}", access_of(url), around), path


@lru_cache(maxsize=64)
def _bucket(root: str, access: Access | None, around: tuple[tuple[str, str], ...]) -> Bucket:
    """One client a bucket and environment: its connections and its token are used again."""
    return Bucket(root, access)


def _visible(key: str, top: str, pattern: str = "") -> bool:
    inside = key.removeprefix(f"{top}/") if top else key
    asked = pattern.split("/")[-1].startswith((".", "_"))
    folders, _, name = inside.rpartition("/")
    hidden = any(each.startswith((".", "_")) for each in folders.split("/"))
    return not hidden and (asked or not name.startswith((".", "_")))


@lru_cache(maxsize=64)
def _pattern(pattern: str) -> re.Pattern[str]:
    said = ""
    for part in pattern.split("/"):
        if part == "**":
            said += "(?:.*/)?"
            continue
        for sign in re.split(r"(\*|\?|\[!?[^\]]+\])", part):
            if sign in ("*", "?"):
                said += "[^/]*" if sign == "*" else "[^/]"
            elif sign.startswith("[") and sign.endswith("]"):
                said += "[^" + sign[2:] if sign.startswith("[!") else sign
            else:
                said += re.escape(sign)
        said += "/"
    said = said.removesuffix("/")
    return re.compile(said if not pattern.endswith("**") else said + "[^/]+")


def _version(entry: Entry) -> int:
    """What `SourceFile.mtime_ns` is for an object: a number of its ETag, or of its time."""
    told = entry.tag or entry.modified.isoformat()
    return int.from_bytes(hashlib.sha256(told.encode()).digest()[:7], "big")


def _described(bucket: Bucket, key: str, entry: Entry, top: str) -> SourceFile:
    inside = key.removeprefix(f"{top}/") if top else key
    keys = partitions(inside.split("/")[:-1])
    url = ObjectUrl(f"{bucket.describe()}/{key}", bucket.access)
    return SourceFile(url, entry.size, _version(entry), keys)
