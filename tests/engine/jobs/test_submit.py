"""How a flow goes on after its Ray job: retried, stopped or left alone, by what Ray reports."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ray.job_submission import JobStatus

from hygge.config.flows import read_flows
from hygge.engine.jobs import following, submit
from hygge.engine.jobs.instructions import Instructions
from hygge.model import Report, Summary
from hygge.report.text import report_from_json, report_json
from hygge.run.watch import Silent
from tests.waiting import LIMIT_S

REPORT = report_json(Summary((Report("one", "done", rows=3),), 1.5))


class Ray:
    """A client of Ray's jobs API; each job ends as the next of `ends` says: (status, log)."""

    def __init__(self, *ends: tuple[str, str]) -> None:
        self.ends, self.submitted = list(ends), []
        self.stops = 0
        self.deaf_for = 0

    def submit_job(self, **words: Any) -> None:
        self.submitted.append(words)

    def get_job_info(self, _: str) -> Any:
        status, _ = self.ends[len(self.submitted) - 1]
        if self.stops > self.deaf_for:
            status = "STOPPED"
        return SimpleNamespace(
            status=JobStatus(status), message="it ended", driver_exit_code=None, driver_node_id=None
        )

    def get_job_logs(self, _: str) -> str:
        return self.ends[len(self.submitted) - 1][1]

    def stop_job(self, _: str) -> None:
        self.stops += 1
        if self.stops <= self.deaf_for:
            raise RuntimeError("Request failed with status code 500: busy")


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "users.csv").write_text("id\n1\n")
    (tmp_path / "flows.yml").write_text("flows: {one: {home: users.csv, store: out, retries: 2}}\n")
    file = read_flows(tmp_path / "flows.yml")
    monkeypatch.setattr(submit, "backoff_s", lambda _: 0.01)
    monkeypatch.setattr(submit, "_open_jobs", {})

    def run(client: Ray, stop: threading.Event | None = None) -> Report:
        flows = submit.FlowJobs(client, file, False, Silent(), stop or threading.Event())
        (report,) = flows.run(file.flows[0], Instructions())
        return report

    return run


def test_a_job_that_ended_well_and_was_not_heard_is_not_run_again(run):
    client = Ray(("SUCCEEDED", "nothing\n"))
    report = run(client)
    assert len(client.submitted) == 1
    assert report.status == "failed"
    assert "ended well, but its report was not heard" in (report.error or "")


def test_all_tries_of_a_flow_are_of_one_request_and_are_counted(run):
    client = Ray(("FAILED", ""), ("FAILED", ""), ("SUCCEEDED", REPORT))
    report = run(client)
    told = [
        Instructions(**json.loads(each["runtime_env"]["env_vars"]["HYGGE_FLOW_JOB"]))
        for each in client.submitted
    ]
    assert [each.number for each in told] == [1, 2, 3]
    assert len({each.request for each in told}) == 1
    assert told[0].request
    assert (report.status, report.rows) == ("done", 3)
    assert "started again (3 tries)" in report.note


def test_a_report_is_found_behind_what_was_printed_without_an_end_of_line(run):
    newer = REPORT.replace('"flow": "one"', '"flow": "one", "of_tomorrow": 1')
    assert run(Ray(("SUCCEEDED", f"progress: 90 %{newer}\n"))).rows == 3
    assert report_from_json(REPORT[:-20]) is None
    assert report_from_json(REPORT) == Summary((Report("one", "done", rows=3),), 1.5)


def test_a_stop_that_ray_did_not_take_is_asked_for_again(run, monkeypatch):
    monkeypatch.setattr(submit, "_STOP_EVERY_S", 0.01)
    client, stop = Ray(("RUNNING", "")), threading.Event()
    client.deaf_for = 2
    stop.set()
    assert run(client, stop).status == "stopped"
    assert client.stops == 3
    assert submit._open_jobs == {}


def test_a_stop_while_a_dead_driver_waits_for_its_next_try_starts_none(run, monkeypatch):
    stop = threading.Event()

    class Dies(Ray):
        def get_job_logs(self, job: str) -> str:
            threading.Timer(0.3, stop.set).start()
            return super().get_job_logs(job)

    monkeypatch.setattr(submit, "backoff_s", lambda _: 60.0)
    client = Dies(("FAILED", ""))
    assert run(client, stop).status == "stopped"
    assert len(client.submitted) == 1


def test_jobs_that_were_not_seen_to_end_are_asked_to_stop_also_when_ray_does_not_know_them_yet():
    client = Ray(("RUNNING", ""))
    client.deaf_for = 2
    submit._open_jobs["hygge-one-1"] = client
    submit.stop_open_jobs(LIMIT_S)
    assert client.stops == 3
    assert submit._open_jobs == {}


