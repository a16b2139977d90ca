"""Reports and plans as the terminal shows them: plain text without secrets."""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

from hygge.bad_rows import share_text
from hygge.batches import raw_format
from hygge.encodings import MARKS, ORDER
from hygge.errors import HyggeError, rows_text
from hygge.model import (
    MIB,
    Column,
    Limits,
    Plan,
    Report,
    StoreTraits,
    Summary,
    TargetState,
    from_facts,
)
from hygge.report.grid import one_line
from hygge.report.holds import state_text
from hygge.report.progress import amounts_text, bytes_text, count_text, resources_text
from hygge.run.engines import passthrough, schema_of
from hygge.shape.words import sentences
from hygge.type_words import word_of

if TYPE_CHECKING:
    import pyarrow as pa

    from hygge.config.specs import FlowSpec
    from hygge.run.flow import Flow

REPORT_MARK = '{"hygge_report":'
_SHOWN_TABLES = 12
"""A flow of more tables has one line for all that are done."""
_SHOWN_ERRORS = 20
_NAMED = 4
"""Flows that a note names, where many have it."""


def report_text(summary: Summary) -> str:
    """Return the text of a report: a line a flow, then notes and errors, then the sum.

    Of a flow of many tables, those that are done share one line.
    """
    flows = [replace(r, flow=one_line(r.flow), of=one_line(r.of)) for r in summary.flows]
    summary = replace(summary, flows=tuple(flows))  # the name of a table may hold line ends
    grouped = _reports_of_many_tables(summary.flows)
    shown = [r for r in summary.flows if r.of not in grouped or r.status != "done"]
    width = max(len(name) for name in [*grouped, *(report.flow for report in shown), ""])
    lines: list[str] = []
    with_line: set[str] = set()
    for report in summary.flows:
        if report.of in grouped and report.of not in with_line:
            with_line.add(report.of)
            lines.append(_tables_line(report.of, grouped[report.of], width))
        if report.of not in grouped or report.status != "done":
            lines.append(_line(report, width))
    lines += _notes(summary.flows, grouped)
    lines += _errors(summary.flows)
    if len(summary.flows) > 1:
        counts = Counter(report.status for report in summary.flows)
        text = ", ".join(f"{number} {status}" for status, number in counts.items())
        lines += ["", f"{len(summary.flows)} flows: {text} in {summary.seconds:.1f} s"]
    return "\n".join(lines)


def _reports_of_many_tables(flows: Sequence[Report]) -> dict[str, list[Report]]:
    """Return the reports of each flow that has too many tables to show each."""
    grouped: dict[str, list[Report]] = {}
    for report in flows:
        if report.of:
            grouped.setdefault(report.of, []).append(report)
    return {name: tables for name, tables in grouped.items() if len(tables) > _SHOWN_TABLES}


def _errors(flows: Sequence[Report]) -> list[str]:
    failed = [report for report in flows if report.error and report.status == "failed"]
    lines = []
    for report in failed[:_SHOWN_ERRORS]:
        lines += ["", f"error: {report.flow}: {report.error}"]
        if report.hint:
            lines += ["", f"hint: {report.hint}"]
    if len(failed) > _SHOWN_ERRORS:
        rest = len(failed) - _SHOWN_ERRORS
        lines += ["", f"and {rest} more failed: --json tells why each did"]
    return lines


def _tables_line(name: str, reports: list[Report], width: int) -> str:
    """Return the line of a flow of many tables: the sums of the tables that are done."""
    done = [report for report in reports if report.status == "done"]
    total = Report(
        name,
        "done",
        bytes=sum(report.bytes for report in done),
        rows_read=sum(report.rows_read for report in done),
        applied=sum(report.applied for report in done),
        superseded=sum(report.superseded for report in done),
        set_aside=sum(report.set_aside for report in done),
        filtered=sum(report.filtered for report in done),
        rows=sum(report.rows for report in done),
    )
    parts = [
        f"{name:<{width}}  {'done' if len(done) == len(reports) else 'in part'}",
        f"{len(done)} of {len(reports)} tables",
        equation_text(total),
        bytes_text(total.bytes),
    ]
    began = min((report.started_at for report in done if report.started_at), default=0.0)
    if began:
        parts.append(f"{max(report.done_at for report in done) - began:.1f} s")
    if retried := sum(report.retries for report in done):
        parts.append(f"{retried} retried")
    return "  ".join(parts)


