"""The Coordinator runs the flows of one YAML file and gives one report.

Flows run side by side, up to `max_parallel_flows`. One that fails does not stop the others; what
depends on it is skipped and said so. A flow with `tables` is one flow for each of them, all in one
process. On a Ray that outlives this process (a cluster, a `ray start`
on this machine, inside `ray job submit`) every flow is submitted as a Ray job of its own; on the
private Ray of a laptop this process is the job. `python -m hygge.coordinator flows.yml` runs it.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from hygge.config.specs import SHIPPED
from hygge.coordinator.connections import Shares, divided, side_by_side, tables_at_once
from hygge.coordinator.schedule import Open, Run, Schedule
from hygge.engine.jobs.instructions import Instructions, digest, instructions, is_flow_job
from hygge.errors import ConfigError, FlowFailed, HyggeError, in_words
from hygge.model import Report, Summary
from hygge.run.engines import find_engine
from hygge.run.flow import Flow
from hygge.run.watch import Silent, Watch

if TYPE_CHECKING:
    from hygge.config.flows import EndSpec, FlowsFile, FlowSpec

_NAMED = 10


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
        self.whole = file.flows
        """Also those that are not selected, or are run by others: they have their places."""
        _check_variables(file)
        self.engine, self.dashboard, self.fresh = engine, dashboard, fresh
        self.jobs = jobs or self.file.jobs
        self.errors: dict[str, BaseException] = {}
        """Why flows failed that ran in this process, by name: for whoever wants the traceback."""
        self.parallel = (
            max_parallel_flows or instructions().parallel or self.file.max_parallel_flows
        )
        self.shares = divided(self.file.flows, _bounds(self.file), self.parallel)
        self._places: dict[str, str] = {}
        """Where flows write → which one, as far as it is known."""

    def flow(self, spec: FlowSpec) -> Flow:
        """The Flow that a part of the file describes."""
        from hygge.config.flows import build

        home, store = build(spec)
        if spec.snapshot is not None:
            home.snapshot = spec.snapshot  # type: ignore[attr-defined]  # a SQLHome
        flow = Flow(
            home,
            store,
            name=spec.name,
            mode=spec.mode,
            key=spec.key,
            limits=replace(
                spec.limits,
                most_lanes=self.shares.lanes(spec),
                of=spec.of,
                store_share=instructions().store_share,
            ),
            engine=self.engine,
            project=self.file.project,
            state=self.file.state,
            fresh=self.fresh,
            shared_paths=self.file.shared_paths,
        )
        flow.attempt = instructions().attempt
        return flow

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
                + ", ".join(f"{report.flow} {report.status}" for report in failed[:_NAMED])
                + (f" and {len(failed) - _NAMED} more" if len(failed) > _NAMED else "")
                + (f"\n\n{first.flow}: {first.error}" if first.error else ""),
                first.hint,
                summary,
            )
        return summary

    def run(self, watch: Watch | None = None, stop: threading.Event | None = None) -> Summary:
        """Run every flow and say how each ended; blocking, raises for none of them."""
        watch, stop = watch or Silent(), stop or threading.Event()
        began = time.monotonic()
        env = os.path.join(os.path.dirname(os.path.abspath(self.file.path)), ".env")
        if SHIPPED in env and os.path.exists(env) and not is_flow_job():
            watch.said(
                "",
                "warning: .env was shipped with this Ray job, which keeps it in clear on the head "
                "and on the nodes; name it in a .rayignore, or let `hygge submit` ship the folder",
            )
        run_one, open_tables, shares = self._runner(watch, stop)
        schedule = Schedule(
            self.file.flows, self.parallel, shares, run_one, open_tables, self._failed, watch, stop
        )
        return Summary(tuple(schedule.reports()), time.monotonic() - began)

    def opened(
        self, spec: FlowSpec, planning: bool = False
    ) -> AbstractContextManager[tuple[FlowSpec, ...]]:
        """The flows of the tables of a flow with `tables`; they share what is held till the end.

        `planning`: no row will be read, so that nothing is started for it.
        """
        from hygge.config.flows import build
        from hygge.coordinator.tables import opened, places_of

        first = True  # of those that may meet, whose turn it is: of the file, in every process
        for flow in self.whole:
            first = first and flow.name != spec.name
            with suppress(HyggeError):  # which is that flow's own to say
                if flow.tables is None:
                    if (place := build(flow)[1].place()) is not None:
                        self._places.setdefault(place, flow.name)
                elif first and _alike(flow.store, spec.store):
                    for place, member in places_of(flow).items():
                        self._places.setdefault(place, member)
        project = self.file.project
        identity = f"{project}.{spec.name}" if project else spec.name
        return opened(spec, identity, self._places, (lambda _: 1) if planning else self._readers)

    def _readers(self, members: Sequence[FlowSpec]) -> int:
        """How many lanes of these flows, which have one connection, may read at once."""
        lanes = find_engine(self.engine).lanes
        most = [self.parallel, len(members)]
        most += [n for name, n in self.shares.side_by_side.items()
                 if name == members[0].home.connection]  # fmt: skip
        return min(most) * max(
            lanes(replace(each.limits, most_lanes=self.shares.lanes(each))) for each in members
        )

    def _runner(self, watch: Watch, stop: threading.Event) -> tuple[Run, Open | None, Shares]:
        """How flows run here: as Ray jobs, or in this process."""
        if self.engine == "ray" and not is_flow_job():
            from hygge.engine.jobs import submit as jobs

            submit = jobs.make_submitter(
                self.jobs, self.file, self.dashboard, self.fresh, watch, stop
            )
            if submit is not None:
                as_job = submit
                shares = divided(
                    self.file.flows, self.file.max_connections, self.parallel, alone=True
                )

                each = Instructions(
                    parallel=tables_at_once(self.file.flows, self.parallel),
                    store_share=1 / side_by_side(self.file.flows, self.parallel),
                )

                def job(spec: FlowSpec, watch: Watch) -> Sequence[Report]:
                    return as_job(spec, replace(each, connections=shares.of(spec)))

                return job, None, shares

        def here(spec: FlowSpec, watch: Watch) -> Sequence[Report]:
            try:
                report = self.flow(spec).run(watch, stop)
            except Exception as error:
                report = self._failed(spec, error)
            return [replace(report, of=spec.of)]

        return here, self.opened, self.shares

    def _failed(self, spec: FlowSpec, error: Exception) -> Report:
        """The report of a flow that raised."""
        if isinstance(error, FlowFailed) and error.report is not None:
            self.errors[spec.name] = error.__cause__ or error
            report: Report = error.report
            return report
        self.errors[spec.name] = error
        said = in_words(error)
        return Report(spec.name, "failed", error=said.message, hint=said.hint)


def _check_variables(file: FlowsFile) -> None:
    """A job reads the environment of its node, which may be another one than the command's."""
    here = {name: digest(name, value) for name, value in file.variables.items()}
    other = [
        name for name, there in instructions().variables.items() if here.get(name, there) != there
    ]
    if other:
        raise ConfigError(
            f"{', '.join(other)}: the environment of the flow's Ray job has another value than "
            "that of the command which submitted it",
            "put it into the .env beside the file, set it where Ray was started, or use `jobs: one`"
            " (--jobs one), by which flows run in the command itself",
        )


def _alike(one: EndSpec, other: EndSpec) -> bool:
    """Whether tables of the same name would come to one place."""
    mine, theirs = ({**each.settings, "options": None} for each in (one, other))
    return (one.kind, mine) == (other.kind, theirs)


def _bounds(file: FlowsFile) -> Mapping[str, int]:
    """What the file allows; in a Ray job of one flow, the share that the job was handed."""
    return {**file.max_connections, **instructions().connections}
