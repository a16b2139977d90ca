"""What version 0.1.0 left undone is gone on with by today's code."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing

import pyarrow.dataset as ds
import pytest
from old_journals import ENDS, ROWS, RUN, SEALED, SPLITS, flow, put

from hygge.journal import lease

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
def test_an_undecided_run_is_gone_on_with_and_what_is_sealed_is_not_read_again(ends, tmp_path):
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
