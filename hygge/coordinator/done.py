"""The command that runs flows, as a request that running it again goes on with.

Running a command again is recovery. A flow in mode append without a cursor would add its rows
again. So a command of many flows begins a request, which is kept in the state until all of its
flows are done, and the journal of each flow notes for which request a run began. The flows whose
journal says that they are committed for the request are left out when the command runs again.
The same command is the same file with the same selection.

Life of a request: `requests/<command>/request.json` is created before any flow begins; the tables
of a flow are noted before the first of them begins; when all flows are done, `request.json` is
removed first. A command that died after its last flow and before that has nothing left to do: it
is seen by the journals, and the next run is a new request.
"""

from __future__ import annotations

import hashlib
import os
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime

from hygge.engine.jobs import restarts
from hygge.journal import FlowJournal
from hygge.journal.entries import Facts, decode, encode
from hygge.journal.fingerprint import default_fingerprint, difference, fingerprint
from hygge.places.place import Place, place_at
from hygge.places.shipped import SHIPPED
from hygge.run.driver import Attempt
from hygge.run.flow import Flow

_DONE, _REQUEST, _TABLES = "done", "request", "tables"
"""Kinds of entries. `done` was written for each flow before there were requests."""
SKIPPED = "skipped: done in the run of "
"""How the note of a flow begins that is left out."""


class Request:
    """One request of a command, in the state of its flows."""

    def __init__(self, place: Place, id: str, earlier: datetime | None = None) -> None:
        self.place, self.id = place, id
        self.earlier = earlier
        """When the earlier run of the command began that did not end it; None: there is none."""
        self._below = f"requests/{id.partition('-')[0]}"

    def done_since(self, flow: Flow) -> datetime | None:
        """Return when the run began that brought this very flow to its end, or None.

        It is None for a flow that may run any number of times.
        """
        if self.earlier is None or not _adds_again(flow):
            return None
        now = fingerprint(flow.home, flow.store, flow.mode, flow.key, flow.shape)
        done = FlowJournal(self.place, flow.identity).committed_for(self.id)
        if done is None:
            note = self._read(self._key(_DONE, flow.identity), _DONE, flow.identity)
            if note is None or note["fingerprint"] != _digest_of(now):
                return None
            return datetime.fromisoformat(str(note["began"]))
        run, then = done
        if difference(then, now, default_fingerprint(flow.home, flow.store)) is not None:
            return None
        return datetime.strptime(run[:15], "%Y%m%dT%H%M%S").replace(tzinfo=UTC)

    def attempt(self, flow: Flow, attempt: Attempt) -> Attempt:
        """Return `attempt` at `flow` as one that is a part of this request."""
        if not _adds_again(flow):
            return replace(attempt, command=self.id)
        return replace(attempt, command=self.id, request=self.id)

    def note_tables(self, flow: str, tables: Iterable[str]) -> None:
        """Note the flows of the tables of `flow`, before the first of them begins."""
        facts: Facts = {"request": self.id, "tables": list(tables)}
        self.place.put(self._key(_TABLES, flow), encode(_TABLES, flow, facts))

    def is_done(self, flows: Iterable[tuple[str, bool]]) -> bool:
        """Return whether all `flows` are committed for it: identity, and whether it has tables."""
        return all(
            FlowJournal(self.place, identity).committed_for(self.id) is not None
            for identity in self._with_tables(flows)
        )

    def _with_tables(self, flows: Iterable[tuple[str, bool]]) -> Iterator[str]:
        """Yield the identities of flows and of tables; of those that are not known, the flow's."""
        for flow, has_tables in flows:
            noted = self._read(self._key(_TABLES, flow), _TABLES, flow) if has_tables else None
            if noted is not None and noted["request"] == self.id:
                yield from noted["tables"]
            else:
                yield flow

    def forget(self) -> None:
        """End the request: the next run of the command is a new one."""
        for key in self.place.keys(self._below):
            if _is_old_note(key):
                self.place.remove(key)  # notes of flows count without a request, so they go first
        self.place.remove(f"{self._below}/{_REQUEST}.json")
        self.place.remove(self._below)

    def _key(self, kind: str, flow: str) -> str:
        name = _digest(flow) if kind == _DONE else f"{kind}-{_digest(flow)}"
        return f"{self._below}/{name}.json"

    def _read(self, key: str, kind: str, flow: str) -> Facts | None:
        content = self.place.get(key)
        shown = f"{self.place.describe().rstrip('/')}/{key}"
        return None if content is None else decode(content, kind, flow, shown)


def begin(
    path: str,
    selection: Sequence[str],
    state: str,
    flows: Sequence[tuple[str, bool]],
    fresh: bool,
) -> Request:
    """Begin the request of a command, or return the one that an earlier run of it did not end.

    `flows` are the identity of each flow, and whether it has tables. `fresh` ends the earlier one.
    A command that was killed and is started again goes on with the request of its first try, also
    where all of it is done. Raises JournalError for an entry that is damaged, and what the state
    raises.
    """
    is_repeated = restarts.is_repeated()
    place = state_at(state)
    command = _digest(_as_named(path), *sorted(selection))
    below = f"requests/{command}"
    key = f"{below}/{_REQUEST}.json"
    while True:
        content, earlier = place.get(key), None
        request = Request(place, f"{command}-{uuid.uuid4().hex}")
        if fresh and not is_repeated:
            request.forget()
        elif content is not None:
            facts = decode(content, _REQUEST, command, f"{place.describe().rstrip('/')}/{key}")
            began = datetime.fromisoformat(facts["began"])
            request = Request(place, facts["request"], began)
            if is_repeated or not request.is_done(flows):
                return request
            request.forget()
            continue
        elif any(map(_is_old_note, place.keys(below))):
            earlier = datetime.now(UTC)
        request.earlier = earlier
        facts = {"request": request.id, "began": datetime.now(UTC).isoformat()}
        if place.create(key, encode(_REQUEST, command, facts)):
            return request


def _is_old_note(key: str) -> bool:
    """Return whether a key is the note of a flow, from a version that had no requests."""
    return not key.rpartition("/")[2].startswith((_REQUEST, _TABLES))


def _as_named(path: str) -> str:
    """Return a path that is the same for each run of a command.

    The folder that Ray ships with a job has another name each time.
    """
    if "://" in path:
        return path
    path = os.path.abspath(path)
    _, shipped, inside = path.partition(SHIPPED)
    return inside.partition("/")[2] if shipped else path


def state_at(state: str | None) -> Place:
    """Return the place of the state of a file's flows."""
    return place_at(os.fspath(state or os.environ.get("HYGGE_STATE") or ".hygge"))


def _adds_again(flow: Flow) -> bool:
    return flow.mode == "append" and flow.cursor is None


def _digest(*words: str) -> str:
    return hashlib.sha256("\0".join(words).encode()).hexdigest()[:20]


def _digest_of(fingerprint: Mapping[str, str]) -> str:
    return _digest(*(f"{name}={value}" for name, value in sorted(fingerprint.items())))