def _notes(flows: Sequence[Report], grouped: Iterable[str]) -> list[str]:
    """Return a line for each note; one that many flows have stands there once."""
    flows_of: dict[str, dict[str, list[str]]] = {}
    for report in flows:
        if report.note and report.status == "done":
            name = report.of if report.of in grouped else report.flow
            flows_of.setdefault(report.note, {}).setdefault(name, []).append(report.flow)
    lines = []
    for note, names in flows_of.items():
        for name, tables in names.items():
            if len(tables) > 1:
                lines.append(f"note: {name}: {len(tables)} tables, such as {tables[0]}: {note}")
        single = [tables[0] for tables in names.values() if len(tables) == 1]
        if single:
            more = f" and {len(single) - _NAMED} more" if len(single) > _NAMED else ""
            lines.append(f"note: {', '.join(single[:_NAMED])}{more}: {note}")
    return lines


def _line(report: Report, width: int) -> str:
    if report.status != "done":
        note = f": {report.note}" if report.note else ""
        return f"{report.flow:<{width}}  {report.status}{note}"
    parts = [
        f"{report.flow:<{width}}  done",
        equation_text(report),
        bytes_text(report.bytes),
        f"{report.seconds:.1f} s",
    ]
    if report.splits > 1:
        over = f" over {report.lanes} lane{'s'[: report.lanes != 1]}" if report.lanes else ""
        bound = f" (bounded by {report.lanes_bound})" if report.lanes_bound else ""
        parts.append(f"{report.splits} splits{over}{bound}")
    if report.resumed:
        parts.append(f"{report.resumed} staged before")
    if report.retries:
        parts.append(f"{report.retries} retried")
    if report.guarantee != "exactly once":
        parts.append(report.guarantee)
    return "  ".join(parts) + f"  → {relative(report.store)}"


def equation_text(report: Report) -> str:
    """Return where the rows went: rows read = staged = applied + superseded + set aside."""
    parts = [
        f"{number:,} {word}"
        for number, word in (
            (report.applied, "applied"),
            (report.superseded, "superseded"),
            (report.set_aside, "set aside"),
        )
        if number
    ]
    read, staged = f"{report.rows_read:,} row{'s'[: report.rows_read != 1]} read", "staged"
    if report.filtered:
        made = f"+ {-report.filtered:,} made of them"
        read += f" - {report.filtered:,} filtered" if report.filtered > 0 else f" {made}"
        staged = f"{report.rows:,} staged"
    if len(parts) < 2 and not report.set_aside:
        return f"{read} = {staged} = applied"
    is_staged = report.rows == report.rows_read - report.filtered
    return f"{read} = {f'{staged} = ' if is_staged else ''}{' + '.join(parts)}"


def report_json(summary: Summary) -> str:
    """Return a report as one line of JSON, for programs and for the parent of a Ray job."""
    content = {"flows": [asdict(report) for report in summary.flows], "seconds": summary.seconds}
    return f"{REPORT_MARK}{json.dumps(content)}}}"


def report_from_json(line: str) -> Summary | None:
    """Return the report in a line that `report_json` made, or None if there is none in it."""
    _, mark, rest = line.partition(REPORT_MARK)
    try:
        content, _ = json.JSONDecoder().raw_decode(mark + rest)
        flows = [from_facts(Report, facts) for facts in content["hygge_report"]["flows"]]
        return Summary(tuple(flows), float(content["hygge_report"]["seconds"]))
    except (ValueError, TypeError, KeyError):  # any other line, or one that was cut
        return None


