"""Commands for runs on a Ray cluster: submit, status, logs and stop.

The Coordinator is submitted as a Ray job and submits its flows from there. So a closed laptop,
SIGTERM or a lost connection, which end this process, do not stop the run; Ctrl-C does. The events
of the run (`hygge.report.events`) are shown here as if it ran here.
"""

from __future__ import annotations

import argparse
import re
import sys
import time
import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from urllib.parse import urlsplit

from hygge.cli.follow import Follower
from hygge.config.paths import OBJECT_STORES
from hygge.config.shipped import check_places
from hygge.engine.jobs import cluster as remote
from hygge.engine.jobs.addresses import require_address
from hygge.engine.jobs.client import (
    FILE,
    FLOW,
    NAME,
    RUN,
    TRY,
    JobDetails,
    flow_names,
    is_from_hygge,
    metadata_of,
)
from hygge.engine.jobs.following import Following, is_ray_line
from hygge.engine.jobs.runtime_env import read_runtime_env
from hygge.engine.jobs.shipping import Package, make_package
from hygge.errors import HyggeError, UsageError
from hygge.model import Summary
from hygge.report.events import parse_event
from hygge.run.watch import Watch

PrintReport = Callable[[Summary, argparse.Namespace], None]
_STOP_WITHIN_S = 2.0
"""Seconds in which a job that was just submitted becomes known to Ray, or was not submitted."""
_NAMED = 5
"""Names that a message lists; of the rest it gives the number."""


def submit(
    arguments: argparse.Namespace, address: str, watch: Watch, print_report: PrintReport
) -> int:
    """Submit a run, and follow it to its end unless `--no-wait`; return the exit code."""
    if arguments.inline or arguments.dashboard:
        option = "--inline" if arguments.inline else "--dashboard"
        raise UsageError(
            f"{option} is for a run on this machine", f"leave {option} or --address out"
        )
    cluster, run = _start(arguments, address, watch, "run", _options_there(arguments))
    if arguments.no_wait:
        print(run, flush=True)
        return 0
    watch.said(
        "", f"{run} runs on {cluster.address}, also without this command: `hygge status {run}`"
    )
    return _follow(cluster, run, watch, arguments, print_report)


def ask(
    arguments: argparse.Namespace, address: str, watch: Watch, options: Sequence[str] = ()
) -> int:
    """Run a command that only looks as a job of the cluster, with `options`; print what it prints.

    So it sees the files, the variables and the drivers that a run there has. Returns its exit code.
    """
    words = [*_selection(arguments), *options]
    words += ["--debug"] if arguments.debug else []
    cluster, job = _start(arguments, address, watch, arguments.command, words)
    following, error = Following(cluster.client, job), None
    try:
        while following.ended is None:
            for line in following.read_lines():
                event = parse_event(line)
                if event is not None and event["hygge_event"] == "error":
                    error = event
                elif not is_ray_line(line):
                    print(line, flush=True)
            if following.ended is None:
                time.sleep(following.pause_s())
    except KeyboardInterrupt:
        cluster.request_stop(job)
        raise
    if error is not None:
        message, _, hint = str(error["text"]).partition("\n\nhint: ")
        raise (UsageError if error["code"] == 2 else HyggeError)(message, hint or None)
    if following.ended.status == "STOPPED":
        return 130
    code = following.ended.code
    if code is None or code < 0 or code == 127:
        raise HyggeError(
            f"`hygge {arguments.command}` did not end well on the cluster: {following.ended.why}",
            f"`hygge logs {job}` shows what it said",
        )
    return code


def _start(
    arguments: argparse.Namespace, address: str, watch: Watch, verb: str, words: Sequence[str]
) -> tuple[remote.Cluster, str]:
    """Ship the folder of the file and submit a command for it; return the cluster and the job."""
    is_url = "://" in arguments.file  # the cluster reads it; nothing has to be shipped
    file = Path(arguments.file.rpartition("/")[2] if is_url else arguments.file)
    if is_url:
        _check_url(arguments.file)
    runtime_env = read_runtime_env(arguments.runtime_env) if arguments.runtime_env else None
    if not is_url:
        check_places(file)
    cluster = remote.Cluster(address)
    package = None if is_url else make_package(file)
    warnings = cluster.warnings()
    if package is not None:
        warnings = [*warnings, *_not_shipped(package)]
    for warning in warnings:
        watch.said("", f"warning: {warning}")
    stem = re.sub(r"[^A-Za-z0-9_-]+", "-", file.stem).strip("-") or "flows"
    job = f"hygge-{stem}-{uuid.uuid4().hex[:8]}"
    try:
        name = arguments.file if is_url else file.name
        cluster.submit(job, name, words, package, runtime_env, verb)
    except KeyboardInterrupt:
        _stop_if_submitted(cluster, job)
        raise
    return cluster, job


