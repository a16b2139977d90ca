"""The runs of one flow in the journal. A driver writes them in this order, the next one reads them:

    plan → receipts → decision → (the store commits) → outcome

`plan`, receipts and `decision` are created and never changed. So two drivers of one run cannot
disagree about the decision, and a driver that was wrongly taken for dead cannot revoke it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime, timedelta

from hygge.errors import JournalError
from hygge.journal.entries import MAX_RECEIPT_BYTES, Facts, decode, encode
from hygge.journal.fingerprint import with_current_types
from hygge.model import Head, Receipt, Run, Split, Ticket, Watermark, facts_of_head
from hygge.places.names import file_name
from hygge.places.place import Place

KEPT_RUNS = 50
KEPT_FOR = timedelta(days=30)
GIVEN_UP = "given up by --fresh"


@dataclass(frozen=True)
class Decision:
    """The final decision about a run: it commits exactly these receipts, or it is abandoned."""

    receipts: tuple[Receipt, ...] = ()
    watermark: Watermark = None
    digests: tuple[str, ...] = ()
    """`digest_of` the split of each receipt, in the order of the receipts."""
    abandoned: str | None = None
    """The reason why it is abandoned; None: it commits."""


@dataclass(frozen=True)
class RunRecord:
    """The entries of a run that has no outcome yet."""

    run: Run
    epoch: int
    """Number of the driver that began it."""
    began: datetime
    base: Head | None
    """Head of the store when it began."""
    columns: tuple[tuple[str, str, bool], ...] | None
    """(name, Arrow type as text, nullable) of each column; None where only the rows show them."""
    fingerprint: dict[str, str] = field(default_factory=dict)
    decision: Decision | None = None
    request: str = ""
    """Id of the request that it was begun for, where several drivers may try the same."""
    command: str = ""
    """Id of the request to run many flows that it is a part of."""


class FlowJournal:
    """The journal of the flow `flow`, which lies at `place`."""

    def __init__(self, place: Place, flow: str) -> None:
        self.place, self.flow = place, flow
        self.top = f"flows/{file_name(flow)}"

    def plan(self, record: RunRecord) -> None:
        """Note that a run begins. Called before it reads or stages anything."""
        run = record.run
        facts: Facts = {
            "run": run.id, "mode": run.mode, "key": list(run.key), "cursor": run.cursor,
            "epoch": record.epoch, "began": record.began.isoformat(),
            "base": None if record.base is None else facts_of_head(replace(record.base, ties=None)),
            "columns": record.columns, "fingerprint": record.fingerprint,
        }  # fmt: skip
        if record.request:
            facts["request"] = record.request
        if record.command:
            facts["command"] = record.command
        self.place.create(self._key(run, "plan"), encode("plan", self.flow, facts))

    def seal(self, run: Run, receipt: Receipt, digest: str) -> None:
        """Keep a receipt; when this returns, a later driver need not stage its split again.

        `digest` is `digest_of` its split. Raises JournalError for a receipt over 1 KiB.
        """
        ticket = receipt.ticket
        # What it reached is of use to its own driver only, which decides.
        facts = {"run": run.id, "of": digest, **_receipt_facts(replace(receipt, reached=None))}
        content = encode("receipt", self.flow, facts)
        if len(content) > MAX_RECEIPT_BYTES:
            raise JournalError(
                f"the receipt of split {ticket.split} takes {len(content):,} bytes, more than "
                f"{MAX_RECEIPT_BYTES:,}",
                "a Store keeps what it staged itself; its receipt only counts it",
            )
        name = f"{ticket.split:06d}-{ticket.epoch}-{ticket.n}"
        self.place.create(f"{self.top}/receipts/{run.id}/{name}.json", content)

    def receipts(self, run: Run) -> list[tuple[str, Receipt]]:
        """Return (digest of the split, receipt) of each staged split, oldest attempts first."""
        keys = self.place.keys(f"{self.top}/receipts/{run.id}")
        receipts: list[tuple[str, Receipt]] = []
        with ThreadPoolExecutor(self.place.at_once, thread_name_prefix="hygge-journal") as pool:
            entries = pool.map(lambda key: self._read(key, "receipt"), keys)
            for key, facts in zip(keys, entries, strict=True):
                if facts is not None:
                    with self._expecting_facts(key):
                        receipts.append((facts["of"], _receipt(run.id, facts)))
        return sorted(receipts, key=lambda pair: (pair[1].ticket.epoch, pair[1].ticket.n))

    def count_receipts(self, run: Run) -> int:
        """Return the number of receipts without reading them."""
        return len(self.place.keys(f"{self.top}/receipts/{run.id}"))

    def decide(self, run: Run, wanted: Decision) -> Decision:
        """Decide as `wanted`, unless it is decided already; return the decision that holds."""
        facts: Facts = {"run": run.id}
        if wanted.abandoned is not None:
            facts["abandoned"] = wanted.abandoned
        else:
            facts["watermark"] = wanted.watermark
            facts["prepared"] = [
                {"of": digest, **_receipt_facts(receipt)}
                for digest, receipt in zip(wanted.digests, wanted.receipts, strict=True)
            ]
        key = self._key(run, "decision")
        if self.place.create(key, encode("decision", self.flow, facts)):
            return wanted
        decision = self.decision(run)
        if decision is None:
            raise JournalError(f"{key} was there a moment ago and is gone", "run it again")
        return decision

    def decision(self, run: Run) -> Decision | None:
        """Return the decision about a run, or None if there is none yet."""
        key = self._key(run, "decision")
        facts = self._read(key, "decision")
        if facts is None:
            return None
        with self._expecting_facts(key):
            if "abandoned" in facts:
                return Decision(abandoned=facts["abandoned"])
            return Decision(
                tuple(_receipt(run.id, prepared) for prepared in facts["prepared"]),
                facts["watermark"],
                tuple(prepared["of"] for prepared in facts["prepared"]),
            )

    def end(self, run: Run, how: str, request: str = "", changes: Sequence[str] = ()) -> None:
        """Note how a run ended, and remove its receipts, which nobody needs any more.

        `request` is the request that it answers, `changes` what it changed of the store's columns
        (`schema: evolve`). The outcome is written last, because a run
        without one is looked at again. "committed" replaces what another driver noted that was
        refused or gave the run up; nothing replaces "committed".
        """
        self.place.remove(f"{self.top}/receipts/{run.id}")
        facts: Facts = {"run": run.id, "how": how, "at": _now().isoformat()}
        if request:
            facts["request"] = request
        if changes:
            facts["changes"] = list(changes)
        write = self.place.put if how == "committed" else self.place.create
        write(self._key(run, "outcome"), encode("outcome", self.flow, facts))

    def note_stop(self, run: Run, epoch: int, why: str) -> None:
        """Note that a driver ended before its run did."""
        facts = {"run": run.id, "why": why, "at": _now().isoformat()}
        self.place.put(self._key(run, f"stopped-{epoch}"), encode("stopped", self.flow, facts))

    def note_interruption(self, epoch: int) -> None:
        """Note that the driver of the newest run ends in the middle of something."""
        for record in self.open_runs()[:1]:
            self.note_stop(record.run, epoch, "interrupted")

    def open_runs(self) -> list[RunRecord]:
        """Return the runs that began and have no outcome, the newest first."""
        entries: dict[str, set[str]] = {}
        for key in self.place.keys(f"{self.top}/runs"):
            run, _, name = key.removeprefix(f"{self.top}/runs/").partition("/")
            entries.setdefault(run, set()).add(name)
        records = [
            record
            for run, names in entries.items()
            if "outcome.json" not in names and (record := self._record(run)) is not None
        ]
        return sorted(records, key=lambda record: (record.epoch, record.run.id), reverse=True)

    def runs_of_request(self, request: str) -> dict[str, str | None]:
        """Return how each run ended that was begun for `request` or answers it; newest first.

        The value of a run without an outcome is None.
        """
        return {run: how for run, how, _ in self._runs_of_request(request)}

    def committed_for(self, request: str) -> tuple[str, dict[str, str]] | None:
        """Return id and fingerprint of the newest run that is noted as committed for `request`."""
        for run, how, fingerprint in self._runs_of_request(request):
            if how == "committed":
                return run, with_current_types(fingerprint)
        return None

    def _runs_of_request(self, request: str) -> Iterator[tuple[str, str | None, dict[str, str]]]:
        """Yield (run, how it ended, fingerprint) of the runs of a request, newest first."""
        ids = self.runs()
        with ThreadPoolExecutor(self.place.at_once, thread_name_prefix="hygge-journal") as pool:
            for run, facts in zip(ids, pool.map(self.plan_and_outcome, ids), strict=True):
                plan, outcome = facts
                if request in (plan.get("request"), plan.get("command"), outcome.get("request")):
                    yield run, outcome.get("how"), plan.get("fingerprint", {})

    def runs(self) -> list[str]:
        """Return the id of each run that is kept, the newest first."""
        keys = self.place.keys(f"{self.top}/runs")
        return sorted({key.split("/")[-2] for key in keys}, reverse=True)

    def prepared(self, run: str) -> tuple[Receipt, ...]:
        """Return the receipts of a run: those of its decision, else those that are kept by now."""
        decision = self.decision(Run(run, self.flow))
        if decision is not None and decision.receipts:
            return decision.receipts
        return tuple(receipt for _, receipt in self.receipts(Run(run, self.flow)))

    def plan_and_outcome(self, run: str) -> tuple[Facts, Facts]:
        """Return what the entries `plan` and `outcome` of a run hold; empty where there is none."""
        folder = f"{self.top}/runs/{run}"
        outcome = self._read(f"{folder}/outcome.json", "outcome") or {}
        plan: Facts = {}
        # `open_runs` raises for a run without an outcome that cannot be read, unless --fresh gives
        # it up.
        with contextlib.nullcontext() if outcome else contextlib.suppress(JournalError):
            plan = self._read(f"{folder}/plan.json", "plan") or {}
        return plan, outcome

    def last_run_s(self) -> float | None:
        """Return how many seconds the last run that was committed took; None: there is none."""
        keys = self.place.keys(f"{self.top}/runs")
        ended = [key.split("/")[-2] for key in keys if key.endswith("/outcome.json")]
        for run in sorted(ended, reverse=True):
            plan, outcome = self.plan_and_outcome(run)
            if outcome.get("how") == "committed" and "began" in plan:
                ends = datetime.fromisoformat(outcome["at"])
                return (ends - datetime.fromisoformat(plan["began"])).total_seconds()
        return None

    def give_up_open_runs(self) -> list[tuple[str, bool]]:
        """Abandon each run without an outcome, also one that cannot be read.

        Returns (id of the run, whether this abandoned it): a run that was decided already stays.
        """
        given_up = []
        keys = self.place.keys(f"{self.top}/runs")
        for run in sorted({key.split("/")[-2] for key in keys}):
            if f"{self.top}/runs/{run}/outcome.json" not in keys:
                content = encode("decision", self.flow, {"run": run, "abandoned": GIVEN_UP})
                created = self.place.create(self._key(Run(run, ""), "decision"), content)
                given_up.append((run, created))
        return given_up

    def prune(self, head: Head) -> None:
        """Remove ended runs beyond the newest 50 or older than 30 days, but never the head's."""
        ended = [
            key.split("/")[-2]
            for key in self.place.keys(f"{self.top}/runs")
            if key.endswith("/outcome.json")
        ]
        ended.sort(reverse=True)
        for index, run in enumerate(ended):
            old = index >= KEPT_RUNS or (index > 0 and _is_old(run))
            if old and run != head.run:
                # The outcome last: a run that is removed in part still counts as ended.
                self.place.remove(f"{self.top}/receipts/{run}")
                for name in ("plan", "decision"):
                    self.place.remove(f"{self.top}/runs/{run}/{name}.json")
                self.place.remove(f"{self.top}/runs/{run}")

    def _record(self, run_id: str) -> RunRecord | None:
        key = f"{self.top}/runs/{run_id}/plan.json"
        facts = self._read(key, "plan")
        if facts is None:
            return None
        with self._expecting_facts(key):
            run = Run(facts["run"], self.flow, facts["mode"], tuple(facts["key"]), facts["cursor"])
            columns = facts["columns"]
            return RunRecord(
                run,
                facts["epoch"],
                datetime.fromisoformat(facts["began"]),
                None if facts["base"] is None else _head(facts["base"]),
                None
                if columns is None
                else tuple((name, kind, bool(nullable)) for name, kind, nullable in columns),
                with_current_types(facts["fingerprint"]),
                self.decision(run),
                facts.get("request", ""),
            )

    def _key(self, run: Run, name: str) -> str:
        return f"{self.top}/runs/{run.id}/{name}.json"

    def _read(self, key: str, kind: str) -> Facts | None:
        content = self.place.get(key)
        return None if content is None else decode(content, kind, self.flow, self._shown(key))

    def _shown(self, key: str) -> str:
        return f"{self.place.describe().rstrip('/')}/{key}"

    @contextlib.contextmanager
    def _expecting_facts(self, key: str) -> Iterator[None]:
        """Raise JournalError where an entry with a right checksum lacks a fact."""
        try:
            yield
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise JournalError(
                f"{self._shown(key)} lacks what such an entry tells: {error}",
                "`--fresh` passes over it and starts anew",
            ) from error


