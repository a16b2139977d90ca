"""What a prefix of an object store shows: numbered manifests, of which the newest is the head.

`<target>/_hygge/0000000007.json` is created, never changed, and says which files are visible, and
the head of every flow that wrote some of them. Whoever creates number 8 has committed on top of it.

Old manifests are removed, so a number may be free again for who slept for long: what he creates
there is below the newest, and none of its runs. `runs` tells him so.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from hygge.errors import StoreError
from hygge.model import Head, Run
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
    """A visible file, and where the part lies that it is a copy of."""

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
        """Human-readable, one format number in front, one file a line."""
        heads = [asdict(head) for head in self.heads.values()]
        listed = {
            "files": [[each.name, each.rows, each.size, each.staged] for each in self.files],
            "gone": self.gone,
        }
        lines = [
            f' "{key}": [{",".join(chr(10) + "  " + json.dumps(each) for each in value)}]'
            for key, value in {"heads": heads, **listed}.items()
        ]
        first = f'{{"hygge": {FORMAT}, "generation": {self.generation},\n'
        last = f' "runs": {json.dumps(self.runs)},\n "schema": {json.dumps(self.schema)}}}\n'
        return (first + "".join(f"{line},\n" for line in lines) + last).encode()


@dataclass(frozen=True)
class Shown:
    """A target as it stands: its newest manifest, and every object below it by its own name."""

    manifest: Manifest | None
    entries: Mapping[str, Entry]

    @property
    def head_of(self) -> Mapping[str, Head]:
        return self.manifest.heads if self.manifest else {}

    def schema_of(self, flow: str) -> str | None:
        """Return the schema of the target, where `flow` has a head there."""
        return self.manifest.schema if self.manifest and flow in self.head_of else None

    def missing(self) -> list[File]:
        """Files of the manifest that are not visible yet, or not whole: a copy may take a while."""
        files, sizes = self.manifest.files if self.manifest else (), self.entries
        return [e for e in files if e.name not in sizes or sizes[e.name].size != e.size]

    def foreign(self, being_copied: Collection[str] = ()) -> str | None:
        """The first thing that hygge did not write, or None; `_SUCCESS` and the like are hidden."""
        newest = self.manifest
        ours = {name: size for name, size, _ in newest.gone} if newest else {}
        ours.update({each.name: each.size for each in newest.files} if newest else {})
        for name, entry in self.entries.items():
            if name in ours and entry.size != ours[name] and name not in being_copied:
                return f"{name} was changed after hygge wrote it"
            if name not in ours and not _HIDDEN.search(name):
                return name
        return None


def manifest_name(generation: int) -> str:
    """The name of a manifest below its target."""
    return f"_hygge/{generation:010d}.json"


def older(shown: Shown, kept: int) -> list[str]:
    """Names of the manifests below the newest `kept`."""
    assert shown.manifest is not None
    last = shown.manifest.generation - kept
    return [name for name in shown.entries if _number(name) and _number(name) <= last]


def look(bucket: Bucket, target: str, heads_only: bool = False) -> Shown:
    """What is at `target` now, in one listing, and the newest manifest in it."""
    below = f"{target}/_hygge" if heads_only else target
    while True:
        found = bucket.entries(below)
        entries = {key.removeprefix(f"{target}/"): entry for key, entry in found.items()}
        newest = max((name for name in entries if _NAME.fullmatch(name)), default=None)
        if newest is None:
            return Shown(None, entries)
        content = bucket.get(f"{target}/{newest}")
        if content is not None:  # else others have gone on, and removed it
            place = f"{bucket.describe()}/{target}/{newest}"
            return Shown(_read(place, _number(newest), content), entries)


def being_copied(bucket: Bucket, staging: str, shown: Shown) -> dict[str, Entry]:
    """What shows a file of another size, though its copy is to be made, or on its way: the part."""
    short = [each for each in shown.missing() if each.name in shown.entries]
    parts = {each.name: bucket.entry(f"{staging}/{each.staged}") for each in short}
    return {name: entry for name, entry in parts.items() if entry is not None}


def following(
    shown: Shown, run: Run, head: Head, files: Sequence[File], schema: str | None
) -> Manifest:
    """The manifest by which `run` goes on from what is shown."""
    last = shown.manifest
    generation = last.generation + 1 if last else 1
    before = last.files if last else ()
    gone = [
        each
        for each in (last.gone if last else ())
        if each[2] > generation - GONE_KEPT or each[0] in shown.entries
    ]
    heads = dict(last.heads) if last else {}
    if run.mode == "append":
        schema = (last.schema if last else None) or schema
        files = [*before, *files]
    else:
        gone += [(each.name, each.size, generation) for each in before]
        heads = {}
    runs = (*(last.runs if last else ()), run.id)[-RUNS_KEPT:]
    heads[run.flow] = head
    return Manifest(generation, heads, tuple(files), tuple(gone), runs, schema)


def _number(name: str) -> int:
    found = _NAME.fullmatch(name)
    return int(found[1]) if found else 0


def _read(place: str, generation: int, content: bytes) -> Manifest:
    try:
        told: dict[str, Any] = json.loads(content)
        if told["hygge"] > FORMAT:
            raise StoreError(
                f"{place} was written by a newer hygge", "upgrade hygge-data, then run again"
            )
        if told["generation"] != generation:
            raise ValueError(f"it says that it is generation {told['generation']}")
        heads = [
            Head(**{**head, "columns": tuple((name, kind) for name, kind in head["columns"])})
            for head in told["heads"]
        ]
        return Manifest(
            generation,
            {head.flow: head for head in heads},
            tuple(File(*each) for each in told["files"]),
            tuple((name, size, at) for name, size, at in told["gone"]),
            tuple(told["runs"]),
            told["schema"],
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise StoreError(
            f"{place} is not a head that hygge wrote: {error}",
            "restore it, or move the whole prefix away and run again",
        ) from error
