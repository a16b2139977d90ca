"""The power fails: what was not synced is gone, and what was said to be done is there.

Of file stores and the journal; SQLite syncs in C, where `tests/crash/power.py` does not see it. A
sample of the points is tried, `HYGGE_CRASH=all` tries all.
"""

from __future__ import annotations

import pytest

from tests.chaos import only_in_chaos
from tests.crash.promises import power_cut, power_cut_after_a_death
from tests.crash.scenes import SCENES
from tests.crash.world import worlds  # noqa: F401  # a fixture

pytestmark = only_in_chaos

FILES = [name for name, scene in SCENES.items() if scene.store != "SQLite"]
ENDING = "hygge.journal.runs.FlowJournal.end 1"


@pytest.mark.parametrize("scene", FILES)
def test_wherever_the_power_fails_the_next_run_makes_it_whole(scene, worlds):  # noqa: F811
    world = worlds(scene)
    assert list(power_cut(world, [*world.sample(7), None])) == []


@pytest.mark.parametrize("scene", FILES)
def test_a_run_that_finished_a_dead_one_is_durable(scene, worlds):  # noqa: F811
    world = worlds(scene)
    assert list(power_cut_after_a_death(world, world.sample(3))) == []


@pytest.mark.parametrize("scene", FILES)
def test_who_finishes_a_dead_run_may_lose_power_before_that_is_noted(scene, worlds):  # noqa: F811
    world = worlds(scene)
    assert list(power_cut_after_a_death(world, world.sample(3), {ENDING: "kill"})) == []


@pytest.mark.parametrize("scene", ["directory, append by cursor", "directory, replace"])
def test_a_head_is_durable_before_anybody_leans_on_it(scene, worlds):  # noqa: F811
    world = worlds(scene)
    shown = range(world.points * 13 // 20, world.points * 17 // 20)
    assert list(power_cut_after_a_death(world, shown)) == []
