"""Ctrl-C, SIGTERM and `ray job stop`: noted, nothing visible, nobody left behind, exit 130.

On a standing Ray; a private one, which ends with its command, is in `tests/cli/test_main.py`. That
nothing of this is needed for correctness is what the tests with SIGKILL show.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from tests.chaos import only_in_chaos
from tests.servers.standing import STOP_WAIT, standing_ray
from tests.waiting import LIMIT_S, said_by, until

HYGGE = [sys.executable, "-m", "hygge"]
# Who leaves in a hurry gives its leases half a second to be freed; here they have what they take.
PATIENT = """
import sys, threading
from hygge.cli import main as cli

class Patient(threading.Thread):
    def __init__(self, target, **more):
        super().__init__(target=target, **more)
        self.frees = target.__name__ == "interrupt_all"
    def join(self, timeout=None):
        super().join(None if self.frees else timeout)

class Threads:
    Thread = Patient
    def __getattr__(self, name):
        return getattr(threading, name)

cli.threading = Threads()
sys.exit(cli.main())
"""
OURS = ("ray::read ", "ray::stage ", "ray::Home", "ray::Store", "ray::Inbox")
CONNECTORS = """
import os
import time
from hygge import ParquetHome, ParquetStore

class SlowHome(ParquetHome):
    def read(self, split):
        for table in super().read(split):
            while split.index > 3 and not os.path.exists(os.path.join(self.path, "..", "quick")):
                time.sleep(0.05)
            yield table

class SlowStore(ParquetStore):
    def commit(self, *given):
        folder = os.path.dirname(self.path)
        while not os.path.exists(os.path.join(folder, "quick")):
            open(os.path.join(folder, "committing"), "w").close()
            time.sleep(0.05)
        return super().commit(*given)
