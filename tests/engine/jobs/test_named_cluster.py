"""The cluster that is named on the command line is the one that runs it, whatever variables say.

Two clusters have one token, so that neither refuses what is meant for the other.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hygge.engine.ray import connection
from hygge.engine.ray.ports import look_at
from tests import forked
from tests.chaos import only_in_chaos
from tests.servers.standing import OUTSIDE, standing_ray
from tests.waiting import LIMIT_S, free_port, until

RAY = Path(sys.executable).parent / "ray"


@pytest.fixture(scope="module")
def ports() -> dict[str, int]:
    return {name: free_port() for name in ("gcs", "dashboard", "client", "agent")}


@pytest.fixture
def address(port, request) -> str:
    """Where the standing Ray listens at this port; or the other one, which alone has Ray Client."""
    if port == "client":
        request.getfixturevalue("other")
        listens = request.getfixturevalue("ports")["client"]
        until(lambda: look_at("127.0.0.1", listens) == "client", lambda: "Ray Client")
        return f"127.0.0.1:{listens}"
    named = {"gcs": "RAY_ADDRESS", "dashboard": "RAY_API_SERVER_ADDRESS"}[port]
    return standing_ray().environ[named].removeprefix("http://")


@pytest.fixture(scope="module")
def home() -> str:
    """Where the second cluster has its files; Ray's socket paths must be short."""
    return tempfile.mkdtemp(prefix="hygge-", dir="/tmp")


@pytest.fixture(scope="module")
def other(ports: dict[str, int], home: str) -> Iterator[str]:
    """A second cluster, whose nodes have variables that name the first one; its dashboard."""
    standing = standing_ray().environ
    command = [RAY, "start", "--head", "--block", f"--port={ports['gcs']}", "--num-cpus=2"]
    command += [f"--dashboard-port={ports['dashboard']}", "--dashboard-host=127.0.0.1"]
    command += [f"--dashboard-agent-listen-port={ports['agent']}", "--disable-usage-stats"]
    command += [f"--ray-client-server-port={ports['client']}", "--object-store-memory=800000000"]
    command += ["--min-worker-port=0", "--max-worker-port=0"]
    environ = OUTSIDE | {
        "RAY_API_SERVER_ADDRESS": standing["RAY_API_SERVER_ADDRESS"],
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": standing["RAY_AUTH_TOKEN_PATH"],
        "RAY_TMPDIR": home,
        "RAY_worker_niceness": "0",
        "RAY_raylet_start_wait_time_s": "120",  # a busy machine may take its time
        "PATH": f"{RAY.parent}:{os.environ['PATH']}",
    }
    with open(Path(home) / "start.log", "w") as log:
        started = subprocess.Popen(
            command, env=environ, stdout=log, stderr=log, start_new_session=True
        )
    try:

        def stands() -> bool:
            assert started.poll() is None, Path(home, "start.log").read_text()
            return Path(home, "ray", "ray_current_cluster").exists()

        until(stands, Path(home, "start.log").read_text)
        yield f"http://127.0.0.1:{ports['dashboard']}"
    finally:
        started.send_signal(signal.SIGTERM)
        try:
            started.wait(LIMIT_S)
        except subprocess.TimeoutExpired:
            os.killpg(started.pid, signal.SIGKILL)
            started.wait()
        shutil.rmtree(home, ignore_errors=True)


def jobs_of(dashboard: str) -> dict[str, Any]:
    """Return the jobs that a cluster has: submission id → what Ray knows of it."""
    token = Path(standing_ray().environ["RAY_AUTH_TOKEN_PATH"]).read_text()
    page = urllib.request.Request(f"{dashboard}/api/jobs/")
    page.add_header("Authorization", f"Bearer {token}")
    with urllib.request.urlopen(page, timeout=LIMIT_S) as answer:
        return {job["submission_id"]: job for job in json.loads(answer.read())}


