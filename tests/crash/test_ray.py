"""Who is killed, and at which step, on a standing Ray: every row arrives once, old or new is seen.

The whole of it, at random, is `tests/crash/chaos.py`; here are chosen pairs, and with
`HYGGE_CRASH=all` (`make chaos`) more of them. A driver is killed at a step by its own hand
(SIGKILL), so that the step is exact; an actor when what it noted shows that it is at work.
Meanwhile a reader that is not hygge looks all the time.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import signal
import threading
from multiprocessing import forkserver
from pathlib import Path

import pytest

from tests.crash.growing import Growing
from tests.crash.points import ALL
from tests.servers.standing import standing_ray
from tests.waiting import LIMIT_S, join, until

KINDS = {
    "directory": "files to directory replace",
    "file": "files to file replace",
    "table": "table to table merge",
}
BEFORE_THE_DECISION = ("moving", "sealed")


@pytest.fixture
def grown(request, tmp_path):
    """A store of one generation, and a source of two; `dying` or whoever moves the second."""
    target = request.param
    growing = Growing(f"to_{target}", tmp_path, KINDS[target])
    growing.grow(random.Random(1), 600)
    growing.flow(engine="inline").run()
    growing.grow(random.Random(2), 600)
    for each in (tmp_path / "notes").iterdir():
        each.unlink()
    assert growing.judged(growing.seen()) == (0, "")
    return growing


class Looking(threading.Thread):
    """A reader that looks all the time, and notes what it saw that is not whole."""

    def __init__(self, growing: Growing) -> None:
        super().__init__(daemon=True)
        self.growing, self.over, self.wrong, self.looks = growing, threading.Event(), [], 0
        self.start()

    def run(self) -> None:
        last = 0
        while not (self.looks and self.over.wait(0.05)):
            try:
                generation, wrong = self.growing.judged(self.growing.seen())
            except Exception as error:
                generation, wrong = last, repr(error)
            if wrong or generation < last:
                self.wrong.append(wrong or f"back from {last} to {generation}")
            last, self.looks = max(last, generation), self.looks + 1

    def end(self) -> list[str]:
        self.over.set()
        self.join()
        assert self.looks
        return self.wrong


# Actors, under a driver that lives


# Each process, each step and each kind of store; then what repeats them in other pairs.
ACTORS = [("store", "sealed", "table")]
if ALL:
    ACTORS += [
        ("home", "reading", "directory"),
        ("store", "staging", "file"),
        ("inbox", "sealed", "directory"),
        ("store", "reading", "table"),
        ("inbox", "reading", "file"),
        ("home", "sealed", "file"),
    ]


@pytest.mark.parametrize(("who", "step", "grown"), ACTORS, indirect=["grown"])
@pytest.mark.usefixtures("ray_here")
def test_a_killed_actor_costs_no_row(who, step, grown, monkeypatch):
    from hygge.engine.ray.lane import Lane

    lanes, load = [], Lane.load

    def noting(self, *given):
        lanes.append(self)
        load(self, *given)

    monkeypatch.setattr(Lane, "load", noting)
    reports = []
    free = 1 if step == "sealed" else 0
    moving = threading.Thread(target=lambda: reports.append(grown.flow(free=free).run()))
    looking = Looking(grown)
    moving.start()

    def at_work() -> bool:
        assert moving.is_alive(), "it ended before its step"
        amid = all(len(grown.noted(each)) > free for each in ("reading", "stages"))
        return amid and bool(grown.sealed() if step == "sealed" else grown.noted(step))

    until(at_work, "its step does not come")
    sealed = grown.sealed()
    os.kill(pid_of(who, grown, lanes[-1]), signal.SIGKILL)
    grown.gate.touch()
    join(moving)
    assert looking.end() == []
    (report,) = reports
    assert report.retries >= 1, "nobody noticed the death"
    assert grown.judged(grown.seen()) == (1, "")
    reads = [int(split) for split, _ in grown.noted("reads")]
    assert [split for split in sealed if reads.count(split) != 1] == [], "sealed, and read again"


def pid_of(who: str, grown: Growing, lane) -> int:
    if who == "inbox":
        import ray

        return ray.get(lane.inbox.actor.__ray_call__.remote(lambda _: os.getpid()))
    # The two others are at work and answer no call, but have noted who they are.
    return int(grown.noted({"home": "reads", "store": "stages"}[who])[-1][1])


# Drivers


DRIVERS = [("decided", "directory")]
if ALL:
    DRIVERS += [
        ("sealed", "file"),
        ("moving", "table"),
        ("committed", "table"),
        ("moving", "directory"),
        ("moving", "file"),
        ("decided", "table"),
        ("committed", "directory"),
    ]


@pytest.fixture(scope="module")
def attached():
    """Processes that attach to the standing Ray, forked from one that has imported everything."""
    environ = standing_ray().environ
    before = dict(os.environ)
    os.environ.clear()
    os.environ.update(environ)
    forkserver.set_forkserver_preload(
        ["tests.crash.growing", "hygge.run.flow", "hygge.engine.ray.lanes", "ray"]
    )
    try:
        forkserver.ensure_running()
        yield multiprocessing.get_context("forkserver")
    finally:
        os.environ.clear()
        os.environ.update(before)


@pytest.mark.parametrize(("step", "grown"), DRIVERS, indirect=["grown"])
def test_a_killed_driver_costs_no_row_and_the_same_command_goes_on(step, grown, attached):
    looking = Looking(grown)
    assert drive(attached, grown, step)[0] == -signal.SIGKILL
    sealed = grown.sealed()
    assert len(sealed) >= 2 or step == "committed"
    code, report = drive(attached, grown, None)
    assert (code, report.get("error")) == (0, None)
    assert looking.end() == []
    assert grown.judged(grown.seen()) == (1, "")
    reads = [int(split) for split, _ in grown.noted("reads")]
    if step in BEFORE_THE_DECISION:
        assert report["resumed"] == len(sealed)
        assert [split for split in sealed if reads.count(split) != 1] == [], "read again"
        assert set(reads) == set(range(report["splits"]))
    else:
        # A merge reads the rows at its watermark again.
        is_merge = grown.kind.endswith("merge")
        assert "an earlier run" in report["note"] or report["rows"] == 0 or is_merge


def drive(attached, grown: Growing, dies: str | None) -> tuple[int, dict]:
    """Run the flow in a process of its own; its exit code and report."""
    driver = attached.Process(target=drives, args=(grown, dies))
    driver.start()
    driver.join(LIMIT_S)
    assert driver.exitcode is not None, "it hangs"
    told = grown.folder / "report.json"
    return driver.exitcode, json.loads(told.read_text()) if dies is None else {}


def drives(grown: Growing, dies: str | None) -> None:
    """In the driver: run, and die at a step."""
    from dataclasses import asdict

    from hygge.errors import FlowFailed
    from hygge.journal import FlowJournal, Lease
    from hygge.run.driver import Driver

    if dies == "moving":
        dying(FlowJournal, "seal", after=2)
    elif dies == "sealed":
        dying(FlowJournal, "decide", after=0)
    elif dies == "decided":
        dying(FlowJournal, "decide", after=1)
    elif dies == "committed":
        dying(Driver, "commit", after=1)
    else:
        Lease._observe = waits  # type: ignore[method-assign]
    try:
        report = grown.flow(pause_s=0.01).run()
    except FlowFailed as error:
        report = error.report
    Path(grown.folder, "report.json").write_text(json.dumps(asdict(report)))
    os._exit(0)  # Ray would take its time to say good-bye


def waits(*_: object) -> None:
    raise AssertionError("it waits for the beat of a driver that is gone")


def dying(owner: type, verb: str, after: int) -> None:
    """Kill this process when `verb` has returned `after` times; at its first call if never."""
    own, returned = getattr(owner, verb), []

    def call(self, *given, **more):
        if not after:
            os.kill(os.getpid(), signal.SIGKILL)
        result = own(self, *given, **more)
        returned.append(verb)
        if len(returned) == after:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(owner, verb, call)
