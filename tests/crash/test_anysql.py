"""A driver dies at any statement through SQLAlchemy: old or new rows, the next run succeeds."""

from __future__ import annotations

from tests.chaos import only_in_chaos
from tests.crash.points import ALL
from tests.crash.test_postgres import killed_everywhere

pytest_plugins = ["tests.servers.postgres"]
DRIVER = "tests.crash.anysql_points"
# The points of a run, as HYGGE_CRASH=all counts them; fewer means that statements were missed.
LEAST = {"append": 26, "merge": 31, "changes": 33}
if ALL:  # PostgreSQL has the same
    LEAST |= {"replace": 28, "adopt": 25}


def test_no_row_is_lost_or_doubled_wherever_the_driver_is_killed(pg, tmp_path):
    found = killed_everywhere(pg, tmp_path, *[(mode,) for mode in LEAST], driver=DRIVER)
    assert [each["wrong"] for each in found] == [[]] * len(LEAST)
    for each, least in zip(found, LEAST.values(), strict=True):
        assert each["points"] >= least


@only_in_chaos  # PostgreSQL has the same, quicker
def test_a_head_that_moves_apart_from_its_rows_is_caught(pg, tmp_path):
    (found,) = killed_everywhere(pg, tmp_path, ("append", "head apart"), driver=DRIVER)
    assert any("rows" in each for each in found["wrong"])