def _check_url(url: str) -> None:
    """Raise UsageError for a URL that hygge cannot read, or that contains a secret.

    Ray shows the command of a job, and so the URL, to everybody who may see its jobs.
    """
    parts = urlsplit(url)
    if parts.scheme.lower() not in OBJECT_STORES:
        known = ", ".join(f"{scheme}://" for scheme in OBJECT_STORES)
        raise UsageError(
            f"{parts.scheme}:// is no URL that hygge reads a file from",
            f"name a file, or the URL of an object: {known}",
        )
    # In abfss://container@account the container is no user.
    user = parts.password or (parts.username and parts.scheme.lower() != "abfss")
    if user or parts.query or parts.fragment:
        raise UsageError(
            "the URL of the file holds a user, a password or a signature, which Ray would show to "
            "whoever asks for its jobs",
            f"{parts.scheme}://bucket/flows.yml alone; the cluster's nodes have what opens it",
        )


def status(arguments: argparse.Namespace) -> int:
    """Print the state of a run and its flows, or of every run; return the exit code."""
    cluster = remote.Cluster(require_address(arguments.address))
    if arguments.id:
        job = cluster.find_job(arguments.id)
        lines = [_line(arguments.id, job, find_wait(cluster, job))]
        flows = cluster.list_flow_jobs(arguments.id)
        for flow in flows:
            lines.append(f"  {_line(flow.submission_id, flow, find_wait(cluster, flow))}")
            lines += _flow_lines(cluster, flow)
    else:
        jobs = [job for job in cluster.list_jobs() if is_from_hygge(job)]
        runs = [job for job in jobs if FLOW not in metadata_of(job)]
        runs.sort(key=lambda job: job.start_time or 0)
        # A run that hygge did not submit is known only by the metadata of its flows.
        metadata = [metadata_of(job) for job in jobs]
        names = {facts[RUN] for facts in metadata if RUN in facts}
        others = names - {run.submission_id for run in runs}
        lines = [_line(run.submission_id, run, find_wait(cluster, run)) for run in runs]
        lines += [_line(name, None) for name in sorted(others)]
    print("\n".join(lines) or "nothing was submitted there yet", flush=True)
    return 0


def logs(arguments: argparse.Namespace, watch: Watch, print_report: PrintReport) -> int:
    """Print the log of a run or of one of its flows, with `--follow` to its end.

    Returns the exit code.
    """
    cluster = remote.Cluster(require_address(arguments.address))
    job = cluster.find_job(arguments.id)
    if job is None:
        last = cluster.list_flow_jobs(arguments.id)[-_NAMED:]
        flows = ", ".join(flow.submission_id for flow in last)
        raise HyggeError(
            f"{arguments.id} was driven from another machine, and showed its progress there",
            f"its flows have logs: {flows}",
        )
    follower = Follower(cluster, arguments.id, watch)
    if not arguments.follow:
        follower.look()
        if silence := follower.following.silence:  # it is lost, where its node has died
            watch.said("", f"the log of {arguments.id} cannot be read: {silence}")
    elif not follower.follow(_stop_following):
        watch.said("", f"{arguments.id} is followed no more, and goes on")
        watch.close()
        return 130
    try:
        code = follower.end(
            lambda summary: print_report(summary, arguments), has_report=is_from_hygge(job)
        )
    except HyggeError as error:
        if arguments.follow:
            raise
        watch.said("", f"error: {error}")
        return 0
    return code if arguments.follow else 0


def _stop_following() -> None:
    raise KeyboardInterrupt


def stop(arguments: argparse.Namespace) -> int:
    """Stop a run and its flows, and print which were stopped; return the exit code.

    A run that has ended already is no error.
    """
    cluster = remote.Cluster(require_address(arguments.address))
    stopped = cluster.stop(arguments.id)
    for name in stopped:
        print(f"stopped  {name}", flush=True)
    if not stopped:
        print(f"{arguments.id} had ended already", file=sys.stderr)
    return 0


