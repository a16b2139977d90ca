"""A driver dies at any point of its run, and the same command makes it whole.

`tests/crash/points.py` says what a point is, `tests/crash/promises.py` what must hold. Here a
sample of the points is tried, spread evenly over each run, the same each time; `HYGGE_CRASH=all`
tries every one.
"""

from __future__ import annotations

import random

import pytest

from tests.chaos import only_in_chaos
from tests.crash.points import ALL
from tests.crash.promises import killed, killed_twice, state_lost
from tests.crash.scenes import EVERY, SCENES
from tests.crash.world import worlds  # noqa: F401  # a fixture

# A run makes at least this many calls that change something; fewer means that none were seen.
LEAST = 80
_QUICK = {
    "directory, append by cursor", "directory, replace", "file, replace", "SQLite, merge",
    "files to SQLite, plain append",
}  # fmt: skip
FEW = [s if s in _QUICK else pytest.param(s, marks=only_in_chaos) for s in SCENES]


@pytest.mark.parametrize("scene", EVERY)
def test_wherever_a_driver_is_killed_the_next_run_makes_it_whole(scene, worlds):  # noqa: F811
    world = worlds(scene)
    assert world.points >= LEAST
    assert list(killed(world, world.sample(3))) == []


@pytest.mark.parametrize("scene", FEW)
def test_a_source_that_changed_after_the_death_is_never_mixed_with_what_was_staged(
    scene,
    worlds,  # noqa: F811
):
    world = worlds(scene)
    assert list(killed(world, world.sample(2, ends=False), changed=True)) == []


@pytest.mark.parametrize("scene", FEW)
def test_who_sees_to_a_dead_run_may_be_killed_too(scene, worlds):  # noqa: F811
    world = worlds(scene)
    second = random.Random(scene)
    each = 20 if ALL else 1
    pairs = [
        (point, second.randrange(world.points))
        for point in world.sample(2, ends=False)
        for _ in range(each)
    ]
    assert list(killed_twice(world, pairs)) == []


@pytest.mark.parametrize("scene", FEW)
def test_without_the_state_of_the_dead_the_head_in_the_store_wins(scene, worlds):  # noqa: F811
    world = worlds(scene)
    assert list(state_lost(world, world.sample(2, ends=False))) == []
