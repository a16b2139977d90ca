"""A warm process without Ray, which forks a driver for each request and lets it die as told.

Requests and answers are one JSON line each; `tests/crash/world.py` speaks to it. Trust in the lease
is switched off here, for all drivers: every holder counts as gone, and no beat is heard, so
whatever holds holds without it. Locks of a living driver are waited for only shortly.
"""

from __future__ import annotations

import functools
import json
import os
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from hygge.connectors.duckdb import session as duckdb_session
from hygge.connectors.files import publish
from hygge.connectors.sqlite import session
from hygge.errors import FlowFailed
from hygge.journal import lease
from tests.crash import broken_journal
from tests.crash.points import numbered, unnumbered
from tests.crash.power import record
from tests.crash.scenes import EVERY, flow, grow, seen
from tests.waiting import LIMIT_S

_pipes: dict[int, int] = {}


def without_trust() -> None:
    """What the docstring says of leases and locks."""
    lease._is_gone = lambda held: True  # type: ignore[assignment]
    lease.BEAT_S = 1e6
    publish.one_at_a_time = functools.partial(publish.one_at_a_time, wait_s=0.2)  # type: ignore[assignment]
    session.BUSY_S = 0.2
    duckdb_session.LOCK_WAIT_S = 0.2


def forked(work: Any) -> int:
    """`work` in a child, which is handed what it may write its answer to; gives its pid."""
    read, write = os.pipe()
    child = os.fork()
    if child:
        os.close(write)
        _pipes[child] = read
        return child
    os.close(read)
    code = 1
    try:
        with os.fdopen(write, "w", buffering=1) as out:
            code = work(lambda **facts: out.write(json.dumps(facts) + "\n"))
    finally:
        os._exit(code)


def driver(asked: dict[str, Any]) -> Any:
    def work(tell: Any) -> int:
        scene = EVERY[asked["scene"]]
        if asked["twin"]:
            broken_journal.TWINS[asked["twin"]]()
        moving = flow(scene, Path(asked["folder"]), **asked["more"])
        read, reads = moving.home.read, []
        moving.home.read = lambda split: reads.append(split.index) or read(split)
        if asked["log"]:
            record(Path(asked["log"]))
        points = numbered(asked["at"], lambda call: tell(call=call))
        try:
            report = moving.run()
            code, facts = 0, {"rows": report.rows, "resumed": report.resumed, "run": report.run}
        except FlowFailed as error:
            code, facts = 1, {"error": str(error)}
        except BaseException as error:
            code, facts = 2, {"error": repr(error)}
        unnumbered()
        tell(points=points(), reads=reads, **facts)
        return code

    return work


def watcher(asked: dict[str, Any]) -> Any:
    """A reader that never rests: each view that differs from the one before is a line of `log`."""

    def work(tell: Any) -> int:
        last = None
        with open(asked["log"], "w", buffering=1) as log:
            while True:
                try:
                    view = seen(EVERY[asked["scene"]], Path(asked["folder"]))
                except FileNotFoundError:  # what it listed was replaced before it was opened
                    continue
                except Exception as error:
                    view = repr(error)
                if view != last:
                    log.write(json.dumps(view) + "\n")
                    last = view
                time.sleep(0.002)

    return work


def ended(pid: int) -> dict[str, Any]:
    """How a child came to an end, or to a stop."""
    until = time.monotonic() + LIMIT_S
    while True:
        found, status = os.waitpid(pid, os.WNOHANG | os.WUNTRACED)
        if found:
            break
        if time.monotonic() > until:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            status = -1
            break
        time.sleep(0.001)
    if status >= 0 and os.WIFSTOPPED(status):
        return {"stopped": pid}
    with os.fdopen(_pipes.pop(pid)) as answer:
        facts = {key: value for line in answer for key, value in json.loads(line).items()}
    code = None if status < 0 else os.waitstatus_to_exitcode(status)
    return {**facts, "code": code}


def answer(asked: dict[str, Any]) -> dict[str, Any]:
    if asked["do"] == "run":
        return ended(forked(driver(asked)))
    if asked["do"] == "watch":
        return {"watching": forked(watcher(asked))}
    os.kill(asked["pid"], getattr(signal, asked["signal"]))
    return ended(asked["pid"])


def warm() -> None:
    """Run what there is once here, so that no child has to import anything."""
    for name in ("files to directory, replace", "file, replace", "SQLite, merge", "DuckDB, merge"):
        with tempfile.TemporaryDirectory() as folder:
            grow(EVERY[name], Path(folder), 0)
            flow(EVERY[name], Path(folder)).run()
            seen(EVERY[name], Path(folder))


if __name__ == "__main__":
    warm()
    without_trust()
    for line in sys.stdin:
        sys.stdout.write(json.dumps(answer(json.loads(line))) + "\n")
        sys.stdout.flush()
    for left in _pipes:
        os.kill(left, signal.SIGKILL)
