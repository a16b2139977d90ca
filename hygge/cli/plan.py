"""`hygge plan`: what a run would do, without moving a row."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from hygge.cli.opening import ask_at, open_file
from hygge.cli.planned import Failures, each_flow
from hygge.errors import HomeError, as_hygge_error

if TYPE_CHECKING:
    from hygge.config.specs import FlowSpec
    from hygge.coordinator.coordinator import Coordinator
    from hygge.model import Plan, TargetState
    from hygge.run.flow import Flow

Written = Callable[["Flow", "Plan", "TargetState | None", Iterable[str]], str]
_IN_FULL = 3
"""A flow of more tables has one line a table; `--select` shows one in full."""


def add_options(command: argparse.ArgumentParser) -> None:
    """Add the options of `hygge plan`."""
    command.add_argument("--json", action="store_true", help="print one line of JSON a flow")


def run(arguments: argparse.Namespace) -> int:
    """Print the plan of each selected flow; return the exit code."""
    from hygge.report.plan_json import plan_json
    from hygge.report.text import plan_line, plan_text, tables_text

    if arguments.address:
        words = ["--json"] if arguments.json else []
        return ask_at(arguments.address, arguments, words)
    coordinator = open_file(arguments)
    texts: list[str] = []
    failures = Failures(arguments.debug)
    said: list[str] = []
    for spec, tables in each_flow(coordinator, failures.add, said.append):
        brief = len(tables) > _IN_FULL
        if not arguments.json:
            if len(tables) > 1:
                texts.append(tables_text(spec.name, tables, brief))
            texts += [f"{spec.name}: {text}" for text in said]
        said.clear()
        for table in tables:
            try:
                if arguments.json:
                    print(_planned(coordinator, table, plan_json), flush=True)
                else:
                    text = (lambda *facts: plan_line(*facts[:3])) if brief else plan_text
                    texts.append(_planned(coordinator, table, text))
            except Exception as error:
                failures.add(table, error)
                if arguments.json:
                    reason = as_hygge_error(error)
                    facts = {"flow": table.name, "error": reason.message, "hint": reason.hint}
                    print(json.dumps(facts, ensure_ascii=False), flush=True)
    if arguments.json:
        return failures.print()
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
    together, reasons = coordinator.find_together()
    lines = []
    for job in {id(job): job for job in together.values()}.values():
        flows = ", ".join(f"{flow.name} ({reasons[flow.name]})" for flow in job.flows)
        lines.append(
            f"on a cluster these small flows share one Ray job (`jobs: each` gives each its own), "
            f"{job.at_once} at a time: {flows}"
        )
    return "\n".join(lines)


def _planned(coordinator: Coordinator, spec: FlowSpec, written: Written) -> str:
    """Return the plan of a flow as `written` writes it."""
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
            return written(flow, plan, state, flow.left_open())
    except HomeError:
        first = coordinator.written_before(spec, flow.home)
        if not first:
            raise
        said = f"'{first}' writes its home, so it is planned after that"
        if written.__name__ == "plan_json":
            return json.dumps({"flow": flow.name, "mode": flow.mode, "waits_for": first})
        return f"{flow.name}: {flow.mode}; {said}"
