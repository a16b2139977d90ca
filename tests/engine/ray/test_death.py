"""A run ends, and says why, whatever part of Ray dies under it; the next run is right."""

from __future__ import annotations

import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests import ROOT
from tests.chaos import only_in_chaos
from tests.waiting import LIMIT_S


@pytest.mark.parametrize(
    ("what", "moment"),
    [
        pytest.param("raylet", "before the first lane", marks=only_in_chaos),
        pytest.param("agent", "while it is made", marks=only_in_chaos),
        ("raylet", "in mid-run"),
        pytest.param("raylet", "in the commit", marks=only_in_chaos),
        pytest.param("gcs_server", "before the first lane", marks=only_in_chaos),
        pytest.param("gcs_server", "while it is made", marks=only_in_chaos),
        pytest.param("gcs_server", "in mid-run", marks=only_in_chaos),
        pytest.param("gcs_server", "in the commit", marks=only_in_chaos),
        pytest.param("head", "while it is made", marks=only_in_chaos),
        pytest.param("head", "in mid-run", marks=only_in_chaos),
    ],
)
def test_a_run_fails_with_the_part_of_ray_that_died(tmp_path, what, moment):
    (tmp_path / "in").mkdir()
    for n in range(4):
        pq.write_table(pa.table({"n": range(n * 10, n * 10 + 10)}), tmp_path / f"in/{n}.parquet")
    ran = subprocess.run(
        [sys.executable, "-m", "tests.engine.ray.dying", str(tmp_path), what, moment], cwd=ROOT,
        text=True, capture_output=True, timeout=LIMIT_S,
    )  # fmt: skip
    if what not in ("gcs_server", "head"):  # Ray ends a process that still waits for these
        assert ran.returncode == 0, ran.stdout + ran.stderr
    if moment != "in the commit":  # which needs no Ray
        died = "raylet" if what == "agent" else what
        assert f"failed: f: Ray has ended under the run: its {died}" in ran.stdout, ran.stderr
    assert ran.stdout.splitlines()[-1] == "done", ran.stdout + ran.stderr
    (out,) = (tmp_path / "out").glob("run-*")
    assert sorted(pq.read_table(out)["n"].to_pylist()) == list(range(40))
