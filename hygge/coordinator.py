"""The Coordinator runs the flows of one YAML file and gives one report.

Flows run side by side, up to `max_parallel_flows`. One that fails does not stop the others; what
depends on it is skipped and said so. On a Ray that outlives this process (a cluster, a `ray start`
on this machine, inside `ray job submit`) every flow is submitted as a Ray job of its own; on the
private Ray of a laptop this process is the job. `python -m hygge.coordinator flows.yml` runs it.
"""

from __future__ import annotations

import asyncio
import importlib
import os
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import TYPE_CHECKING

from hygge.config.specs import SHIPPED
from hygge.errors import FlowFailed, in_words
from hygge.flow import Flow
from hygge.model import Report, Summary
from hygge.progress import Silent, Watch

if TYPE_CHECKING:
    from hygge.config.flows import FlowsFile, FlowSpec

CHILD = "HYGGE_FLOW_JOB"
"""Set in the jobs that a Coordinator submits, so that they submit no further ones."""


class Coordinator:
    """`await Coordinator("flows.yml").start()`.

    `select` names some of the flows. `engine` is `ray` or `inline`. `jobs` overrides the file's.
    `fresh` starts every flow anew, whatever a run that died has left.
    Raises ConfigError at once when the file is wrong, with everything that is wrong in it.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        select: Sequence[str] = (),
        engine: str = "ray",
        jobs: str | None = None,
        max_parallel_flows: int | None = None,
        dashboard: bool = False,
        fresh: bool = False,
    ) -> None:
        from hygge.config.flows import read_flows
        from hygge.config.flows import select as selected

        file = read_flows(os.fspath(path))
        self.file: FlowsFile = selected(file, select) if select else file
        self.engine, self.dashboard, self.fresh = engine, dashboard, fresh
        self.jobs = jobs or self.file.jobs
        self.errors: dict[str, BaseException] = {}
        """Why flows failed that ran in this process, by name: for whoever wants the traceback."""
        self.parallel = max_parallel_flows or self.file.max_parallel_flows

    def flow(self, spec: FlowSpec) -> Flow:
        """The Flow that a part of the file describes."""
        from hygge.config.flows import build

        home, store = build(spec)
        return Flow(
            home,
            store,
            name=spec.name,
            mode=spec.mode,
            key=spec.key,
            limits=spec.limits,
            engine=self.engine,
            project=self.file.project,
            state=self.file.state,
            fresh=self.fresh,
        )

    async def start(self, watch: Watch | None = None) -> Summary:
        """Run every flow, off the event loop; raises FlowFailed with the Summary if one failed."""
        stop = threading.Event()
        running = asyncio.get_running_loop().run_in_executor(None, self.run, watch, stop)
        try:
            summary = await asyncio.shield(running)
        except asyncio.CancelledError:
            stop.set()
            await asyncio.wait([running])
            raise
        failed = [report for report in summary.flows if report.status != "done"]
        if failed:
            first = next((r for r in failed if r.error), failed[0])
            raise FlowFailed(
                f"{len(failed)} of {len(summary.flows)} flows did not end well: "
                + ", ".join(f"{report.flow} {report.status}" for report in failed)
                + (f"\n\n{first.flow}: {first.error}" if first.error else ""),
                first.hint,
                summary,
            )
        return summary

    def run(self, watch: Watch | None = None, stop: threading.Event | None = None) -> Summary:
        """Run every flow and say how each ended; blocking, raises for none of them."""
        watch, stop = watch or Silent(), stop or threading.Event()
        began = time.monotonic()
        run_one = self._runner(watch, stop)
        if SHIPPED in self.file.state and not os.environ.get(CHILD):
            watch.said(
                "",
                "the state lies in the working directory of this Ray job, and goes with it: a run "
                "that is killed starts anew; name one that stays, `state: s3://…` or a shared disk",
            )
        ended: dict[str, Report] = {}
        waiting = {spec.name: spec for spec in self.file.flows}
        running: dict[Future[Report], str] = {}
        with ThreadPoolExecutor(self.parallel, thread_name_prefix="hygge-flow") as pool:
            while waiting or running:
                for spec in list(waiting.values()):
                    report = self._blocked(spec, ended, stop)
                    if report is not None:
                        ended[spec.name] = report
                        del waiting[spec.name]
                        watch.ended(report)
                    elif len(running) < self.parallel and all(d in ended for d in spec.depends_on):
                        running[pool.submit(run_one, spec)] = spec.name
                        del waiting[spec.name]
                done, _ = wait(running, return_when=FIRST_COMPLETED) if running else (set(), None)
                for future in done:
                    ended[running.pop(future)] = future.result()
        flows = tuple(ended[spec.name] for spec in self.file.flows)
        return Summary(flows, time.monotonic() - began)

    def _blocked(
        self, spec: FlowSpec, ended: dict[str, Report], stop: threading.Event
    ) -> Report | None:
        if stop.is_set():
            return Report(spec.name, "stopped", note="stopped before it began")
        for name in spec.depends_on:
            if name in ended and ended[name].status != "done":
                return Report(
                    spec.name, "skipped", note=f"it depends on {name}, which {_ended(ended[name])}"
                )
        return None

    def _runner(self, watch: Watch, stop: threading.Event) -> Callable[[FlowSpec], Report]:
        if self.engine == "ray" and not os.environ.get(CHILD):
            from hygge.engine import jobs

            submit = jobs.submitter(
                self.jobs, self.file, self.dashboard, self.fresh, watch, stop, CHILD
            )
            if submit is not None:
                return self._reported(submit)
        return self._reported(lambda spec: self.flow(spec).run(watch, stop))

    def _reported(self, run: Callable[[FlowSpec], Report]) -> Callable[[FlowSpec], Report]:
        """Whatever one flow raises must not cost another its report."""

        def reported(spec: FlowSpec) -> Report:
            try:
                return run(spec)
            except FlowFailed as error:
                self.errors[spec.name] = error.__cause__ or error
                report: Report = error.report
                return report
            except Exception as error:
                self.errors[spec.name] = error
                said = in_words(error)
                return Report(spec.name, "failed", error=said.message, hint=said.hint)

        return reported


def _ended(report: Report) -> str:
    return {"failed": "failed", "skipped": "was skipped", "stopped": "was stopped"}[report.status]


if __name__ == "__main__":
    # By name: the command line is a floor above.
    raise SystemExit(importlib.import_module("hygge.cli").main())
