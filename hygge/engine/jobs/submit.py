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
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from hygge.engine.jobs.client import (
    FILE,
    FLOW,
    NAME,
    RUN,
    STOP_WAIT,
    TRY,
    JobClient,
    end_pending_job,
    is_of,
    make_entrypoint,
    metadata_of,
    open_client,
    shorten_error,
    submit_job,
)
from hygge.engine.jobs.following import PATIENCE_S, Ended, Following, is_ray_line
from hygge.engine.jobs.instructions import FLOW_JOB, Instructions, digest
from hygge.engine.jobs.instructions import instructions as command_instructions
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
) -> Callable[[FlowSpec, Instructions], Sequence[Report]] | None:
    """Return a function that runs a flow as a Ray job; None where flows run in this process.

    The function takes the flow and the instructions for its job, and returns the report of the
    flow, or one for each of its tables. Raises ConfigError where `jobs: each` finds no Ray, and
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
    return _FlowJobs(client, file, fresh, watch, stop).run


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


class _FlowJobs:
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

    def run(self, spec: FlowSpec, instructions: Instructions) -> Sequence[Report]:
        """Run the flow until it has ended, with a new job for each driver that dies."""
        instructions = replace(
            instructions,
            request=self.request,
            is_named=self.is_named,
            variables=self.variables,
        )
        tries, earlier = self._find_earlier(spec) if is_repeated() else (0, None)
        # A killed try of this command may have submitted a job that Ray does not list.
        least = command_instructions().number
        while True:
            try:
                if earlier is not None:
                    outcome, earlier = self._adopt(spec, earlier), None
                else:
                    tries += 1
                    outcome = self._run_once(spec, replace(instructions, number=max(tries, least)))
            except Stopped as error:
                return [Report(spec.name, "stopped", note=error.message)]
            is_dead = not outcome.is_reported and outcome.ended.status == "FAILED"
            if not is_dead or tries > spec.limits.retries or self.stop.is_set():
                break
            self.watch.said(
                spec.name,
                f"its driver died: {outcome.ended.why}; it goes on as try {tries + 1} of "
                f"{1 + spec.limits.retries}",
            )
            if self.stop.wait(backoff_s(tries + 2)):
                break
        reports = outcome.reports or [_make_report(spec, outcome, self.stop.is_set())]
        if tries > 1:
            note = f"its driver died and was started again ({tries} tries)"
            reports = [
                replace(report, note="; ".join(filter(None, (note, report.note))))
                for report in reports
            ]
        for report in reports:
            self.watch.ended(report)
        return reports

    def _find_earlier(self, spec: FlowSpec) -> tuple[int, str | None]:
        """Return the last job of a flow that a killed try of this command left: number and id."""
        until, retries = time.monotonic() + PATIENCE_S, 0
        while True:
            try:
                listed = self.client.list_jobs()
                break
            except (RuntimeError, OSError) as error:
                retries += 1
                if time.monotonic() > until or self.stop.wait(backoff_s(retries)):
                    raise HyggeError(
                        f"Ray did not tell which flows run already: {shorten_error(error)}",
                        f"`hygge status {self.run_id}` asks again; they go on",
                    ) from error
        jobs = [job for job in listed if is_of(job, self.run_id, spec.name)]
        if not jobs:
            return 0, None
        last = max(jobs, key=lambda job: job.start_time or 0)
        return int(metadata_of(last).get(TRY, "1")), last.submission_id

    def _adopt(self, spec: FlowSpec, job: str) -> _Outcome:
        """Follow a job that an earlier try of this command has submitted."""
        _open_jobs[job] = self.client
        self.watch.began(spec.name, 1)
        self.watch.said(spec.name, f"goes on as Ray job {job}")
        return self._follow(spec, job)

    def _run_once(self, spec: FlowSpec, instructions: Instructions) -> _Outcome:
        job = f"hygge-{spec.name}-{uuid.uuid4().hex[:8]}"
        names = {FLOW: spec.name, FILE: os.path.basename(self.file.path), RUN: self.run_id}
        names[NAME] = spec.name
        metadata = {**spec.tags, **names}
        if instructions.number > 1:
            metadata[TRY] = str(instructions.number)
        inherited = self.runtime_env.get("env_vars") or {}
        variables = {**inherited, FLOW_JOB: instructions.to_json(), **_debug_variables()}
        if variables.get(STOP_WAIT):
            # Only this process needs the longer time, because it waits for its flows' jobs.
            variables[STOP_WAIT] = str(_STOP_WAIT_S)
        self.watch.began(spec.name, 1)
        _open_jobs[job] = self.client
        try:
            submit_job(
                self.client,
                job,
                self.stop,
                entrypoint=self._make_command(spec),
                runtime_env={**self.runtime_env, "env_vars": variables},
                metadata=metadata,
                takes=spec.limits.driver,
            )
        except (RuntimeError, OSError) as error:
            raise HyggeError(
                f"Ray did not take the job {job}: {shorten_error(error)}",
                f"`hygge status {job}` tells whether it runs after all; `jobs: one` submits none",
            ) from error
        self.watch.said(spec.name, f"runs as Ray job {job}")
        return self._follow(spec, job)

    def _make_command(self, spec: FlowSpec) -> str:
        path = self.file.path
        if "://" not in path:
            # Inside a job the file came with the working directory; else it is on this machine.
            path = os.path.relpath(path) if self.in_job else os.path.abspath(path)
        selected = [spec.name]
        if spec.tables and spec.tables.selected:
            selected = [f"{spec.name}.{table}" for table in spec.tables.selected]
        words = [sys.executable, "-m", "hygge", "run", path, "--select", ",".join(selected)]
        if spec.tables and spec.tables.excluded:
            excluded = [f"{spec.name}.{table}" for table in spec.tables.excluded]
            words += ["--exclude", ",".join(excluded)]
        words += ["--jobs", "one", "--json", "--log-format", "json"]
        if self.fresh:
            words.append("--fresh")
        return make_entrypoint(words)

    def _follow(self, spec: FlowSpec, job: str) -> _Outcome:
        following, outcome = Following(self.client, job), _Outcome(job)
        patience = DriverPatience(spec.limits)
        stop_asked_at = -_STOP_EVERY_S
        while True:
            if self.stop.is_set() and time.monotonic() - stop_asked_at > _STOP_EVERY_S:
                with suppress(RuntimeError, OSError):  # it is asked again until it has ended
                    self.client.stop_job(job)
                stop_asked_at = time.monotonic()
            for line in following.read_lines():
                self._process_line(spec, outcome, line)
            if following.ended is not None:
                outcome.ended = following.ended
                _open_jobs.pop(job, None)
                return outcome
            if following.is_pending and spec.limits.driver:
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

    def _process_line(self, spec: FlowSpec, outcome: _Outcome, line: str) -> None:
        told = parse_event(line)
        if told is None:
            if (summary := report_from_json(line)) is not None:
                outcome.reports = [
                    report for report in summary.flows if spec.name in (report.flow, report.of)
                ]
            elif line and not is_ray_line(line):
                self.watch.said(spec.name, line)
        elif told["hygge_event"] == "error":
            outcome.error = str(told["text"])
        elif told["hygge_event"] != "ended":  # the report says it, once
            replay(told, self.watch)


@dataclass
class _Outcome:
    """The reports of a job about itself, and its end as Ray reports it."""

    job: str
    error: str = ""
    reports: list[Report] = field(default_factory=list)
    ended: Ended = field(default_factory=lambda: Ended("RUNNING", None, ""))

    @property
    def is_reported(self) -> bool:
        """Return whether the driver itself reported how it ended."""
        return bool(self.reports or self.error)


def _make_report(spec: FlowSpec, outcome: _Outcome, is_stopped: bool) -> Report:
    """Return the report of a flow whose job wrote none."""
    if is_stopped and not outcome.is_reported and outcome.ended.status == "FAILED":
        return Report(spec.name, "stopped", note="its driver died, and no other was started")
    if outcome.ended.status == "STOPPED":
        return Report(spec.name, "stopped", note=f"Ray job {outcome.job} was stopped")
    if outcome.error:
        message, _, hint = outcome.error.partition("\n\nhint: ")
        return Report(spec.name, "failed", error=message, hint=hint or None)
    if outcome.ended.status == "SUCCEEDED":  # its rows are committed: it must not run again
        return Report(
            spec.name,
            "failed",
            error=f"Ray job {outcome.job} ended well, but its report was not heard",
            hint=f"see `hygge logs {outcome.job}` for what it said, and look into the store before "
            "you run it again",
        )
    return Report(
        spec.name,
        "failed",
        error=f"the driver of Ray job {outcome.job} died: {outcome.ended.why}",
        hint=f"see `hygge logs {outcome.job}`; run it again when the cause is gone",
    )


def _debug_variables() -> dict[str, str]:
    return {name: os.environ[name] for name in ("HYGGE_DEBUG",) if os.environ.get(name)}
