"""`hygge status` says what a run waits for, as the run's log has it."""

from __future__ import annotations

import argparse
import io
from types import SimpleNamespace

import pytest

from hygge.cli import cluster
from hygge.engine.jobs.client import FLOW, NAME, RUN
from hygge.model import Report
from hygge.report.events import JsonLines
from hygge.run.watch import Progress, Silent

NEEDS = "1 CPU on nodes with kind=mars for each lane, and this cluster has no such node"


class Heard(Silent):
    def __init__(self) -> None:
        self.words: list[str] = []

    def said(self, flow: str, text: str) -> None:
        self.words.append(text)


def log(*events: tuple[str, Progress]) -> str:
    out = io.StringIO()
    for flow, progress in events:  # each watch writes the first progress of a flow at once
        JsonLines(out, in_job=True).moved(flow, progress)
    return out.getvalue()


def a_job(name: str, state: str, metadata: dict[str, str]) -> SimpleNamespace:
    of_ray = SimpleNamespace(value=state, is_terminal=lambda: state not in ("PENDING", "RUNNING"))
    return SimpleNamespace(
        submission_id=name, status=of_ray, metadata=metadata, entrypoint="hygge flows.yml",
        start_time=None, end_time=None,
    )  # fmt: skip


def status(monkeypatch, capsys, text: str, state: str = "RUNNING", flows=()) -> str:
    job = a_job("hygge-1", state, {})
    there = SimpleNamespace(
        find_job=lambda name: job, list_flow_jobs=lambda name: flows,
        client=SimpleNamespace(get_job_logs=lambda name: text),
    )  # fmt: skip
    monkeypatch.setattr(cluster.remote, "Cluster", lambda address: there)
    asked = argparse.Namespace(id="hygge-1", address="http://head:8265")
    assert cluster.status(asked) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("first", [[], [("orders", Progress(rows=1, lanes=1))]])
def test_a_run_without_a_lane_is_waiting_and_says_for_what(monkeypatch, capsys, first):
    text = log(*first, ("orders", Progress(waits_for=NEEDS)))
    assert f"hygge-1  waiting for {NEEDS}  " in status(monkeypatch, capsys, text)


def test_a_run_of_which_a_flow_moves_rows_is_running(monkeypatch, capsys):
    text = log(("orders", Progress(waits_for=NEEDS)), ("users", Progress(rows=1, lanes=1)))
    assert "hygge-1  running  " in status(monkeypatch, capsys, text)
    text = log(("orders", Progress(waits_for=NEEDS)), ("orders", Progress(rows=1, lanes=1)))
    assert "hygge-1  running  " in status(monkeypatch, capsys, text)


def test_a_run_that_has_ended_waits_for_nothing(monkeypatch, capsys):
    text = log(("orders", Progress(waits_for=NEEDS)))
    assert "hygge-1  failed  " in status(monkeypatch, capsys, text, "FAILED")
    out = io.StringIO()
    JsonLines(out).ended(Report("orders", "failed"))
    assert "hygge-1  running  " in status(monkeypatch, capsys, text + out.getvalue())


def shared_job_lines(monkeypatch, capsys, state: str, text: str) -> list[str]:
    """Return what is said of three flows that share a job, which has written `text`."""
    metadata = {FLOW: "users,orders,kinds", NAME: "users and 2 more", RUN: "hygge-1"}
    job = a_job("hygge-users-and-2-more-1", state, metadata)
    said = status(monkeypatch, capsys, text, flows=[job]).splitlines()
    assert said[1] == f"  hygge-users-and-2-more-1  {state.lower()}  users and 2 more"
    return said[2:]


def test_each_flow_of_a_shared_job_has_a_line_of_its_own(monkeypatch, capsys):
    out = io.StringIO()
    watch = JsonLines(out, in_job=True)
    assert shared_job_lines(monkeypatch, capsys, "PENDING", "") == [
        "    users  waiting", "    orders  waiting", "    kinds  waiting",
    ]  # fmt: skip
    watch.began("users", 1)
    watch.ended(Report("users", "done", rows=3))
    watch.began("orders", 1)
    text = f"a line of a library\n{out.getvalue()}"
    assert shared_job_lines(monkeypatch, capsys, "RUNNING", text) == [
        "    users  done", "    orders  running", "    kinds  waiting",
    ]  # fmt: skip


@pytest.mark.parametrize("state", ["FAILED", "STOPPED"])
def test_what_a_shared_job_left_when_it_ended_has_ended_with_it(monkeypatch, capsys, state):
    out = io.StringIO()
    watch = JsonLines(out, in_job=True)
    watch.ended(Report("users", "done", rows=3))
    watch.moved("orders", Progress(rows=1, lanes=1))
    assert shared_job_lines(monkeypatch, capsys, state, out.getvalue()) == [
        "    users  done", f"    orders  {state.lower()}", f"    kinds  {state.lower()}",
    ]  # fmt: skip


def test_logs_of_a_job_whose_node_is_gone_say_that_there_are_none(monkeypatch):
    def refuse(name: str) -> str:
        raise RuntimeError("status code 500: Traceback: …\nCannot connect to host 10.0.0.3")

    job = a_job("hygge-1", "FAILED", {FLOW: "users"})
    job.message, job.driver_exit_code, job.driver_node_id = "its node has died", None, None
    client = SimpleNamespace(get_job_logs=refuse, get_job_info=lambda name: job)
    there = SimpleNamespace(find_job=lambda name: job, client=client)
    monkeypatch.setattr(cluster.remote, "Cluster", lambda address: there)
    asked = argparse.Namespace(id="hygge-1", address="http://head:8265", follow=False)
    heard = Heard()
    assert cluster.logs(asked, heard, lambda *_: None) == 0
    (said,) = heard.words
    assert said.startswith("the log of hygge-1 cannot be read: ")
    assert said.endswith("Cannot connect to host 10.0.0.3")
