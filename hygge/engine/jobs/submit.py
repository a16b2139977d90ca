"""Flows as Ray jobs: each with its own log, status and stop in Ray's own tools.

`submitter` decides whether that is what happens: on a Ray that outlives this process yes (unless
`jobs: one`), on the private Ray of a laptop no. A job runs `hygge run <file> --select <flow>` and
tells its progress and its report as lines of JSON, which the parent reads from the job's log. A job
whose driver died, and so told nothing about its end, is submitted again under a new id and goes on
where the dead one stopped. Nothing secret goes into an entrypoint, metadata or runtime_env: a job
reads the file and its environment itself. The tables of one flow are one job.
"""

from __future__ import annotations

import os
import shlex
import sys
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from hygge.engine.jobs.following import Ended, Following, client_of, of_ray, short, submitted
from hygge.engine.jobs.instructions import CHILD, Told, digest
from hygge.engine.ray import connection
from hygge.errors import ConfigError, HyggeError, Stopped
from hygge.model import Report
from hygge.report.events import event, replay
from hygge.report.text import report_from_json
from hygge.run.engines import backoff_s
from hygge.run.watch import Watch

if TYPE_CHECKING:
    from hygge.config.flows import FlowsFile, FlowSpec

RUN, FLOW, FILE, TRY = "hygge_run", "hygge_flow", "hygge_file", "hygge_try"
"""What is in a job's metadata; a run is named by the submission id of its Coordinator, if any."""
STOP_WAIT = "RAY_JOB_STOP_WAIT_TIME_S"
"""How long Ray waits between SIGTERM and SIGKILL when a job is stopped."""
_STOP_WAIT_S = 3
_ASK_EVERY_S = 1.0
_LOOK_S = 0.1


def submitter(
    jobs: str,
    file: FlowsFile,
    dashboard: bool,
    fresh: bool,
    watch: Watch,
    stop: threading.Event,
) -> Callable[[FlowSpec, Told], Sequence[Report]] | None:
    """A function that runs a flow as a Ray job, or None where flows stay in this process.

    It takes the flow and what its job is told, and gives the report of the flow, or those of its
    tables.
    """
    if jobs == "one":
        return None
    here = connection.running()
    if here is None:
        if jobs == "each":
            raise ConfigError(
                "jobs: each needs a Ray that outlives this process, and none is running",
                "start one with `ray start --head`, set RAY_ADDRESS, or use `jobs: auto`",
            )
        if dashboard:
            watch.said("", f"Ray's dashboard: {connection.connect(dashboard).dashboard}")
        return None
    connected = connection.connect()
    if connected.dashboard is None and not connected.in_job:
        return None
    try:
        client = client_of(connected.dashboard)
    except (RuntimeError, OSError) as error:
        raise HyggeError(
            f"Ray runs at {connected.address}, and its jobs cannot be reached: {short(error)}",
            "each flow is a job of its own there: is its dashboard up, and the token its own? "
            "`jobs: one` (--jobs one) needs neither",
        ) from error
    return _Flows(client, file, fresh, watch, stop).run


_open: dict[str, Any] = {}
"""Jobs of this process that were not seen to end, also those that Ray may not have yet → client."""


def stop_open(within_s: float) -> None:
    """Ask every job that is not known to have ended to stop; for who leaves in a hurry.

    One that was submitted a moment ago may not be known yet, so it is asked for again.
    """
    until = time.monotonic() + within_s
    while _open and time.monotonic() < until:
        for job, client in list(_open.items()):
            with suppress(RuntimeError, OSError):
                client.stop_job(job)
                _open.pop(job, None)
        time.sleep(_LOOK_S)


