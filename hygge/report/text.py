"""What the terminal shows for a report and a plan; plain text, no secrets."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from hygge.batches import raw_format
from hygge.errors import HyggeError
from hygge.model import MIB, Limits, Plan, Report, Run, Summary, known
from hygge.report.progress import count, size, wanted
from hygge.run.engines import passthrough

if TYPE_CHECKING:
    from hygge.config.specs import FlowSpec
    from hygge.run.flow import Flow

REPORT_MARK = '{"hygge_report":'


_SHOWN_TABLES = 12
"""Of a flow of more tables, those that are done share a line."""
_SHOWN_ERRORS = 20


def report_text(summary: Summary) -> str:
    """One line a flow, then what went wrong, then the sum; tables that are done share a line."""
    together = {
        name: [report for report in summary.flows if report.of == name]
        for name in dict.fromkeys(report.of for report in summary.flows if report.of)
    }
    many = {name: each for name, each in together.items() if len(each) > _SHOWN_TABLES}
    shown = [r for r in summary.flows if r.of not in many or r.status != "done"]
    width = max(len(name) for name in [*many, *(report.flow for report in shown), ""])
    lines: list[str] = []
    begun: set[str] = set()
    for report in summary.flows:
        if report.of in many and report.of not in begun:
            begun.add(report.of)
            lines.append(_tables_line(report.of, many[report.of], width))
        if report.of not in many or report.status != "done":
            lines.append(_line(report, width))
    lines += _notes(summary.flows, many)
    failed = [each for each in summary.flows if each.error and each.status == "failed"]
    for report in failed[:_SHOWN_ERRORS]:
        lines += ["", f"error: {report.flow}: {report.error}"]
        if report.hint:
            lines += ["", f"hint: {report.hint}"]
    if len(failed) > _SHOWN_ERRORS:
        rest = len(failed) - _SHOWN_ERRORS
        lines += ["", f"and {rest} more failed: --json tells why each did"]
    tally: dict[str, int] = {}
    for report in summary.flows:
        tally[report.status] = tally.get(report.status, 0) + 1
    if len(summary.flows) > 1:
        said = ", ".join(f"{number} {status}" for status, number in tally.items())
        lines += ["", f"{len(summary.flows)} flows: {said} in {summary.seconds:.1f} s"]
    return "\n".join(lines)


def _tables_line(name: str, reports: list[Report], width: int) -> str:
    """What became of many tables: the sums of those that are done."""
    done = [report for report in reports if report.status == "done"]
    sums = {
        each: sum(getattr(report, each) for report in done)
        for each in ("rows_read", "applied", "superseded", "set_aside", "bytes")
    }
    parts = [
        f"{name:<{width}}  {'done' if len(done) == len(reports) else 'in part'}",
        f"{len(done)} of {len(reports)} tables",
        _counted(Report(name, "done", **sums)),
        size(sums["bytes"]),
    ]
    began = min((report.started_at for report in done if report.started_at), default=0.0)
    if began:
        parts.append(f"{max(report.done_at for report in done) - began:.1f} s")
    if retried := sum(report.retries for report in done):
        parts.append(f"{retried} retried")
    return "  ".join(parts)


def _notes(flows: Sequence[Report], many: Iterable[str]) -> list[str]:
    """Each note once, where many tables have the same one."""
    said: dict[tuple[str, str], list[str]] = {}
    for report in flows:
        if report.note and report.status == "done":
            name = report.of if report.of in many else report.flow
            said.setdefault((name, report.note), []).append(report.flow)
    lines = []
    for (name, note), of in said.items():
        if len(of) > 1:
            lines.append(f"note: {name}: {len(of)} tables, such as {of[0]}: {note}")
        else:
            lines.append(f"note: {of[0]}: {note}")
    return lines


def _line(report: Report, width: int) -> str:
    if report.status != "done":
        return f"{report.flow:<{width}}  {report.status}" + (
            f": {report.note}" if report.note else ""
        )
    parts = [
        f"{report.flow:<{width}}  done",
        _counted(report),
        size(report.bytes),
        f"{report.seconds:.1f} s",
    ]
    if report.splits > 1:
        over = f" over {report.lanes} lane{'s'[: report.lanes != 1]}" if report.lanes else ""
        parts.append(f"{report.splits} splits{over}")
    if report.resumed:
        parts.append(f"{report.resumed} staged before")
    if report.retries:
        parts.append(f"{report.retries} retried")
    if report.guarantee != "exactly once":
        parts.append(report.guarantee)
    return "  ".join(parts) + f"  → {shorter(report.store)}"


def _counted(report: Report) -> str:
    """The reconciliation: rows read = staged + set aside, staged = applied + superseded …"""
    ends = [
        f"{number:,} {word}"
        for number, word in (
            (report.applied, "applied"),
            (report.superseded, "superseded"),
            (report.set_aside, "set aside"),
        )
        if number
    ]
    if len(ends) < 2:
        return f"{report.rows_read:,} rows read = staged = applied"
    return f"{report.rows_read:,} rows read = staged = {' + '.join(ends)}"


def report_json(summary: Summary) -> str:
    """One line, for programs (and for the parent of a Ray job)."""
    content = {"flows": [asdict(each) for each in summary.flows], "seconds": summary.seconds}
    return f"{REPORT_MARK}{json.dumps(content)}}}"


def report_from_json(line: str) -> Summary | None:
    """The inverse of `report_json`, also behind what something else wrote into the line."""
    _, mark, rest = line.partition(REPORT_MARK)
    try:
        content, _ = json.JSONDecoder().raw_decode(mark + rest)
        flows = [known(Report, each) for each in content["hygge_report"]["flows"]]
        return Summary(tuple(flows), float(content["hygge_report"]["seconds"]))
    except (ValueError, TypeError, KeyError):  # any other line, or one that was cut
        return None


def plan_text(flow: Flow, plan: Plan, left_open: Iterable[str] = ()) -> str:
    """What a run would do, without moving a row; `left_open`: what earlier runs left to it."""
    traits = flow.store.traits
    lines = [
        f"{flow.name}: {flow.mode}, {traits.guarantee}",
        f"  home    {shorter(flow.home.describe())}",
        f"  store   {shorter(flow.store.describe())}",
        f"  splits  {plan.reason or len(plan.splits)}",
    ]
    if known := _rows(plan):
        lines.append(f"  rows    {known}")
    if plan.snapshot:
        lines.append(f"  reads   {plan.snapshot}")
    if form := _passes(flow, plan):
        lines.append(f"  passes  {form} through undecoded: every type arrives as it is")
    if plan.watermark is not None:
        lines.append(f"  cursor  {flow.cursor} up to {plan.watermark}")
    lines += _places(flow.limits)
    lines.append(f"  memory  {flow.limits.memory_per_lane // MIB} MiB a lane at most")
    if sees := flow.store.sees():
        lines.append(f"  a reader of the store sees {sees}")
    lines.append(f"  if the driver dies: {plan.dead_driver}")
    lines += [f"  before it {each}" for each in left_open]
    lines += _columns(plan, traits.lossy)
    return "\n".join(lines)


def _places(limits: Limits) -> list[str]:
    """How many lanes, where they may run, and how fast; as far as something is said of it."""
    lines = []
    if limits.lanes is not None:
        lines.append(f"  lanes   {limits.lanes}")
    if limits.most_lanes is not None:
        lines.append(f"  lanes   {limits.most_lanes} at most, by max_connections")
    if limits.cpus_per_lane or limits.resources or limits.label_selector:
        lines.append(f"  places  a lane takes {wanted(limits)}")
    if limits.max_bytes_per_second is not None:
        shared = f" by all tables of {limits.of}" * bool(limits.of)
        lines.append(f"  rate    {size(limits.max_bytes_per_second)}/s at most are read{shared}")
    return lines


def _rows(plan: Plan) -> str:
    """How many rows there are, as far as the plan tells; a database only estimates it."""
    rows = [split.rows for split in plan.splits]
    if not rows or None in rows:
        return ""
    about = "" if all(split.version not in ("", "split") for split in plan.splits) else "about "
    return about + count(sum(row or 0 for row in rows))


def _passes(flow: Flow, plan: Plan) -> str | None:
    """The format in which rows would travel instead of as columns, or None."""
    run = Run("plan", flow.identity, flow.mode, flow.key, flow.cursor)
    try:
        return raw_format(passthrough(flow.store, run, plan))
    except HyggeError:
        return None  # a store that cannot be asked is for the run to tell


def tables_text(name: str, tables: Sequence[FlowSpec], brief: bool) -> str:
    """What stands above the lines of many tables."""
    first = tables[0]
    held = "one snapshot for all of them" if first.snapshot else "each read by itself"
    held += f", since {first.apart}" if first.apart else ""
    more = f" (--select {first.name} shows one in full)" if brief else ""
    return f"{name}: {len(tables)} tables, {held}{more}"


def plan_line(flow: Flow, plan: Plan) -> str:
    """The same in one line, for one of many tables."""
    known = f"  {rows} rows" if (rows := _rows(plan)) else ""
    parts = f"  {len(plan.splits)} split{'s'[: len(plan.splits) != 1]}"
    odd = [c.name for c in plan.columns or () if _is_lossy(c.type, flow.store.traits.lossy)]
    lossy = f"  cannot keep exactly: {', '.join(odd)}" if odd else ""
    return f"  {flow.name}: {flow.mode}{known}{parts}  → {shorter(flow.store.describe())}{lossy}"


def _is_lossy(kind: object, lossy: Iterable[str]) -> bool:
    return any(str(kind).startswith(each) for each in lossy)


def _columns(plan: Plan, lossy: Iterable[str]) -> list[str]:
    if plan.columns is None:
        return ["  columns are known when the first rows come"]
    width = max((len(column.name) for column in plan.columns), default=0)
    lines = []
    for column in plan.columns:
        text = f"  {column.name:<{width}}  {column.type}"
        if column.native and column.native != str(column.type):
            text += f"  ({column.native})"
        if column.name in plan.key:
            text += "  key"
        if _is_lossy(column.type, lossy):
            text += "  cannot be kept exactly by this store"
        lines.append(text)
    return lines


def shorter(path: str) -> str:
    """The path relative to the working directory where it is below it; also in a database URL."""
    match = re.match(r"\w+:///(?=/)", path)
    scheme = match[0] if match else ""
    plain = path.removeprefix(scheme)
    if plain.startswith(os.sep):
        relative = os.path.relpath(plain)
        return path if relative.startswith("..") else scheme + relative
    return path
