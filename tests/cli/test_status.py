"""`hygge status` says what a run waits for, as the run's log has it."""

from __future__ import annotations

import argparse
import io
from types import SimpleNamespace

import pytest

from hygge.cli import cluster
from hygge.model import Report
from hygge.report.events import JsonLines
from hygge.run.watch import Progress

NEEDS = "1 CPU on nodes with kind=mars for each lane, and this cluster has no such node"


def log(*events: tuple[str, Progress]) -> str:
    out = io.StringIO()
    for flow, progress in events:  # each watch writes the first progress of a flow at once
        JsonLines(out, in_job=True).moved(flow, progress)
    return out.getvalue()


def status(monkeypatch, capsys, text: str, state: str = "RUNNING") -> str:
    job = SimpleNamespace(
        submission_id="hygge-1", status=SimpleNamespace(value=state), metadata={},
        entrypoint="hygge flows.yml", start_time=None, end_time=None,
    )  # fmt: skip
    there = SimpleNamespace(
        find_job=lambda name: job, list_flow_jobs=lambda name: [],
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
