"""`hygge report RUN`, and `--report FILE` of a run: one page of HTML about what ran."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from hygge.errors import UsageError

if TYPE_CHECKING:
    from hygge.journal.entries import Facts
    from hygge.model import Report
    from hygge.places.place import Place
    from hygge.report.page import FlowRun

_EARLIER = 20


def add_options(command: argparse.ArgumentParser) -> None:
    """Add the arguments of `hygge report`."""
    command.add_argument("id", help="a run, as `hygge history` printed it")
    command.add_argument("file", nargs="?", help="the file whose state has the run")
    command.add_argument(
        "--output", metavar="FILE", help="the page that is written; RUN.html without it"
    )


def run(arguments: argparse.Namespace) -> int:
    """Write the page of one run, and print where it is; return the exit code."""
    from hygge.cli.history import states_of
    from hygge.journal.history import find_run
    from hygge.places.place import place_at

    for state in states_of(arguments.file):
        place = place_at(state)
        for flow, attempts in find_run(place, arguments.id):
            path = arguments.output or f"{attempts[0]['id']}.html"
            write(path, f"{flow}, run {attempts[0]['id']}", [_known(place, flow, attempts)])
            print(path)
            return 0
    raise UsageError(
        f"no run '{arguments.id}' is known here",
        "`hygge history flows.yml` lists the runs; `hygge report RUN flows.yml` looks into the "
        "state of that file",
    )


def write_summary(path: str, state: str, title: str, reports: Iterable[tuple[str, Report]]) -> None:
    """Write the page of all flows of a command: (identity, report) of each."""
    from hygge.journal.history import records
    from hygge.places.place import place_at

    place = place_at(state)
    runs = []
    for flow, report in reports:
        # A flow that did not begin leaves no record: the newest is that of an earlier command.
        newest = [] if report.status == "skipped" else records(place, flow, 1)
        attempts = [each for each in newest if each["run"] == report.run]
        runs.append(_known(place, flow, attempts) if attempts else _untold(report))
    write(path, title, runs)


def write(path: str, title: str, runs: Sequence[FlowRun]) -> None:
    """Write a page to `path`. Raises UsageError where that cannot be."""
    from hygge.report.page import page

    try:
        Path(path).write_text(page(title, runs), encoding="utf-8")
    except OSError as error:
        raise UsageError(
            f"the page {path} cannot be written: {error.strerror}", "name another file"
        ) from error


def _known(place: Place, flow: str, attempts: Sequence[Facts]) -> FlowRun:
    from hygge.journal.history import records, splits_of
    from hygge.report.page import FlowRun

    run = attempts[0]["run"]
    others = [each for each in records(place, flow, _EARLIER) if each["id"] != attempts[0]["id"]]
    earlier = [each for each in others if each["started_at"] < attempts[0]["started_at"]]
    return FlowRun(attempts, splits_of(place, flow, run) if run else (), earlier)


def _untold(report: Report) -> FlowRun:
    """Return what the report of a flow tells that left no record: one that was skipped."""
    from dataclasses import asdict

    from hygge.report.page import FlowRun

    return FlowRun([{**asdict(report), "id": report.run or report.flow}])
