"""The CPUs of a lane's actors, and idle lanes when Ray ends."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
import weakref
from pathlib import Path

import pytest

from hygge.engine.ray import lanes
from hygge.engine.ray.placement import divide_cpus
from tests.chaos import only_in_chaos
from tests.servers.standing import standing_ray
from tests.waiting import LIMIT_S


def _in_ray(amount: float) -> int:
    """Return the amount in ten-thousandths, as Ray counts it."""
    return int(amount * 10_000 + 0.5)


def test_the_actors_of_a_lane_never_take_more_than_its_bundle():
    for thousandths in range(10, 4001):
        cpus = thousandths / 1000
        end, inbox = divide_cpus(cpus)
        assert 2 * _in_ray(end) + _in_ray(inbox) <= _in_ray(cpus), cpus
        assert 0 < inbox <= end, cpus


def test_a_ray_is_not_left_while_an_idle_lane_of_it_is_put_down():
    """A call to a Ray that has ended would end the process, with code 1 and without a message."""
    order: list[str] = []
    begun = threading.Event()

    class Leaving:
        idle_s, idle_since, has_timer = 0.0, 0.0, True

        def kill(self, keep_bundle: bool) -> None:
            begun.set()
            time.sleep(0.3)
            order.append("down")

    lane = Leaving()
    lanes._idle.append(lane)
    timer = threading.Thread(target=lanes._check_idle, args=[weakref.ref(lane)])
    timer.start()
    assert begun.wait(LIMIT_S)
    lanes.forget_lanes()  # which `disconnect` does before it leaves
    order.append("left")
    timer.join()
    assert order == ["down", "left"]


# Ray ends in two steps. The process ends with code 1 if another thread drops a result between them.
# Here the timers of idle lanes go off between them.
LEFT = """
import os, sys, threading
import pyarrow as pa, pyarrow.parquet as pq, ray
from hygge import Flow, Limits, ParquetHome, ParquetStore
from hygge.engine.ray import connection, lanes

ending = threading.Event()

class Timer(threading.Timer):
    def run(self):
        ending.wait()  # and only then the time that it is set to
        super().run()

class Threads:
    Timer = Timer
    def __getattr__(self, name):
        return getattr(threading, name)

lanes.threading = Threads()

class Slow:
    def __init__(self, core):
        self.__dict__["core"] = core
    def __getattr__(self, name):
        return getattr(self.core, name)
    def shutdown_driver(self):
        self.core.shutdown_driver()
        ending.set()
        timers = [each for each in threading.enumerate() if isinstance(each, threading.Timer)]
        for timer in timers:
            timer.join(600)
        print(len(timers), [each.is_alive() for each in timers].count(True), flush=True)

pq.write_table(pa.table({"a": [1, 2, 3]}), "a.parquet")
limits = Limits(memory_per_lane=64 << 20)
Flow(ParquetHome(path="a.parquet"), ParquetStore(path="lake"), name="one", limits=limits).run()
assert lanes._idle
worker = ray._private.worker.global_worker
worker.core_worker = Slow(worker.core_worker)
if sys.argv[1] == "by hygge":
    connection.disconnect()
if sys.argv[1] == "by its user":
    ray.shutdown()
"""


@pytest.mark.parametrize(
    "who",
    [
        pytest.param("by hygge", marks=only_in_chaos),
        pytest.param("by its user", marks=only_in_chaos),
        "at exit",
    ],
)
def test_a_process_that_leaves_ray_while_lanes_are_idle_ends_well(who: str, tmp_path: Path):
    # Of a Ray of its own the process is the last to leave; to start one each time takes seconds.
    around = dict(os.environ) if who == "by hygge" else standing_ray().environ
    ran = subprocess.run(
        [sys.executable, "-c", LEFT, who],
        cwd=tmp_path,
        env={**around, "HYGGE_STATE": str(tmp_path / "state")},
        capture_output=True,
        text=True,
        timeout=2 * LIMIT_S,
    )
    assert ran.returncode == 0, (ran.stdout, ran.stderr)
    assert ran.stdout.split() == ["1", "0"], "one timer went off in that moment"
