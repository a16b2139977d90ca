"""A Ray that outlives who uses it: `cluster/local.py` in a process of its own, on loopback."""

from __future__ import annotations

import atexit
import functools
import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import ray  # noqa: F401  # puts its own psutil on the path

from tests import ROOT
from tests.crash.points import ALL
from tests.waiting import LIMIT_S

import psutil  # isort: skip

CLUSTER = ROOT / "cluster"
LOCAL = CLUSTER / "local.py"
sys.path.append(str(CLUSTER))
import hosts  # noqa: E402, F401

SECRET = "hunter2-only-the-nodes-know"
"""In the environment of the nodes, as `SHOP_PASSWORD`; clients do not have it."""
STOP_WAIT = "RAY_JOB_STOP_WAIT_TIME_S"
OF_THE_NODES = {
    "SHOP_PASSWORD": SECRET,
    "RAY_worker_niceness": "0",
    "RAY_raylet_start_wait_time_s": "120",  # a busy machine may take its time
}
if ALL:  # tests/k8s/test_prometheus.py reads them
    OF_THE_NODES["RAY_metrics_report_interval_ms"] = "1000"
OUTSIDE = {name: text for name, text in os.environ.items() if not name.startswith("RAY_")}


class Standing:
    """A `cluster/local.py` that runs, and what it printed."""

    def __init__(
        self,
        *arguments: str,
        environment: dict[str, str] | None = None,
        python: str | Path = sys.executable,
    ) -> None:
        command = [str(python), str(LOCAL), *arguments]
        self.outside = OUTSIDE | (environment or {})
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, text=True, env=self.outside | OF_THE_NODES
        )
        assert self.process.stdout
        self.said = ""
        while "hygge flows.yml" not in self.said:
            line = self.process.stdout.readline()
            assert line, f"ended with {self.process.wait(LIMIT_S)} after saying: {self.said}"
            self.said += line

    def word_after(self, label: str) -> str:
        return self.said.partition(label)[2].split()[0]

    @property
    def environ(self) -> dict[str, str]:
        """The environment of a shell that sourced the printed file."""
        lines = Path(self.word_after(" . ")).read_text().splitlines()
        words = (shlex.split(line.removeprefix("export ")) for line in lines)
        return self.outside | dict(word.split("=", 1) for (word,) in words)

    def all_processes(self) -> list[Any]:
        return list(psutil.Process(self.process.pid).children(recursive=True))

    def python(self, code: str) -> str:
        """What `code` prints in a shell that sourced the printed file."""
        script = f". {self.word_after(' . ')} && exec python -c '{code}'"
        return subprocess.run(
            ["sh", "-c", script], env=OUTSIDE, check=True, text=True, stdout=subprocess.PIPE
        ).stdout

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        try:
            return self.process.wait(LIMIT_S)
        finally:
            assert self.process.stdout
            self.process.stdout.close()


@functools.cache
def standing_ray() -> Standing:
    """One for every test that attaches to a Ray; starting one takes seconds.

    A job that is stopped there, and a command with this environment, may take its time to end.
    """
    size = ["--loopback", "--cpus", "4", "--store-mib", "160", "--for", "14400"]
    standing = Standing("1", *size, environment={STOP_WAIT: str(int(LIMIT_S))})
    atexit.register(standing.end)
    return standing


def end_standing_ray() -> None:
    """End it, if there is one; who asks for it later gets another."""
    if standing_ray.cache_info().currsize:
        standing_ray().end()
        standing_ray.cache_clear()