class NodeDies(Ray):
    """The node of the first driver dies, and with it the log of its job."""

    def get_job_info(self, job: str) -> Any:
        found = super().get_job_info(job)
        if found.status == JobStatus.FAILED:
            found.message = f"Job supervisor actor died: it died.\n{_NODE_DIED}"
        return found

    def get_job_logs(self, job: str) -> str:
        if self.ends[len(self.submitted) - 1][0] == "FAILED":
            raise RuntimeError("Request failed with status code 500: Cannot connect to host")
        return super().get_job_logs(job)


_NODE_DIED = "The actor died because its node has died. Node Id: 7c2538b2"


def test_a_driver_that_died_with_its_node_is_started_again_without_its_log(run, monkeypatch):
    monkeypatch.setattr(following, "_GONE_WITHIN_S", 0.0)
    client = NodeDies(("FAILED", ""), ("SUCCEEDED", REPORT))
    report = run(client)
    assert len(client.submitted) == 2
    assert (report.status, report.rows) == ("done", 3)
    assert "started again (2 tries)" in report.note


def test_a_driver_that_dies_with_its_node_in_each_try_fails_and_says_so(run, monkeypatch):
    monkeypatch.setattr(following, "_GONE_WITHIN_S", 0.0)
    report = run(NodeDies(*3 * [("FAILED", "")]))
    assert report.status == "failed"
    assert report.error.endswith(" died: its node died")


def test_a_node_that_cannot_unpack_what_was_shipped_is_named_with_the_cause():
    """As Ray words it on a node with a full disk."""
    message = (
        "runtime_env setup failed: Failed to set up runtime environment.\n"
        "[Node 10.0.0.4] Traceback (most recent call last):\n"
        "  File agent.py\nOSError: [Errno 28] No space left on device\n"
    )
    why = "its runtime_env could not be set up on node 10.0.0.4: OSError: [Errno 28] No space"
    assert following.Ended("FAILED", None, message).why == f"{why} left on device"
    assert following.Ended("FAILED", None, "it ended\nlog").why == "it ended"
    full = "OSError: [Errno 28] No space left on device"
    for first, where in (
        ("Traceback (most recent call last):", ""),
        (
            "Job supervisor actor died: The actor died because of an error raised in its creation "
            "task, ray::a:JobSupervisor.__init__() (pid=7, ip=10.0.0.4, actor_id=1)",
            " on node 10.0.0.4",
        ),
    ):
        ended = following.Ended("FAILED", None, f"{first}\n  File a.py, line 1\n{full}\n")
        assert ended.why == f"Ray could not start it{where}: {full}"


def test_a_coordinator_that_is_started_again_takes_the_reports_of_a_job_that_flows_share(
    tmp_path, monkeypatch
):
    (tmp_path / "users.csv").write_text("id\n1\n")
    lines = [f"  {name}: {{home: users.csv, store: out/{name}}}\n" for name in "abcd"]
    (tmp_path / "flows.yml").write_text(f"flows:\n{''.join(lines)}")
    file = read_flows(tmp_path / "flows.yml")
    monkeypatch.setenv("HYGGE_TRY", "request/2")
    reports = tuple(Report(name, "done", rows=3) for name in "ab")
    client = Ray(("SUCCEEDED", report_json(Summary(reports, 1.5))))
    client.submitted.append({})  # by the try that was killed
    client.list_jobs = lambda: [
        a_job("hygge-a-and-1-more-0", {"hygge_run": "run", "hygge_flow": "a,b"}, 1),
        a_job("hygge-a-and-1-more-1", {"hygge_run": "run", "hygge_flow": "a,b"}, 2),
        a_job("hygge-c-2", {"hygge_run": "run", "hygge_flow": "c"}, 3),
        a_job("run", {"hygge_file": "flows.yml"}, 0),
        a_job("hygge-d-3", {"hygge_run": "another", "hygge_flow": "d"}, 4),
    ]
    followed = []
    monkeypatch.setattr(client, "get_job_info", asked_of(followed, client.get_job_info))
    flows = submit.FlowJobs(client, file, False, Silent(), threading.Event())
    flows.run_id = "run"
    submitted = flows.find_submitted()
    assert [[flow.name for flow in job] for job in submitted] == [["a", "b"], ["c"]]
    found = flows.run(file.flows[0], Instructions(), submitted[0])
    assert [(each.flow, each.status, each.rows) for each in found] == [
        ("a", "done", 3), ("b", "done", 3),
    ]  # fmt: skip
    assert set(followed) == {"hygge-a-and-1-more-1"}, "the last one"
    assert len(client.submitted) == 1


def a_job(name: str, metadata: dict[str, str], began: int) -> Any:
    return SimpleNamespace(submission_id=name, metadata=metadata, start_time=began)


def asked_of(names: list[str], ask: Any) -> Any:
    """Return `ask`, which notes in `names` of which job it was asked."""

    def noting(name: str) -> Any:
        names.append(name)
        return ask(name)

    return noting
