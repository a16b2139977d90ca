"""What the terminal shows for a report and a plan; plain text, no secrets."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import asdict
from typing import TYPE_CHECKING

from hygge.model import MIB, Plan, Report, Summary
from hygge.progress import count, size

if TYPE_CHECKING:
    from hygge.flow import Flow

REPORT_MARK = '{"hygge_report":'


def report_text(summary: Summary) -> str:
    """One line a flow, then what went wrong, then the sum."""
    width = max((len(report.flow) for report in summary.flows), default=0)
    lines = [_line(report, width) for report in summary.flows]
    for report in summary.flows:
        if report.note and report.status == "done":
            lines.append(f"note: {report.flow}: {report.note}")
    for report in summary.flows:
        if report.error and report.status == "failed":
            lines += ["", f"error: {report.flow}: {report.error}"]
            if report.hint:
                lines += ["", f"hint: {report.hint}"]
    tally: dict[str, int] = {}
    for report in summary.flows:
        tally[report.status] = tally.get(report.status, 0) + 1
    if len(summary.flows) > 1:
        said = ", ".join(f"{number} {status}" for status, number in tally.items())
        lines += ["", f"{len(summary.flows)} flows: {said} in {summary.seconds:.1f} s"]
    return "\n".join(lines)


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


def report_from_json(line: str) -> Summary:
    """The inverse of `report_json`."""
    content = json.loads(line)["hygge_report"]
    return Summary(tuple(Report(**each) for each in content["flows"]), content["seconds"])


def plan_text(flow: Flow, plan: Plan, left_open: Iterable[str] = ()) -> str:
    """What a run would do, without moving a row; `left_open`: what earlier runs left to it."""
    traits = flow.store.traits
    lines = [
        f"{flow.name}: {flow.mode}, {traits.guarantee}",
        f"  home    {shorter(flow.home.describe())}",
        f"  store   {shorter(flow.store.describe())}",
        f"  splits  {plan.reason or len(plan.splits)}",
    ]
    rows = [split.rows for split in plan.splits]
    known = sum(row for row in rows if row is not None)
    if rows and None not in rows:
        lines.append(f"  rows    {count(known)}")
    if plan.snapshot:
        lines.append(f"  reads   {plan.snapshot}")
    if plan.watermark is not None:
        lines.append(f"  cursor  {flow.cursor} up to {plan.watermark}")
    lines.append(f"  memory  {flow.limits.memory_per_lane // MIB} MiB a lane at most")
    if sees := flow.store.sees():
        lines.append(f"  a reader of the store sees {sees}")
    lines.append(f"  if the driver dies: {plan.dead_driver}")
    lines += [f"  before it {each}" for each in left_open]
    lines += _columns(plan, traits.lossy)
    return "\n".join(lines)


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
        if any(str(column.type).startswith(each) for each in lossy):
            text += "  cannot be kept exactly by this store"
        lines.append(text)
    return lines


def shorter(path: str) -> str:
    """A path (also that of a SQLite URL) below the working directory, relative to it."""
    scheme = "sqlite:///" if path.startswith("sqlite:////") else ""
    plain = path.removeprefix(scheme)
    if plain.startswith(os.sep):
        relative = os.path.relpath(plain)
        return path if relative.startswith("..") else scheme + relative
    return path
