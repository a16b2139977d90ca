"""Run flows as Ray jobs: each has its own log, status and stop in Ray's own tools.

`make_submitter` decides whether flows become jobs: yes on a Ray that outlives this process (unless
`jobs: one`), no on the private Ray of a laptop. The job of a flow runs `hygge run <file> --select
<flow>` and prints its progress and its report as lines of JSON; this process reads them from the
job's log. When the driver of a job dies before it reports an end, the flow is submitted again under
a new id and continues where the dead one stopped. The tables of one flow are one job.

Entrypoint, metadata and runtime_env contain no secrets: a job reads the file and its environment
itself.
"""

from __future__ import annotations

import os
import sys
import threading
import time
import uuid
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from hygge.engine.jobs.client import (
    FILE,
    FLOW,
    NAME,
    RUN,
    STOP_WAIT,
    TRY,
    JobClient,
    JobDetails,
    end_pending_job,
    flow_names,
    is_of,
    make_entrypoint,
    metadata_of,
    open_client,
    shorten_error,
    submit_job,
)
from hygge.engine.jobs.driver_nodes import DriverNodes, describe_left, make_selector
from hygge.engine.jobs.following import PATIENCE_S, Following, is_ray_line
from hygge.engine.jobs.instructions import FLOW_JOB, Instructions, digest
from hygge.engine.jobs.instructions import instructions as command_instructions
from hygge.engine.jobs.outcome import JobFlows, Outcome, make_report
from hygge.engine.jobs.restarts import is_repeated
from hygge.engine.ray import connection
from hygge.engine.ray.patience import DriverPatience
from hygge.errors import ConfigError, HyggeError, Stopped
from hygge.model import Report
from hygge.report.events import parse_event, replay
from hygge.report.text import report_from_json
from hygge.run.engines import backoff_s
from hygge.run.watch import Watch

if TYPE_CHECKING:
    from hygge.config.flows import FlowsFile, FlowSpec

_STOP_WAIT_S = 3
_STOP_EVERY_S = 1.0
_LOOK_S = 0.1


def make_submitter(
    jobs: str,
    file: FlowsFile,
    dashboard: bool,
    fresh: bool,
    watch: Watch,
    stop: threading.Event,
) -> FlowJobs | None:
    """Return what runs flows as Ray jobs; None where flows run in this process.

    Raises ConfigError where `jobs: each` finds no Ray, and
    HyggeError where Ray's jobs API cannot be reached.
    """
    if jobs == "one":
        return None
    if connection.find_running() is None:
        if jobs == "each":
            raise ConfigError(
                "jobs: each needs a Ray that outlives this process, and none is running",
                "start one with `ray start --head`, set RAY_ADDRESS, or use `jobs: auto`",
            )
        if dashboard:
            watch.said("", f"Ray's dashboard: {connection.connect(dashboard).dashboard}")
        return None
    connected = connection.connect()
    if connected.dashboard is None:
        return None
    watch.said("", f"each flow is a job of the Ray at {connected.address}, {connected.dashboard}")
    try:
        client = open_client(connected.dashboard)
    except (RuntimeError, OSError) as error:
        raise HyggeError(
            f"Ray runs at {connected.address}, and its jobs cannot be reached: "
            f"{shorten_error(error)}",
            "each flow is a job of its own there: is its dashboard up, and the token its own? "
            "`jobs: one` (--jobs one) needs neither",
        ) from error
    return FlowJobs(client, file, fresh, watch, stop)


_open_jobs: dict[str, JobClient] = {}
"""Job ids of this process whose end was not seen, also before Ray accepted them → client."""


def stop_open_jobs(within_s: float) -> None:
    """Ask Ray to stop every job whose end was not seen; for a process that is about to exit.

    Ray may not know a job that was just submitted, so the request is repeated for `within_s`.
    """
    until = time.monotonic() + within_s
    while _open_jobs and time.monotonic() < until:
        for job, client in list(_open_jobs.items()):
            with suppress(RuntimeError, OSError):
                client.stop_job(job)
                _open_jobs.pop(job, None)
        time.sleep(_LOOK_S)


