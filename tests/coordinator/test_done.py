"""The same command after a failure: what is done is not appended a second time."""

from __future__ import annotations

import glob
import os
import re
import sqlite3
from types import SimpleNamespace

import pyarrow.dataset as ds
import pytest

from hygge.config.flows import read_flows
from hygge.coordinator import done
from hygge.coordinator.coordinator import Coordinator
from hygge.engine.jobs import submit
from hygge.journal.entries import encode
from hygge.journal.fingerprint import fingerprint
from hygge.run.watch import Silent

FAMILY = """
flows:
  nightly:
    home: {connection: "sqlite:///source.db", tables: ["*"]}
    store: "out/{table}"
    mode: append
"""
FLOWS = """
flows:
  good: {home: {connection: "sqlite:///source.db", table: good}, store: out/good, mode: append}
  bad: {home: {connection: "sqlite:///source.db", table: bad}, store: out/bad, mode: append}
"""


@pytest.fixture
def source(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    connection = sqlite3.connect("source.db", isolation_level=None)
    connection.execute("CREATE TABLE good (id int, v text)")
    connection.execute("INSERT INTO good VALUES (1, 'a'), (2, 'b')")
    connection.execute("CREATE TABLE bad (id int, d date)")
    connection.execute("INSERT INTO bad VALUES (1, 'no date')")
    yield connection
    connection.close()


class Said(Silent):
    def __init__(self):
        self.lines = []

    def said(self, flow, text):
        self.lines.append(text)


def ran(text, watch=None, **more):
    with open("flows.yml", "w") as file:
        file.write(text)
    summary = Coordinator("flows.yml", engine="inline", **more).run(watch)
    return {report.flow.rpartition(".")[2]: report for report in summary.flows}


def rows(name):
    return ds.dataset(f"out/{name}", format="parquet").count_rows()


@pytest.mark.parametrize("text", [FAMILY, FLOWS])
def test_what_a_failed_run_appended_is_not_appended_again(text, source):
    first = ran(text)
    assert (first["good"].status, first["bad"].status) == ("done", "failed")
    for _ in range(2):  # it fails again, and what was done stays done
        again = ran(text)
        assert (again["good"].rows, again["bad"].status) == (0, "failed")
        assert "skipped: done in the run of" in again["good"].note
    source.execute("UPDATE bad SET d = '2024-01-01'")
    watch = Said()
    assert {report.status for report in ran(text, watch).values()} == {"done"}
    assert any(re.match(r"1 of 2 were done in the run of \d\d:\d\d", line) for line in watch.lines)
    assert (rows("good"), rows("bad")) == (2, 1)
    ran(text)  # asked for anew
    assert (rows("good"), rows("bad")) == (4, 2)


def test_fresh_asks_for_everything(source):
    ran(FAMILY)
    assert ran(FAMILY, fresh=True)["good"].rows == 2
    assert rows("good") == 4


def test_another_selection_and_a_flow_that_changed_are_asked_for(source):
    ran(FLOWS)
    assert ran(FLOWS, select=["good"])["good"].rows == 2
    changed = ran(FLOWS.replace("table: good}", "table: good, columns: [id, v], where: id > 1}"))
    assert changed["good"].rows == 1


def test_flows_with_a_cursor_run_again(source):
    text = FLOWS.replace("table: good}", "table: good, cursor: id}")
    ran(text)
    source.execute("INSERT INTO good VALUES (3, 'c')")
    assert ran(text)["good"].rows == 1


def test_tables_that_ran_in_a_ray_job_are_not_appended_again(source, monkeypatch):
    def run_as_job(spec, instructions):
        with monkeypatch.context() as job:
            job.setenv("HYGGE_FLOW_JOB", instructions.to_json())
            return Coordinator("flows.yml", engine="inline", select=[spec.name]).run().flows

    jobs = SimpleNamespace(run=lambda spec, told, *_: run_as_job(spec, told), is_repeated=False)
    monkeypatch.setattr(submit, "make_submitter", lambda *_: jobs)
    watch = Said()

    def ran_as_jobs():
        with open("flows.yml", "w") as file:
            file.write(FAMILY)
        return {report.status for report in Coordinator("flows.yml").run(watch).flows}

    for _ in range(2):
        assert ran_as_jobs() == {"done", "failed"}
        assert rows("good") == 2
    source.execute("UPDATE bad SET d = '2024-01-01'")
    assert ran_as_jobs() == {"done"}
    assert (rows("good"), rows("bad")) == (2, 1)
    assert re.match(r"1 of 2 were done in the run of \d\d:\d\d", watch.lines[-1])
    ran_as_jobs()
    assert (rows("good"), rows("bad")) == (4, 2)


def test_notes_of_an_older_version_are_read(source):
    with open("flows.yml", "w") as file:
        file.write(FLOWS)
    command = done._digest(os.path.abspath("flows.yml"))
    flow = Coordinator("flows.yml").flow(read_flows("flows.yml").flows[0])
    fingerprint_now = fingerprint(flow.home, flow.store, "append", ())
    facts = {"fingerprint": done._digest_of(fingerprint_now), "began": "2026-11-29T12:03:00+00:00"}
    folder = f".hygge/requests/{command}"
    os.makedirs(folder)
    with open(f"{folder}/{done._digest('good')}.json", "wb") as note:
        note.write(encode("done", "good", facts))
    again = ran(FLOWS)
    assert (again["good"].rows, again["bad"].status) == (0, "failed")
    assert "skipped: done in the run of 2026-11-29" in again["good"].note


def test_a_damaged_request_is_an_error_and_fresh_passes_over_it(source):
    ran(FAMILY)
    (path,) = glob.glob(".hygge/requests/*/request.json")
    with open(path, "w") as file:
        file.write("{}")
    (report,) = ran(FAMILY).values()
    assert "request.json is no entry that hygge wrote" in report.error
    assert "--fresh" in report.hint
    assert ran(FAMILY, fresh=True)["good"].status == "done"
