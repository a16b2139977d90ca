"""Nodes without hygge or with a full disk: what is said of them, and how the flows end."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest
from ray.exceptions import RuntimeEnvSetupError

from hygge.engine.ray.failures import describe_failure, is_disk_full, suggest_remedy
from tests.chaos import only_in_chaos
from tests.waiting import LIMIT_S

pytestmark = only_in_chaos


@pytest.fixture(scope="module")
def saw(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("faulty")
    ran = subprocess.run(
        [sys.executable, "-m", "tests.engine.ray.faulty", folder], capture_output=True, text=True,
        timeout=2 * LIMIT_S,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    seen: dict[str, Any] = json.loads(ran.stdout.splitlines()[-1])
    return {**seen, "folder": folder}


def test_what_no_node_has_is_waited_for_so_long_and_then_said_with_what_there_is(saw):
    assert saw["may_grow"] is False, "there is no autoscaler"
    for name in ("nowhere", "nowhere, auto"):
        flow = saw[name]
        assert flow["status"] == "failed"
        needs = "no node came that has what a lane needs, 1 CPU on nodes with kind=mars"
        assert flow["error"].startswith(needs), flow
        assert "1 × 2 CPUs" in flow["error"]
        assert "kind=good" in flow["error"]
        assert "wait_at_most" in flow["hint"]


def test_a_stall_names_the_lanes_that_are_waited_for_and_their_nodes(saw):
    flow, node = saw["hangs"], saw["nodes"]["good"]
    assert flow["status"] == "failed"
    waits_for = f"waiting for the store {saw['folder']}/hangs (lane 0 on node {node})"
    assert flow["error"].endswith(waits_for)


def test_a_node_without_hygge_is_named_and_left_before_a_row_moves(saw):
    flow, node = saw["asked"], saw["nodes"]["bare"]
    why = "hygge cannot be imported there: ModuleNotFoundError: No module named 'hygge'"
    assert (flow["status"], flow["rows"], flow["retries"]) == ("done", 3200, 0)
    assert f"no lane runs on node {node}: {why}" in flow["words"]
    assert f"node {node} was left, and its splits went elsewhere: {why}" in flow["note"]


def test_where_no_node_has_hygge_the_flow_fails_before_a_row_moves(saw):
    flow, node = saw["asked alone"], saw["nodes"]["bare"]
    assert flow["error"].startswith(f"lanes can run on no node: node {node}: hygge cannot be")
    assert "same hygge, Python and Ray" in flow["hint"]


def test_a_node_with_another_version_is_named_before_a_row_moves(saw):
    flow = saw["other version"]
    assert flow["status"] == "failed"
    for kind in ("good", "full"):
        node = f"node {saw['nodes'][kind]}: it has another version: hygge "
        assert node in flow["error"]
    assert "there, 0.0.9 here" in flow["error"]


def test_a_lane_that_cannot_start_is_said_with_its_node_and_the_import_error(saw):
    flow, node = saw["bare"], saw["nodes"]["bare"]
    why = "its processes cannot run there: ModuleNotFoundError: No module named 'hygge'"
    assert flow["status"] == "failed"
    assert flow["error"].endswith(f"on node {node} failed 2 times; the last time: {why}")
    assert flow["error"].startswith("lane ")
    assert any(said.startswith("lane ") and f"on node {node} " in said for said in flow["words"])
    assert "same hygge, Python and Ray" in flow["hint"]
    assert "memory" not in flow["hint"]


def test_a_full_disk_is_said_with_its_node_and_lane(saw):
    flow, node = saw["full"], saw["nodes"]["full"]
    assert flow["status"] == "failed"
    assert "the disk is full while writing /dev/full (lane " in flow["error"]
    assert flow["error"].endswith(f"on node {node})")
    assert "free some space" in flow["hint"]


def test_a_node_where_no_lane_can_start_is_left_and_the_report_says_it(saw):
    flow, node = saw["around bare"], saw["nodes"]["bare"]
    assert (flow["status"], flow["error"], flow["rows"]) == ("done", None, 3200)
    assert f"node {node} was left, and its splits went elsewhere: lane " in flow["note"]
    assert "No module named 'hygge'" in flow["note"]
    (said,) = [text for text in flow["words"] if "that node is left" in text]
    assert f"on node {node} failed: its processes cannot run there: " in said


def test_a_node_with_a_full_disk_is_left_and_its_splits_go_elsewhere(saw):
    flow, node = saw["around full"], saw["nodes"]["full"]
    assert (flow["status"], flow["error"], flow["rows"]) == ("done", None, 3200)
    assert f"node {node} was left" in flow["note"]
    assert "the disk is full while writing /dev/full" in flow["note"]
    assert flow["retries"] >= 1


def test_a_node_where_ray_cannot_unpack_what_was_shipped_is_said_with_the_cause():
    """As Ray words it on a node with a full disk; `make cluster-test` has one."""
    traceback = "[Node 10.0.0.4] Traceback (most recent call last):\n  File ray.py\n"
    full = RuntimeEnvSetupError(f"{traceback}OSError: [Errno 28] No space left on device\n")
    assert is_disk_full(full)
    said = "the disk with Ray's session folder is full: OSError: [Errno 28] No space left on device"
    assert describe_failure(full, full, "") == said
    assert "free some space there" in suggest_remedy(full)
    other = RuntimeEnvSetupError(f"{traceback}ValueError: no such package\n")
    assert not is_disk_full(other)
    said = "its processes cannot run there: ValueError: no such package"
    assert describe_failure(other, other, "") == said