"""


class Folder:
    """A flow of twelve files, a split each, on the standing Ray."""

    def __init__(self, path: Path, home: str, store: str) -> None:
        self.path, self.environ = path, standing_ray().environ
        (path / "in").mkdir()
        for n in range(12):
            pq.write_table(pa.table({"n": [n]}), path / "in" / f"{n:02}.parquet")
        (path / "connectors.py").write_text(CONNECTORS)
        (path / "flows.yml").write_text(
            f"root: {path}\nflows:\n  f:\n"
            f"    home: {{{home}path: in, options: {{split_bytes: 1}}}}\n"
            f"    store: {{{store}path: out}}\n"
            "    lanes: 1\n    memory_per_lane: 32 MiB\n    batch_bytes: 4 MiB\n"
        )

    def start(self, *words: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-c", PATIENT, "flows.yml", *words], cwd=self.path, env=self.environ,
            text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def entries(self, pattern: str) -> list[Path]:
        return sorted((self.path / ".hygge" / "flows").glob(f"*/{pattern}"))

    def two_are_sealed(self, running: subprocess.Popen[str] | None = None) -> None:
        until(
            lambda: len(self.entries("receipts/*/*.json")) >= 2 or has_ended(running),
            "no split was sealed",
        )

    def is_committing(self, running: subprocess.Popen[str]) -> None:
        committing = (self.path / "committing").exists
        until(lambda: committing() or has_ended(running), "no commit began")

    def interrupted(self) -> bool:
        return [
            json.loads(each.read_text())["why"] for each in self.entries("runs/*/stopped-*")
        ] == ["interrupted"]

    def freed(self) -> bool:
        return json.loads(self.entries("lease/*.json")[-1].read_text())["freed"] is True

    def finished(self) -> dict:
        """The report of the same command, run again and not held up."""
        (self.path / "quick").touch()
        again = self.start("--jobs", "one", "--json")
        said, errors = said_by(again)
        assert again.returncode == 0, said + errors
        assert sorted(ds.dataset(self.path / "out").to_table()["n"].to_pylist()) == list(range(12))
        (line,) = [line for line in said.splitlines() if line.startswith('{"hygge_report"')]
        return json.loads(line)["hygge_report"]["flows"][0]


def has_ended(running: subprocess.Popen[str] | None) -> bool:
    """Return whether a command ended before its time; the test that waits for it then fails."""
    return running is not None and running.poll() is not None


def actors() -> list[str]:
    titles = []
    for process in standing_ray().all_processes():
        try:
            titles += process.cmdline()[:1]
        except Exception:  # it has just ended
            continue
    return [title for title in titles if title.startswith(OURS)]


def nobody_is_left() -> None:
    until(lambda: actors() == [], lambda: f"{actors()} are left", every_s=0.1)


@pytest.mark.parametrize(
    "number",
    [signal.SIGINT, pytest.param(signal.SIGTERM, marks=only_in_chaos)],
    ids=["Ctrl-C", "SIGTERM"],
)
def test_a_signal_while_rows_move_is_noted_and_what_is_sealed_is_gone_on_with(number, tmp_path):
    folder = Folder(tmp_path, "type: 'connectors:SlowHome', ", "")
    running = folder.start("--jobs", "one")
    folder.two_are_sealed(running)
    running.send_signal(number)
    said, errors = said_by(running)
    assert running.returncode == 130, said + errors
    assert "Traceback" not in said + errors
    assert "f  stopped: nothing became visible" in said
    assert "of 12 splits are staged; running it again goes on from there" in errors
    assert not (tmp_path / "out").exists()
    assert folder.interrupted()
    assert folder.freed()
    nobody_is_left()
    sealed = len(folder.entries("receipts/*/*.json"))
    assert folder.finished()["resumed"] == sealed >= 2


def test_a_signal_during_the_commit_is_noted_and_the_next_run_finishes_it(tmp_path):
    folder = Folder(tmp_path, "", "type: 'connectors:SlowStore', ")
    del folder.environ[STOP_WAIT]
    running = folder.start("--jobs", "one")
    folder.is_committing(running)
    running.send_signal(signal.SIGTERM)
    said, errors = said_by(running)  # though the commit never returns
    assert running.returncode == 130, said + errors
    assert not (tmp_path / "out").exists()
    assert folder.freed()
    nobody_is_left()
    assert folder.finished()["resumed"] == 12
    assert folder.interrupted()


def test_a_second_ctrl_c_ends_at_once(tmp_path):
    folder = Folder(tmp_path, "", "type: 'connectors:SlowStore', ")
    running = folder.start("--jobs", "one")
    folder.is_committing(running)

    def ended() -> bool:
        # After one it would wait for the commit, which never returns. Two that come before Python
        # looks are one, so that there may have to be more.
        running.send_signal(signal.SIGINT)
        return running.poll() is not None

    until(ended, "it waits for the commit")
    said, errors = said_by(running)
    assert running.returncode == 130, said + errors
    assert folder.freed()
    assert not (tmp_path / "out").exists()


@only_in_chaos
def test_ray_job_stop_stops_the_flows_of_a_job_and_notes_it(tmp_path):
    folder = Folder(tmp_path, "type: 'connectors:SlowHome', ", "")
    ray = [Path(sys.executable).parent / "ray", "job"]

    def job(*words: str) -> str:
        done = subprocess.run(
            [*ray, *words], env=folder.environ, text=True, capture_output=True, timeout=LIMIT_S
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    name = f"stopped-{os.getpid()}-{tmp_path.name}"
    job("submit", "--no-wait", "--submission-id", name, "--working-dir", str(tmp_path), "--",
        *HYGGE, "flows.yml")  # fmt: skip
    folder.two_are_sealed()
    job("stop", "--no-wait", name)
    until(folder.freed, "the flow's own job goes on")
    assert folder.interrupted()
    nobody_is_left()
    until(lambda: "f  stopped: nothing became visible" in job("logs", name), "no report")
    assert not (tmp_path / "out").exists()
    assert folder.finished()["resumed"] >= 2


ENDED = """
import threading, time
from hygge import Flow, FlowFailed, ParquetStore
from hygge.engine.ray import connection
from hygge.model import MIB, Limits
from connectors import SlowHome

failed = []
limits = Limits(lanes=1, memory_per_lane=32 * MIB, batch_bytes=4 * MIB)
home = SlowHome(path="in", options={"split_bytes": 1})

def run():
    try:
        Flow(home, ParquetStore(path="out"), limits=limits).run()
    except FlowFailed as error:
        failed.append(error)

running = threading.Thread(target=run)
running.start()
while not any(thread.name.startswith("hygge-seal") for thread in threading.enumerate()):
    time.sleep(0.05)
connection.disconnect()
running.join()
import ray
print(len(failed), ray.is_initialized())
"""


@only_in_chaos
def test_where_ray_ends_under_a_flow_no_other_is_started(tmp_path):
    folder = Folder(tmp_path, "", "")
    ran = subprocess.run(
        [sys.executable, "-c", ENDED], cwd=tmp_path, env=folder.environ, text=True,
        capture_output=True, timeout=LIMIT_S,
    )  # fmt: skip
    # Or nothing: at a call that comes in the middle of the end, Ray ends the process itself.
    assert ran.stdout.split()[1:] in (["False"], []), ran.stdout + ran.stderr
