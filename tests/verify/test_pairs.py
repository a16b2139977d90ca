"""A changed value, a lost row and a doubled row are found, whatever the two ends are."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from hygge import Flow
from hygge.coordinator.verify import verify_flow
from hygge.home import Home
from hygge.store import Store
from tests.chaos import only_in_chaos
from tests.servers.mariadb import my  # noqa: F401  # a fixture
from tests.verify.ends import KINDS, NAMED, ROWS, End, seed

pytest_plugins = ["tests.servers.postgres"]

ALL = [*KINDS, "postgres", "mariadb"]
EndOf = Callable[[str, str], End]
# Each end is read by itself, so that four pairs of it in which it is the home, and four in which it
# is the store, stand for all.
NEAR = (0, 1, 3, 6)
PAIRS = [
    pair if (at - of) % len(ALL) in NEAR else pytest.param(*pair, marks=only_in_chaos)
    for of, home in enumerate(ALL)
    for at, kind in enumerate(ALL)
    for pair in [(home, kind)]
]


@pytest.fixture(scope="module")
def end_of(pg, my, tmp_path_factory) -> EndOf:  # noqa: F811
    """Return an end of a kind with the rows of `seed`; the second word is a name of it."""
    place = tmp_path_factory.mktemp("ends")
    urls = {
        "postgres": f"{pg.url}?options=-csearch_path%3D{pg.schema()}",
        "mariadb": my.url(my.schema()),
    }
    source = seed(place / "seed.parquet")

    @cache
    def filled(kind: str, name: str) -> End:
        end = End(kind, place / name / kind, urls.get(kind, ""), table=name)
        assert flow_of(source, end.store(), place / name / "state").run().rows == ROWS
        return end

    return filled


@pytest.fixture(scope="module")
def damaged(end_of) -> Callable[[str], End]:
    @cache
    def damaged(kind: str) -> End:
        end = end_of(kind, "there")
        end.damage()
        return end

    return damaged


@pytest.fixture(scope="module", params=ALL)
def home(request: pytest.FixtureRequest, end_of: EndOf) -> Home:
    return end_of(request.param, "here").home()


def flow_of(home: Home, store: Store, state: Path) -> Flow:
    return Flow(home, store, engine="inline", state=state, name="f", key="id")


def check(flow: Flow) -> None:
    verdict = verify_flow(flow)
    assert (verdict.status, verdict.first) == ("different", NAMED), verdict
    assert (verdict.lost, verdict.doubled, verdict.changed, verdict.only_in_store) == (1, 1, 1, 0)
    assert (verdict.rows_source, verdict.rows_store) == (ROWS, ROWS)
    assert len(verdict.columns) == 7, verdict.notes


@pytest.mark.parametrize(("home", "kind"), PAIRS, indirect=["home"])
def test_what_is_wrong_is_named_and_nothing_else(kind, home, damaged, tmp_path):
    check(flow_of(home, damaged(kind).store(), tmp_path / "state"))


@pytest.mark.parametrize("kind", [pytest.param(kind, marks=only_in_chaos) for kind in ALL])
def test_also_when_the_rows_came_from_there(kind, home, end_of, tmp_path):
    """Each pair moves its own rows; the test below is the quicker sibling."""
    end = End(kind, tmp_path / "end", end_of(kind, "here").url, table="own")
    flow = flow_of(home, end.store(), tmp_path / "state")
    assert flow.run().rows == ROWS
    end.damage()
    check(flow)


def test_also_where_the_journal_knows_what_was_read(home, tmp_path):
    end = End("parquet", tmp_path / "end")
    flow = flow_of(home, end.store(), tmp_path / "state")
    assert flow.run().rows == ROWS
    assert verify_flow(flow).status == "same"
    end.damage()
    check(flow)
