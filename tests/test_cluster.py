"""cluster/local.py: nodes on loopback that want a token, and that leave nothing behind."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray  # noqa: F401  # puts its own psutil on the path

import psutil  # isort: skip

LOCAL = Path(__file__).parents[1] / "cluster" / "local.py"
OUTSIDE = {name: text for name, text in os.environ.items() if not name.startswith("RAY_")}
SMALL = ["--cpus", "1", "--store-mib", "80"]
TASK = """
import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy as On
ray.init(address="auto", log_to_driver=False)
alive = [node["NodeID"] for node in ray.nodes() if node["Alive"]]
where = ray.remote(lambda: ray.get_runtime_context().get_node_id())
ran = [where.options(scheduling_strategy=On(node, soft=False)).remote() for node in alive]
print(len(alive), ray.get(ran) == alive)
"""


class Standing:
    """A `cluster/local.py` that runs, and what it printed."""

    def __init__(self, *arguments: str) -> None:
        command = [sys.executable, str(LOCAL), *arguments, *SMALL]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=OUTSIDE)
        assert self.process.stdout
        self.said = ""
        while "hygge flows.yml" not in self.said:
            line = self.process.stdout.readline()
            assert line, f"ended with {self.process.wait(10)} after saying: {self.said}"
            self.said += line

    def word_after(self, label: str) -> str:
        return self.said.partition(label)[2].split()[0]

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
            return self.process.wait(15)
        finally:
            assert self.process.stdout
            self.process.stdout.close()


@pytest.fixture(scope="module")
def standing() -> Iterator[Standing]:
    cluster = Standing("2")
    yield cluster
    if cluster.process.poll() is None:
        cluster.end()


def test_two_nodes_are_alive_and_each_runs_a_task_of_another_process(standing: Standing) -> None:
    assert standing.python(TASK).split() == ["2", "True"]


def test_nothing_listens_beyond_loopback(standing: Standing) -> None:
    listening = set()
    for process in standing.all_processes():
        with contextlib.suppress(psutil.NoSuchProcess):  # a worker without work ends by itself
            for socket in process.net_connections(kind="inet"):
                if socket.status == psutil.CONN_LISTEN:
                    listening.add(socket.laddr.ip.removeprefix("::ffff:"))
    assert listening == {"127.0.0.1"}


def test_the_dashboard_lets_nobody_in_without_the_token(standing: Standing) -> None:
    page = urllib.request.Request(standing.word_after("dashboard:") + "/api/jobs/")
    with pytest.raises(urllib.error.HTTPError, match="401") as refused:
        urllib.request.urlopen(page)
    refused.value.close()
    token = Path(standing.word_after("token: ").rstrip(")"))
    assert token.stat().st_mode & 0o077 == 0
    page.add_header("Authorization", f"Bearer {token.read_text()}")
    with urllib.request.urlopen(page) as answer:
        assert answer.status == 200


def test_a_ctrl_c_takes_everything_down_and_removes_the_folder(standing: Standing) -> None:
    processes, folder = standing.all_processes(), Path(standing.word_after(" . ")).parent
    assert len(processes) > 10
    assert folder.is_dir()
    assert standing.end(signal.SIGINT) == 0
    assert [process for process in processes if process.is_running()] == []
    assert not folder.exists()


def test_run_exits_with_the_code_of_its_command_and_ends_what_that_left_running() -> None:
    script = "sleep 1000 & echo $! $RAY_ADDRESS; exit 7"
    ran = subprocess.run(
        [sys.executable, LOCAL, "1", *SMALL, "--no-dashboard", "--run", "sh", "-c", script],
        env=OUTSIDE,
        stdout=subprocess.PIPE,
        text=True,
    )
    sleeper, address = ran.stdout.split()
    assert (ran.returncode, address[:10]) == (7, "127.0.0.1:")
    assert not psutil.pid_exists(int(sleeper))


def test_a_sigterm_while_it_starts_leaves_no_process() -> None:
    process = subprocess.Popen([sys.executable, LOCAL, "3", *SMALL], env=OUTSIDE)
    ours = psutil.Process(process.pid)
    while not (started := ours.children(recursive=True)):  # the first node has begun
        assert process.poll() is None
    process.terminate()
    assert process.wait(15) != 0
    assert [child for child in started if child.is_running()] == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["0"], "must be at least 1, not 0"),
        (["2", "--store-mib", "10"], "must be at least 80, not 10"),
        (["2", "--run"], "--run needs a command"),
        (["2", "--for", "1", "--run", "true"], "not allowed with"),
    ],
)
def test_a_wrong_command_line_is_told_before_anything_starts(
    arguments: list[str], said: str
) -> None:
    ran = subprocess.run([sys.executable, LOCAL, *arguments], capture_output=True, text=True)
    assert ran.returncode == 2
    assert said in ran.stderr
