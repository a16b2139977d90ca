"""A command that is started again with the same HYGGE_REQUEST asks for nothing twice.

KubeRay, Airflow and others start a whole command again when its machine is lost, also when it had
committed everything and had no time to say so.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sqlite3
import threading
from pathlib import Path
from typing import Any

import pytest

from hygge.config.flows import read_flows
from hygge.engine.jobs import submit
from hygge.engine.jobs.cluster import Cluster
from hygge.engine.jobs.instructions import FLOW_JOB, REQUEST, Instructions, instructions
from hygge.run.watch import Silent
from tests.chaos import only_in_chaos
from tests.engine.jobs.test_second_driver import KILLED
from tests.engine.jobs.test_submit import REPORT, Ray
from tests.forked import PLAIN, hygge

ONE = (
    "max_parallel_flows: 1\n"
    "flows:\n  x: {home: users.csv, store: 'sqlite:///to.db#x', mode: append}\n"
)
TWO = ONE + "  y: {home: users.csv, store: 'sqlite:///to.db#y', mode: append}\n"
BROKEN = ONE + "  z: {home: late.csv, store: 'sqlite:///to.db#z', mode: append}\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "users.csv").write_text("id\n1\n2\n3\n")
    return tmp_path


def ran(
    folder: Path, request: str, *words: str, killed: bool = False, code: int = 0, **environ: str
) -> dict[str, dict[str, Any]]:
    """Run the command and return the report of each flow; none where it is killed."""
    process = hygge(
        "flows.yml", "--inline", "--json", *words, cwd=folder, code=KILLED if killed else PLAIN,
        env={**os.environ, REQUEST: request, **environ},
    )  # fmt: skip
    expected = -signal.SIGKILL if killed else code
    assert process.returncode == expected, process.stdout + process.stderr
    if killed:
        return {}
    return {each["flow"]: each for each in json.loads(process.stdout)["hygge_report"]["flows"]}


def rows(folder: Path, table: str = "x") -> int:
    with contextlib.closing(sqlite3.connect(folder / "to.db")) as store:
        return int(store.execute(f"SELECT count(*) FROM {table}").fetchone()[0])


@pytest.mark.parametrize(
    ("text", "words", "before"),
    [
        pytest.param(ONE, (), "", marks=only_in_chaos),
        (TWO, (), "1"),
        pytest.param(ONE, ("--fresh",), "1", marks=only_in_chaos),
    ],
    ids=["one flow", "two flows, no outcome noted", "fresh, no outcome noted"],
)
def test_what_a_lost_command_committed_is_not_appended_again(folder, text, words, before):
    (folder / "flows.yml").write_text(text)
    ran(folder, "order-1", *words, killed=True, KILLED_BEFORE=before)
    assert rows(folder) == 3
    for _ in range(2):  # once more where the first retry succeeded, and nobody heard of it
        report = ran(folder, "order-1", *words)
        assert {each["status"] for each in report.values()} == {"done"}
        assert {rows(folder, name) for name in report} == {3}
    assert "that was for the request order-1, which is done" in report["x"]["note"]
    ran(folder, "order-2" if words else "", *words)
    assert rows(folder) == 6, "another name asks once more, and so does each command without one"


def test_a_table_that_was_replaced_is_not_read_again_by_the_retry(folder):
    (folder / "flows.yml").write_text(ONE.replace("append", "replace"))
    first = ran(folder, "order-1")["x"]
    assert ran(folder, "order-1")["x"]["run"] == first["run"]
    assert ran(folder, "order-2")["x"]["run"] != first["run"]


def test_the_next_order_finishes_the_run_of_the_last_one_and_appends_its_own_rows(folder):
    (folder / "flows.yml").write_text(ONE)
    ran(folder, "night-1", killed=True, KILLED_BEFORE="1")  # committed, and not noted
    report = ran(folder, "night-2")["x"]
    assert rows(folder) == 6
    assert report["rows"] == 3


def test_a_flow_that_a_failed_order_had_done_is_asked_for_again_by_the_next_order_alone(folder):
    (folder / "flows.yml").write_text(BROKEN)
    for _ in range(2):
        report = ran(folder, "night-1", code=1)
        assert (report["x"]["status"], report["z"]["status"]) == ("done", "failed")
        assert rows(folder) == 3
    (folder / "late.csv").write_text("id\n1\n")
    ran(folder, "night-1")
    assert (rows(folder), rows(folder, "z")) == (3, 1)
    ran(folder, "night-2")
    assert (rows(folder), rows(folder, "z")) == (6, 2)


def test_the_job_of_a_flow_is_told_the_name_from_its_first_try_on(folder, monkeypatch):
    (folder / "flows.yml").write_text(ONE)
    monkeypatch.setenv(REQUEST, " order-1 ")
    assert instructions().attempt.is_repeated
    client = Ray(("SUCCEEDED", REPORT.replace('"one"', '"x"')))
    file = read_flows(folder / "flows.yml")
    flows = submit.FlowJobs(client, file, False, Silent(), threading.Event())
    flows.run(file.flows[0], Instructions())
    told = client.submitted[0]["runtime_env"]["env_vars"][FLOW_JOB]
    monkeypatch.setenv(FLOW_JOB, told)
    monkeypatch.setenv(REQUEST, "of the node")
    attempt = instructions().attempt
    assert (attempt.request, attempt.number, attempt.is_repeated) == ("order-1", 1, True)


def test_a_submitted_run_has_the_name_of_the_command(monkeypatch):
    cluster = object.__new__(Cluster)
    cluster.address, cluster._client = "http://head:8265", Ray()
    monkeypatch.setenv(REQUEST, "order-1")
    cluster.submit("hygge-1", "flows.yml", [], None)
    monkeypatch.delenv(REQUEST)
    cluster.submit("hygge-2", "flows.yml", [], None)
    named, unnamed = (each["runtime_env"]["env_vars"] for each in cluster._client.submitted)
    assert named[REQUEST] == "order-1"
    assert REQUEST not in unnamed
