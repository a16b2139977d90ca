"""Drivers that write a Delta table die, and wake too late, at the steps of its commit.

The library's own writes are no calls that `tests/crash/points.py` counts, so the steps around them
are named here. A sample of all points is tried in tests/crash/test_driver.py.
"""

from __future__ import annotations

import random

import pytest

from tests.chaos import only_in_chaos
from tests.crash.points import ALL
from tests.crash.promises import killed, killed_twice, state_lost, woken
from tests.crash.scenes import DELTA
from tests.crash.world import worlds  # noqa: F401  # a fixture

STEPS = [
    f"hygge.connectors.delta.{step} 1"
    for step in ("heads.write", "commit.commit", "table_files.Disk.committed", "staging.folder_of")
]
"""Before the head's file; before the entry of the log; after it; in the staging."""


@pytest.mark.parametrize("scene", DELTA)
def test_a_driver_that_dies_at_a_step_of_the_commit_is_made_whole(scene, worlds):  # noqa: F811
    assert list(killed(worlds(scene), STEPS)) == []


@pytest.mark.parametrize("scene", DELTA)
def test_a_driver_that_wakes_after_the_winner_or_a_newer_run_changes_nothing(
    scene,
    worlds,  # noqa: F811
):
    world = worlds(scene)
    assert list(woken(world, STEPS[:3])) == []
    assert list(woken(world, STEPS[:2], newer=True)) == []


@only_in_chaos
@pytest.mark.parametrize("scene", DELTA)
def test_wherever_drivers_of_a_delta_table_die_or_sleep_it_is_made_whole(
    scene,
    worlds,  # noqa: F811
):
    world, second = worlds(scene), random.Random(scene)
    count = world.points if ALL else 8
    points = world.sample(count)
    assert list(killed(world, points, changed=True)) == []
    pairs = [(point, second.randrange(world.points)) for point in points]
    assert list(killed_twice(world, pairs)) == []
    assert list(state_lost(world, points)) == []
    assert list(woken(world, points)) == []
    assert list(woken(world, points, newer=True)) == []
