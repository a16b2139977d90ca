"""A driver that Ray may place on any node is not placed again on a node where drivers died."""

from __future__ import annotations

import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ray.job_submission import JobStatus

from hygge.config.flows import read_flows
from hygge.engine.jobs import submit
from hygge.engine.jobs.instructions import Instructions
from hygge.engine.ray import patience
from hygge.engine.ray.patience import DriverPatience
from hygge.errors import ConfigError
from hygge.model import Limits, Report
from hygge.run.watch import Silent
from tests.engine.jobs.test_submit import REPORT

NOT_SET_UP = (
    "runtime_env setup failed: Failed to set up runtime environment.\n"
    "[Node 10.0.0.4] Traceback (most recent call last):\nOSError: [Errno 28] No space left"
)
"""As Ray words it on a node with a full disk."""


def a_node(last: int, **resources: float) -> dict[str, Any]:
    return {
        "NodeID": f"{last}" * 56, "NodeManagerAddress": f"10.0.0.{last}", "Alive": True,
        "Resources": {"CPU": 1.0, **resources}, "Labels": {},
    }  # fmt: skip


THREE = [a_node(1), a_node(4, drivers=1.0), a_node(5, drivers=1.0)]


class Ray:
    """A client of Ray's jobs API; each driver ends as the next of `ends` says.

    An end is the node of the driver as its id, Ray's message, and the log.
    """

    def __init__(self, *ends: tuple[str | None, str, str]) -> None:
        self.ends, self.selectors = [*ends, (None, "", REPORT)], []

    def submit_job(self, entrypoint_label_selector: object = None, **_: object) -> None:
        self.selectors.append(entrypoint_label_selector)

    def get_job_info(self, _: str) -> Any:
        node, message, log = self.ends[len(self.selectors) - 1]
        status = JobStatus.SUCCEEDED if log == REPORT else JobStatus.FAILED
        return SimpleNamespace(
            status=status, message=message, driver_exit_code=None, driver_node_id=node
        )

    def get_job_logs(self, _: str) -> str:
        return self.ends[len(self.selectors) - 1][2]


class OldRay(Ray):
    """Its jobs API knows no selector of labels, as that of Ray 2.52."""

    def submit_job(self, **words: object) -> None:  # type: ignore[override]
        assert "entrypoint_label_selector" not in words
        super().submit_job()


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "users.csv").write_text("id\n1\n")
    monkeypatch.setattr(submit, "backoff_s", lambda _: 0.01)
    monkeypatch.setattr(submit, "_open_jobs", {})

    def run(client: Ray, nodes: list[dict[str, Any]], driver: str) -> tuple[Report, list[str]]:
        (tmp_path / "flows.yml").write_text(
            f"flows: {{one: {{home: users.csv, store: out, retries: 5{driver}}}}}\n"
        )
        monkeypatch.setattr("ray.nodes", lambda: nodes)
        monkeypatch.setattr("hygge.engine.ray.node_names._names", {})
        file, said = read_flows(tmp_path / "flows.yml"), []
        watch = Silent()
        watch.said = lambda flow, text: said.append(text)
        flows = submit.FlowJobs(client, file, False, watch, threading.Event())
        (report,) = flows.run(file.flows[0], Instructions())
        return report, [text for text in said if "runs as Ray job" in text]

    return run


OFF_HEAD = ", driver: {resources: {drivers: 1}}"
FOURTH = {"ray.io/node-id": f"!in({'4' * 56})"}
BEGAN = '{"hygge_event": "began", "flow": "one", "splits": 1}\n'


@pytest.mark.parametrize(
    "end",
    [
        (None, NOT_SET_UP, ""),
        (None, "Job supervisor actor died: it died (pid=7, ip=10.0.0.4, actor_id=1)", ""),
        ("4" * 56, "Job entrypoint command failed with exit code 1", "No module named hygge\n"),
    ],
)
def test_a_node_where_a_driver_could_not_begin_is_left_at_once(run, end):
    client = Ray(end)
    report, said = run(client, THREE, OFF_HEAD)
    assert report.status == "done"
    assert client.selectors == [None, FOURTH]
    assert [text.partition(", ")[2] for text in said] == ["", "not on node 10.0.0.4"]
    assert report.note.endswith("started again (2 tries), not on node 10.0.0.4")


def test_a_node_where_a_driver_died_at_work_is_left_when_it_happens_again(run):
    died = ("4" * 56, "it was killed", BEGAN)
    client = Ray(died, ("5" * 56, "it was killed", BEGAN), died)
    run(client, THREE, OFF_HEAD)
    assert client.selectors == [None, None, None, FOURTH]


@pytest.mark.parametrize(
    ("nodes", "driver"),
    [
        (THREE[:2], OFF_HEAD),  # no other node has what it takes
        ([*THREE[:2], THREE[2] | {"Alive": False}], OFF_HEAD),
        (THREE, ""),  # it is on the head
    ],
)
def test_a_node_is_not_left_where_the_driver_could_run_on_no_other(run, nodes, driver):
    client = Ray((None, NOT_SET_UP, ""))
    report, said = run(client, nodes, driver)
    assert report.status == "done"
    assert client.selectors == [None, None]
    assert [text.partition(", ")[2] for text in said] == ["", ""]


def test_a_ray_that_cannot_avoid_nodes_is_asked_as_before(run):
    client = OldRay((None, NOT_SET_UP, ""))
    report, _ = run(client, THREE, OFF_HEAD)
    assert (report.status, len(client.selectors)) == ("done", 2)


def test_a_driver_for_which_only_a_left_node_remains_fails_with_its_name(monkeypatch):
    monkeypatch.setattr("ray.nodes", lambda: THREE[:2])
    monkeypatch.setattr(patience, "may_grow", lambda: False)
    monkeypatch.setattr("hygge.engine.ray.node_names._names", {})
    limits = Limits(driver={"drivers": 1.0}, wait_at_most_s=0)
    DriverPatience(limits).check()
    with pytest.raises(ConfigError, match=r"; node 10\.0\.0\.4 was left, as the driver died there"):
        DriverPatience(limits, ["4" * 56]).check()