class _Flows:
    """The flows of one run, as jobs."""

    def __init__(
        self,
        client: Any,
        file: FlowsFile,
        fresh: bool,
        watch: Watch,
        stop: threading.Event,
    ) -> None:
        self.client, self.file, self.fresh = client, file, fresh
        self.watch, self.stop = watch, stop
        self.in_job = connection.in_job()
        own = connection.own_job()
        self.runtime_env: dict[str, Any] = dict(own.get("runtime_env") or {})
        """The working directory, packages and variables that this job was submitted with are
        its flows' as well."""
        submission = (own.get("metadata") or {}).get("job_submission_id")
        self.run_id = submission or f"hygge-{uuid.uuid4().hex[:8]}"
        # In a job, its environment is the one that its flows have as well.
        here = {} if self.in_job else file.variables
        self.variables = {name: digest(name, value) for name, value in here.items()}
        self.request = uuid.uuid4().hex  # two commands of one job are two requests

    def run(self, spec: FlowSpec, told: Told) -> Sequence[Report]:
        """Until the flow has ended, whatever becomes of its drivers."""
        told, tries = replace(told, request=self.request, variables=self.variables), 0
        while True:
            tries += 1
            try:
                heard = self._tried(spec, replace(told, number=tries))
            except Stopped as error:
                return [Report(spec.name, "stopped", note=error.message)]
            again = not heard.said_why and heard.ended.status == "FAILED"
            if not again or tries > spec.limits.retries or self.stop.is_set():
                break
            self.watch.said(
                spec.name,
                f"its driver died: {heard.ended.why}; it goes on as try {tries + 1} of "
                f"{1 + spec.limits.retries}",
            )
            if self.stop.wait(backoff_s(tries + 2)):
                break
        reports = heard.reports or [_without_report(spec, heard, self.stop.is_set())]
        if tries > 1:
            note = f"its driver died and was started again ({tries} tries)"
            reports = [
                replace(each, note="; ".join(filter(None, (note, each.note)))) for each in reports
            ]
        for report in reports:
            self.watch.ended(report)
        return reports

    def _tried(self, spec: FlowSpec, told: Told) -> _Heard:
        job = f"hygge-{spec.name}-{uuid.uuid4().hex[:8]}"
        names = {FLOW: spec.name, FILE: os.path.basename(self.file.path), RUN: self.run_id}
        metadata = {**spec.tags, **names, **({TRY: str(told.number)} if told.number > 1 else {})}
        variables = {**(self.runtime_env.get("env_vars") or {}), CHILD: told.text(), **_debug()}
        if variables.get(STOP_WAIT):
            variables[STOP_WAIT] = str(_STOP_WAIT_S)  # the longer one is for who waits for these
        self.watch.began(spec.name, 1)
        _open[job] = self.client
        try:
            submitted(
                self.client,
                job,
                self.stop,
                entrypoint=self._command(spec),
                runtime_env={**self.runtime_env, "env_vars": variables},
                metadata=metadata,
            )
        except (RuntimeError, OSError) as error:
            raise HyggeError(
                f"Ray did not take the job {job}: {short(error)}",
                f"`hygge status {job}` tells whether it runs after all; `jobs: one` submits none",
            ) from error
        self.watch.said(spec.name, f"runs as Ray job {job}")
        return self._followed(spec, job)

    def _command(self, spec: FlowSpec) -> str:
        path = self.file.path
        if "://" not in path:
            # Inside a job the file came with the working directory; else it is on this machine.
            path = os.path.relpath(path) if self.in_job else os.path.abspath(path)
        wanted = [f"{spec.name}.{each}" for each in spec.tables.only] if spec.tables else []
        words = [sys.executable, "-m", "hygge", "run", path, "--select"]
        words += [",".join(wanted or [spec.name]), "--jobs", "one", "--json"]
        words += ["--log-format", "json", *(["--fresh"] if self.fresh else [])]
        return as_entrypoint(words)

    def _followed(self, spec: FlowSpec, job: str) -> _Heard:
        following, heard, asked = Following(self.client, job), _Heard(job), -_ASK_EVERY_S
        while True:
            if self.stop.is_set() and time.monotonic() - asked > _ASK_EVERY_S:
                with suppress(RuntimeError, OSError):  # it is asked again until it has ended
                    self.client.stop_job(job)
                asked = time.monotonic()
            for line in following.look():
                self._hear(spec, heard, line)
            if following.ended is not None:
                heard.ended = following.ended
                _open.pop(job, None)
                return heard
            if self.stop.is_set():
                time.sleep(0.1)
            else:
                self.stop.wait(following.pause_s())

    def _hear(self, spec: FlowSpec, heard: _Heard, line: str) -> None:
        told = event(line)
        if told is None:
            if (summary := report_from_json(line)) is not None:
                flows = summary.flows
                heard.reports = [each for each in flows if spec.name in (each.flow, each.of)]
            elif line and not of_ray(line):
                self.watch.said(spec.name, line)
        elif told["hygge_event"] == "error":
            heard.error = str(told["text"])
        elif told["hygge_event"] != "ended":  # the report tells it, once
            replay(told, self.watch)


@dataclass
class _Heard:
    """What a job said of itself."""

    job: str
    error: str = ""
    reports: list[Report] = field(default_factory=list)
    ended: Ended = field(default_factory=lambda: Ended("RUNNING", None, ""))

    @property
    def said_why(self) -> bool:
        """Whether its driver lived to say how it ended."""
        return bool(self.reports or self.error)


def _without_report(spec: FlowSpec, heard: _Heard, stopped: bool) -> Report:
    if stopped and not heard.said_why and heard.ended.status == "FAILED":
        return Report(spec.name, "stopped", note="its driver died, and no other was started")
    if heard.ended.status == "STOPPED":
        return Report(spec.name, "stopped", note=f"Ray job {heard.job} was stopped")
    if heard.error:
        message, _, hint = heard.error.partition("\n\nhint: ")
        return Report(spec.name, "failed", error=message, hint=hint or None)
    if heard.ended.status == "SUCCEEDED":  # what it did is done, and is not to be done again
        return Report(
            spec.name,
            "failed",
            error=f"Ray job {heard.job} ended well, but its report was not heard",
            hint=f"see `hygge logs {heard.job}` for what it said, and look into the store before "
            "you run it again",
        )
    return Report(
        spec.name,
        "failed",
        error=f"the driver of Ray job {heard.job} died: {heard.ended.why}",
        hint=f"see `hygge logs {heard.job}`; run it again when the cause is gone",
    )


def as_entrypoint(words: Sequence[str]) -> str:
    """A job's command; it takes the place of the shell that Ray starts it with.

    So it is the process that Ray signals and waits for, and its exit code that Ray tells.
    """
    return f"exec {shlex.join(words)}"


def _debug() -> dict[str, str]:
    return {name: os.environ[name] for name in ("HYGGE_DEBUG",) if os.environ.get(name)}
