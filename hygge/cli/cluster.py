"""Runs on a Ray cluster, from the command line: submit, status, logs, stop, and following one.

The Coordinator is submitted as a Ray job and submits its flows from there, so what happens to this
process stops nothing: a closed laptop, SIGTERM, a lost connection. Ctrl-C means the run, and stops
it. What the run tells (`hygge.report.events`) is told here as if it ran here.
"""

from __future__ import annotations

import argparse
import re
import sys
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from urllib.parse import urlsplit

from hygge.cli.follow import Follower
from hygge.config.paths import OBJECT_STORES
from hygge.engine.jobs import cluster as remote
from hygge.engine.jobs.client import (
    FILE,
    FLOW,
    RUN,
    TRY,
    JobDetails,
    is_from_hygge,
    metadata_of,
)
from hygge.engine.jobs.shipping import Package, make_package
from hygge.errors import HyggeError, UsageError
from hygge.model import Summary
from hygge.run.watch import Watch

Print = Callable[[Summary, argparse.Namespace], None]
_UNKNOWN_FOR_S = 2.0
_NAMED = 5


def submit(arguments: argparse.Namespace, address: str, watch: Watch, report: Print) -> int:
    """Submit a run; unless `--no-wait`, follow it to its end. Gives the exit code."""
    far = "://" in arguments.file  # it is read there; nothing has to be shipped
    file = Path(arguments.file.rpartition("/")[2] if far else arguments.file)
    if far:
        _check_url(arguments.file)
    if arguments.inline or arguments.dashboard:
        word = "--inline" if arguments.inline else "--dashboard"
        raise UsageError(f"{word} is for a run of this machine", f"leave {word} or --address out")
    cluster = remote.Cluster(address)
    package = None if far else make_package(file)
    for warning in [*cluster.warnings(), *(_stays(package) if package else ())]:
        watch.said("", f"warning: {warning}")
    stem = re.sub(r"[^A-Za-z0-9_-]+", "-", file.stem).strip("-") or "flows"
    run = f"hygge-{stem}-{uuid.uuid4().hex[:8]}"
    try:
        cluster.submit(run, arguments.file if far else file.name, _words(arguments), package)
    except KeyboardInterrupt:
        _quietly_stopped(cluster, run)
        raise
    if arguments.no_wait:
        print(run, flush=True)
        return 0
    watch.said(
        "", f"{run} runs on {cluster.address}, also without this command: `hygge status {run}`"
    )
    return _followed(cluster, run, watch, arguments, report)


def _check_url(url: str) -> None:
    """It stands in the job's command, in clear; raises UsageError where that tells a secret."""
    parts = urlsplit(url)
    if parts.scheme.lower() not in OBJECT_STORES:
        known = ", ".join(f"{each}://" for each in OBJECT_STORES)
        raise UsageError(
            f"{parts.scheme}:// is no URL that hygge reads a file from",
            f"name a file, or the URL of an object: {known}",
        )
    # abfss://container@account is no user.
    user = parts.password or (parts.username and parts.scheme.lower() != "abfss")
    if user or parts.query or parts.fragment:
        raise UsageError(
            "the URL of the file holds a user, a password or a signature, which Ray would show to "
            "whoever asks for its jobs",
            f"{parts.scheme}://bucket/flows.yml alone; the cluster's nodes have what opens it",
        )


def status(arguments: argparse.Namespace) -> int:
    """What became of a run and its flows, or of every run."""
    cluster = remote.Cluster(remote.require_address(arguments.address))
    if arguments.id:
        job = cluster.find_job(arguments.id)
        lines = [_line(arguments.id, job)]
        lines += [
            f"  {_line(each.submission_id, each)}" for each in cluster.list_flow_jobs(arguments.id)
        ]
    else:
        ours = [each for each in cluster.list_jobs() if is_from_hygge(each)]
        runs = [each for each in ours if FLOW not in metadata_of(each)]
        known = {each.submission_id for each in runs}
        # A run that was not submitted by hygge itself has left its name with its flows.
        others = {metadata_of(each)[RUN] for each in ours if RUN in metadata_of(each)} - known
        lines = [_line(each.submission_id, each)
                 for each in sorted(runs, key=lambda each: each.start_time or 0)]  # fmt: skip
        lines += [_line(each, None) for each in sorted(others)]
    print("\n".join(lines) or "nothing was submitted there yet", flush=True)
    return 0


