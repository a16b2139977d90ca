"""Flows as Ray jobs: each with its own log, status and stop in Ray's own tools.

`submitter` decides whether that is what happens: on a Ray that outlives this process yes (unless
`jobs: one`), on the private Ray of a laptop no. A job runs `hygge run <file> --select <flow>` and
prints its report as one JSON line, which the parent reads from the job's log. Nothing secret goes
into an entrypoint, metadata or runtime_env: a job reads the file and its environment itself. The
tables of one flow are one job.
"""

from __future__ import annotations

import os
import re
import shlex
import sys
import threading
import uuid
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from hygge.engine import connection
from hygge.errors import ConfigError
from hygge.model import Report
from hygge.progress import Watch
from hygge.words import REPORT_MARK, report_from_json

if TYPE_CHECKING:
    from hygge.config.flows import FlowsFile, FlowSpec

_LOOK_EVERY_S = 0.5
_MISSES = 20


def submitter(
    jobs: str,
    file: FlowsFile,
    dashboard: bool,
    fresh: bool,
    watch: Watch,
    stop: threading.Event,
    child: str,
) -> Callable[[FlowSpec, str], Sequence[Report]] | None:
    """A function that runs a flow as a Ray job, or None where flows stay in this process.

    It takes the flow and what the job finds in the variable `child`, and gives the report of the
    flow, or those of its tables.
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

    def run(spec: FlowSpec, told: str) -> Sequence[Report]:
        return _run(connected, file, spec, fresh, watch, stop, {child: told})

    return run


def _run(
    connected: connection.Connected,
    file: FlowsFile,
    spec: FlowSpec,
    fresh: bool,
    watch: Watch,
    stop: threading.Event,
    told: dict[str, str],
) -> Sequence[Report]:
    from ray.job_submission import JobStatus, JobSubmissionClient

    client = JobSubmissionClient(connected.dashboard)
    job = f"hygge-{spec.name}-{uuid.uuid4().hex[:8]}"
    command = [sys.executable, "-m", "hygge", "run", _path(connected, file)]
    wanted = [f"{spec.name}.{each}" for each in spec.tables.only] if spec.tables else []
    words = ["--select", ",".join(wanted or [spec.name]), "--json", "--jobs", "one"]
    words += ["--fresh"] if fresh else []
    client.submit_job(
        entrypoint=shlex.join([*command, *words]),
        submission_id=job,
        runtime_env={**_inherited(connected), "env_vars": {**told, **_debug()}},
        metadata={"hygge_flow": spec.name, "hygge_file": os.path.basename(file.path)},
    )
    watch.began(spec.name, 1)
    watch.said(spec.name, f"runs as Ray job {job}")
    heard = missed = 0
    asked_to_stop = False
    while True:
        try:
            status = client.get_job_status(job)
            lines = client.get_job_logs(job).splitlines()
        except (RuntimeError, OSError):  # the dashboard did not answer; the job goes on
            missed += 1
            if missed > _MISSES:
                raise
            stop.wait(_LOOK_EVERY_S * missed)
            continue
        missed = 0
        for line in lines[heard:]:
            if not line.startswith(REPORT_MARK) and not _of_ray(line):
                watch.said("", f"{line}" if line.startswith(spec.name) else f"{spec.name}: {line}")
        heard = len(lines)
        if status.is_terminal():
            break
        if stop.is_set() and not asked_to_stop:
            asked_to_stop = True
            client.stop_job(job)
        stop.wait(0.1 if asked_to_stop else _LOOK_EVERY_S)
    reports = _reports(lines, spec)
    if not reports:
        stopped = status == JobStatus.STOPPED
        message = client.get_job_info(job).message or "no message"
        report = Report(
            spec.name,
            "stopped" if stopped else "failed",
            error=f"Ray job {job} ended as {status} without a report: {message}",
            hint=f"see `ray job logs {job}`",
        )
        reports = [report]
    for report in reports:
        watch.ended(report)
    return reports


def _debug() -> dict[str, str]:
    return {name: os.environ[name] for name in ("HYGGE_DEBUG",) if os.environ.get(name)}


def _reports(lines: list[str], spec: FlowSpec) -> list[Report]:
    for line in reversed(lines):
        if line.startswith(REPORT_MARK):
            flows = report_from_json(line).flows
            return [each for each in flows if spec.name in (each.flow, each.of)]
    return []


def _path(connected: connection.Connected, file: FlowsFile) -> str:
    """Inside a job the file came with the working directory; elsewhere it is on this machine."""
    if "://" in file.path:
        return file.path
    return os.path.relpath(file.path) if connected.in_job else os.path.abspath(file.path)


def _inherited(connected: connection.Connected) -> dict[str, Any]:
    """The working directory that this job was submitted with is its flows' as well."""
    if not connected.in_job:
        return {}
    import ray

    mine = ray.get_runtime_context().runtime_env
    return {"working_dir": mine["working_dir"]} if mine.get("working_dir") else {}


def _of_ray(line: str) -> bool:
    """Whether Ray itself wrote a line of a job's log."""
    noted = re.search(r"\sINFO\s", line) is not None
    return noted or line.startswith(("Running entrypoint", "Runtime env"))
