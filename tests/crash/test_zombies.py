"""A driver that was taken for dead lives: it is stopped at a point, and goes on too late.

Nobody trusts a lease in these tests. A sample of the points is tried, `HYGGE_CRASH=all` tries all.
"""

from __future__ import annotations

import json

import pytest

from tests.chaos import only_in_chaos
from tests.crash.promises import woken
from tests.crash.scenes import SCENES
from tests.crash.world import worlds  # noqa: F401  # a fixture

pytestmark = only_in_chaos


@pytest.mark.parametrize("scene", SCENES)
def test_a_driver_that_wakes_after_the_winner_changes_nothing(scene, worlds):  # noqa: F811
    world = worlds(scene)
    assert list(woken(world, world.sample(4))) == []


@pytest.mark.parametrize("scene", SCENES)
def test_a_driver_that_wakes_after_a_newer_run_changes_nothing(scene, worlds):  # noqa: F811
    world = worlds(scene)
    assert list(woken(world, world.sample(3), newer=True)) == []


def test_a_driver_that_sleeps_with_a_duckdb_file_open_keeps_others_out_and_changes_nothing(
    worlds,  # noqa: F811
):
    """It may hold the file, so that both runs fail; the next one makes it whole."""
    world = worlds("DuckDB, append by cursor")
    for point in range(40, world.points, 12):  # before that it plans
        world.fresh()
        first = world.run({point: "stop"})
        if not first.stopped:
            continue
        second = world.run()
        assert second.done or second.blocked, (point, second.error)
        world.go_on(first)
        assert world.seen() in (world.old, world.new), point
        assert world.run().done
        assert world.seen() == world.new, point
        assert world.left_behind() == [], point


STAGING, DECIDING = (
    "hygge.connectors.files.parts.stage_parts 1",
    "hygge.journal.runs.FlowJournal.decide 1",
)


@pytest.mark.parametrize("point", [STAGING, DECIDING])
def test_a_driver_whose_run_was_given_up_says_so_and_leaves_nothing(point, worlds):  # noqa: F811
    world = worlds("directory, plain append")
    world.fresh()
    first = world.run({point: "stop"})
    assert world.run().done
    woken = world.go_on(first)
    assert "was given up by another driver" in woken.error
    assert world.left_behind() == []
    assert world.seen() == world.new


def test_a_run_that_is_committed_is_never_noted_as_refused(worlds):  # noqa: F811
    world = worlds("SQLite, append by cursor")
    world.fresh()
    first = world.run({"hygge.connectors.sqlite.store.commit 1": "stop"})
    settled = world.run()
    world.grow(2)
    assert world.run().done
    assert "is committed, where" in world.go_on(first).error
    outcome = world.here / "state/flows/f/runs" / settled.run / "outcome.json"
    assert json.loads(outcome.read_text())["how"] == "committed"


def test_who_loses_the_decision_to_a_living_driver_does_not_begin_a_run(worlds):  # noqa: F811
    world = worlds("directory, plain append")
    world.fresh()
    first = world.run({DECIDING: "stop", "hygge.connectors.files.store.FileStore.commit 1": "kill"})
    second = world.run({DECIDING: "stop"})
    assert world.go_on(first).code == -9
    lost = world.go_on(second)
    assert "was decided in this moment by another driver" in lost.error
    assert len(list((world.here / "state/flows/f/runs").glob("*/plan.json"))) == 2
    assert world.run().done
    assert world.seen() == world.new
