"""A place for small entries: what the journal, and the heads on object stores, are written to.

A key is like a path (`flows/orders/runs/…/plan.json`). Every verb is durable when it returns, and
an entry is there whole or not at all: nobody ever reads half of one. `create` is what exactly-once
leans on: of any number of callers, in any number of processes, one gets True.

A folder here (`Folder`): written beside its place, synced, linked into it, and the folder synced.
A URL of an object store: `hygge.places.bucket.Bucket`, by conditional puts.
"""

from __future__ import annotations

from typing import Protocol

from hygge.places.folder import Folder


class Place(Protocol):
    """The verbs of a place. Errors are HyggeErrors; Transient where a retry may help."""

    at_once: int
    """How many requests side by side are quicker than one after another."""

    def describe(self) -> str:
        """Where it is, for people."""
        ...

    def check(self) -> None:
        """Raise where `create` does not hold: by creating one key twice. Leaves nothing."""
        ...

    def create(self, key: str, content: bytes) -> bool:
        """Write `key` if there is none; whether there was none."""
        ...

    def put(self, key: str, content: bytes) -> None:
        """Write `key`, in the place of what it was."""
        ...

    def get(self, key: str) -> bytes | None:
        """What `key` holds, or None."""
        ...

    def keys(self, below: str) -> list[str]:
        """Every key below the folder `below`, at any depth, in the order of their names."""
        ...

    def remove(self, below: str) -> None:
        """Remove the key `below`, or every key below it; safe twice."""
        ...


def place_at(url: str) -> Place:
    """The place that a path or a URL names."""
    scheme, separator, _ = url.partition("://")
    if separator and scheme != "file":
        from hygge.places.access import access_of
        from hygge.places.bucket import Bucket

        return Bucket(url, access_of(url))
    return Folder(url.removeprefix("file://"))
