"""`hygge bad`: the rows that the runs of a file have set aside, and moving them again."""

from __future__ import annotations

import argparse
import contextlib
import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from hygge.errors import UsageError, one_of
from hygge.journal.bad_files import BadFiles, flows_with_bad_rows
from hygge.model import Summary
from hygge.places.place import place_at

if TYPE_CHECKING:
    from hygge.config.specs import FlowSpec
    from hygge.coordinator.coordinator import Coordinator

_SHOWN = ("flow", "run", "split", "file", "line", "column", "value", "reason", "text")
_LONGEST = 60


def bad(arguments: argparse.Namespace, coordinator: Coordinator) -> int:
    """Print the bad rows of the selected flows, the newest run first; or move those of a run."""
    if arguments.replay:
        return _replay(arguments, coordinator)
    rows = list(_rows(coordinator))
    if arguments.json:
        for row in rows:
            print(json.dumps({name: row[name] for name in _SHOWN}, ensure_ascii=False))
    elif rows:
        print(_table(rows))
    else:
        print(f"{arguments.file}: no row is set aside")
    return 0


def _rows(coordinator: Coordinator) -> Iterator[dict[str, Any]]:
    """Yield the bad rows of the selected flows, and of their tables."""
    place = place_at(coordinator.file.state)
    identities = [coordinator.identity(spec.name) for spec in coordinator.file.flows]
    for flow, runs in flows_with_bad_rows(place):
        if not any(flow == one or flow.startswith(f"{one}.") for one in identities):
            continue
        for run in runs:
            yield from BadFiles(place, flow).read(run).to_pylist()


def _replay(arguments: argparse.Namespace, coordinator: Coordinator) -> int:
    """Move the rows of a run again; print the report."""
    from hygge.report.live import find_watch
    from hygge.report.text import report_json, report_text
    from hygge.run.replay import replay

    run = arguments.replay
    runs_of = dict(flows_with_bad_rows(place_at(coordinator.file.state), replayed=True))
    flow_of = {one: flow for flow, runs in runs_of.items() for one in runs}
    if run not in flow_of:
        raise UsageError(f"no run {run} has set rows aside", one_of("runs", run, flow_of))
    with contextlib.ExitStack() as stack:
        spec = _spec(coordinator, flow_of[run], stack)
        watch = find_watch()
        try:
            report = replay(coordinator.flow(spec), run, watch, threading.Event())
        finally:
            watch.close()
    summary = Summary((report,), report.seconds)
    print(report_json(summary) if arguments.json else report_text(summary))
    return 0


def _spec(coordinator: Coordinator, flow: str, stack: contextlib.ExitStack) -> FlowSpec:
    """Return the part of the file that describes a flow by its identity; maybe a table of many."""
    for spec in coordinator.file.flows:
        identity = coordinator.identity(spec.name)
        if identity == flow:
            return spec
        if spec.tables is None or not flow.startswith(f"{identity}."):
            continue
        for table in stack.enter_context(coordinator.open_tables(spec, planning=True)):
            if coordinator.identity(table.name) == flow:
                return table
    raise UsageError(
        f"the run is of the flow '{flow}', which is none of the selected ones",
        one_of("flows", flow, [coordinator.identity(spec.name) for spec in coordinator.file.flows]),
    )


def _table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return rows in columns under their names; a run stands above its rows."""
    shown = ("line", "column", "value", "reason")
    lines: list[str] = []
    before = None
    rows = [{**row, "value": _value(row)} for row in rows]
    for row in rows:
        if (row["flow"], row["run"], row["file"]) != before:
            before = (row["flow"], row["run"], row["file"])
            lines += [""] if lines else []
            lines.append("  ".join(text for text in before if text))
            same = [
                other for other in rows if (other["flow"], other["run"], other["file"]) == before
            ]
            widths = [
                max(len(name), *(len(_cell(other[name])) for other in same)) for name in shown
            ]
            lines.append(_line(shown, widths))
        lines.append(_line([_cell(row[name]) for name in shown], widths))
    return "\n".join(lines)


def _value(row: Mapping[str, Any]) -> object:
    """Return the value that is wrong; the whole row where nothing else tells which one it is."""
    is_told = row["line"] is not None or row["value"] is not None
    return row["value"] if is_told else row["text"]


def _line(cells: tuple[str, ...] | list[str], widths: list[int]) -> str:
    padded = (cell.ljust(width) for cell, width in zip(cells, widths, strict=True))
    return f"  {'  '.join(padded)}".rstrip()


def _cell(value: object) -> str:
    text = "" if value is None else str(value).replace("\n", "\\n").replace("\r", "\\r")
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"