def digest_of(split: Split) -> str:
    """Return a digest of what a split reads and of the state of the source.

    It is empty for a split whose rows can never be used again: one without a version, and one that
    tells its driver, beside the rows, what it has reached (`boundary`).
    """
    if not split.version or "boundary" in split.where:
        return ""
    text = json.dumps([split.index, split.version, split.where], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def reusable_receipts(
    sealed: Iterable[tuple[str, Receipt]], digests: Mapping[int, str]
) -> list[Receipt]:
    """Return the newest receipt of each split that has the same digest today.

    `sealed`: (digest, receipt), oldest first; `digests`: index of the split → digest today.
    """
    newest: dict[int, Receipt] = {}
    for digest, receipt in sealed:
        if digest and digests.get(receipt.ticket.split) == digest:
            newest[receipt.ticket.split] = receipt
    return [newest[split] for split in sorted(newest)]


def _receipt_facts(receipt: Receipt) -> Facts:
    facts = asdict(receipt)
    del facts["ticket"]
    del facts["bad_rows"]
    if receipt.reached is None:
        del facts["reached"]
    ticket = receipt.ticket
    return {"split": ticket.split, "epoch": ticket.epoch, "n": ticket.n, **facts}


def _receipt(run: str, facts: Facts) -> Receipt:
    fields = {name: value for name, value in facts.items() if name in _RECEIPT_FIELDS}
    return Receipt(Ticket(run, facts["split"], facts["epoch"], facts["n"]), **fields)


_RECEIPT_FIELDS = ("version", "rows", "bytes", "parts", "max_cursor", "set_aside", "reached")


def _head(facts: Facts) -> Head:
    return Head(**{**facts, "columns": tuple((name, kind) for name, kind in facts["columns"])})


def _is_old(run: str) -> bool:
    match = re.match(r"\d{8}T\d{6}", run)
    if match is None:
        return False
    began = datetime.strptime(match[0], "%Y%m%dT%H%M%S").replace(tzinfo=UTC)
    return _now() - began > KEPT_FOR


def _now() -> datetime:
    return datetime.now(UTC)
