"""Any history of a flow: its source grows and changes its columns, drivers die, wake, lose state.

Hypothesis makes the histories, on real files and real processes (see `tests/crash/driver.py`).
After every step the store holds the source as of some run that committed; after a run that says it
is done, as it is now; and a reader that never rests, and uses nothing of hygge's, saw nothing else
meanwhile. `HYGGE_CRASH=all` tells many more of them.
"""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from tests.chaos import only_in_chaos
from tests.crash.points import ALL
from tests.crash.scenes import in_order, rows_of
from tests.crash.world import Drivers, World

pytestmark = only_in_chaos

POINTS = st.integers(0, 180)
SCENES = [
    "files to directory, replace",
    "directory, append by cursor",
    "SQLite, append by cursor",
    "SQLite, merge",
    "directory, replace",
    "file, replace",
]


class History(RuleBasedStateMachine):
    """One flow and its source; `held` is the stage that the store holds, -1: none."""

    drivers: Drivers
    twin = ""
    reading = 0

    @initialize(scene=st.sampled_from(SCENES))
    def begin(self, scene):
        memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
        self.folder = tempfile.TemporaryDirectory(dir=memory)
        self.world = World(self.drivers, scene, Path(self.folder.name), built=False)
        self.world.twin = self.twin
        self.stage, self.held, self.heard = 0, -1, 0
        self.world.grow(0)
        self.log = Path(self.folder.name) / "seen"
        self.reading = self.drivers.ask(
            do="watch", scene=scene, folder=str(self.world.here), log=str(self.log)
        )["watching"]

    def view(self, stage):
        return in_order(rows_of(self.world.scene, stage)) if stage >= 0 else []

    def settled(self, done=False):
        """What is held, and what the reader saw till then, is of some stage and never goes back."""
        lines = self.log.read_text().split("\n")[self.heard : -1] if self.log.exists() else []
        self.heard += len(lines)
        for seen in [*(in_order(json.loads(line)) for line in lines), self.world.seen()]:
            stages = range(self.held, self.stage + 1)
            found = [stage for stage in stages if self.view(stage) == seen]
            assert found, (list(stages), seen)
            self.held = found[0]
        assert not done or self.held == self.stage

    @rule()
    def it_runs(self):
        ended = self.world.run()
        assert ended.done, ended
        self.settled(done=True)

    @rule(point=POINTS)
    def a_driver_dies(self, point):
        self.world.run({point: "kill"})
        self.settled()

    @precondition(lambda self: self.stage < 4)
    @rule()
    def the_source_grows(self):
        self.stage += 1
        self.world.grow(self.stage)

    @rule(point=POINTS, grows=st.booleans())
    def a_second_runs_while_the_first_is_stopped(self, point, grows):
        first = self.world.run({point: "stop"})
        if grows and self.stage < 4:
            self.the_source_grows()
        second = self.world.run()
        assert second.done or second.blocked, second
        self.settled(second.done)
        if first.stopped:
            ended = self.world.go_on(first)
            assert ended.code in (0, 1), ended
            assert ended.done or second.done, (ended, second)
        self.settled(second.done)

    @precondition(lambda self: (self.world.here / "state").exists())
    @rule()
    def the_state_is_lost(self):
        self.world.lose_state()

    @precondition(lambda self: self.world.scene.source == "files")
    @rule()
    def the_columns_change_and_change_back(self):
        kept = {path: path.read_bytes() for path in (self.world.here / "source").iterdir()}
        for path in kept:
            table = pq.read_table(path)
            pq.write_table(table.append_column("more", pa.nulls(len(table), pa.int64())), path)
        ended = self.world.run()
        assert ended.done, ended
        self.settled(done=True)
        for path, content in kept.items():
            path.write_bytes(content)

    def teardown(self):
        if self.reading:
            self.drivers.ask(do="signal", pid=self.reading, signal="SIGKILL")
            self.folder.cleanup()


@pytest.fixture(scope="module")
def drivers():
    drivers = Drivers()
    yield drivers
    drivers.close()


def told(drivers, twin="", **more):
    """Run histories; raises what was wrong with one."""

    class Told(History):
        pass

    Told.drivers, Told.twin = drivers, twin
    case = Told.TestCase
    case.settings = settings(
        stateful_step_count=9,
        deadline=None,
        derandomize=True,
        database=None,
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate],  # to shrink takes minutes
        **more,
    )
    case().runTest()


def test_whatever_happens_the_store_is_the_source_as_of_a_committed_run(drivers):
    told(drivers, max_examples=600 if ALL else 25)


@pytest.mark.skipif(not ALL, reason="takes a minute; test_crash_twins.py has the quick ones")
def test_a_broken_twin_has_no_such_history(drivers):
    # A history that Hypothesis cannot repeat, as threads take turns otherwise, is a group.
    with pytest.raises((AssertionError, ExceptionGroup)):
        told(drivers, "receipts of another source", max_examples=400)
