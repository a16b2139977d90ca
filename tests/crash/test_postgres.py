"""A driver dies at any statement: readers see the old or the new rows, the next run succeeds."""

from __future__ import annotations

import json

import pytest

from hygge.connectors.databases.store import SQLStore
from hygge.connectors.sql import commit as sql_commit
from hygge.connectors.sql import heads, ledger
from tests.chaos import only_in_chaos
from tests.connectors.postgres.test_store import (
    test_two_processes_that_commit_one_run_commit_it_once as commits_one_run_at_once,
)
from tests.connectors.postgres.test_store_contract import TestPostgreSQLStore as Contract
from tests.crash.side_by_side import run_each

pytest_plugins = ["tests.servers.postgres"]
DRIVER = "tests.crash.postgres_points"
# The points of a run, as HYGGE_CRASH=all counts them; fewer means that statements were missed. A
# replace has 34 points, and 33 where a transaction of another scenario is older than its rows.
LEAST = {"append": 28, "replace": 33, "merge": 29, "adopt": 28, "changes": 31}


def killed_everywhere(pg, folder, *scenarios, driver=DRIVER):
    """Run each scenario in a process of its own, side by side; return their results."""
    runs = [
        (mode, pg.url, pg.schema(), folder / str(at), *twin)
        for at, (mode, *twin) in enumerate(scenarios)
    ]
    return [json.loads(said) for said in run_each(driver, runs)]


def test_no_row_is_lost_or_doubled_wherever_the_driver_is_killed(pg, tmp_path):
    found = killed_everywhere(pg, tmp_path, *[(mode,) for mode in LEAST])
    assert [each["wrong"] for each in found] == [[]] * len(LEAST)
    for each, least in zip(found, LEAST.values(), strict=True):
        assert each["points"] >= least


@only_in_chaos
def test_a_head_that_moves_apart_from_its_rows_is_caught(pg, tmp_path):
    (found,) = killed_everywhere(pg, tmp_path, ("append", "head apart"))
    assert any("rows" in each for each in found["wrong"])


def moves_any_head(connection, goal, base, row):
    table = ledger.heads_table(goal)
    connection.execute(table.delete().where(table.c.flow == row["flow"]))
    connection.execute(table.insert().values(row))


@pytest.fixture
def compares_nothing(monkeypatch):
    monkeypatch.setattr(heads, "check_base", lambda *_: None)
    monkeypatch.setattr(sql_commit, "move_head", moves_any_head)


@pytest.mark.parametrize(
    "promise",
    [
        Contract.test_a_superseded_run_cannot_commit,
        Contract.test_a_run_of_the_past_cannot_commit_again,
        Contract.test_of_two_commits_at_once_one_wins,
    ],
)
def test_a_head_that_is_not_compared_is_caught(pg, tmp_path, compares_nothing, promise):
    suite = Contract()
    suite.server = pg
    with pytest.raises(AssertionError):
        promise(suite, tmp_path)


def test_a_commit_that_is_not_idempotent_is_caught(pg, schema, compares_nothing, monkeypatch):
    monkeypatch.setattr(heads, "already", lambda *_: None)
    store = SQLStore("t", table=f"{schema}.t", connection=pg.url)
    with pytest.raises((AssertionError, AttributeError)):
        commits_one_run_at_once(pg, schema, store, "append")
