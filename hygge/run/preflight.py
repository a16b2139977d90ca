"""The mistakes of a flow that need no engine: they are found before one is started.

To start Ray takes seconds, and a misspelt table should not wait for them. What is looked at costs
next to nothing: this machine, the head of the store, and the plan where the Home says that it is
quick. Everything is looked at again by the run itself, and nothing is changed here.
"""

from __future__ import annotations

import threading
from typing import Protocol

from hygge.model import Head, Plan, TargetState, Watermark
from hygge.run.driver import DrivenFlow
from hygge.run.key import find_key
from hygge.run.retrying import retried
from hygge.run.stall import StallGuard
from hygge.run.watch import Watch


class CheckedFlow(DrivenFlow, Protocol):
    """What is asked of a Flow here."""

    def check_here(self) -> None: ...
    def since(self, base: Head | None) -> Watermark: ...
    def examine(self, plan: Plan) -> TargetState | None: ...


def find_mistakes(flow: CheckedFlow, watch: Watch, stop: threading.Event) -> None:
    """Raise what a run of `flow` would refuse, as far as it is quickly found."""

    def say(text: str) -> None:
        watch.said(flow.name, text)

    flow.check_here()
    ends = (type(flow.home), type(flow.store))
    if all(cls.__module__.startswith("hygge.") for cls in ends):
        guard = StallGuard(flow.limits, say)
        retried("the plan", lambda: _look(flow, guard), flow.limits.retries, say, stop)


def _look(flow: CheckedFlow, guard: StallGuard) -> None:
    home, store = flow.home.describe(), flow.store.describe()
    base = guard.call(f"the store {store} (the head)", lambda: flow.store.head(flow.identity))
    flow.since(base)
    guard.call(f"the home {home} (the key)", lambda: find_key(flow))

    def look_at_rows() -> None:
        glance = flow.home.glance()
        if glance is not None:
            with glance as plan:
                flow.examine(flow.shaped(plan))

    guard.call(f"the home {home} (the columns)", look_at_rows)
