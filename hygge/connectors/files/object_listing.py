"""The objects that a Home's URL means: one, all below a prefix, a glob, hive partitions.

A prefix that hygge wrote is read by its newest manifest, so that a run that is just being shown, or
was left half way, is never seen in part. The version of an object is its size and its ETag; one
that is rewritten during the run raises SourceChanged.
"""

from __future__ import annotations

import glob
import hashlib
import re
from collections.abc import Sequence
from functools import lru_cache

from hygge.connectors.files import lake_tables
from hygge.connectors.files.manifests import being_copied, read_target
from hygge.connectors.files.source_file import (
    SourceFile,
    check_compression,
    is_hidden,
    partitions,
)
from hygge.errors import HomeError, SourceChanged, SourceMissing
from hygge.places.access import ObjectUrl
from hygge.places.bucket import Bucket, Entry
from hygge.places.names import fixed_prefix
from hygge.places.objects import bucket_and_key, hint_for_missing


def find_objects(url: str, suffixes: Sequence[str]) -> list[SourceFile]:
    """Return every object that `url` means, in the order of their names; as `find_files`.

    A name that has a wildcard in it means that object, where there is one.
    """
    bucket, path = bucket_and_key(url)
    single = bucket.entry(path) if path and not url.endswith("/") else None
    if single is None and glob.has_magic(path):
        return _matching(bucket, path, url, suffixes)
    if single is not None:
        lake_tables.refuse_prefixes(bucket, [path], path.rpartition("/")[0])
        return [_described(bucket, path, single, path.rpartition("/")[0])]
    path = path.strip("/")
    entries = _named_by_manifest(bucket, path, url) if path else None
    if entries is not None:
        return [_described(bucket, key, entries[key], path) for key in sorted(entries)]
    entries = bucket.entries(path)
    if not entries:
        raise SourceMissing(f"there is nothing at {url}", hint_for_missing(url))
    visible = [key for key in entries if _is_visible(key, path)]
    keys = _of_format(visible, suffixes)
    lake_tables.refuse_prefixes(bucket, keys, path, entries)
    if not keys:
        raise SourceMissing(
            f"no {' or '.join(suffixes)} object below {url}",
            "name the prefix that holds them, or give another `type`",
        )
    return [_described(bucket, key, entries[key], path) for key in keys]


def check_unchanged(file: SourceFile) -> None:
    """Raise SourceChanged unless the object is still as it was planned."""
    bucket, key = bucket_and_key(file.path)
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


def _matching(bucket: Bucket, pattern: str, url: str, suffixes: Sequence[str]) -> list[SourceFile]:
    top = fixed_prefix(pattern)
    entries, expression = bucket.entries(top), _expression(pattern)
    of_folders = re.compile(f"{expression.pattern}/(?:{_VISIBLE}[^/]+/)*{_VISIBLE}[^/]+")
    named = {key for key in entries if expression.fullmatch(key)}
    named.update(_of_format([key for key in entries if of_folders.fullmatch(key)], suffixes))
    keys = sorted(named)
    if keys:
        lake_tables.refuse_prefixes(bucket, keys, top, entries)
    else:
        raise SourceMissing(
            f"nothing matches {url}", "check the pattern; ** matches folders at any depth"
        )
    return [_described(bucket, key, entries[key], top) for key in keys]


def _named_by_manifest(bucket: Bucket, path: str, url: str) -> dict[str, Entry] | None:
    """Return the objects that the newest manifest of a prefix names, by their keys.

    None where hygge did not write there. An object that is not shown yet is read where it is
    staged.
    """
    shown = read_target(bucket, path)
    if shown.manifest is None:
        return None
    above, _, name = path.rpartition("/")
    staging = "/".join(filter(None, (above, f".{name}.hygge")))
    copied = being_copied(bucket, staging, shown)
    foreign = shown.first_foreign(copied)
    if foreign is not None:  # its rows would be left out in silence
        raise HomeError(
            f"{url} is no longer as hygge wrote it: {foreign}",
            "move what others put there elsewhere, or name the objects to read by a pattern",
        )
    entries = {}
    for file in shown.manifest.files:
        if file.name in shown.entries and file.name not in copied:
            key, entry = f"{path}/{file.name}", shown.entries[file.name]
        else:  # its copy is still to be made, or on its way
            key = f"{staging}/{file.staged}"
            staged = bucket.entry(key)
            if staged is None:
                raise SourceChanged(f"{url} was replaced in this moment", "run it again")
            entry = staged
        entries[key] = entry
    return entries


def _of_format(keys: Sequence[str], suffixes: Sequence[str]) -> list[str]:
    check_compression(keys, suffixes)
    return [key for key in keys if key.lower().endswith(tuple(suffixes))]


def _is_visible(key: str, top: str) -> bool:
    """Whether no part of a key below `top` is hidden."""
    inside = key.removeprefix(f"{top}/") if top else key
    return not any(is_hidden(part) for part in inside.split("/"))


_VISIBLE = r"(?!\.|_[^/=]*(?:/|$))"
"""Before a name that `is_hidden` does not hide."""


@lru_cache(maxsize=64)
def _expression(pattern: str) -> re.Pattern[str]:
    """Return a glob as a regular expression over keys."""
    expression = ""
    for part in pattern.split("/"):
        if part == "**":
            expression += f"(?:{_VISIBLE}[^/]+/)*"
            continue
        if part and glob.has_magic(part) and part[0] not in "._":
            expression += _VISIBLE
        for sign in re.split(r"(\*|\?|\[!?[^\]]+\])", part):
            if sign in ("*", "?"):
                expression += "[^/]*" if sign == "*" else "[^/]"
            elif sign.startswith("[") and sign.endswith("]"):
                expression += "[^" + sign[2:] if sign.startswith("[!") else sign
            else:
                expression += re.escape(sign)
        expression += "/"
    expression = expression.removesuffix("/")
    return re.compile(f"{expression}{_VISIBLE}[^/]+" if pattern.endswith("**") else expression)


def _version(entry: Entry) -> int:
    """Return the `SourceFile.mtime_ns` of an object: a number of its ETag, or of its time."""
    text = entry.tag or entry.modified.isoformat()
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:7], "big")


def _described(bucket: Bucket, key: str, entry: Entry, top: str) -> SourceFile:
    inside = key.removeprefix(f"{top}/") if top else key
    url = ObjectUrl(f"{bucket.describe()}/{key}", bucket.access)
    return SourceFile(url, entry.size, _version(entry), partitions(inside.split("/")[:-1]))
