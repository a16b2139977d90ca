"""Which flow runs when: side by side as far as it is allowed, each after those it depends on.

A flow of many tables is opened when its turn comes; its tables then stand in line as flows of their
own, and it has ended when the last of them has. Whatever one flow raises costs no other its report.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, ExitStack
from typing import Any

from hygge.config.specs import FlowSpec
from hygge.coordinator.connections import Shares
from hygge.model import Report
from hygge.report.progress import Together
from hygge.run.watch import Watch

Run = Callable[[FlowSpec, Watch], Sequence[Report]]
Open = Callable[[FlowSpec], AbstractContextManager[tuple[FlowSpec, ...]]]
Failed = Callable[[FlowSpec, Exception], Report]


class Schedule:
    """`Schedule(…).reports()` runs every flow and gives their reports in the order of the file."""

    def __init__(
        self,
        flows: Sequence[FlowSpec],
        parallel: int,
        shares: Shares,
        run: Run,
        open_tables: Open | None,
        failed: Failed,
        watch: Watch,
        stop: threading.Event,
    ) -> None:
        self.flows, self.parallel, self.shares = flows, parallel, shares
        self.run, self.open_tables, self.failed = run, open_tables, failed
        self.watch, self.stop = watch, stop
        self.waiting = list(flows)
        self.running: dict[Future[Any], FlowSpec] = {}
        self.ended: dict[str, list[Report]] = {}
        self.families: dict[str, _Opened] = {}

    def reports(self) -> list[Report]:
        """Blocking, until every flow has ended."""
        with ExitStack() as stack, ThreadPoolExecutor(self.parallel, "hygge-flow") as pool:
            stack.callback(self._close_all)
            while self.waiting or self.running:
                self._start(pool)
                if self.running:
                    done, _ = wait(self.running, return_when=FIRST_COMPLETED)
                    for future in done:
                        self._settle(self.running.pop(future), future)
        return [report for flow in self.flows for report in self.ended[flow.name]]

    def _start(self, pool: ThreadPoolExecutor) -> None:
        for flow in list(self.waiting):
            report = self._passed_over(flow)
            if report is not None:
                self.waiting.remove(flow)
                self._end(flow, [report])
                self._view(flow).ended(report)
                continue
            if len(self.running) >= self.parallel and not self.stop.is_set():
                return
            if not all(name in self.ended for name in flow.depends_on):
                continue
            if self.shares.blocked(flow, list(self.running.values())):
                continue
            self.waiting.remove(flow)
            future: Future[Any]
            if flow.tables is not None and self.open_tables is not None:
                future = pool.submit(_Opened, self.open_tables, flow)
            else:
                future = pool.submit(self.run, flow, self._view(flow))
            self.running[future] = flow

    def _passed_over(self, flow: FlowSpec) -> Report | None:
        if self.stop.is_set():
            return Report(flow.name, "stopped", note="stopped before it began", of=flow.of)
        for name in flow.depends_on:
            for report in self.ended.get(name, ()):
                if report.status != "done":
                    note = f"it depends on {name}, which {_ended(report)}"
                    return Report(flow.name, "skipped", note=note)
        return None

    def _settle(self, flow: FlowSpec, future: Future[Any]) -> None:
        try:
            came = future.result()
        except Exception as error:
            report = self.failed(flow, error)
            self._view(flow).ended(report)
            self._end(flow, [report])
            return
        if not isinstance(came, _Opened):
            self._end(flow, came)
            return
        came.view = Together(self.watch, flow.name, len(came.members))
        self.families[flow.name] = came
        self.waiting[:0] = came.members

    def _end(self, flow: FlowSpec, reports: Sequence[Report]) -> None:
        if not flow.of:
            self.ended[flow.name] = list(reports)
            return
        family = self.families[flow.of]
        family.reports.update({report.flow: report for report in reports})
        if len(family.reports) == len(family.members):
            family.close()
            self.ended[flow.of] = [family.reports[each.name] for each in family.members]

    def _view(self, flow: FlowSpec) -> Watch:
        family = self.families.get(flow.of)
        return self.watch if family is None else family.view

    def _close_all(self) -> None:
        for family in self.families.values():
            family.close()


class _Opened:
    """A flow of many tables, while they are moved."""

    view: Watch

    def __init__(self, open_tables: Open, flow: FlowSpec) -> None:
        self._stack = ExitStack()
        self.members = self._stack.enter_context(open_tables(flow))
        self.reports: dict[str, Report] = {}

    def close(self) -> None:
        """Give up what is held for all of them; safe twice."""
        self._stack.close()


def _ended(report: Report) -> str:
    return {"failed": "failed", "skipped": "was skipped", "stopped": "was stopped"}[report.status]