def logs(arguments: argparse.Namespace, watch: Watch, report: Print) -> int:
    """What a run, or one of its flows, has said; `--follow` until it has ended."""
    cluster = remote.Cluster(remote.require_address(arguments.address))
    job = cluster.find_job(arguments.id)
    if job is None:
        flows = ", ".join(
            each.submission_id for each in cluster.list_flow_jobs(arguments.id)[-_NAMED:]
        )
        raise HyggeError(
            f"{arguments.id} was driven from another machine, and told its progress there",
            f"its flows have logs: {flows}",
        )
    follower = Follower(cluster, arguments.id, watch)
    if not arguments.follow:
        follower.look()
    elif not follower.follow(_leave):
        watch.said("", f"{arguments.id} is followed no more, and goes on")
        watch.close()
        return 130
    try:
        code = follower.end(lambda each: report(each, arguments), mine=is_from_hygge(job))
    except HyggeError as error:
        if arguments.follow:
            raise
        watch.said("", f"error: {error}")
        return 0
    return code if arguments.follow else 0


def _leave() -> None:
    raise KeyboardInterrupt


def stop(arguments: argparse.Namespace) -> int:
    """Stop a run and its flows; one that has ended already is no error."""
    cluster = remote.Cluster(remote.require_address(arguments.address))
    stopped = cluster.stop(arguments.id)
    for each in stopped:
        print(f"stopped  {each}", flush=True)
    if not stopped:
        print(f"{arguments.id} had ended already", file=sys.stderr)
    return 0


def _followed(
    cluster: remote.Cluster, run: str, watch: Watch, arguments: argparse.Namespace, report: Print
) -> int:
    follower = Follower(cluster, run, watch)

    def stop_it() -> None:
        watch.said("", f"stopping {run}; Ctrl-C again leaves it to itself")
        cluster.request_stop(run)
        follower.asked = True

    if not follower.follow(stop_it):
        asked = "was asked to stop" if follower.asked else "was not asked to stop, and goes on"
        watch.said("", f"{run} {asked}; `hygge status {run}` tells, `hygge stop {run}` stops it")
        watch.close()
        return 130
    if follower.asked:
        cluster.stop(run)  # flows that a Coordinator in haste could not wait for
    code = follower.end(lambda summary: report(summary, arguments), mine=True)
    if code == 130 and arguments.log_format == "text":  # the report tells it to programs
        print("stopped", file=sys.stderr)
    return code


def _words(arguments: argparse.Namespace) -> list[str]:
    words = ["--json", "--log-format", "json"]
    for each in arguments.select:
        words += ["--select", each]
    words += ["--jobs", arguments.jobs] if arguments.jobs else []
    words += ["--fresh"] if arguments.fresh else []
    return words + (["--debug"] if arguments.debug else [])


def _stays(package: Package) -> list[str]:
    if not package.secrets:
        return []
    named = ", ".join(package.secrets[:_NAMED])
    more = len(package.secrets) - _NAMED
    return [
        f"not shipped, as secrets may be in it: {named}{f' and {more} more' if more > 0 else ''}; "
        "Ray keeps what is shipped in clear. Set the variables of such a file on the cluster's "
        "nodes, or read them there with ${file:/run/secrets/…}"
    ]


def _line(name: str, job: JobDetails | None) -> str:
    if job is None:
        return f"{name}  driven from another machine"
    about = metadata_of(job)
    parts = [name, job.status.value.lower(), about.get(FLOW) or about.get(FILE) or job.entrypoint]
    if TRY in about:
        parts.append(f"try {about[TRY]}")
    if job.start_time:
        parts.append(f"since {datetime.fromtimestamp(job.start_time / 1000):%Y-%m-%d %H:%M:%S}")
        if job.end_time:
            parts.append(f"{(job.end_time - job.start_time) / 1000:.0f} s")
    return "  ".join(parts)


def _quietly_stopped(cluster: remote.Cluster, run: str) -> None:
    until = time.monotonic() + _UNKNOWN_FOR_S
    while time.monotonic() < until:
        with suppress(HyggeError):  # it is not there yet, or was not submitted
            cluster.stop(run)
            return
        time.sleep(0.2)
