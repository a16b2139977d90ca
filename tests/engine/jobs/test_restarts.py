"""The Coordinator of a submitted run is killed: it is started again in the same Ray job.

Here without Ray, in one process: what it appended in its first try is not appended in its second.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from hygge import __version__
from hygge.engine.jobs.cluster import VERSION
from tests.chaos import only_in_chaos
from tests.waiting import LIMIT_S

CONNECTORS = """
import os, signal
import hygge.cli.main
import pandas as pd
from hygge import Home

number = int(os.environ["HYGGE_TRY"].partition("/")[2])

def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

if number == 1 and KILLED == "before its report":
    hygge.cli.main._print_report = die

class Deadly(Home):
    async def read_batches(self):
        if KILLED == "always" or (number == 1 and KILLED == "in the second flow"):
            die()
        yield pd.DataFrame({"id": [1]})
"""
FLOWS = """
max_parallel_flows: 1
flows:
  x: {home: users.csv, store: 'sqlite:///to.db#x', mode: append}
  y: {home: {type: 'connectors:Deadly'}, store: 'sqlite:///to.db#y', mode: append, depends_on: [x]}
"""


def ran(folder: Path, killed: str, *words: str) -> subprocess.CompletedProcess[str]:
    (folder / "users.csv").write_text("id\n1\n2\n3\n")
    (folder / "flows.yml").write_text(FLOWS)
    (folder / "connectors.py").write_text(f"KILLED = {killed!r}\n{CONNECTORS}")
    return subprocess.run(
        [sys.executable, "-m", "hygge", "run", "flows.yml", "--inline", "--json", *words],
        cwd=folder, text=True, capture_output=True, timeout=LIMIT_S,
        env={**os.environ, VERSION: __version__},
    )  # fmt: skip


def rows(folder: Path, table: str) -> int:
    with contextlib.closing(sqlite3.connect(folder / "to.db")) as store:
        return int(store.execute(f"SELECT count(*) FROM {table}").fetchone()[0])


@pytest.mark.parametrize(
    ("killed", "words"),
    [
        pytest.param("in the second flow", ("--fresh",), marks=only_in_chaos),
        ("before its report", ()),
    ],
)
def test_what_a_killed_coordinator_appended_is_not_appended_again(killed, words, tmp_path):
    done = ran(tmp_path, killed, *words)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "the coordinator was killed by signal 9; it is started again" in done.stderr
    assert "try 3 of 4" not in done.stderr
    assert (rows(tmp_path, "x"), rows(tmp_path, "y")) == (3, 1)
    again = ran(tmp_path, "never")
    assert again.returncode == 0, again.stdout + again.stderr
    assert (rows(tmp_path, "x"), rows(tmp_path, "y")) == (6, 2), "a new command appends once more"


def test_one_that_dies_in_each_try_ends_as_its_last_try_did(tmp_path, monkeypatch):
    # Without the pauses between the tries.
    (tmp_path / "sitecustomize.py").write_text(
        "from hygge.engine.jobs import restarts\nrestarts._PAUSES_S = (0.01,)\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    done = ran(tmp_path, "always", "--select", "y")
    assert done.returncode == -signal.SIGKILL
    assert "try 4 of 4" in done.stderr
