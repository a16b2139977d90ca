"""The head of a file store: a small JSON beside the rows, and the list of what hygge wrote.

A directory keeps `_hygge.json` at its top (written by `replace`) and one in each sub-directory
that `append` added; any other sub-directory is foreign, also one that holds another store. A single
file has its heads in the hidden sibling; the one that speaks of it as it stands is found by size
and mtime, so a head written for a rename that never happened speaks of nothing.
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa

from hygge.batches import widens
from hygge.connectors.files import publish
from hygge.errors import StoreError
from hygge.model import Head
from hygge.places import durable
from hygge.places.names import file_name

HEAD = "_hygge.json"
FORMAT = 1


@dataclass(frozen=True)
class Published:
    """A head, (name, size, mtime_ns) of the files it covers, their schema as base64 Arrow IPC."""

    head: Head
    files: list[list[Any]]
    schema: str | None

    def to_json(self) -> bytes:
        """Human-readable, one format number in front."""
        content = {"hygge": FORMAT, **asdict(self.head), "files": self.files, "schema": self.schema}
        return json.dumps(content, indent=1).encode()

    def write_beside(self, target: str, staged: str) -> None:
        """Write this as the head of the single file that `staged` becomes at `target`."""
        stat = os.stat(staged)
        name = f"head-{stat.st_size}-{stat.st_mtime_ns}.json"
        durable.write_synced(os.path.join(publish.staging(target), name), self.to_json())
        now = _of_single(target) if os.path.exists(target) else None
        for other in os.listdir(publish.staging(target)):
            # Only what the file as it stands, or is about to stand, answers to is kept.
            if other.startswith("head-") and other not in (name, os.path.basename(now or "")):
                os.unlink(os.path.join(publish.staging(target), other))


def generation_name(head: Head) -> str:
    """The sub-directory that an appended generation becomes; two flows never share one."""
    return f"run-{file_name(head.flow)}-{head.generation:06d}"


def newest_in_directory(target: str) -> Published | None:
    """The newest head of any flow in a directory."""
    found = (each for _, each in _heads(target))
    return max(found, key=lambda each: each.head.run, default=None)


def head_of_directory(target: str, flow: str) -> Published | None:
    """The newest head of `flow` in a directory."""
    mine = [each for _, each in _heads(target) if each.head.flow == flow]
    return max(mine, key=lambda each: each.head.generation, default=None)


def head_of_file(target: str) -> Published | None:
    """The head of a single file as it stands."""
    if not os.path.exists(target):
        return None
    path = _of_single(target)
    return _read(path) if os.path.exists(path) else None


def foreign(target: str, single: bool) -> str | None:
    """The first thing at `target` that hygge did not write, or None."""
    if not os.path.lexists(target):
        return None
    if single:
        return None if head_of_file(target) else "the file itself"
    if not os.path.isdir(target):
        return "the file itself"
    ours: dict[str, list[int]] = {}
    folders = {target}
    for folder, published in _heads(target):
        folders.add(folder)
        ours[os.path.join(folder, HEAD)] = []
        ours.update({os.path.join(folder, name): told for name, *told in published.files})
    for folder, inner, names in os.walk(target, onerror=_raise):
        for path in (os.path.join(folder, name) for name in (*inner, *names)):
            known = path in folders or path in ours
            if not known or os.path.islink(path):
                return os.path.relpath(path, target)
            stat = os.stat(path)
            # Heads of older versions know no mtime.
            told = ours.get(path, [])
            if told != [stat.st_size, stat.st_mtime_ns][: len(told)]:
                return f"{os.path.relpath(path, target)} was changed after hygge wrote it"
    return None


def described(folder: str, name: str) -> list[Any] | None:
    """A file as a head tells of it; None where it is not there."""
    try:
        stat = os.stat(os.path.join(folder, name))
    except FileNotFoundError:
        return None
    return [name, stat.st_size, stat.st_mtime_ns]


def refuse_difference(path: str, there: pa.Schema | None, new: pa.Schema | None) -> None:
    """Raise StoreError where rows of `new` do not go with those that `path` holds."""
    if there is None or new is None:
        return
    hint = "append the same columns, in the same order and types, or write to another path"
    for field in there:
        at = new.get_field_index(field.name)
        kind = new.field(at).type if at >= 0 else field.type
        # string and large_string hold the same values, and every reader takes one for the other.
        if not (widens(kind, field.type) and widens(field.type, kind)):
            raise StoreError(
                f"column '{field.name}' is {field.type} in {path}, and {kind} in this run",
                hint,
            )
    if there.names != new.names:
        raise StoreError(
            f"{path} has the columns {', '.join(there.names)}; this run has {', '.join(new.names)}",
            hint,
        )


def schema_text(schema: pa.Schema | None) -> str | None:
    """A schema as base64 of Arrow IPC, for JSON."""
    return None if schema is None else base64.b64encode(schema.serialize().to_pybytes()).decode()


def text_schema(text: str | None) -> pa.Schema | None:
    """What `schema_text` was given."""
    return None if text is None else pa.ipc.read_schema(pa.py_buffer(base64.b64decode(text)))


def _raise(error: OSError) -> None:
    raise error


def _of_single(target: str) -> str:
    stat = os.stat(target)
    return os.path.join(publish.staging(target), f"head-{stat.st_size}-{stat.st_mtime_ns}.json")


def _heads(target: str) -> Iterator[tuple[str, Published]]:
    if not os.path.isdir(target):
        return
    if os.path.exists(os.path.join(target, HEAD)):
        yield target, _read(os.path.join(target, HEAD))
    for name in sorted(os.listdir(target)):
        path = os.path.join(target, name, HEAD)
        if name.startswith("run-") and os.path.exists(path):
            published = _read(path)
            if name.endswith(f"-{published.head.generation:06d}"):
                yield os.path.dirname(path), published


def _read(path: str) -> Published:
    try:
        with open(path, "rb") as file:
            content = json.load(file)
        if content.pop("hygge") > FORMAT:
            raise StoreError(
                f"{path} was written by a newer hygge", "upgrade hygge-data, then run again"
            )
        files, schema = content.pop("files"), content.pop("schema")
        content["columns"] = tuple((name, kind) for name, kind in content["columns"])
        return Published(Head(**content), files, schema)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise StoreError(
            f"{path} is not a head that hygge wrote: {error}",
            "restore it, or move the whole directory away and run again",
        ) from error