def plan_text(
    flow: Flow, plan: Plan, state: TargetState | None = None, left_open: Iterable[str] = ()
) -> str:
    """Return what a run would do, for `hygge plan`.

    `state` is what the store holds now, `left_open` are sentences about earlier runs.
    """
    traits = flow.store.traits
    lines = [
        f"{one_line(flow.name)}: {flow.mode}, {traits.guarantee}",
        f"  home    {relative(flow.home.describe())}",
        f"  store   {relative(flow.store.describe())}",
        *([f"  holds   {state_text(state, flow.mode)}"] if state is not None else []),
        *([f"  changes {change}" for change in state.changes] if state is not None else []),
        *([f"  named   {flow.renamed}"] if flow.renamed else []),
        *([f"  note    {_replaced(flow)}"] if flow.lacks_cursor else []),
        *([f"  again   {repeats}"] if (repeats := flow.repeats()) else []),
        f"  splits  {plan.reason or len(plan.splits)}",
    ]
    if flow.home.shape is not None:
        lines += [f"  shape   {text}" for text in sentences(flow.home.shape)]
    if plan.found:
        lines.append(f"  found   {plan.found}")
    if rows := _planned_rows(plan):
        lines.append(f"  rows    {rows}")
    if plan.snapshot:
        lines.append(f"  reads   {plan.snapshot}")
    taken = taken_schema(flow, plan)
    if form := raw_format(taken):
        lines.append(f"  passes  {form} through undecoded: every type arrives as it is")
    elif plan.raw is not None and flow.limits.on_bad_row == "set_aside":
        form = raw_format(plan.raw)
        lines.append(f"  passes  no {form} through: `on_bad_row: set_aside` looks at each row")
    lines += [f"  but     {remark}" for remark in flow.store.remarks(taken)]
    if plan.watermark is not None and flow.cursor is not None:
        lines.append(f"  cursor  {one_line(f'{flow.cursor} up to {plan.watermark}')}")
    elif plan.watermark is not None:  # of changes; behind a colon may stand which table it is
        lines.append(f"  changes up to {str(plan.watermark).partition(':')[0]}")
    if flow.mode == "merge":
        lines.append(f"  key     {one_line(', '.join(flow.key))}")
    if flow.home.traits.changes:
        lines.append("  applies what `_op` says: insert and update write a row, delete removes it")
    lines += _limits(flow.limits)
    lines.append(f"  memory  {flow.limits.memory_per_lane // MIB} MiB a lane at most")
    if sees := flow.store.sees():
        lines.append(f"  a reader of the store sees {sees}")
    lines.append(f"  if the driver dies: {plan.dead_driver}")
    lines += [f"  before it {sentence}" for sentence in left_open]
    if lost := _lost_metadata(plan, traits):
        lines.append(f"  loses   {lost}")
    lines += _columns(plan, traits.lossy)
    return "\n".join(lines)


def _limits(limits: Limits) -> list[str]:
    """Return how many lanes there are, where they may run, and how fast, where that is limited."""
    lines = []
    if limits.lanes is not None:
        lines.append(f"  lanes   {limits.lanes}")
    if limits.most_lanes is not None:
        lines.append(f"  lanes   {limits.most_lanes} at most, by max_connections")
    if limits.cpus_per_lane or limits.resources or limits.label_selector:
        lines.append(f"  places  a lane takes {resources_text(limits)}")
    if limits.on_bad_row == "set_aside":
        share = share_text(limits.max_bad_share)
        most = rows_text(limits.max_bad_rows)
        lines.append(f"  bad     {most} at most are set aside, and {share}")
    if limits.driver:
        taken = amounts_text(limits.driver)
        lines.append(f"  driver  as a Ray job it takes {taken} of its node, which may be any node")
    if limits.max_bytes_per_second is not None:
        rate = bytes_text(limits.max_bytes_per_second)
        shared = f" by all tables of {limits.of}" if limits.of else ""
        lines.append(f"  rate    {rate}/s at most are read{shared}")
    return lines


def _planned_rows(plan: Plan) -> str:
    """Return how many rows a plan has; "" where it does not tell. A database only estimates it."""
    rows = [split.rows for split in plan.splits if split.rows is not None]
    if not rows or len(rows) < len(plan.splits):
        return ""
    is_exact = all(split.version not in ("", "split") for split in plan.splits)
    return ("" if is_exact else "about ") + count_text(sum(rows))


def taken_schema(flow: Flow, plan: Plan) -> pa.Schema | None:
    """Return the schema that the store would get."""
    run = flow.new_run("plan")
    try:
        taken = passthrough(flow.store, run, plan)
    except HyggeError:
        taken = None  # a run will say why the store cannot be asked
    return schema_of(plan) if taken is None else taken


