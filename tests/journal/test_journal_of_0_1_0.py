"""Today's code resumes and finishes the runs that version 0.1.0 left."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing

import pyarrow.dataset as ds
import pytest

from hygge import FlowFailed, ParquetHome
from hygge.journal import lease
from tests.journal.old_journals import ENDS, ROWS, RUN, SEALED, SPLITS, flow, put

TYPES = dict(zip(ENDS, [("parquet", "parquet"), ("csv", "sql"), ("sql", "parquet")], strict=True))
ALL = [(number, f"v{number}") for number in range(SPLITS * ROWS)]


@pytest.fixture(autouse=True)
def _nobody_drives_it(monkeypatch):
    """The lease of a driver on another machine is waited for only shortly."""
    monkeypatch.setattr(lease, "TTL_S", 0.1)


def gone_on_with(ends, folder):
    """(report of a run, the splits that it read)."""
    moving, reads = flow(ends, folder), []
    read = moving.home.read
    moving.home.read = lambda split: reads.append(split.index) or read(split)
    return moving.run(), reads


def seen(folder):
    if (folder / "out/lake.db").exists():
        with closing(sqlite3.connect(folder / "out/lake.db")) as lake:
            return sorted(lake.execute("SELECT id, v FROM t").fetchall())
    table = ds.dataset(folder / "out/lake", format="parquet").to_table()
    return sorted(zip(table["id"].to_pylist(), table["v"].to_pylist(), strict=True))


def runs(folder):
    return {path.name: path for path in (folder / "state/flows/f/runs").iterdir()}


@pytest.mark.parametrize("ends", ENDS)
def test_an_undecided_run_is_resumed_and_what_is_sealed_is_not_read_again(ends, tmp_path):
    put(ends, "undecided", tmp_path)
    report, reads = gone_on_with(ends, tmp_path)
    assert (report.run, report.resumed, reads) == (RUN, SEALED, [SEALED])
    assert seen(tmp_path) == ALL
    assert list(runs(tmp_path)) == [RUN]


@pytest.mark.parametrize("ends", ENDS)
def test_a_decided_run_is_committed_as_it_was_decided_and_nothing_is_read(ends, tmp_path):
    put(ends, "decided", tmp_path)
    decision = runs(tmp_path)[RUN] / "decision.json"
    before = decision.read_bytes()
    report, reads = gone_on_with(ends, tmp_path)
    assert (report.run, report.resumed, report.rows, reads) == (RUN, SPLITS, len(ALL), [])
    assert seen(tmp_path) == ALL
    assert list(runs(tmp_path)) == [RUN]
    assert decision.read_bytes() == before
    assert json.loads((runs(tmp_path)[RUN] / "outcome.json").read_text())["how"] == "committed"


@pytest.mark.parametrize("ends", ENDS)
def test_the_next_run_writes_types_as_flows_yml_does(ends, tmp_path):
    put(ends, "decided", tmp_path)
    gone_on_with(ends, tmp_path)
    report = flow(ends, tmp_path).run()
    plan = json.loads((runs(tmp_path)[report.run] / "plan.json").read_text())
    assert (plan["fingerprint"]["home.type"], plan["fingerprint"]["store.type"]) == TYPES[ends]


@pytest.mark.parametrize("when", ["undecided", "decided"])
def test_a_flow_that_has_another_type_now_is_another_flow(when, tmp_path):
    class Other(ParquetHome): ...

    put("parquet_to_parquet", when, tmp_path)
    moving = flow("parquet_to_parquet", tmp_path)
    moving.home = Other(path=tmp_path / "source", options={"split_bytes": 1})
    if when == "decided":
        with pytest.raises(FlowFailed, match="home.type was parquet, and is .*Other"):
            moving.run()
        return
    report = moving.run()
    assert (report.run == RUN, report.resumed) == (False, 0)
    assert seen(tmp_path) == ALL
