"""A place for small entries: what the journal, and the heads on object stores, are written to.

A key is like a path (`flows/orders/runs/…/plan.json`). Each verb is durable when it returns, and an
entry is there whole or not at all: nobody ever reads half of one. Exactly-once depends on `create`:
of any number of callers, in any number of processes, one gets True.

A path is a `hygge.places.folder.Folder`; the URL of an object store, with conditional puts, is a
`hygge.places.bucket.Bucket`.
"""

from __future__ import annotations

from typing import Protocol

from hygge.places.folder import Folder


class Place(Protocol):
    """The verbs of a place. Errors are HyggeErrors; Transient where a retry may help."""

    at_once: int
    """How many requests at the same time are quicker than one after another."""

    def describe(self) -> str:
        """Return where it is, for people."""
        ...

    def check(self) -> None:
        """Raise unless `create` refuses to create one key twice. Leaves nothing behind."""
        ...

    def check_rights(self) -> None:
        """Raise where this user may not write there. Leaves nothing behind."""
        ...

    def create(self, key: str, content: bytes) -> bool:
        """Write `key` if there is none. Returns whether this call wrote it."""
        ...

    def put(self, key: str, content: bytes) -> None:
        """Write `key`, replacing what it held."""
        ...

    def get(self, key: str) -> bytes | None:
        """Return what `key` holds, or None."""
        ...

    def keys(self, below: str) -> list[str]:
        """Return every key below the folder `below`, at any depth, sorted."""
        ...

    def remove(self, below: str) -> None:
        """Remove the key `below`, or every key below it; safe twice."""
        ...


def place_at(url: str) -> Place:
    """Return the place that a path or a URL names."""
    scheme, separator, _ = url.partition("://")
    if separator and scheme != "file":
        from hygge.places.access import access_of
        from hygge.places.bucket import Bucket

        return Bucket(url, access_of(url))
    return Folder(url.removeprefix("file://"))
