"""Which small flows share one Ray job: under `jobs: auto`, on a Ray that outlives the command.

A job of its own costs a flow seconds: a driver that starts, attaches to Ray and ends. A flow is
small where its last run was short, as its journal says, or where its files are small. Nothing else
is asked, and a flow of which neither is known has a job of its own. Being wrong costs time alone.

Flows share a job where their jobs would be alike: the same tags, retries, place of the driver and
limited connections. A flow that depends on another shares that one's job or none.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from hygge.config.connectors import build
from hygge.config.specs import FlowSpec
from hygge.connectors.files.home import FileHome
from hygge.connectors.files.listing import find_files
from hygge.journal import FlowJournal
from hygge.model import MIB
from hygge.places.place import Place
from hygge.report.progress import bytes_text

SMALL_BYTES = 64 * MIB
"""Of files, together, that a flow of its own kind moves in seconds."""
SMALL_S = 10.0
MOST_FLOWS = 50
"""In one job; more of them are several jobs."""
_WITHIN_S = 20.0
"""Flows whose journal or files did not answer in this time have jobs of their own."""
_THREADS = 8


@dataclass(frozen=True)
class Together:
    """Flows that share one Ray job, in the order of the file."""

    flows: tuple[FlowSpec, ...]
    at_once: int
    """The number of them that run at the same time; as many flows elsewhere wait for them."""


def find_together(
    flows: Sequence[FlowSpec],
    why_small: Callable[[FlowSpec], str],
    limited: Mapping[str, int],
    parallel: int,
) -> dict[str, Together]:
    """Return the name of each flow that shares a job → the flows of that job.

    `why_small` returns why a flow is small, "" where it is not. `limited` are the connections with
    a limit. `parallel` flows run at the same time.
    """
    small = ask_all(flows, why_small)
    kinds: dict[object, list[list[FlowSpec]]] = {}
    for flow in flows:
        if not small.get(flow.name):
            continue
        groups = kinds.setdefault(_kind(flow, limited), [[]])
        if len(groups[-1]) == MOST_FLOWS:
            groups.append([])
        if {member.name for member in groups[-1]}.issuperset(flow.depends_on):
            groups[-1].append(flow)
    return as_mapping([g for groups in kinds.values() for g in groups], len(flows), parallel)


def as_mapping(
    groups: Sequence[Sequence[FlowSpec]], flow_count: int, parallel: int
) -> dict[str, Together]:
    """Return groups of two and more by the name of each flow; `flow_count` flows run in all.

    Flows that share no job have half of `parallel`, so that they need not wait for all of these.
    """
    together = {}
    for group in groups:
        if len(group) > 1:
            most = parallel if len(group) == flow_count else max(1, parallel // 2)
            job = Together(tuple(group), min(len(group), most))
            together.update({flow.name: job for flow in group})
    return together


def why_small(flow: FlowSpec, state: Place, identity: str) -> str:
    """Return why a flow is small, in words for people; "" where it is not, or it is not known."""
    if flow.tables is not None:
        return ""
    seconds = FlowJournal(state, identity).last_run_s()
    if seconds is not None:
        return f"its last run took {seconds:.0f} s" if seconds <= SMALL_S else ""
    home = build(flow)[0]
    if not isinstance(home, FileHome) or not type(home).__module__.startswith("hygge."):
        return ""
    size = sum(file.size for file in find_files(home.path, home.suffixes))
    return f"its files have {bytes_text(size)}" if size <= SMALL_BYTES else ""


def ask_all(flows: Sequence[FlowSpec], why: Callable[[FlowSpec], str]) -> dict[str, str]:
    """Return what `why` says of each flow that answers in time; a flow that raises is left out."""
    if len(flows) < 2:
        return {}
    answers: dict[str, str] = {}
    waiting = list(reversed(flows))

    def ask() -> None:
        while True:
            try:
                flow = waiting.pop()
            except IndexError:
                return
            with suppress(Exception):  # the flow itself reports it
                answers[flow.name] = why(flow)

    # Daemons: a bucket that hangs holds up neither the run nor the end of the process.
    threads = [threading.Thread(target=ask, daemon=True) for _ in range(min(_THREADS, len(flows)))]
    until = time.monotonic() + _WITHIN_S
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, until - time.monotonic()))
    return dict(answers)


def _kind(flow: FlowSpec, limited: Mapping[str, int]) -> object:
    """Return what flows must have in common to share a job."""
    ends = {str(end.connection) for end in (flow.home, flow.store)}
    tags, driver = sorted(flow.tags.items()), sorted(flow.limits.driver.items())
    return str((tags, flow.limits.retries, driver, sorted(ends & set(limited))))
