"""The Coordinator runs the flows of one YAML file and gives one report.

Up to `max_parallel_flows` flows run at the same time. A flow that fails does not stop the others;
flows that depend on it are skipped, and the report says so. A flow with `tables` is one flow for
each table, all in one process. On a Ray that outlives this process (a cluster, a `ray start` on
this machine, inside `ray job submit`) each flow is submitted as a Ray job, small ones together; on
a laptop's private Ray this process is the job. `python -m hygge.coordinator flows.yml` runs it.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Protocol, cast

from hygge.config.checks import Places
from hygge.config.connectors import build
from hygge.config.flows import read_flows
from hygge.config.paths import folder_of
from hygge.config.selection import select as select_flows
from hygge.config.specs import FlowsFile, FlowSpec, Jobs
from hygge.coordinator import checking
from hygge.coordinator.connections import (
    ConnectionShares,
    count_at_once,
    divide,
    tables_at_once,
)
from hygge.coordinator.done import SKIPPED, Request, begin, state_at
from hygge.coordinator.families import open_family, seen_at
from hygge.coordinator.hooks import Hooks
from hygge.coordinator.lineage import Lineage
from hygge.coordinator.schedule import OpenTables, RunFlow, Schedule
from hygge.coordinator.sharing import Together, find_reasons, find_together
from hygge.engine.jobs.instructions import Instructions, instructions, is_flow_job
from hygge.engine.jobs.restarts import read_try
from hygge.errors import (
    FlowFailed,
    HyggeError,
    JournalError,
    as_hygge_error,
    without_password,
)
from hygge.home import Home
from hygge.model import Report, Summary
from hygge.places.shipped import SHIPPED
from hygge.run.engines import EngineName, find_engine
from hygge.run.flow import Flow
from hygge.run.watch import Silent, Watch, run_in_thread

if TYPE_CHECKING:
    from hygge.engine.jobs.submit import FlowJobs

_NAMED = 10


class OneOfMany(Protocol):
    """The Home of one table or file of many; see `SQLHome`."""

    snapshot: str | None
    only: bool
    own_columns: tuple[str, ...]


class Coordinator:
    """`await Coordinator("flows.yml").start()`.

    `path` is a file, the URL of an object, or what was read of one. `select` names the flows to run
    (empty: all), and `exclude` those that do not; `hygge/config/selection.py` has the forms.
    `engine` is `ray` or `inline`. `jobs` and `max_parallel_flows` override the file's. `dashboard`
    starts a Ray dashboard. `fresh` starts every flow anew, whatever a run that died has left.
    `start_from` is a value of the cursor above which one flow reads, where its store knows no
    watermark.
    Raises ConfigError at once when the file is wrong, with everything that is wrong in it.
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | FlowsFile,
        *,
        select: Sequence[str] = (),
        exclude: Sequence[str] = (),
        engine: EngineName = "ray",
        jobs: Jobs | None = None,
        max_parallel_flows: int | None = None,
        dashboard: bool = False,
        fresh: bool = False,
        start_from: str | None = None,
    ) -> None:
        file = path if isinstance(path, FlowsFile) else read_flows(os.fspath(path))
        self.file: FlowsFile = select_flows(file, select, exclude)
        self.all_flows = file.flows
        """All flows of the file, selected or not: no flow may write where another one writes."""
        checking.check_variables(file)
        self.engine, self.dashboard, self.fresh = engine, dashboard, fresh
        self.start_from = instructions().start_from if start_from is None else start_from
        if self.start_from is not None:
            checking.check_is_one(self.file.flows)
        self.jobs = jobs or self.file.jobs
        self.errors: dict[str, BaseException] = {}
        """Name of a flow that ran in this process → why it failed, with its traceback."""
        self.parallel = (
            max_parallel_flows or instructions().parallel or self.file.max_parallel_flows
        )
        self._select = (*select, *(f"not {text}" for text in exclude))
        self.request: Request | None = None
        """What running the same command again goes on with; from `run`."""
        self.shares = divide(self.file.flows, _max_connections(self.file), self.parallel)
        self._places = Places[str]()
        """Place of a store → name of the flow that writes there, as far as it is known."""

    def __repr__(self) -> str:
        names = [repr(spec.name) for spec in self.file.flows[:_NAMED]]
        names += ["…"] if len(self.file.flows) > _NAMED else []
        return f"Coordinator({without_password(self.file.path)!r}, flows=[{', '.join(names)}])"

    def flow(self, spec: FlowSpec) -> Flow:
        """Build the Flow that a part of the file describes."""
        home, store = build(spec)
        if spec.of:
            table = cast("OneOfMany", home)  # a SQLHome, or a FileHome
            table.only, table.own_columns = True, spec.columns
            table.snapshot = spec.snapshot
        flow = Flow(
            home,
            store,
            name=spec.name,
            mode=spec.mode,
            key=spec.key,
            limits=replace(
                spec.limits,
                most_lanes=self.shares.max_lanes(spec),
                of=spec.of,
                store_share=instructions().store_share,
            ),
            engine=self.engine,
            project=self.file.project,
            state=self.file.state,
            fresh=self.fresh,
            shared_paths=self.file.shared_paths,
            shape=spec.shape,
        )
        flow.start_from, flow.lacks_cursor = self.start_from, spec.lacks_cursor
        flow.renamed = spec.renamed
        flow.attempt = instructions().attempt
        if self.request is not None:
            flow.attempt = self.request.attempt(flow, flow.attempt)
        return flow

    def check_here(self) -> None:
        """Raise ConfigError with all that runs would refuse, as far as this machine shows it."""
        checking.check_here(self.file.flows, self.file.state, self.file.shared_paths)

    def written_before(self, spec: FlowSpec, home: Home) -> str:
        """Return the flow that writes what `home` of `spec` reads, and runs before it; else ""."""
        return checking.written_before(spec, home, self.file.flows)

    async def start(self, watch: Watch | None = None) -> Summary:
        """Run every flow in a thread. Raises FlowFailed with the Summary unless all are done."""
        summary = await run_in_thread(self.run, watch)
        failed = [report for report in summary.flows if report.status != "done"]
        if failed:
            first = next((report for report in failed if report.error), failed[0])
            raise FlowFailed(
                f"{len(failed)} of {len(summary.flows)} flows did not end well: "
                + ", ".join(f"{report.flow} {report.status}" for report in failed[:_NAMED])
                + (f" and {len(failed) - _NAMED} more" if len(failed) > _NAMED else "")
                + (f"\n\n{first.flow}: {first.error}" if first.error else ""),
                first.hint,
                summary,
            )
        return summary

    def run(self, watch: Watch | None = None, stop: threading.Event | None = None) -> Summary:
        """Run every flow, and return how each ended; blocks, and raises for none of them."""
        watch, stop = watch or Silent(), stop or threading.Event()
        began = time.monotonic()
        env = os.path.join(os.path.dirname(os.path.abspath(self.file.path)), ".env")
        if SHIPPED in env and os.path.exists(env) and not is_flow_job():
            watch.said(
                "",
                "warning: .env was shipped with this Ray job, which keeps it in clear on the head "
                "and on the nodes; name it in a .rayignore, or let `hygge submit` ship the folder",
            )
        watch.expects([flow.name for flow in self.file.flows])
        try:
            self.request = self._begin_request()
            run_flow, open_tables, shares, together = self._runner(watch, stop)
        except JournalError as error:
            run_flow, open_tables, shares, together = _refuse(error), None, self.shares, {}
        hooks = Hooks(folder_of(self.file.path), watch)
        lineage = Lineage(self.file, self.identity, watch)
        schedule = Schedule(
            self.file.flows,
            self.parallel,
            shares,
            lineage.around(run_flow),
            open_tables,
            self._report_failure,
            watch,
            stop,
            together,
            (lambda flow, reports: None) if is_flow_job() else hooks.call,
        )
        reports = tuple(schedule.reports())
        hooks.close()
        lineage.close()
        if self.request is not None and not is_flow_job():
            self._end_request(self.request, reports, watch)
        return Summary(reports, time.monotonic() - began)

    def _begin_request(self) -> Request | None:
        """Return the request that this run begins or goes on with.

        There is none where running the command again adds no row a second time anyway. The Ray job
        of a flow has that of the command which submitted it. Raises JournalError.
        """
        if is_flow_job():
            told = instructions()
            then = datetime.fromisoformat(told.earlier) if told.earlier else None
            return Request(state_at(self.file.state), told.command, then) if told.command else None
        flows = self.file.flows
        # Of a request with a name the journal of each flow knows what is done.
        if instructions().is_named or (len(flows) == 1 and flows[0].tables is None):
            return None
        if not any(map(checking.may_append, flows)):
            return None
        members = [(self.identity(flow.name), flow.tables is not None) for flow in flows]
        try:
            return begin(self.file.path, self._select, self.file.state, members, self.fresh)
        except JournalError:
            raise
        except HyggeError:  # each flow reports that its state cannot be reached
            return None

    def _end_request(self, request: Request, reports: Sequence[Report], watch: Watch) -> None:
        """Say what was left out, and end the request if all of it is done."""
        skipped = [report for report in reports if report.note.startswith(SKIPPED)]
        if skipped and request.earlier is not None:
            then = f"{request.earlier.astimezone():%H:%M}"
            watch.said("", f"{len(skipped)} of {len(reports)} were done in the run of {then}")
        # A command that may be started again still needs it, if it dies before its report is read.
        if all(report.status == "done" for report in reports) and read_try() is None:
            with suppress(HyggeError):  # the next run sees that all of it is done
                request.forget()

    def identity(self, flow: str) -> str:
        """Return the identity of a flow of the file, under which the journal keeps its runs."""
        return f"{self.file.project}.{flow}" if self.file.project else flow

    @contextmanager
    def open_tables(
        self,
        spec: FlowSpec,
        planning: bool = False,
        say: Callable[[str], None] = lambda text: None,
    ) -> Iterator[tuple[FlowSpec, ...]]:
        """Return the flows of the tables or files of `spec`; what they share is held until then.

        `planning`: no row will be read, so the engine is not started to count readers. `say` is
        told what a person should know of the whole.
        """
        identity = self.identity(spec.name)
        seen = seen_at(state_at(self.file.state), identity)
        readers = None if planning else self._readers
        with open_family(spec, self.all_flows, seen, self._places, readers, say) as tables:
            if self.request is not None and not planning:
                self.request.note_tables(identity, [self.identity(table.name) for table in tables])
            yield tables

    def _readers(self, tables: Sequence[FlowSpec]) -> int:
        """Return how many lanes of these flows, which have one connection, may read at once."""
        engine = find_engine(self.engine)
        at_once = [self.parallel, len(tables)]
        connection = tables[0].home.connection
        if connection is not None and connection in self.shares.flows_at_once:
            at_once.append(self.shares.flows_at_once[connection])
        lanes = (
            engine.lanes(replace(table.limits, most_lanes=self.shares.max_lanes(table)))
            for table in tables
        )
        return min(at_once) * max(lanes)

    def _runner(
        self, watch: Watch, stop: threading.Event
    ) -> tuple[RunFlow, OpenTables | None, ConnectionShares, Mapping[str, Together]]:
        """Return how flows run here: as Ray jobs, some together, or in this process."""
        if self.engine == "ray" and not is_flow_job():
            from hygge.engine.jobs import submit as jobs  # slow to load; `inline` does not need it

            submit = jobs.make_submitter(
                self.jobs, self.file, self.dashboard, self.fresh, watch, stop
            )
            if submit is not None:
                shares = divide(
                    self.file.flows, self.file.max_connections, self.parallel, one_job_a_flow=True
                )

                request, earlier = self.request, ""
                if request is not None and request.earlier is not None:
                    earlier = request.earlier.isoformat()
                for_job = Instructions(
                    command="" if request is None else request.id,
                    earlier=earlier,
                    start_from=self.start_from,
                    parallel=tables_at_once(self.file.flows, self.parallel),
                    store_share=1 / count_at_once(self.file.flows, self.parallel),
                )

                together = self._together(submit)

                def run_as_job(spec: FlowSpec, watch: Watch) -> Sequence[Report]:
                    told = replace(for_job, connections=shares.of_job(spec))
                    if spec.name in together:
                        job = together[spec.name]
                        return submit.run(spec, replace(told, parallel=job.at_once), job.flows)
                    return submit.run(spec, told)

                return run_as_job, None, shares, together

        def run_here(spec: FlowSpec, watch: Watch) -> Sequence[Report]:
            try:
                report = _run_once(self.flow(spec), watch, stop, self.request)
            except Exception as error:
                report = self._report_failure(spec, error)
            return [replace(report, of=spec.of)]

        def open_here(spec: FlowSpec) -> AbstractContextManager[tuple[FlowSpec, ...]]:
            return self.open_tables(spec, say=partial(watch.said, spec.name))

        return run_here, open_here, self.shares, {}

    def _together(self, jobs: FlowJobs) -> Mapping[str, Together]:
        """Return which flows share a job; what a killed try has submitted stays as it is."""
        if self.jobs != "auto":
            return {}
        return self.find_together(jobs.find_submitted() if jobs.is_repeated else [])[0]

    def find_together(
        self, submitted: Sequence[Sequence[FlowSpec]] = ()
    ) -> tuple[Mapping[str, Together], Mapping[str, str]]:
        """Return which small flows share a job on a cluster, and why each flow is small.

        `submitted`: the flows of each job that an earlier try of this command has submitted.
        """
        taken = {flow.name for job in submitted for flow in job}
        rest = [flow for flow in self.file.flows if flow.name not in taken]
        reasons = find_reasons(rest, state_at(self.file.state), self.identity)
        limited = self.file.max_connections
        together = find_together(self.file.flows, reasons, limited, self.parallel, submitted)
        return together, reasons

    def _report_failure(self, spec: FlowSpec, error: Exception) -> Report:
        """Return the report of a flow that raised, and keep its error."""
        if isinstance(error, FlowFailed) and isinstance(error.report, Report):
            self.errors[spec.name] = error.__cause__ or error
            return error.report
        self.errors[spec.name] = error
        reason = as_hygge_error(error)
        return Report(spec.name, "failed", error=reason.message, hint=reason.hint)


def _run_once(flow: Flow, watch: Watch, stop: threading.Event, request: Request | None) -> Report:
    """Run a flow, unless an earlier run of this command, which failed, brought it to its end."""
    began = None if request is None else request.done_since(flow)
    if began is None:
        return flow.run(watch, stop)
    report = Report(
        flow.name,
        "done",
        home=flow.home.describe(),
        store=flow.store.describe(),
        mode=flow.mode,
        guarantee=flow.store.traits.guarantee,
        note=f"{SKIPPED}{began.astimezone():%Y-%m-%d %H:%M}; it is appended again when all flows "
        "of that run are done, or with --fresh",
    )
    watch.ended(report)
    return report


def _refuse(error: HyggeError) -> RunFlow:
    """Return a way to run flows that fails for each of them."""

    def refused(spec: FlowSpec, watch: Watch) -> Sequence[Report]:
        raise error

    return refused


def _max_connections(file: FlowsFile) -> Mapping[str, int]:
    """Return what the file allows; in the Ray job of one flow, the share that the job got."""
    return {**file.max_connections, **instructions().connections}
