"""A driver is killed at each statement: readers see old or new rows, and the next run goes on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

from tests.chaos import only_in_chaos
from tests.crash.side_by_side import run_each

pytest_plugins = ["tests.servers.mariadb"]
DRIVER = "tests.crash.mariadb_points"
# A run makes more changes than that; fewer means that they were not seen.
LEAST = {"append": 20, "replace": 28, "merge": 25, "adopt": 20, "changes": 27}


def killed_everywhere(my, folder, *scenarios):
    """Run each scenario in a process of its own, side by side; return what each printed."""
    runs = []
    for at, (mode, *twin) in enumerate(scenarios):
        schema = my.schema()
        runs.append((mode, my.url(schema), schema, folder / str(at), *twin))
    return [json.loads(said) for said in run_each(DRIVER, runs)]


def test_no_row_is_lost_or_doubled_wherever_the_driver_is_killed(my, tmp_path):
    found = killed_everywhere(my, tmp_path, *[(mode,) for mode in LEAST])
    assert [each["wrong"] for each in found] == [[]] * len(LEAST)
    for each, least in zip(found, LEAST.values(), strict=True):
        assert each["points"] >= least


@only_in_chaos  # PostgreSQL has the same, quicker
def test_a_head_that_moves_apart_from_its_rows_is_caught(my, tmp_path):
    append, replace = killed_everywhere(
        my, tmp_path, ("append", "head apart"), ("replace", "rename apart")
    )
    assert append["wrong"]
    assert replace["wrong"]


RESUMED = """
import os, pathlib, signal, sys, time
from hygge import Flow, SQLHome, SQLStore
from hygge.connectors.mariadb import store as my_store
url, state, kill = sys.argv[1], sys.argv[2], sys.argv[3] == "kill"
real, calls = my_store.load_split, []
def load_split(*given, **named):
    calls.append(1)
    if kill and len(calls) == 3:
        while not list(pathlib.Path(state).rglob("receipts/*/*.json")):
            time.sleep(0.01)  # receipts are written by threads
        os.kill(os.getpid(), signal.SIGKILL)
    return real(*given, **named)
my_store.load_split = load_split
home = SQLHome("s", connection=url, options={"consistency": "split", "splits": 5})
flow = Flow(home, SQLStore("t", connection=url), name="f", engine="inline", state=state)
report = flow.run()
print(report.resumed, report.splits, report.applied)
"""


def test_a_run_of_independent_splits_goes_on_where_it_died(my, my_schema, tmp_path):
    my.ask(f"CREATE TABLE {my_schema}.s (id int PRIMARY KEY, v text)")
    my.ask(f"INSERT INTO {my_schema}.s SELECT seq, seq FROM seq_1_to_9999")
    command = [sys.executable, "-c", RESUMED, my.url(my_schema), str(tmp_path)]
    died = subprocess.run([*command, "kill"], capture_output=True, env=dict(os.environ))
    assert died.returncode == -signal.SIGKILL, died.stderr
    again = subprocess.run([*command, "live"], capture_output=True, text=True, check=True)
    resumed, *others = again.stdout.split()
    assert int(resumed) > 0  # the last seal may have been noted by the ledger alone
    assert others == ["5", "9999"]
    same = f"SELECT COUNT(*) FROM {my_schema}.s JOIN {my_schema}.t USING (id) WHERE s.v = t.v"
    assert my.ask(same) == [(9999,)]
    assert my.ask(f"SELECT COUNT(*) FROM {my_schema}.t") == [(9999,)]
