"""Lanes on a cluster of different nodes: where they run, what they wait for, what is counted."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from typing import Any

import pyarrow.dataset as ds
import pytest

from tests.chaos import only_in_chaos
from tests.waiting import LIMIT_S

pytestmark = only_in_chaos

PROGRAM = "tests.engine.ray.placed"


@pytest.fixture(scope="module")
def saw(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("placed")
    ran = subprocess.run(
        [sys.executable, "-m", PROGRAM, folder], capture_output=True, text=True, timeout=2 * LIMIT_S
    )
    assert ran.returncode == 0, ran.stderr
    seen: dict[str, Any] = json.loads(ran.stdout.splitlines()[-1])
    return {**seen, "folder": folder}


def numbers(saw: dict[str, Any], flow: str) -> list[int]:
    data = ds.dataset(saw["folder"] / flow, format="arrow", exclude_invalid_files=False)
    return sorted(data.to_table(columns=["n"]).column("n").to_pylist())


def test_lanes_do_not_pile_up_on_the_largest_node(saw):
    assert saw["spread"]["where"] == {"big": 1, "left": 1, "right": 1}
    assert numbers(saw, "spread") == list(range(3200))


def test_lanes_run_where_labels_and_resources_say_and_those_without_a_place_are_told(saw):
    flow = saw["chosen"]
    assert set(flow["where"]) == {"big"}
    assert flow["lanes"] == 1, "the second lane never ran"
    wanted = (
        "1 of 2 lanes ran; the others waited for 1 CPU and 1 fast_disk on nodes with region=!us"
    )
    assert wanted in flow["note"]
    waits = "waiting for 1 CPU and 1 fast_disk on nodes with region=!us; 1 of 2 lanes run"
    assert waits in flow["words"]
    assert waits.removeprefix("waiting for ") in flow["waits"], "the progress line does not say it"
    assert numbers(saw, "chosen") == list(range(6400)), "moving did not start with the first lane"
    assert (flow["alive"][0], flow["alive"][-1]) == (2, 1), "a place was wanted without work for it"


def test_a_flow_begins_when_a_node_that_fits_joins_and_auto_takes_all_of_it(saw):
    flow = saw["grown"]
    (said,) = flow["words"]
    assert said == (
        "waiting for 1 CPU on nodes with region=in(uk, ie) for each lane, and this cluster has "
        "no such node"
    )
    assert flow["where"] == {"new": 2}, "`lanes: auto` did not follow the cluster"
    assert numbers(saw, "grown") == list(range(12800))


def test_a_node_that_does_not_answer_is_named_and_asked_again_where_lanes_may_run(saw):
    at_once, others, later = saw["silent"]
    assert re.fullmatch(
        r"whether node \S+ sees the same files is not known: it did not answer", at_once
    )
    assert (others, later) == ("", "")


def test_two_tables_of_one_flow_keep_to_its_bytes_per_second_together(saw):
    moved = saw["slow"]["bytes"] + saw["slower"]["bytes"]
    assert moved > 1_200_000
    assert saw["together_s"] > moved / 1_000_000


def test_actors_are_called_by_flow_lane_and_end(saw):
    names = set(saw["spread"]["names"])
    assert {f"spread/lane {n}: {e}" for n in range(3) for e in ("home", "inbox", "store")} <= names
    assert "spread/lane 0 (2): home" in names, "the lane of the second try"


def counted(saw: dict[str, Any]) -> dict[str, dict[tuple[str, ...], float]]:
    """Return metric → the tags that hygge gave it → value."""
    found: dict[str, dict[tuple[str, ...], float]] = {}
    for line in saw["metrics"]:
        if line.startswith("#"):
            continue
        name, _, rest = line.partition("{")
        tags = dict(re.findall(r'(\w+)="([^"]*)"', rest.rpartition("}")[0]))
        ours = tuple(tags[key] for key in ("flow", "home", "store", "for", "state") if key in tags)
        found.setdefault(name, {})[ours] = float(rest.rpartition(" ")[2])
    return found


def test_prometheus_is_told_rows_bytes_and_splits_exactly_also_after_a_retry(saw):
    metrics, of = counted(saw), ("spread", "orders", "Careful")
    assert metrics["ray_hygge_rows_total"] == {of: 3200}
    assert metrics["ray_hygge_bytes_total"] == {of: saw["spread"]["bytes"]} == {of: 25600}
    assert metrics["ray_hygge_splits_total"] == {of: 8}
    assert metrics["ray_hygge_retries_total"] == {of: 1} == {of: saw["spread"]["retries"]}
    assert metrics["ray_hygge_commits_total"] == {of: 1}
    assert {key[-1] for key in metrics["ray_hygge_wait_seconds_total"]} <= {"home", "store"}
    assert metrics["ray_hygge_wait_seconds_total"][*of, "home"] > 0
    states = {(*of, state): 0 for state in ("running", "idle", "pending")}
    assert metrics["ray_hygge_lanes"] == states, "lanes of a flow that has ended"
    assert metrics["ray_hygge_inbox_bytes"] == {of: 0}
