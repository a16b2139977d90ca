"""The runs of one flow in the journal: written in this order, read back by whoever comes next.

    plan → receipts → decision → (the store commits) → outcome

`plan`, receipts and `decision` are created, never changed: two drivers of one run cannot disagree
about what was decided, and a driver that was taken for dead cannot take it back.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from hygge.errors import JournalError
from hygge.journal.entries import MOST_BYTES_OF_RECEIPT, read, written
from hygge.journal.fingerprint import as_of_today
from hygge.model import Head, Receipt, Run, Split, Ticket, Watermark
from hygge.places.names import file_name
from hygge.places.place import Place

KEPT_RUNS = 50
GIVEN_UP = "given up by --fresh"
KEPT_FOR = timedelta(days=30)


@dataclass(frozen=True)
class Decision:
    """What became of a run, for good: exactly these receipts, or nothing and why."""

    receipts: tuple[Receipt, ...] = ()
    watermark: Watermark = None
    digests: tuple[str, ...] = ()
    """What each receipt's split was, in the order of the receipts."""
    abandoned: str | None = None


@dataclass(frozen=True)
class Past:
    """A run of which nobody knows yet how it ended."""

    run: Run
    epoch: int
    began: datetime
    base: Head | None
    columns: tuple[tuple[str, str, bool], ...] | None
    fingerprint: dict[str, str] = field(default_factory=dict)
    decision: Decision | None = None
    request: str = ""
    """What it was begun for, where several drivers may try the same."""