def _follow(
    cluster: remote.Cluster,
    run: str,
    watch: Watch,
    arguments: argparse.Namespace,
    print_report: PrintReport,
) -> int:
    """Follow a run that was just submitted; Ctrl-C stops it. Returns the exit code."""
    follower = Follower(cluster, run, watch)

    def stop_run() -> None:
        watch.said("", f"stopping {run}; Ctrl-C again leaves it to itself")
        cluster.request_stop(run)
        follower.asked_to_stop = True

    if not follower.follow(stop_run):
        state = "was not asked to stop, and goes on"
        if follower.asked_to_stop:
            state = "was asked to stop"
        watch.said("", f"{run} {state}; `hygge status {run}` tells, `hygge stop {run}` stops it")
        watch.close()
        return 130
    if follower.asked_to_stop:
        cluster.stop(run)  # also flows that its Coordinator had no time to wait for
    code = follower.end(lambda summary: print_report(summary, arguments), has_report=True)
    if code == 130 and arguments.log_format == "text":  # programs find it in the report
        print("stopped", file=sys.stderr)
    return code


def _options_there(arguments: argparse.Namespace) -> list[str]:
    """Return the options of the command that runs on the cluster."""
    options = ["--json", "--log-format", "json", *_selection(arguments)]
    if arguments.jobs:
        options += ["--jobs", arguments.jobs]
    if arguments.fresh:
        options.append("--fresh")
    if arguments.debug:
        options.append("--debug")
    return options


def _selection(arguments: argparse.Namespace) -> list[str]:
    """Return the options that choose flows, as they were given."""
    select = [word for flows in arguments.select for word in ("--select", flows)]
    return select + [word for flows in arguments.exclude for word in ("--exclude", flows)]


def _not_shipped(package: Package) -> list[str]:
    """Return a warning about files that stay here because they may contain secrets."""
    if not package.secrets:
        return []
    names = ", ".join(package.secrets[:_NAMED])
    if len(package.secrets) > _NAMED:
        names += f" and {len(package.secrets) - _NAMED} more"
    return [
        f"not shipped, as secrets may be in it: {names}; "
        "Ray keeps what is shipped in clear. Set the variables of such a file on the cluster's "
        "nodes, or read them there with ${file:/run/secrets/…}"
    ]


def find_wait(cluster: remote.Cluster, job: JobDetails | None) -> str:
    """Return what a running job waits for, as its log says; "" where a lane of it works."""
    if job is None or job.status.value != "RUNNING":
        return ""
    try:
        log = cluster.client.get_job_logs(job.submission_id)
    except (RuntimeError, OSError):
        return ""  # its state is known all the same
    waits: dict[str, str] = {}
    for line in log.splitlines():
        event = parse_event(line) or {}
        if event.get("hygge_event") == "moved":
            waits[event["flow"]] = "" if event.get("lanes") else event.get("waits_for", "")
        elif event.get("hygge_event") == "ended":
            waits.pop(event["flow"], None)
    return next(iter(waits.values()), "") if all(waits.values()) else ""


def _flow_lines(cluster: remote.Cluster, job: JobDetails) -> list[str]:
    """Return a line for each flow of a job that several share, as its log says."""
    names = flow_names(job)
    if len(names) < 2:
        return []
    states = dict.fromkeys(names, "waiting")
    with suppress(RuntimeError, OSError):  # the job is shown all the same
        for line in cluster.client.get_job_logs(job.submission_id).splitlines():
            event = parse_event(line) or {}
            if event.get("hygge_event") in ("began", "moved"):
                states[event["flow"]] = "running"
            elif event.get("hygge_event") == "ended":
                states[event["flow"]] = event["report"]["status"]
    if job.status.is_terminal():  # it was killed, or its driver died
        left = job.status.value.lower()
        states = {n: left if s in ("waiting", "running") else s for n, s in states.items()}
    return [f"    {name}  {states[name]}" for name in names]


def _line(name: str, job: JobDetails | None, waits_for: str = "") -> str:
    """Return one line about a job; None: Ray has no such job."""
    if job is None:
        return f"{name}  driven from another machine"
    metadata = metadata_of(job)
    what = metadata.get(FLOW) or metadata.get(FILE) or job.entrypoint
    if "," in metadata.get(FLOW, ""):  # several flows share it
        what = metadata.get(NAME, what)
    state = f"waiting for {waits_for}" if waits_for else job.status.value.lower()
    parts = [name, state, what]
    if TRY in metadata:
        parts.append(f"try {metadata[TRY]}")
    if job.start_time:
        parts.append(f"since {datetime.fromtimestamp(job.start_time / 1000):%Y-%m-%d %H:%M:%S}")
        if job.end_time:
            parts.append(f"{(job.end_time - job.start_time) / 1000:.0f} s")
    return "  ".join(parts)


def _stop_if_submitted(cluster: remote.Cluster, run: str) -> None:
    """Stop a run whose submission was interrupted."""
    until = time.monotonic() + _STOP_WITHIN_S
    while time.monotonic() < until:
        with suppress(HyggeError):  # Ray does not know it yet, or it was not submitted
            cluster.stop(run)
            return
        time.sleep(0.2)