class FlowJobs:
    """The flows of one run, as jobs."""

    def __init__(
        self,
        client: JobClient,
        file: FlowsFile,
        fresh: bool,
        watch: Watch,
        stop: threading.Event,
    ) -> None:
        self.client, self.file, self.fresh = client, file, fresh
        self.watch, self.stop = watch, stop
        self._told: dict[str, str] = {}
        """Name of a flow, or of a table of one → how its job said at once that it ended."""
        self.in_job = connection.is_in_job()
        own = connection.read_own_job()
        self.runtime_env = dict(own.get("runtime_env") or {})
        """The working directory, packages and variables of this job; its flows get the same."""
        submission = (own.get("metadata") or {}).get("job_submission_id")
        self.run_id = submission or f"hygge-{uuid.uuid4().hex[:8]}"
        # A job hands its environment on to its flows, so there is nothing to compare.
        variables = {} if self.in_job else file.variables
        self.variables = {name: digest(name, value) for name, value in variables.items()}
        named = command_instructions()
        # Two commands of one job are two requests, unless they have the same name.
        self.request, self.is_named = named.request or uuid.uuid4().hex, named.is_named

        self.is_repeated = is_repeated()
        """Whether an earlier try of this command, which was killed, has submitted jobs."""

    def run(
        self, spec: FlowSpec, instructions: Instructions, together: Sequence[FlowSpec] = ()
    ) -> Sequence[Report]:
        """Run the flow until it has ended, with a new job for each driver that dies.

        Returns its report, or one for each of its tables; with `together`, which share its job and
        include it, one for each of them.
        """
        job = JobFlows(together or (spec,))
        instructions = replace(
            instructions,
            request=self.request,
            is_named=self.is_named,
            variables=self.variables,
        )
        tries, earlier = self._find_earlier(job) if self.is_repeated else (0, None)
        nodes, left = DriverNodes(self.client, spec.limits), list[str]()
        # A killed try of this command may have submitted a job that Ray does not list.
        least = command_instructions().number
        while True:
            try:
                if earlier is not None:
                    outcome, earlier = self._adopt(job, earlier), None
                else:
                    tries, left = tries + 1, nodes.list_left()
                    told = replace(instructions, number=max(tries, least))
                    outcome = self._run_once(job, told, left)
            except Stopped as error:
                return [Report(name, "stopped", note=error.message) for name in job.names]
            is_dead = not outcome.is_reported and outcome.ended.status == "FAILED"
            if not is_dead or tries > spec.limits.retries or self.stop.is_set():
                break
            nodes.note_death(outcome)
            self.watch.said(
                job.label,
                f"{_begin(job)}its driver died: {outcome.ended.why}; it goes on as try {tries + 1} "
                f"of {1 + spec.limits.retries}",
            )
            if self.stop.wait(backoff_s(tries + 2)):
                break
        reports = outcome.reports or [
            make_report(name, outcome, self.stop.is_set()) for name in job.names
        ]
        if tries > 1:
            note = f"its driver died and was started again ({tries} tries){describe_left(left)}"
            reports = [
                replace(report, note="; ".join(filter(None, (note, report.note))))
                for report in reports
            ]
        for report in reports:
            if self._told.get(report.flow) != report.status:
                self.watch.ended(report)
        return reports

    def find_submitted(self) -> list[list[FlowSpec]]:
        """Return the flows of each job that an earlier try of this command has submitted."""
        flows = {flow.name: flow for flow in self.file.flows}
        jobs = [job for job in self._list_jobs() if metadata_of(job).get(RUN) == self.run_id]
        found = {tuple(name for name in flow_names(job) if name in flows) for job in jobs}
        return [[flows[name] for name in names] for names in sorted(found) if names]

    def _list_jobs(self) -> list[JobDetails]:
        until, retries = time.monotonic() + PATIENCE_S, 0
        while True:
            try:
                return self.client.list_jobs()
            except (RuntimeError, OSError) as error:
                retries += 1
                if time.monotonic() > until or self.stop.wait(backoff_s(retries)):
                    raise HyggeError(
                        f"Ray did not tell which flows run already: {shorten_error(error)}",
                        f"`hygge status {self.run_id}` asks again; they go on",
                    ) from error

    def _find_earlier(self, flows: JobFlows) -> tuple[int, str | None]:
        """Return the last job of flows that a killed try of this command left: number and id."""
        jobs = [job for job in self._list_jobs() if is_of(job, self.run_id, flows.first.name)]
        if not jobs:
            return 0, None
        last = max(jobs, key=lambda job: job.start_time or 0)
        return int(metadata_of(last).get(TRY, "1")), last.submission_id

    def _adopt(self, flows: JobFlows, job: str) -> Outcome:
        """Follow a job that an earlier try of this command has submitted."""
        _open_jobs[job] = self.client
        if flows.label:
            self.watch.began(flows.label, 1)
        self.watch.said(flows.label, f"{_begin(flows)}goes on as Ray job {job}")
        return self._follow(flows, job)

    def _run_once(self, flows: JobFlows, instructions: Instructions, left: list[str]) -> Outcome:
        job = f"hygge-{flows.title.replace(' ', '-')}-{uuid.uuid4().hex[:8]}"
        names = {FLOW: ",".join(flows.names), FILE: os.path.basename(self.file.path)}
        names |= {RUN: self.run_id, NAME: flows.title}
        metadata = {**flows.first.tags, **names}
        if instructions.number > 1:
            metadata[TRY] = str(instructions.number)
        inherited = self.runtime_env.get("env_vars") or {}
        variables = {**inherited, FLOW_JOB: instructions.to_json(), **_debug_variables()}
        if variables.get(STOP_WAIT):
            # Only this process needs the longer time, because it waits for its flows' jobs.
            variables[STOP_WAIT] = str(_STOP_WAIT_S)
        if flows.label:
            self.watch.began(flows.label, 1)
        _open_jobs[job] = self.client
        try:
            submit_job(
                self.client,
                job,
                self.stop,
                entrypoint=self._make_command(flows),
                runtime_env={**self.runtime_env, "env_vars": variables},
                metadata=metadata,
                takes=flows.first.limits.driver,
                selector=make_selector(left),
            )
        except (RuntimeError, OSError) as error:
            raise HyggeError(
                f"Ray did not take the job {job}: {shorten_error(error)}",
                f"`hygge status {job}` tells whether it runs after all; `jobs: one` submits none",
            ) from error
        said = f"{_begin(flows)}runs as Ray job {job}{describe_left(left)}"
        self.watch.said(flows.label, said)
        return self._follow(flows, job, left)

    def _make_command(self, flows: JobFlows) -> str:
        path = self.file.path
        if "://" not in path:
            # Inside a job the file came with the working directory; else it is on this machine.
            path = os.path.relpath(path) if self.in_job else os.path.abspath(path)
        words = [sys.executable, "-m", "hygge", "run", path, "--select", ",".join(flows.selected)]
        spec = flows.first
        if spec.tables and spec.tables.excluded:
            excluded = [f"{spec.name}.{table}" for table in spec.tables.excluded]
            words += ["--exclude", ",".join(excluded)]
        words += ["--jobs", "one", "--json", "--log-format", "json"]
        if self.fresh:
            words.append("--fresh")
        return make_entrypoint(words)

    def _follow(self, flows: JobFlows, job: str, left: Sequence[str] = ()) -> Outcome:
        following, outcome = Following(self.client, job), Outcome(job)
        patience = DriverPatience(flows.first.limits, left)
        stop_asked_at = -_STOP_EVERY_S
        while True:
            if self.stop.is_set() and time.monotonic() - stop_asked_at > _STOP_EVERY_S:
                with suppress(RuntimeError, OSError):  # it is asked again until it has ended
                    self.client.stop_job(job)
                stop_asked_at = time.monotonic()
            for line in following.read_lines():
                self._process_line(flows, outcome, line)
            if following.ended is not None:
                outcome.ended = following.ended
                _open_jobs.pop(job, None)
                return outcome
            if following.is_pending and flows.first.limits.driver:
                self._wait_for_node(job, patience)
            if self.stop.is_set():
                time.sleep(0.1)
            else:
                self.stop.wait(following.pause_s())

    def _wait_for_node(self, job: str, patience: DriverPatience) -> None:
        """End a job that waits for a node when it is to stop, or `wait_at_most` is over."""
        if self.stop.is_set():
            end_pending_job(job)
            return
        try:
            patience.check()
        except ConfigError:
            end_pending_job(job)
            _open_jobs.pop(job, None)
            raise

    def _process_line(self, flows: JobFlows, outcome: Outcome, line: str) -> None:
        told = parse_event(line)
        if told is None:
            if (summary := report_from_json(line)) is not None:
                outcome.reports = flows.reports_of(summary.flows)
            elif line and not is_ray_line(line):
                self.watch.said(flows.label, line)
            return
        outcome.has_begun = True
        if told["hygge_event"] == "error":
            outcome.error = str(told["text"])
        elif told["hygge_event"] != "expects":  # this process has said it
            if told["hygge_event"] == "ended":
                self._told[told["flow"]] = told["report"]["status"]
            replay(told, self.watch)


def _debug_variables() -> dict[str, str]:
    return {name: os.environ[name] for name in ("HYGGE_DEBUG",) if os.environ.get(name)}


def _begin(flows: JobFlows) -> str:
    """Return how a sentence about a job begins that several flows share; "" for one flow."""
    return "" if flows.label else f"{flows.title}: "
