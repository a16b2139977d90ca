"""Which small flows share one Ray job: under `jobs: auto`, on a Ray that outlives the command.

A job of its own costs a flow seconds: a driver that starts, attaches to Ray and ends. A flow is
small where its last run was short, as its journal says; before its first run, where its files are
small, or its table is, as the database knows it without reading rows. A flow of which nothing is
known (a query, a view) has a job of its own. Being wrong costs time alone.

Flows share a job where their jobs would be alike: the same tags, retries, place of the driver and
limited connections. A flow that depends on another shares that one's job or none.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from hygge.config.connectors import build
from hygge.config.specs import FlowSpec
from hygge.connectors.databases.sizes import table_sizes
from hygge.connectors.files.home import FileHome
from hygge.connectors.files.listing import find_files
from hygge.journal import FlowJournal
from hygge.model import MIB
from hygge.places.place import Place
from hygge.report.progress import bytes_text

if TYPE_CHECKING:
    from hygge.connectors.databases.home import SQLHome

SMALL_BYTES = 64 * MIB
"""Of files, together, or of a table, that a flow of its own kind moves in seconds."""
SMALL_S = 10.0
MOST_FLOWS = 50
"""In one job; more of them are several jobs."""
_WITHIN_S = 20.0
"""Flows whose journal, files or database did not answer in this time have jobs of their own."""
_THREADS = 8
_Asked = TypeVar("_Asked")


@dataclass(frozen=True)
class Together:
    """Flows that share one Ray job, in the order of the file."""

    flows: tuple[FlowSpec, ...]
    at_once: int
    """The number of them that run at the same time; as many flows elsewhere wait for them."""


def find_together(
    flows: Sequence[FlowSpec],
    reasons: Mapping[str, str],
    limited: Mapping[str, int],
    parallel: int,
    submitted: Sequence[Sequence[FlowSpec]] = (),
) -> dict[str, Together]:
    """Return the name of each flow that shares a job → the flows of that job.

    `reasons`: why a flow is small, from `find_reasons`. `limited` are the connections with a limit.
    `parallel` flows run at the same time. `submitted`: the flows of each job that there is already.
    """
    kinds: dict[object, list[list[FlowSpec]]] = {}
    taken = {flow.name for job in submitted for flow in job}
    for flow in flows:
        if flow.name in taken or not reasons.get(flow.name):
            continue
        groups = kinds.setdefault(_kind(flow, limited), [[]])
        if len(groups[-1]) == MOST_FLOWS:
            groups.append([])
        if {member.name for member in groups[-1]}.issuperset(flow.depends_on):
            groups[-1].append(flow)
    together = {}
    for group in [*submitted, *(group for groups in kinds.values() for group in groups)]:
        if len(group) > 1:
            # Flows that share no job have the other half, so that they need not wait for these.
            most = parallel if len(group) == len(flows) else max(1, parallel // 2)
            job = Together(tuple(group), min(len(group), most))
            together.update({flow.name: job for flow in group})
    return together


def find_reasons(
    flows: Sequence[FlowSpec], state: Place, identity: Callable[[str], str]
) -> dict[str, str]:
    """Return the name of each small flow → why it is small, in words for people.

    `identity` returns the name under which the journal keeps a flow. One connection asks a database
    for the sizes of all of its tables. Flows of which nobody answers in time are left out.
    """
    if len(flows) < 2:
        return {}
    until = time.monotonic() + _WITHIN_S
    reasons: dict[str, str] = {}
    tables: dict[str, list[tuple[str, SQLHome]]] = {}

    def ask_flow(flow: FlowSpec) -> None:
        home = _home_to_ask(flow, state, identity(flow.name), reasons)
        if home is not None:
            tables.setdefault(home.settings.connection, []).append((flow.name, home))

    def ask_database(url: str) -> None:
        wanted = {name: str(home.table) for name, home in tables[url]}
        sizes = table_sizes(url, tables[url][0][1].describe(), sorted(set(wanted.values())))
        for name, table in wanted.items():
            if table in sizes:
                _note_bytes(reasons, name, "table has", sizes[table])

    _ask_all(flows, ask_flow, until)
    _ask_all(list(tables), ask_database, until)
    return dict(reasons)


def _home_to_ask(
    flow: FlowSpec, state: Place, identity: str, reasons: dict[str, str]
) -> SQLHome | None:
    """Note why a flow is small; return its Home where the database has to tell that."""
    if flow.tables is not None:
        return None
    seconds = FlowJournal(state, identity).last_run_s()
    if seconds is not None:
        if seconds <= SMALL_S:
            reasons[flow.name] = f"its last run took {seconds:.0f} s"
        return None
    home = build(flow)[0]
    if not type(home).__module__.startswith("hygge."):
        return None
    if isinstance(home, FileHome):
        size = sum(file.size for file in find_files(home.path, home.suffixes))
        _note_bytes(reasons, flow.name, "files have", size)
        return None
    from hygge.connectors.databases.home import SQLHome  # slow to load: not for files

    return home if isinstance(home, SQLHome) and home.table and not home.settings.query else None


def _note_bytes(reasons: dict[str, str], flow: str, what: str, size: int) -> None:
    if size <= SMALL_BYTES:
        reasons[flow] = f"its {what} {bytes_text(size)}"


def _ask_all(about: Sequence[_Asked], ask: Callable[[_Asked], None], until: float) -> None:
    """Call `ask` with each of `about`, in threads, until all have answered or the time is over."""
    waiting = list(reversed(about))

    def work() -> None:
        while True:
            try:
                asked = waiting.pop()
            except IndexError:
                return
            with suppress(Exception):  # the flow itself reports it
                ask(asked)

    # Daemons: a bucket that hangs holds up neither the run nor the end of the process.
    threads = [threading.Thread(target=work, daemon=True) for _ in range(min(_THREADS, len(about)))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, until - time.monotonic()))


def _kind(flow: FlowSpec, limited: Mapping[str, int]) -> object:
    """Return what flows must have in common to share a job."""
    ends = {str(end.connection) for end in (flow.home, flow.store)}
    tags, driver = sorted(flow.tags.items()), sorted(flow.limits.driver.items())
    return str((tags, flow.limits.retries, driver, sorted(ends & set(limited))))