def hygge(folder: Path, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    standing = standing_ray().environ
    token = {name: standing[name] for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN_PATH")}
    return forked.hygge(*words, cwd=folder, env={**OUTSIDE, **token, **variables})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    pq.write_table(pa.table({"n": range(10)}), tmp_path / "in.parquet")
    (tmp_path / "laptop").mkdir()
    (tmp_path / "laptop" / "flows.yml").write_text(
        f"state: {tmp_path}/state\nflows:\n"
        f"  one: {{home: {tmp_path}/in.parquet, store: {tmp_path}/out/one}}\n"
        "jobs: each\n"
    )
    return tmp_path / "laptop"


def test_what_the_command_line_names_wins_over_the_variables_of_the_client(folder):
    first = standing_ray().environ
    with socket.socket() as taken:  # bound, and listening to nobody
        taken.bind(("127.0.0.1", 0))
        named = f"http://127.0.0.1:{taken.getsockname()[1]}"
        of_first = {name: first[name] for name in ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS")}
        ran = hygge(folder, "flows.yml", "--address", named, **of_first)
    assert ran.returncode == 1
    assert f"there is no answer from {named}: " in ran.stderr


@only_in_chaos
@pytest.mark.ray_versions
def test_what_the_command_line_names_wins_over_the_variables_of_client_and_nodes(
    folder, other, ports
):
    first = standing_ray().environ["RAY_API_SERVER_ADDRESS"]
    before = set(jobs_of(first))
    of_first = {"RAY_API_SERVER_ADDRESS": first, "RAY_ADDRESS": first}
    ran = hygge(folder, "flows.yml", "--address", other, **of_first)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "one  done  10 rows" in ran.stdout
    assert f"runs on {other}" in ran.stderr
    assert re.search(rf"each flow is a job of the Ray at [^ ]+:{ports['gcs']}, ", ran.stderr)
    assert len(jobs_of(other)) == 2  # the Coordinator and its flow
    assert set(jobs_of(first)) == before
    run = next(job for job, known in jobs_of(other).items() if "hygge_file" in known["metadata"])
    for words in (("status", run), ("logs", run), ("stop", run)):
        asked = hygge(folder, *words, "--address", other, **of_first)
        assert asked.returncode == 0, asked.stderr
        assert "knows no run" not in asked.stderr


CLIENT = pytest.param("client", marks=only_in_chaos)


@pytest.mark.parametrize("port", ["gcs", "dashboard", CLIENT])
def test_each_port_of_ray_is_known_by_what_answers_there(port, address):
    host, _, number = address.rpartition(":")
    assert look_at(host, int(number)) == port


@pytest.mark.parametrize(
    ("port", "words"),
    [
        ("gcs", "is the port by which the nodes of a Ray cluster join it"),
        pytest.param("client", "is Ray Client, which hygge does not use", marks=only_in_chaos),
    ],
)
def test_a_wrong_port_behind_address_is_told_by_what_it_is(folder, port, address, words):
    asked = hygge(folder, "flows.yml", "--address", f"http://{address}")
    assert asked.returncode == 1
    assert words in asked.stderr
    assert "8265" in asked.stderr
    assert "Traceback" not in asked.stderr


@pytest.mark.parametrize(
    ("port", "words"),
    [
        ("dashboard", "there is the dashboard of a Ray cluster"),
        pytest.param(
            "client", "there is Ray Client, which hygge does not use", marks=only_in_chaos
        ),
    ],
)
def test_a_wrong_port_in_ray_address_is_told_at_once(folder, port, address, words):
    asked = hygge(folder, "flows.yml", RAY_ADDRESS=address)
    assert asked.returncode == 1
    assert words in asked.stderr


@only_in_chaos
def test_a_ray_address_that_is_dead_or_silent_is_told_at_once(folder):
    with closing(socket.create_server(("127.0.0.1", 0))) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        asked = hygge(folder, "flows.yml", RAY_ADDRESS=address)
    assert asked.returncode == 1
    assert f"RAY_ADDRESS is {address}, and there is something that is no Ray" in asked.stderr
    asked = hygge(folder, "flows.yml", RAY_ADDRESS=address)
    assert asked.returncode == 1
    assert f"RAY_ADDRESS is {address}, and nobody listens there" in asked.stderr


def test_ray_address_auto_is_the_ray_of_this_machine_and_local_is_none(folder, monkeypatch):
    """Ray itself takes any Ray of the machine for `auto`, also that of somebody else."""
    asked = hygge(folder, "flows.yml", RAY_ADDRESS="auto", RAY_TMPDIR=str(folder))
    assert asked.returncode == 1
    assert "RAY_ADDRESS is auto, and no Ray that `ray start` started runs" in asked.stderr
    monkeypatch.setenv("RAY_TMPDIR", str(Path(standing_ray().environ["RAY_TMPDIR"])))
    monkeypatch.setenv("RAY_ADDRESS", "auto")
    assert connection.find_running() is not None
    monkeypatch.setenv("RAY_ADDRESS", "local")
    assert connection.find_running() is None, "flows would be its jobs, and it would end before"


@pytest.mark.parametrize(
    "port", ["99999", *[pytest.param(port, marks=only_in_chaos) for port in ("0", "port")]]
)
def test_a_port_that_is_none_is_told(folder, port):
    for words, variables in (
        (("--address", f"http://127.0.0.1:{port}"), {}),
        ((), {"RAY_ADDRESS": f"http://127.0.0.1:{port}"}),
    ):
        asked = hygge(folder, "flows.yml", *words, **variables)
        assert asked.returncode == 2, asked.stderr
        assert f"http://127.0.0.1:{port} is no address of Ray's dashboard" in asked.stderr


def joining(folder: Path, address: str, *before: str) -> subprocess.CompletedProcess[str]:
    """`hygge flows.yml` with the token of both clusters, and without their other variables."""
    standing = standing_ray().environ
    token = {name: standing[name] for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN_PATH")}
    return subprocess.run(
        [*before, sys.executable, "-m", "hygge", "flows.yml"], cwd=folder, text=True,
        capture_output=True, timeout=LIMIT_S, env={**OUTSIDE, **token, "RAY_ADDRESS": address},
    )  # fmt: skip


@only_in_chaos
def test_a_ray_address_on_a_machine_that_is_no_node_names_the_dashboard(folder, other, ports, home):
    """It sees nodes of both clusters run, and not the disk of this one's."""
    hidden = f'mount -t tmpfs none {home} && exec "$@"'
    words = ["unshare", "--mount", "sh", "-c", hidden, "-"]
    asked = joining(folder, f"127.0.0.1:{ports['gcs']}", *words)
    if "unshare" in asked.stderr or "mount: " in asked.stderr:
        pytest.skip(f"needs namespaces: {asked.stderr}")
    assert asked.returncode == 2, asked.stderr
    assert "this machine is no node of that cluster" in asked.stderr
    assert "--address http://127.0.0.1:8265" in asked.stderr


def test_a_cluster_on_loopback_is_not_asked_for_at_another_address(folder):
    """Ray would take 127.0.0.1 for the outer address of this machine, and wait there for ever."""
    asked = joining(folder, standing_ray().environ["RAY_ADDRESS"])
    assert asked.returncode == 1, asked.stderr
    assert "that cluster listens on 127.0.0.1 alone" in asked.stderr
    assert "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER=0" in asked.stderr
