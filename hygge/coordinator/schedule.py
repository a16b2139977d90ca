"""The order in which flows run: each after those it depends on, as many at once as is allowed.

A flow of many tables is opened when its turn comes. Its tables then wait in line as flows of their
own, and it has ended when the last of them has. An error of one flow costs no other its report.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, ExitStack

from hygge.config.specs import FlowSpec
from hygge.coordinator.connections import ConnectionShares
from hygge.coordinator.sharing import Together
from hygge.model import Report
from hygge.report.progress import Combined
from hygge.run.watch import Watch

RunFlow = Callable[[FlowSpec, Watch], Sequence[Report]]
"""Runs a flow to its end; returns its report, or those of its tables where a job ran them."""
OpenTables = Callable[[FlowSpec], AbstractContextManager[tuple[FlowSpec, ...]]]
"""Returns the flows of the tables, and holds what they share until it is closed."""
OnEnd = Callable[[FlowSpec, Sequence[Report]], None]
"""Told of each flow of the file that has ended, with its reports."""
ReportFailure = Callable[[FlowSpec, Exception], Report]
"""Makes the report of a flow that raised."""


class Schedule:
    """`Schedule(…).reports()` runs every flow and returns their reports in the order of the file.

    `flows` come in an order that respects `depends_on`. `parallel` of them run at the same time, as
    far as `shares` allow. Without `open_tables` a flow of many tables runs like any other.
    `together`: flows that share a Ray job, by the name of each; `run` is called for the first of
    them, and returns the reports of all.
    """

    def __init__(
        self,
        flows: Sequence[FlowSpec],
        parallel: int,
        shares: ConnectionShares,
        run: RunFlow,
        open_tables: OpenTables | None,
        report_failure: ReportFailure,
        watch: Watch,
        stop: threading.Event,
        together: Mapping[str, Together] | None = None,
        on_end: OnEnd = lambda flow, reports: None,
    ) -> None:
        self.flows, self.parallel, self.shares = flows, parallel, shares
        self.run, self.open_tables, self.report_failure = run, open_tables, report_failure
        self.watch, self.stop, self.together = watch, stop, together or {}
        self.on_end = on_end
        self.waiting = list(flows)
        self.running: dict[Future[Sequence[Report] | _TablesInProgress], FlowSpec] = {}
        self.ended: dict[str, list[Report]] = {}
        self.opened: dict[str, _TablesInProgress] = {}
        """Name of a flow of many tables → its tables, from when it was opened."""

    def reports(self) -> list[Report]:
        """Run every flow; blocks until all have ended."""
        with ExitStack() as stack, ThreadPoolExecutor(self.parallel, "hygge-flow") as pool:
            stack.callback(self._close_all)
            while self.waiting or self.running:
                self._start(pool)
                if self.running:
                    done, _ = wait(self.running, return_when=FIRST_COMPLETED)
                    for future in done:
                        self._take_result(self.running.pop(future), future)
        return [report for flow in self.flows for report in self.ended[flow.name]]

    def _start(self, pool: ThreadPoolExecutor) -> None:
        """Start each flow whose turn has come."""
        for flow in list(self.waiting):
            if flow not in self.waiting:
                continue  # it shares the job of one that was just started
            report = self._report_without_run(flow)
            if report is not None:
                self.waiting.remove(flow)
                self._end(flow, [report])
                self._watch_of(flow).ended(report)
                continue
            if self._count_running() >= self.parallel and not self.stop.is_set():
                return
            members = self._members(flow)
            names = {member.name for member in members}
            if not all(name in self.ended or name in names for name in flow.depends_on):
                continue
            if self.shares.must_wait(flow, list(self.running.values())):
                continue
            for member in members:
                self.waiting.remove(member)
            future: Future[Sequence[Report] | _TablesInProgress]
            if flow.tables is not None and self.open_tables is not None:
                future = pool.submit(_TablesInProgress, self.open_tables, flow)
            else:
                future = pool.submit(self.run, flow, self._watch_of(flow))
            self.running[future] = flow

    def _members(self, flow: FlowSpec) -> tuple[FlowSpec, ...]:
        """Return the flows that run with this one, itself included."""
        job = self.together.get(flow.name)
        return (flow,) if job is None else job.flows

    def _count_running(self) -> int:
        jobs = (self.together.get(flow.name) for flow in self.running.values())
        return sum(1 if job is None else job.at_once for job in jobs)

    def _report_without_run(self, flow: FlowSpec) -> Report | None:
        """Return the report of a flow that must not run, or None."""
        if self.stop.is_set():
            return Report(flow.name, "stopped", note="stopped before it began", of=flow.of)
        for name in flow.depends_on:
            for report in self.ended.get(name, ()):
                if report.status != "done":
                    note = f"it depends on {name}, which {_status_text(report)}"
                    return Report(flow.name, "skipped", note=note)
        return None

    def _take_result(
        self, flow: FlowSpec, future: Future[Sequence[Report] | _TablesInProgress]
    ) -> None:
        try:
            result = future.result()
        except Exception as error:
            for member in self._members(flow):
                report = self.report_failure(member, error)
                self._watch_of(member).ended(report)
                self._end(member, [report])
            return
        if not isinstance(result, _TablesInProgress):
            members = self._members(flow)
            for member in members:
                own = [report for report in result if report.flow == member.name]
                self._end(member, own if len(members) > 1 else result)
            return
        result.watch = Combined(self.watch, flow.name, len(result.flows))
        self.opened[flow.name] = result
        self.waiting[:0] = result.flows

    def _end(self, flow: FlowSpec, reports: Sequence[Report]) -> None:
        if not flow.of:
            self.ended[flow.name] = list(reports)
            self.on_end(flow, reports)
            return
        tables = self.opened[flow.of]
        tables.reports.update({report.flow: report for report in reports})
        if len(tables.reports) == len(tables.flows):
            tables.close()
            self.ended[flow.of] = [tables.reports[table.name] for table in tables.flows]
            whole = next(each for each in self.flows if each.name == flow.of)
            self.on_end(whole, self.ended[flow.of])

    def _watch_of(self, flow: FlowSpec) -> Watch:
        tables = self.opened.get(flow.of)
        return self.watch if tables is None else tables.watch

    def _close_all(self) -> None:
        for tables in self.opened.values():
            tables.close()


class _TablesInProgress:
    """The tables of one flow while they are moved, with a report for each that has ended."""

    watch: Watch

    def __init__(self, open_tables: OpenTables, flow: FlowSpec) -> None:
        self._stack = ExitStack()
        self.flows = self._stack.enter_context(open_tables(flow))
        self.reports: dict[str, Report] = {}

    def close(self) -> None:
        """Let go of what is held for all of them; safe to call twice."""
        self._stack.close()


def _status_text(report: Report) -> str:
    return {"failed": "failed", "skipped": "was skipped", "stopped": "was stopped"}[report.status]