class FlowJournal:
    """The journal of the flow `flow`, at a place."""

    def __init__(self, place: Place, flow: str) -> None:
        self.place, self.flow = place, flow
        self.top = f"flows/{file_name(flow)}"

    def plan(self, past: Past) -> None:
        """Say that a run begins: before it reads or stages anything."""
        run = past.run
        facts = {
            "run": run.id, "mode": run.mode, "key": list(run.key), "cursor": run.cursor,
            "epoch": past.epoch, "began": past.began.isoformat(),
            "base": None if past.base is None else asdict(past.base),
            "columns": past.columns, "fingerprint": past.fingerprint,
            **({"request": past.request} if past.request else {}),
        }  # fmt: skip
        self.place.create(self._of(run, "plan"), written("plan", self.flow, facts))

    def seal(self, run: Run, receipt: Receipt, digest: str) -> None:
        """A split is sealed when this has returned."""
        ticket = receipt.ticket
        facts = {"run": run.id, "of": digest, **_short(receipt)}
        content = written("receipt", self.flow, facts)
        if len(content) > MOST_BYTES_OF_RECEIPT:
            raise JournalError(
                f"the receipt of split {ticket.split} takes {len(content):,} bytes, more than "
                f"{MOST_BYTES_OF_RECEIPT:,}",
                "a Store keeps what it staged itself; its receipt only counts it",
            )
        name = f"{ticket.split:06d}-{ticket.epoch}-{ticket.n}"
        self.place.create(f"{self.top}/receipts/{run.id}/{name}.json", content)

    def receipts(self, run: Run) -> list[tuple[str, Receipt]]:
        """(digest of the split, receipt) of everything that was sealed, oldest tries first."""
        keys, found = self.place.keys(f"{self.top}/receipts/{run.id}"), []
        with ThreadPoolExecutor(self.place.at_once, thread_name_prefix="hygge-journal") as pool:
            read = pool.map(lambda key: self._read(key, "receipt"), keys)
            for key, facts in zip(keys, read, strict=True):
                if facts is not None:
                    with self._trusting(key):
                        found.append((facts["of"], _long(run.id, facts)))
        return sorted(found, key=lambda each: (each[1].ticket.epoch, each[1].ticket.n))

    def sealed(self, run: Run) -> int:
        """How many receipts there are; none of them is read."""
        return len(self.place.keys(f"{self.top}/receipts/{run.id}"))

    def decide(self, run: Run, wanted: Decision) -> Decision:
        """Decide, if nobody has; gives what is decided, which may be another's decision."""
        facts: dict[str, Any] = {"run": run.id}
        if wanted.abandoned is not None:
            facts["abandoned"] = wanted.abandoned
        else:
            facts["watermark"] = wanted.watermark
            facts["prepared"] = [
                {"of": digest, **_short(receipt)}
                for digest, receipt in zip(wanted.digests, wanted.receipts, strict=True)
            ]
        key = self._of(run, "decision")
        if self.place.create(key, written("decision", self.flow, facts)):
            return wanted
        found = self.decision(run)
        if found is None:
            raise JournalError(f"{key} was there a moment ago and is gone", "run it again")
        return found

    def decision(self, run: Run) -> Decision | None:
        key = self._of(run, "decision")
        facts = self._read(key, "decision")
        if facts is None:
            return None
        with self._trusting(key):
            if "abandoned" in facts:
                return Decision(abandoned=facts["abandoned"])
            return Decision(
                tuple(_long(run.id, each) for each in facts["prepared"]),
                facts["watermark"],
                tuple(each["of"] for each in facts["prepared"]),
            )

    def end(self, run: Run, how: str, **facts: Any) -> None:
        """Note how a run ended; its receipts are of no more use.

        The outcome comes last, because a run without one is seen to again. That it is committed
        outweighs what a driver noted that was refused, or gave it up; nothing outweighs that.
        """
        self.place.remove(f"{self.top}/receipts/{run.id}")
        content = {"run": run.id, "how": how, "at": _now().isoformat(), **facts}
        note = self.place.put if how == "committed" else self.place.create
        note(self._of(run, "outcome"), written("outcome", self.flow, content))

    def stopped(self, run: Run, epoch: int, why: str) -> None:
        """Note that a driver ended before its run did."""
        facts = {"run": run.id, "why": why, "at": _now().isoformat()}
        key = self._of(run, f"stopped-{epoch}")
        self.place.put(key, written("stopped", self.flow, facts))

    def interrupted(self, epoch: int) -> None:
        """Note that the driver of the newest run is leaving in the middle of something."""
        for past in self.unsettled()[:1]:
            self.stopped(past.run, epoch, "interrupted")

    def unsettled(self) -> list[Past]:
        """Runs that began and of which no outcome is noted, the newest first."""
        entries: dict[str, set[str]] = {}
        for key in self.place.keys(f"{self.top}/runs"):
            run, _, name = key.removeprefix(f"{self.top}/runs/").partition("/")
            entries.setdefault(run, set()).add(name)
        found = [
            past
            for run, names in entries.items()
            if "outcome.json" not in names and (past := self._past(run)) is not None
        ]
        return sorted(found, key=lambda past: (past.epoch, past.run.id), reverse=True)

    def requested(self, request: str) -> dict[str, str | None]:
        """Runs that were begun for `request`, or were its answer → how each ended; newest first."""
        keys = set(self.place.keys(f"{self.top}/runs"))
        found: dict[str, str | None] = {}
        for run in sorted({key.split("/")[-2] for key in keys}, reverse=True):
            at = f"{self.top}/runs/{run}"
            ended = self._read(f"{at}/outcome.json", "outcome") or {}
            began: dict[str, Any] = {}
            # One that cannot be read, and has not ended, `unsettled` tells, or --fresh passes over.
            with contextlib.nullcontext() if ended else contextlib.suppress(JournalError):
                began = self._read(f"{at}/plan.json", "plan") or {}
            if request in (began.get("request"), ended.get("request")):
                found[run] = ended.get("how")
        return found

    def pass_over(self) -> list[tuple[str, bool]]:
        """Give up what has no outcome, readable or not: (run, whether nothing was decided)."""
        passed = []
        keys = self.place.keys(f"{self.top}/runs")
        for run in sorted({key.split("/")[-2] for key in keys}):
            if f"{self.top}/runs/{run}/outcome.json" not in keys:
                facts = written("decision", self.flow, {"run": run, "abandoned": GIVEN_UP})
                passed.append((run, self.place.create(self._of(Run(run, ""), "decision"), facts)))
        return passed

    def prune(self, head: Head) -> None:
        """Forget ended runs beyond the newest 50, or older than 30 days; never the head's."""
        ended = [
            key.split("/")[-2]
            for key in self.place.keys(f"{self.top}/runs")
            if key.endswith("/outcome.json")
        ]
        ended.sort(reverse=True)
        for at, run in enumerate(ended):
            old = at >= KEPT_RUNS or (at > 0 and _is_old(run))
            if old and run != head.run:
                # Outcome last: what is left of a half-pruned run still counts as ended.
                self.place.remove(f"{self.top}/receipts/{run}")
                for name in ("plan", "decision"):
                    self.place.remove(f"{self.top}/runs/{run}/{name}.json")
                self.place.remove(f"{self.top}/runs/{run}")

    def _past(self, run_id: str) -> Past | None:
        key = f"{self.top}/runs/{run_id}/plan.json"
        facts = self._read(key, "plan")
        if facts is None:
            return None
        with self._trusting(key):
            run = Run(facts["run"], self.flow, facts["mode"], tuple(facts["key"]), facts["cursor"])
            columns = facts["columns"]
            return Past(
                run,
                facts["epoch"],
                datetime.fromisoformat(facts["began"]),
                None if facts["base"] is None else _head(facts["base"]),
                None if columns is None else tuple((n, k, bool(o)) for n, k, o in columns),
                as_of_today(facts["fingerprint"]),
                self.decision(run),
            )

    def _of(self, run: Run, name: str) -> str:
        return f"{self.top}/runs/{run.id}/{name}.json"

    def _read(self, key: str, kind: str) -> dict[str, Any] | None:
        content = self.place.get(key)
        return None if content is None else read(content, kind, self.flow, self._shown(key))

    def _shown(self, key: str) -> str:
        return f"{self.place.describe().rstrip('/')}/{key}"

    def _trusting(self, key: str) -> _Trusting:
        return _Trusting(self._shown(key))


