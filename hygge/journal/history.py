"""What people ask about runs afterwards: one record for each time that a flow was run.

    history/<flow>/<began>-<random>.json

A record is written when the flow has ended, well or not. It is evidence for people: no run reads
it, and a run whose record cannot be written ends as it would have. A driver that is killed leaves
no record, and its run is found by the entries of `runs.py`. The newest 100 of a flow are kept.
"""

from __future__ import annotations

import contextlib
import json
import secrets
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

from hygge.errors import JournalError
from hygge.journal.entries import Facts, decode, encode
from hygge.journal.runs import FlowJournal
from hygge.places.names import file_name
from hygge.places.place import Place

KEPT = 100
_KIND, _TOP = "history", "history"
OPEN = "open"
"""The status of a run without an outcome: it runs now, or its driver died."""


def keep(place: Place, flow: str, facts: Facts) -> None:
    """Write a record, and remove what is too old. `facts` has `started_at`, in seconds."""
    began = datetime.fromtimestamp(facts["started_at"], UTC)
    top = f"{_TOP}/{file_name(flow)}"
    name = f"{began:%Y%m%dT%H%M%S%f}-{secrets.token_hex(3)}"
    own = {name: value for name, value in facts.items() if name != "flow"}  # it may lack a project
    place.put(f"{top}/{name}.json", encode(_KIND, flow, own))
    for key in place.keys(top)[:-KEPT]:
        place.remove(key)


def flows_at(place: Place) -> list[str]:
    """Return the identity of each flow that has a history, or runs, at a place."""
    flows: dict[str, str] = {}
    for top in (_TOP, "flows"):
        folders: dict[str, str] = {}
        for key in place.keys(top):
            if key.endswith(".json"):
                folders[key.split("/")[1]] = key
        for folder, key in folders.items():
            if folder not in flows:
                with contextlib.suppress(ValueError, KeyError, TypeError):  # not an entry
                    flows[folder] = json.loads(place.get(key) or b"")["flow"]
    return sorted(flows.values())


def records(place: Place, flow: str, limit: int | None = None) -> list[Facts]:
    """Return the records of a flow, the newest first; `limit` of them at most.

    A run without a record has one with what its entries tell: a driver that was killed, or is at
    work, or an older version of hygge.
    """
    with ThreadPoolExecutor(place.at_once, thread_name_prefix="hygge-journal") as pool:
        keys = place.keys(f"{_TOP}/{file_name(flow)}")
        written = list(pool.map(lambda key: _record(place, flow, key), keys[::-1][:limit]))
        found = [record for record in written if record is not None]
        journal = FlowJournal(place, flow)
        known = {record["run"] for record in found}
        runs = [run for run in journal.runs()[:limit] if run not in known]
        found += pool.map(lambda run: _record_of_run(journal, run), runs)
    return sorted(found, key=lambda record: float(record["started_at"]), reverse=True)[:limit]


def find_run(place: Place, run: str) -> Iterator[tuple[str, list[Facts]]]:
    """Yield (flow, its records of this run, the newest first) for each flow that has the run.

    `run` is the id of a run, or the beginning of one.
    """
    for flow in flows_at(place):
        own = [record for record in records(place, flow) if record["id"].startswith(run)]
        if own:
            yield flow, own


def _record(place: Place, flow: str, key: str) -> Facts | None:
    content = place.get(key)
    if content is None:
        return None
    facts = decode(content, _KIND, flow, f"{place.describe().rstrip('/')}/{key}", "remove it")
    # A flow that failed before it had planned has no run.
    return {
        **facts,
        "flow": flow,
        "id": facts["run"] or key.rpartition("/")[2].removesuffix(".json"),
    }


def _record_of_run(journal: FlowJournal, run: str) -> Facts:
    """Return what the entries of a run tell."""
    with contextlib.suppress(JournalError):
        plan, outcome = journal.plan_and_outcome(run)
        if "began" in plan:
            how = str(outcome.get("how", OPEN))
            began = datetime.fromisoformat(plan["began"])
            record: Facts = {
                "id": run, "run": run, "flow": journal.flow, "started_at": began.timestamp(),
                "mode": plan.get("mode", ""), "changes": outcome.get("changes", []),
                "status": {"committed": "done", OPEN: OPEN}.get(how, "failed"),
            }  # fmt: skip
            if "at" in outcome:
                ended = datetime.fromisoformat(outcome["at"])
                record["seconds"] = (ended - began).total_seconds()
            if record["status"] == "failed":
                record["error"] = how
            receipts = journal.prepared(run)
            record["rows"] = sum(receipt.rows for receipt in receipts)
            record["bytes"] = sum(receipt.bytes for receipt in receipts)
            return record
    return {"id": run, "run": run, "flow": journal.flow, "started_at": 0.0, "status": OPEN}


def splits_of(place: Place, flow: str, run: str) -> list[Facts]:
    """Return split, rows, bytes and tries of each split of a run that has a receipt."""
    return [
        {
            "split": receipt.ticket.split,
            "rows": receipt.rows,
            "bytes": receipt.bytes,
            "set_aside": receipt.set_aside,
            "driver": receipt.ticket.epoch,
            "tries": receipt.ticket.n + 1,
        }
        for receipt in FlowJournal(place, flow).prepared(run)
    ]


def resumed_from(records: Sequence[Facts], record: Facts) -> str:
    """Return how and when an earlier attempt at the same run ended; "" where there is none."""
    for other in records:
        is_earlier = other["started_at"] < record["started_at"]
        if record["run"] and other["run"] == record["run"] and is_earlier:
            began = datetime.fromtimestamp(other["started_at"]).astimezone()
            return f"{other['status']} {began:%Y-%m-%d %H:%M:%S}"
    return ""
