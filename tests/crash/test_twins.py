"""Broken twins: each promise about dying drivers finds what it is there to find."""

from __future__ import annotations

import re

import pytest

from tests.chaos import only_in_chaos
from tests.crash.broken_journal import TWINS
from tests.crash.promises import crossed, killed, power_cut, state_lost, woken
from tests.crash.world import worlds  # noqa: F401  # a fixture

FILES, APPEND = "files to directory, replace", "directory, plain append"
BY_CURSOR = "SQLite, append by cursor"
DECIDING, ENDING = (f"hygge.journal.runs.FlowJournal.{verb} 1" for verb in ("decide", "end"))
COMMITTING = "hygge.connectors.sqlite.store.commit 1"


def everywhere(world):
    """All points, those that are far from each other first: the first that finds it is enough."""
    return [point for first in range(9) for point in range(first, world.points, 9)]


def backwards(world):
    return reversed(range(world.points))


def middle(world):
    return range(world.points // 2, world.points)


def both_deciding(world, points=everywhere):
    return crossed(world, points(world), DECIDING, ENDING)


def both_committing(world, points=everywhere):
    return crossed(world, points(world), COMMITTING, ENDING)


def both_staging(world, points=everywhere):
    return crossed(
        world,
        points(world),
        "hygge.connectors.files.parts.stage_parts 4",
        dies="hygge.formats.parquet.repeating 4",
    )


CAUGHT = {
    "a commit that is not idempotent": ("SQLite, plain append", both_committing, "too many"),
    "a head that is not compared": (
        BY_CURSOR,
        lambda w: woken(w, everywhere(w)),
        "woken.*too many",
    ),
    "a watermark before its rows": (BY_CURSOR, lambda w: state_lost(w, backwards(w)), "missing"),
    "no fsync of files": (FILES, lambda w: power_cut(w, [None]), "said to be done"),
    "no fsync of folders": (FILES, lambda w: power_cut(w, [None]), "said to be done"),
    "no fsync in the journal": (APPEND, lambda w: power_cut(w, backwards(w)), "too many"),
    "attempts that share a path": (FILES, both_staging, "missing"),
    "a lease that is trusted": (APPEND, both_deciding, "too many"),
    "a create that overwrites": (FILES, lambda w: killed(w, [0]), "lets two runs create the same"),
    "a create that overwrites unchecked": (APPEND, both_deciding, "too many"),
    "receipts of another source": (
        FILES,
        lambda w: killed(w, middle(w), changed=True),
        "missing",
    ),
    "receipts that are forgotten": (FILES, lambda w: killed(w, middle(w)), "were read again"),
    "a discard before the decision": (APPEND, both_deciding, "missing"),
    "a publisher in two steps": (
        "directory, replace",
        lambda w: killed(w, backwards(w)),
        "a reader saw",
    ),
    "an outcome before the commit": (BY_CURSOR, lambda w: killed(w, backwards(w)), "stayed beside"),
}


def test_every_twin_is_tried():
    assert set(CAUGHT) == set(TWINS)


@pytest.mark.parametrize(
    "twin",
    [twin if at < 2 else pytest.param(twin, marks=only_in_chaos) for at, twin in enumerate(CAUGHT)],
)
def test_a_broken_twin_is_caught(twin, worlds):  # noqa: F811
    scene, promise, words = CAUGHT[twin]
    world = worlds(scene)
    world.twin = twin
    assert any(re.search(words, each, re.DOTALL) for each in promise(world)), "nothing was found"


@pytest.mark.parametrize(
    ("scene", "promise"),
    [
        ("SQLite, plain append", both_committing),
        (APPEND, both_deciding),
        pytest.param(FILES, both_staging, marks=only_in_chaos),
        pytest.param("files to SQLite, plain append", both_deciding, marks=only_in_chaos),
    ],
)
def test_of_two_living_drivers_of_one_run_one_shows_its_rows(scene, promise, worlds):  # noqa: F811
    assert list(promise(worlds(scene), lambda world: world.sample(4))) == []
