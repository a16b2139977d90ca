"""Which file of a table's log is damaged: the library fails without its name, or reads fewer rows.

The log of a table is one entry for each version, `_delta_log/<version>.json`, a line of JSON for
each thing that it did, and now and then a checkpoint, which stands for all entries up to its own.
It is looked through after the library has failed, so that the error can name the file.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from hygge.connectors.delta.table_files import Disk, Objects, files_at
from hygge.errors import HomeError, HyggeError
from hygge.places.access import Access
from hygge.places.objects import is_object_url

_LOG = "_delta_log"
_ENTRY = re.compile(r"(\d{20})\.json")
_CHECKPOINT = re.compile(r"(\d{20})\.checkpoint(\..+)?\.(parquet|json)")
_LAST = "_last_checkpoint"
_ADVICE = (
    "restore it from a copy of the table. Where there is none and it is the newest entry, remove "
    "it: the table is then as it was before, and who wrote it writes it again"
)


def damaged(url: str, access: Access | None, side: type[HyggeError]) -> HyggeError | None:
    """Return an error that names the damaged file of a table's log; None: none was found."""
    with suppress(HyggeError, OSError):  # the library's own error is the one to say then
        for name, what, hint in _found(files_at(url, access)):
            return side(f"{url}/{_LOG}/{name} {what}", hint)
    return None


def check_not_empty(url: str, version: int) -> None:
    """Raise HomeError where an entry up to `version` is empty, as a loss of power may leave it.

    The library reads such a table, without the rows of that entry. An object is put as a whole.
    """
    if is_object_url(url):
        return
    with os.scandir(os.path.join(url, _LOG)) as listed:
        names = {entry.name: entry for entry in listed}
    since = max((at for at in _by_version(_CHECKPOINT, names) if at <= version), default=-1)
    for entry, (name,) in sorted(_by_version(_ENTRY, names).items()):
        if since < entry <= version and not names[name].stat().st_size:
            raise HomeError(f"{url}/{_LOG}/{name} is empty: what it said of rows is lost", _ADVICE)


def oldest_version(url: str, access: Access | None) -> int:
    """Return the oldest version that the log still tells: a clean-up removes entries."""
    names = [key.split("/", 1)[1] for key in files_at(url, access).sizes(_LOG)]
    whole = [0] if 0 in _by_version(_ENTRY, names) else []
    return min([*whole, *_by_version(_CHECKPOINT, names)], default=0)


def _found(files: Disk | Objects) -> Iterator[tuple[str, str, str]]:
    """Yield what is damaged: the name of a file, what is wrong with it, what to do."""
    names = [key.split("/", 1)[1] for key in files.sizes(_LOG)]
    entries, checkpoints = _by_version(_ENTRY, names), _by_version(_CHECKPOINT, names)
    since = max(checkpoints, default=-1)
    for name in checkpoints.get(since, ()):
        if name.endswith(".parquet") and not _is_parquet(files.get(f"{_LOG}/{name}") or b""):
            hint = _ADVICE
            if all(version in entries for version in range(since + 1)):
                hint = f"remove it and {_LAST}: the entries of the log hold the same"
            yield name, "is truncated or damaged", hint
    last = _number(files.get(f"{_LOG}/{_LAST}") or b"")
    if last is not None and last not in checkpoints:
        what = f"names the checkpoint of version {last}, which is gone"
        hint = _ADVICE
        if all(entry in entries for entry in range(max(entries, default=-1) + 1)):
            hint = "remove it: the entries of the log hold the same"
        yield _LAST, what, hint
    for version in range(since + 1, max(entries, default=-1) + 1):
        if version not in entries:
            yield f"{version:020d}.json", "is gone, and no checkpoint stands for it", _ADVICE
    for version in (version for version in sorted(entries) if version > since):
        (name,) = entries[version]
        what = _wrong_with(files.get(f"{_LOG}/{name}") or b"")
        if what:
            yield name, what, _ADVICE


def _by_version(
    pattern: re.Pattern[str], names: Sequence[str] | Mapping[str, Any]
) -> dict[int, list[str]]:
    found: dict[int, list[str]] = {}
    for name in names:
        if match := pattern.fullmatch(name):
            found.setdefault(int(match[1]), []).append(name)
    return found


def _number(content: bytes) -> int | None:
    """Return the version that `_last_checkpoint` names; None: it cannot be read, and is not."""
    try:
        return int(json.loads(content)["version"])
    except (ValueError, TypeError, KeyError):
        return None


def _is_parquet(content: bytes) -> bool:
    try:
        pq.read_table(pa.BufferReader(content))
    except (pa.ArrowException, OSError):
        return False
    return True


def _wrong_with(content: bytes) -> str:
    """Return what is wrong with the content of an entry; empty: nothing that is known here."""
    if not content.strip():
        return "is empty: what it said of rows is lost"
    for number, line in enumerate(content.splitlines(), 1):
        try:
            said = json.loads(line)
            said.items()
            for kind in ("add", "remove"):
                if kind in said:
                    said[kind]["path"] + ""
            if "add" in said:
                said["add"]["partitionValues"].items()
            if "metaData" in said:
                json.loads(said["metaData"]["schemaString"])["fields"]
        except (ValueError, TypeError, KeyError, AttributeError):
            return f"is cut off or damaged in line {number}"
    return ""
