"""Runs on a Ray cluster, from the command line: submit, status, logs, stop, and following one.

The Coordinator is submitted as a Ray job and submits its flows from there, so what happens to this
process stops nothing: a closed laptop, SIGTERM, a lost connection. Ctrl-C means the run, and stops
it. What the run tells (`hygge.events`) is told here as if it ran here.
"""

from __future__ import annotations

import argparse
import re
import sys
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from hygge.engine import remote
from hygge.engine.following import Following, of_ray
from hygge.engine.jobs import FILE, FLOW, RUN, TRY
from hygge.engine.shipping import Package, packed
from hygge.errors import HyggeError, UsageError
from hygge.events import event, replay
from hygge.model import Summary
from hygge.progress import Watch
from hygge.words import REPORT_MARK, report_from_json

Print = Callable[[Summary, argparse.Namespace], None]
_SAY_SILENT_AFTER_S = 3.0
_NAMED = 5


def submit(arguments: argparse.Namespace, address: str, watch: Watch, report: Print) -> int:
    """Submit a run; unless `--no-wait`, follow it to its end. Gives the exit code."""
    far = "://" in arguments.file  # it is read there; nothing has to be shipped
    file = Path(arguments.file.rpartition("/")[2] if far else arguments.file)
    if arguments.inline or arguments.dashboard:
        word = "--inline" if arguments.inline else "--dashboard"
        raise UsageError(f"{word} is for a run of this machine", f"leave {word} or --address out")
    cluster = remote.Cluster(address)
    package = None if far else packed(file)
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


def status(arguments: argparse.Namespace) -> int:
    """What became of a run and its flows, or of every run."""
    cluster = remote.Cluster(remote.any_address(arguments.address))
    if arguments.id:
        job = cluster.job(arguments.id)
        lines = [_line(arguments.id, job)]
        lines += [f"  {_line(each.submission_id, each)}" for each in cluster.flows_of(arguments.id)]
    else:
        ours = [each for each in cluster.jobs() if remote.is_ours(each)]
        runs = [each for each in ours if FLOW not in each.metadata]
        known = {each.submission_id for each in runs}
        # A run that was not submitted by hygge itself has left its name with its flows.
        others = {each.metadata[RUN] for each in ours if RUN in each.metadata} - known
        lines = [_line(each.submission_id, each)
                 for each in sorted(runs, key=lambda each: each.start_time or 0)]  # fmt: skip
        lines += [_line(each, None) for each in sorted(others)]
    print("\n".join(lines) or "nothing was submitted there yet", flush=True)
    return 0


def logs(arguments: argparse.Namespace, watch: Watch, report: Print) -> int:
    """What a run, or one of its flows, has said; `--follow` until it has ended."""
    cluster = remote.Cluster(remote.any_address(arguments.address))
    if cluster.job(arguments.id) is None:
        flows = ", ".join(each.submission_id for each in cluster.flows_of(arguments.id)[-_NAMED:])
        raise HyggeError(
            f"{arguments.id} was driven from another machine, and told its progress there",
            f"its flows have logs: {flows}",
        )
    following, heard = Following(cluster.client, arguments.id), _Heard()
    while True:
        for line in following.look():
            _hear(line, heard, watch)
        if following.ended is not None or not arguments.follow:
            break
        time.sleep(following.pause_s())
    _close(watch)
    if heard.summary is not None:
        report(heard.summary, arguments)
    return _code(following, heard) if arguments.follow else 0


def stop(arguments: argparse.Namespace) -> int:
    """Stop a run and its flows; one that has ended already is no error."""
    cluster = remote.Cluster(remote.any_address(arguments.address))
    stopped = cluster.stop(arguments.id)
    for each in stopped:
        print(f"stopped  {each}", flush=True)
    if not stopped:
        print(f"{arguments.id} had ended already", file=sys.stderr)
    return 0


@dataclass
class _Heard:
    """What a run said of its end."""

    summary: Summary | None = None
    error: str = ""
    code: int = 1


