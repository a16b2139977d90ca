"""The manifests of a prefix of an object store: numbered, and the newest is what is visible.

`<target>/_hygge/0000000007.json` is created, never changed, and names the visible files and the
head of every flow that wrote some of them. A run that creates number 8 has committed on top of it.

Old manifests are removed, so their numbers are free again. A driver that slept for long may create
one of them; it then finds that its run is not among the `runs` of the newest manifest.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa

from hygge.connectors.files.evolving import Held
from hygge.connectors.files.heads import schema_text
from hygge.errors import StoreError
from hygge.model import Head, Run, facts_of_head
from hygge.places.bucket import Bucket, Entry

FORMAT = 1
RUNS_KEPT = 100
"""Runs that a manifest remembers, newest last."""
GONE_KEPT = 3
"""Generations for which a manifest remembers, at least, which files were replaced."""
_HIDDEN = re.compile(r"(^|/)[._]")
_NAME = re.compile(r"_hygge/(\d{10})\.json")


@dataclass(frozen=True)
class File:
    """A visible file, and the staged part that it is a copy of."""

    name: str
    rows: int
    size: int
    staged: str


@dataclass(frozen=True)
class Manifest:
    """One generation of a target."""

    generation: int
    heads: Mapping[str, Head]
    files: tuple[File, ...]
    gone: tuple[tuple[str, int, int], ...]
    """(name, bytes, generation) of files that were replaced: to be removed where they still are."""
    runs: tuple[str, ...]
    schema: str | None

    def to_json(self) -> bytes:
        """Return JSON that people can read: the format number first, one file a line."""
        heads = [facts_of_head(head) for head in self.heads.values()]
        listed = {
            "files": [[file.name, file.rows, file.size, file.staged] for file in self.files],
            "gone": self.gone,
        }
        lines = [
            f' "{key}": [{",".join(chr(10) + "  " + json.dumps(item) for item in items)}]'
            for key, items in {"heads": heads, **listed}.items()
        ]
        first = f'{{"hygge": {FORMAT}, "generation": {self.generation},\n'
        last = f' "runs": {json.dumps(self.runs)},\n "schema": {json.dumps(self.schema)}}}\n'
        return (first + "".join(f"{line},\n" for line in lines) + last).encode()


@dataclass(frozen=True)
class Shown:
    """A target as it is now: its newest manifest, and every object below it by its own name."""

    manifest: Manifest | None
    entries: Mapping[str, Entry]

    @property
    def head_of(self) -> Mapping[str, Head]:
        return self.manifest.heads if self.manifest else {}

    def schema_of(self, flow: str) -> str | None:
        """Return the schema of the target, where `flow` has a head there."""
        return self.manifest.schema if self.manifest and flow in self.head_of else None

    def missing(self) -> list[File]:
        """Return files of the manifest that are not visible yet, or whose copy is not whole yet."""
        if self.manifest is None:
            return []
        return [file for file in self.manifest.files if self._size(file.name) != file.size]

    def first_foreign(self, being_copied: Collection[str] = ()) -> str | None:
        """Return the first object that hygge did not write, or None.

        Hidden names (`_SUCCESS` and the like) do not count.
        """
        written: dict[str, int] = {}
        if self.manifest is not None:
            written = {name: size for name, size, _ in self.manifest.gone}
            written |= {file.name: file.size for file in self.manifest.files}
        for name, entry in self.entries.items():
            if name in written and entry.size != written[name] and name not in being_copied:
                return f"{name} was changed after hygge wrote it"
            if name not in written and not _HIDDEN.search(name):
                return name
        return None

    def _size(self, name: str) -> int | None:
        return self.entries[name].size if name in self.entries else None


def manifest_name(generation: int) -> str:
    """Return the name of a manifest below its target."""
    return f"_hygge/{generation:010d}.json"


def old_manifests(shown: Shown, kept: int) -> list[str]:
    """Return the names of the manifests that are older than the newest `kept`."""
    assert shown.manifest is not None
    last = shown.manifest.generation - kept
    return [name for name in shown.entries if _number(name) and _number(name) <= last]


def read_target(bucket: Bucket, target: str, heads_only: bool = False) -> Shown:
    """List what is at `target` now, once, and read the newest manifest in it."""
    below = f"{target}/_hygge" if heads_only else target
    while True:
        by_key = bucket.entries(below)
        entries = {key.removeprefix(f"{target}/"): entry for key, entry in by_key.items()}
        newest = max((name for name in entries if _NAME.fullmatch(name)), default=None)
        if newest is None:
            return Shown(None, entries)
        content = bucket.get(f"{target}/{newest}")
        if content is not None:  # else another run has gone on, and removed it
            url = f"{bucket.describe()}/{target}/{newest}"
            return Shown(_read(url, _number(newest), content), entries)


def being_copied(bucket: Bucket, staging: str, shown: Shown) -> dict[str, Entry]:
    """Return the staged parts of files that show another size because their copy is on its way."""
    unfinished = [file for file in shown.missing() if file.name in shown.entries]
    parts = {file.name: bucket.entry(f"{staging}/{file.staged}") for file in unfinished}
    return {name: entry for name, entry in parts.items() if entry is not None}


def next_manifest(
    shown: Shown, run: Run, head: Head, files: Sequence[File], schema: pa.Schema, held: Held
) -> Manifest:
    """Return the manifest by which `run` follows on what is shown.

    `schema` is that of the files; `held` says how the columns that are there follow it.
    """
    text = schema_text(schema)
    last = shown.manifest
    if last is None:
        last = Manifest(0, {}, (), (), (), None)
    generation = last.generation + 1
    gone = [
        (name, size, when)
        for name, size, when in last.gone
        if when > generation - GONE_KEPT or name in shown.entries
    ]
    if run.mode == "append":
        heads = {**last.heads, run.flow: head}
        if held.followed is not None:
            text = schema_text(held.followed.schema)
        else:
            text = last.schema or text
        files = [*last.files, *files]
    else:
        heads = {run.flow: head}
        gone += [(file.name, file.size, generation) for file in last.files]
    runs = (*last.runs, run.id)[-RUNS_KEPT:]
    return Manifest(generation, heads, tuple(files), tuple(gone), runs, text)


def _number(name: str) -> int:
    """Return the generation of a manifest by its name; 0 for other objects."""
    match = _NAME.fullmatch(name)
    return int(match[1]) if match else 0


def _read(url: str, generation: int, content: bytes) -> Manifest:
    try:
        fields = json.loads(content)
        if fields["hygge"] > FORMAT:
            raise StoreError(
                f"{url} was written by a newer hygge", "upgrade hygge-data, then run again"
            )
        if fields["generation"] != generation:
            raise ValueError(f"it says that it is generation {fields['generation']}")
        heads = [
            Head(**{**head, "columns": tuple((name, kind) for name, kind in head["columns"])})
            for head in fields["heads"]
        ]
        return Manifest(
            generation,
            {head.flow: head for head in heads},
            tuple(File(*file) for file in fields["files"]),
            tuple((name, size, when) for name, size, when in fields["gone"]),
            tuple(fields["runs"]),
            fields["schema"],
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise StoreError(
            f"{url} is not a head that hygge wrote: {error}",
            "restore it, or move the whole prefix away and run again",
        ) from error