class _Trusting:
    """An entry with a right sum and wrong facts was made by something that is not hygge."""

    def __init__(self, where: str) -> None:
        self.where = where

    def __enter__(self) -> None: ...

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, KeyError | TypeError | ValueError | AttributeError):
            raise JournalError(
                f"{self.where} lacks what such an entry tells: {error}",
                "`--fresh` passes over it and starts anew",
            ) from error


def digest_of(split: Split) -> str:
    """Names what a split reads, and the state of the source; empty where that has no name."""
    if not split.version:
        return ""
    told = json.dumps([split.index, split.version, split.where], sort_keys=True, default=str)
    return hashlib.sha256(told.encode()).hexdigest()[:16]


def newest_of_each(
    sealed: Iterable[tuple[str, Receipt]], digests: Mapping[int, str]
) -> list[Receipt]:
    """Of sealed tries, the last one of each split that is still the same."""
    held: dict[int, Receipt] = {}
    for digest, receipt in sealed:
        if digest and digests.get(receipt.ticket.split) == digest:
            held[receipt.ticket.split] = receipt
    return [held[split] for split in sorted(held)]


def _short(receipt: Receipt) -> dict[str, Any]:
    facts = asdict(receipt)
    del facts["ticket"]
    ticket = receipt.ticket
    return {"split": ticket.split, "epoch": ticket.epoch, "n": ticket.n, **facts}


def _long(run: str, facts: dict[str, Any]) -> Receipt:
    kept = {name: value for name, value in facts.items() if name in _RECEIPT}
    return Receipt(Ticket(run, facts["split"], facts["epoch"], facts["n"]), **kept)


_RECEIPT = ("version", "rows", "bytes", "parts", "max_cursor", "set_aside")


def _head(facts: dict[str, Any]) -> Head:
    return Head(**{**facts, "columns": tuple((name, kind) for name, kind in facts["columns"])})


def _is_old(run: str) -> bool:
    match = re.match(r"\d{8}T\d{6}", run)
    if match is None:
        return False
    began = datetime.strptime(match[0], "%Y%m%dT%H%M%S").replace(tzinfo=UTC)
    return _now() - began > KEPT_FOR


def _now() -> datetime:
    return datetime.now(UTC)