def _followed(
    cluster: remote.Cluster, run: str, watch: Watch, arguments: argparse.Namespace, report: Print
) -> int:
    following, heard, stopping, said = Following(cluster.client, run), _Heard(), False, False
    while following.ended is None:
        try:
            for line in following.look():
                _hear(line, heard, watch)
            if following.silent_s > _SAY_SILENT_AFTER_S and not said:
                watch.said("", f"no answer from {cluster.address}; the run goes on there")
            said = following.silent_s > _SAY_SILENT_AFTER_S
            time.sleep(following.pause_s() if following.ended is None else 0)
        except KeyboardInterrupt:
            if stopping:
                watch.said("", f"{run} was asked to stop; `hygge status {run}` tells")
                raise
            stopping = True
            watch.said("", f"stopping {run}; Ctrl-C again leaves it to itself")
            cluster.ask_to_stop(run)
    if stopping:
        cluster.stop(run)  # flows that a Coordinator in haste could not wait for
    _close(watch)
    if heard.summary is not None:
        report(heard.summary, arguments)
    elif heard.error:
        message, _, hint = heard.error.partition("\n\nhint: ")
        raise (UsageError if heard.code == 2 else HyggeError)(message, hint or None)
    elif not stopping and following.ended.status != "STOPPED":
        raise _died(cluster, run, following)
    if stopping or following.ended.status == "STOPPED":
        if arguments.log_format == "text":  # the report tells it to programs
            print("stopped", file=sys.stderr)
        return 130
    return _code(following, heard)


def _hear(line: str, heard: _Heard, watch: Watch) -> None:
    told = event(line)
    if told is not None and told["hygge_event"] == "error":
        heard.error, heard.code = str(told["text"]), int(told["code"])
    elif told is not None:
        replay(told, watch)
    elif line.startswith(REPORT_MARK):
        heard.summary = report_from_json(line)
    elif line and not of_ray(line):
        watch.said("", line)


def _code(following: Following, heard: _Heard) -> int:
    if heard.summary is not None:
        return 0 if heard.summary.ok else 1
    if heard.error:
        return heard.code
    return 0 if following.ended is not None and following.ended.status == "SUCCEEDED" else 1


def _died(cluster: remote.Cluster, run: str, following: Following) -> HyggeError:
    """Why a run ended that said nothing about it."""
    assert following.ended is not None  # asked only then
    code = following.ended.code
    if code == 127:
        return HyggeError(
            "there is no `hygge` on the cluster's head node",
            "install the same hygge-data there: in the image, or in the environment of `ray start`",
        )
    if code == 2:
        return HyggeError(
            "the hygge on the cluster does not know what this one asks of it",
            "let both be the same version (`hygge --version`)",
        )
    left = [e.submission_id for e in cluster.flows_of(run) if not e.status.is_terminal()]
    goes_on = f"; these of its flows go on: {', '.join(left[:_NAMED])}" if left else ""
    return HyggeError(
        f"the run's coordinator {run} died: {following.ended.why}{goes_on}",
        f"`hygge logs {run}` shows what it said"
        + (f", `hygge stop {run}` ends its flows" if left else "")
        + "; running it again goes on where it stopped",
    )


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


def _line(name: str, job: Any) -> str:
    if job is None:
        return f"{name}  driven from another machine"
    about = job.metadata or {}
    parts = [name, job.status.value.lower(), about.get(FLOW) or about.get(FILE) or job.entrypoint]
    if TRY in about:
        parts.append(f"try {about[TRY]}")
    if job.start_time:
        parts.append(f"since {datetime.fromtimestamp(job.start_time / 1000):%Y-%m-%d %H:%M:%S}")
        if job.end_time:
            parts.append(f"{(job.end_time - job.start_time) / 1000:.0f} s")
    return "  ".join(parts)


def _quietly_stopped(cluster: remote.Cluster, run: str) -> None:
    try:
        cluster.stop(run)
    except HyggeError:
        return  # it had not been submitted yet


def _close(watch: Watch) -> None:
    getattr(watch, "close", lambda: None)()
