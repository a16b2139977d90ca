"""The flows that a failed command has brought to their end, kept beside the journal.

Running a command again is recovery. A flow in mode append without a cursor would add its rows
again, so the Coordinator notes each one that is done, and leaves it out until all flows of the
command are done; then the notes are removed. The same command is the same file with the same
selection.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime

from hygge.errors import HyggeError
from hygge.journal.entries import decode, encode
from hygge.journal.fingerprint import fingerprint
from hygge.places.place import place_at
from hygge.run.flow import Flow

_KIND = "done"


class DoneFlows:
    """The notes of one command, in the state of its flows."""

    def __init__(self, path: str, selection: Sequence[str], state: str | None) -> None:
        self.began = datetime.now(UTC)
        self.skipped: dict[str, datetime] = {}
        """Name of a flow that was left out → when the run began that brought it to its end."""
        self.place = place_at(os.fspath(state or os.environ.get("HYGGE_STATE") or ".hygge"))
        path = path if "://" in path else os.path.abspath(path)
        self._below = f"requests/{_digest(path, *sorted(selection))}"

    def since_when(self, flow: Flow) -> datetime | None:
        """Return when the run began that brought this very flow to its end, or None."""
        if flow.mode != "append" or flow.cursor is not None:
            return None
        key = self._key(flow)
        content = self.place.get(key)
        if content is None:
            return None
        facts = decode(content, _KIND, flow.identity, f"{self.place.describe()}/{key}")
        if facts["fingerprint"] != _fingerprint(flow):
            return None
        return datetime.fromisoformat(str(facts["began"]))

    def note(self, flow: Flow) -> None:
        """Note that a flow is done, if running it again would add its rows again."""
        if flow.mode == "append" and flow.cursor is None:
            facts = {"fingerprint": _fingerprint(flow), "began": self.began.isoformat()}
            self.place.put(self._key(flow), encode(_KIND, flow.identity, facts))

    def forget(self) -> None:
        """Remove all notes of the command."""
        with suppress(HyggeError):  # a flow that cannot reach its state reports that itself
            if self.place.keys(self._below):
                self.place.remove(self._below)

    def _key(self, flow: Flow) -> str:
        return f"{self._below}/{_digest(flow.identity)}.json"


def _digest(*words: str) -> str:
    return hashlib.sha256("\0".join(words).encode()).hexdigest()[:20]


def _fingerprint(flow: Flow) -> str:
    values = fingerprint(flow.home, flow.store, flow.mode, flow.key)
    return _digest(*(f"{name}={value}" for name, value in sorted(values.items())))