def tables_text(name: str, tables: Sequence[FlowSpec], brief: bool) -> str:
    """Return the heading above the plans of the tables of a flow; `brief`: each is one line."""
    first = tables[0]
    reading = "one snapshot for all of them" if first.snapshot else "each read by itself"
    if first.no_snapshot_reason:
        reading += f", since {first.no_snapshot_reason}"
    more = f" (--select {first.name} shows one in full)" if brief else ""
    noun = "tables" if first.home.kind == "sql" else "files"
    return f"{name}: {len(tables)} {noun}, {reading}{more}"


def plan_line(flow: Flow, plan: Plan, state: TargetState | None = None) -> str:
    """Return the plan of one of many tables in one line."""
    rows = _planned_rows(plan)
    text = f"  {one_line(flow.name)}: {flow.mode}{f'  {rows} rows' if rows else ''}"
    text += f"  {len(plan.splits)} split{'s'[: len(plan.splits) != 1]}"
    text += f"  → {relative(flow.store.describe())}"
    text += f"  ({flow.renamed})" if flow.renamed else ""
    if state is not None and not state.exists:
        text += "  new"
    elif state is not None and state.rows is not None:
        text += f"  holds {'' if state.is_exact else 'more than '}{count_text(state.rows)}"
    if state is not None and state.is_adopted:
        text += "  adopted"
    if state is not None and state.changes:
        text += f"  changes: {'; '.join(state.changes)}"
    columns = plan.columns or ()
    lossy = [column.name for column in columns if is_lossy(column, flow.store.traits.lossy)]
    text += f"  cannot keep exactly: {', '.join(lossy)}" if lossy else ""
    text += f"  note: {_replaced(flow)}" if flow.lacks_cursor else ""
    remarks = flow.store.remarks(taken_schema(flow, plan))
    return f"{text}  but {'; '.join(remarks)}" if remarks else text


def _replaced(flow: Flow) -> str:
    return f"it has no column '{flow.lacks_cursor}', so each run replaces all of it"


def is_lossy(column: Column, lossy: Iterable[str]) -> bool:
    """Return whether a store with these `lossy` types does not keep a column exactly."""
    return str(column.type).startswith(tuple(lossy))


def _lost_metadata(plan: Plan, store: StoreTraits) -> str:
    """Return what files say about their rows that does not come to the store; "": nothing."""
    lost = [f"metadata {sentence}" for sentence in plan.lost]
    for column in () if store.parquet_types else plan.columns or ():
        if word := column.metadata.get(MARKS, b"").partition(b":")[0].decode():
            lost.append(f"metadata '{word}' of column '{column.name}': Arrow has no such type")
    if store.metadata:
        return "; ".join(lost)
    for column in plan.columns or ():
        if ORDER in column.metadata:
            lost.append(f"metadata 'ordered' of column '{column.name}': it becomes plain values")
    homeless = [f"metadata '{key.decode(errors='replace')}'" for key in plan.metadata]
    for column in plan.columns or ():
        name = column.metadata.get(b"ARROW:extension:name")
        keys = [key.decode(errors="replace") for key in column.metadata if _is_for_people(key)]
        if name is not None:
            homeless.append(f"extension type {name.decode()} of column '{column.name}'")
        if keys:
            homeless.append(f"metadata {', '.join(keys)} of column '{column.name}'")
    if homeless:
        lost.append(f"{', '.join(homeless)}: this store has no place for it")
    return "; ".join(lost)


def _is_for_people(key: bytes) -> bool:
    return not key.startswith((b"ARROW:", b"PARQUET:", b"hygge."))


def _columns(plan: Plan, lossy: Iterable[str]) -> list[str]:
    if plan.columns is None:
        return ["  columns are known when the first rows come"]
    width = max((len(one_line(column.name)) for column in plan.columns), default=0)
    lines = []
    for column in plan.columns:
        text = f"  {one_line(column.name):<{width}}  {word_of(column.type)}"
        if column.native and column.native not in (word_of(column.type), str(column.type)):
            text += f"  ({column.native})"
        if column.name in plan.key:
            text += "  key"
        if is_lossy(column, lossy):
            text += "  cannot be kept exactly by this store"
        lines.append(text)
    return lines


def relative(place: str) -> str:
    """Return a path, also in a database URL, relative to the working directory if it is below."""
    match = re.match(r"\w+:///(?=/)", place)
    scheme = match[0] if match else ""
    path = place.removeprefix(scheme)
    if not path.startswith(os.sep):
        return place
    shorter = os.path.relpath(path)
    return place if shorter.startswith("..") else scheme + shorter
