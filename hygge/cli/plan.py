"""`hygge plan`: what a run would do, without moving a row."""

from __future__ import annotations

import argparse
import contextlib
import sys
from typing import TYPE_CHECKING

from hygge.cli.opening import ask_at, open_file
from hygge.cli.planned import Failures, each_flow
from hygge.errors import HomeError

if TYPE_CHECKING:
    from hygge.config.specs import FlowSpec
    from hygge.coordinator.coordinator import Coordinator

_IN_FULL = 3
"""A flow of more tables has one line a table; `--select` shows one in full."""


def run(arguments: argparse.Namespace) -> int:
    """Print the plan of each selected flow; return the exit code."""
    from hygge.report.text import tables_text

    if arguments.address:
        return ask_at(arguments.address, arguments)
    coordinator = open_file(arguments)
    texts: list[str] = []
    failures = Failures(arguments.debug)
    for spec, tables in each_flow(coordinator, failures.add):
        brief = len(tables) > _IN_FULL
        if len(tables) > 1:
            texts.append(tables_text(spec.name, tables, brief))
        for table in tables:
            try:
                texts.append(_plan_text(coordinator, table, brief))
            except Exception as error:
                failures.add(table, error)
    if jobs := _shared_jobs_text(coordinator):
        texts.append(jobs)
    if texts:
        lines = [("\n" if text.startswith("  ") else "\n\n") + text for text in texts]
        print("".join(lines).strip("\n"), flush=True)
    return failures.print()


def _shared_jobs_text(coordinator: Coordinator) -> str:
    """Return which flows share a Ray job on a cluster, and why; "" where none do."""
    if coordinator.jobs != "auto" or coordinator.engine != "ray":
        return ""
    reasons: dict[str, str] = {}
    together = coordinator.find_together(lambda flow, why: reasons.update({flow.name: why}))
    lines = []
    for job in {id(job): job for job in together.values()}.values():
        flows = ", ".join(f"{flow.name} ({reasons[flow.name]})" for flow in job.flows)
        lines.append(
            f"on a cluster these small flows share one Ray job (`jobs: each` gives each its own), "
            f"{job.at_once} at a time: {flows}"
        )
    return "\n".join(lines)


def _plan_text(coordinator: Coordinator, spec: FlowSpec, brief: bool) -> str:
    from hygge.report.text import plan_line, plan_text
    from hygge.run.key import find_key
    from hygge.run.stall import StallGuard

    flow = coordinator.flow(spec)
    guard = StallGuard(flow.limits, lambda text: print(text, file=sys.stderr))
    store = f"the store {flow.store.describe()}"
    try:
        flow.check_here()
        base = guard.call(f"{store} (the head)", lambda: flow.store.head(flow.identity))
        guard.call(f"the home {flow.home.describe()} (the key)", lambda: find_key(flow))
        with contextlib.ExitStack() as stack:
            opened = flow.home.open(flow.since(base))
            plan = guard.call(
                f"the home {flow.home.describe()} (the plan)", lambda: stack.enter_context(opened)
            )
            plan = flow.shaped(plan)
            state = guard.call(f"{store} (what it holds)", lambda: flow.examine(plan))
            if brief:
                return plan_line(flow, plan, state)
            return plan_text(flow, plan, state, flow.left_open())
    except HomeError:
        first = coordinator.written_before(spec, flow.home)
        if not first:
            raise
        return f"{flow.name}: {flow.mode}; '{first}' writes its home, so it is planned after that"
