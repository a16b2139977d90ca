"""`hygge history`, `hygge show` and `hygge status` without a cluster: what runs left behind."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING

from hygge.errors import HyggeError, UsageError, one_of
from hygge.journal.entries import Facts
from hygge.journal.history import find_run, flows_at, records, resumed_from, splits_of
from hygge.places.place import Place, place_at
from hygge.report.history import history_lines, show_text

if TYPE_CHECKING:
    from hygge.coordinator.coordinator import Coordinator

_LIMIT = 20


def history(arguments: argparse.Namespace, coordinator: Coordinator) -> int:
    """Print the runs of the selected flows, the newest first; return the exit code."""
    place = place_at(coordinator.file.state)
    identities = [coordinator.identity(spec.name) for spec in coordinator.file.flows]
    project = coordinator.identity("")
    known = [
        flow
        for flow in flows_at(place)
        if any(flow == one or flow.startswith(f"{one}.") for one in identities)
    ]
    names = {flow: flow.removeprefix(project) for flow in known}
    wanted = arguments.flow or "*"
    flows = [flow for flow in known if fnmatchcase(names[flow], wanted)]
    if arguments.flow and not flows:
        raise UsageError(
            f"no flow '{wanted}' of {arguments.file} has run",
            one_of("flows that have", wanted, names.values()),
        )
    _print_runs(_newest(place, flows, _limit(arguments)), arguments.json, arguments.file)
    return 0


def show(arguments: argparse.Namespace) -> int:
    """Print what is known of one run; return the exit code.

    The state is that of the file, if one is named, else that of this folder.
    """
    states = states_of(arguments.file)
    for state in states:
        place = place_at(state)
        for flow, found in find_run(place, arguments.id):
            splits = splits_of(place, flow, found[0]["run"]) if found[0]["run"] else []
            if arguments.json:
                print(json.dumps({"attempts": found, "splits": splits}))
            else:
                print(show_text(found, splits))
            return 0
    where = ", ".join(place_at(state).describe() for state in states) or "this folder"
    raise UsageError(
        f"no run '{arguments.id}' is known in {where}",
        "`hygge history flows.yml` lists the runs; `hygge show RUN flows.yml` looks into the state "
        "of that file",
    )


def runs_here(as_json: bool = False) -> int:
    """Print the last run of each flow whose state belongs to this folder; return the exit code."""
    found: list[Facts] = []
    for state in states_here():
        place = place_at(state)
        found += [record for flow in flows_at(place) for record in records(place, flow, 1)]
    _print_runs(sorted(found, key=_began, reverse=True), as_json, "this folder")
    return 0


def states_of(file: str | None) -> list[str]:
    """Return where the state of a file of flows lies; without one, the states of this folder."""
    return [_state_of(file)] if file else states_here()


def states_here() -> list[str]:
    """Return where the states of this folder lie: HYGGE_STATE, .hygge, and what its files name."""
    states = dict.fromkeys([os.environ.get("HYGGE_STATE", ""), ".hygge"])
    for file in sorted([*Path().glob("*.yml"), *Path().glob("*.yaml")]):
        try:
            states[_state_of(str(file))] = None
        except (HyggeError, OSError):
            continue  # not a file of flows, or a variable of it is not set here
    found: dict[str, str] = {}
    for state in filter(None, states):
        if "://" in state or os.path.isdir(state):
            found.setdefault(place_at(state).describe(), state)
    return list(found.values())


def _state_of(file: str) -> str:
    from hygge.config.flows import read_flows

    return read_flows(file).state


def _newest(place: Place, flows: Sequence[str], limit: int) -> list[Facts]:
    found: list[Facts] = []
    for flow in flows:
        own = records(place, flow, limit)
        found += [{**record, "resumed_from": resumed_from(own, record)} for record in own]
    return sorted(found, key=_began, reverse=True)[:limit]


def _began(record: Facts) -> float:
    return float(record["started_at"])


def _limit(arguments: argparse.Namespace) -> int:
    text = arguments.limit or str(_LIMIT)
    if not text.isdigit() or int(text) < 1:
        raise UsageError(f"--limit {text} is no number of runs", "--limit 20")
    return int(text)


def _print_runs(found: Sequence[Facts], as_json: bool, what: str) -> None:
    if as_json:
        for record in found:
            print(json.dumps(record))
    else:
        print("\n".join(history_lines(found)) or f"{what}: nothing has run yet")
