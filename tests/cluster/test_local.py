"""cluster/local.py: nodes that want a token, and that leave nothing behind, whatever ends them."""

from __future__ import annotations

import contextlib
import shlex
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos import only_in_chaos
from tests.servers.standing import LOCAL, OUTSIDE, Standing, hosts, psutil, standing_ray
from tests.waiting import LIMIT_S, until

pytestmark = only_in_chaos
SMALL = ["--loopback", "--cpus", "1", "--store-mib", "80"]
TASK = """
import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy as On

ray.init(address="auto", log_to_driver=False)
alive = [node["NodeID"] for node in ray.nodes() if node["Alive"]]
where = ray.remote(lambda: ray.get_runtime_context().get_node_id())
ran = [where.options(scheduling_strategy=On(node, soft=False)).remote() for node in alive]
print(len(alive), ray.get(ran) == alive)
"""


@pytest.fixture(scope="module")
def standing() -> Iterator[Standing]:
    cluster = Standing("2", *SMALL)
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


def test_a_second_cluster_stands_beside_the_first_with_a_dashboard_of_its_own(
    standing: Standing,
) -> None:
    assert standing_ray().word_after("dashboard:") != standing.word_after("dashboard:")


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
    assert process.wait(LIMIT_S) != 0
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


HOSTS = """
import os, ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy as On
ray.init(address="auto", log_to_driver=False)

def look():
    seen = os.path.exists(os.environ["RAY_TMPDIR"] + "/left-by-the-head")
    return [ray.util.get_node_ip_address(), os.uname().nodename, seen]

open(os.environ["RAY_TMPDIR"] + "/left-by-the-head", "w").close()
alive = [node for node in ray.nodes() if node["Alive"]]
on = [On(node["NodeID"], soft=False) for node in alive]
ran = ray.get([ray.remote(look).options(scheduling_strategy=each).remote() for each in on])
print(sorted(node["NodeManagerAddress"] for node in alive), sorted(ran))
"""


@pytest.mark.skipif(not hosts.can_stand(), reason="hosts of their own need root and iproute2")
def test_hosts_have_addresses_names_and_disks_of_their_own_and_die_with_who_made_them() -> None:
    standing = Standing("2", *SMALL[1:])
    try:
        processes = standing.all_processes()
        command = shlex.split(standing.said.splitlines()[-1])[:-2]
        code = ["python", "-c", HOSTS]
        ran = subprocess.run(
            [*command, *code], env=standing.environ, text=True, stdout=subprocess.PIPE
        )
        first, second = (line.split()[1] for line in standing.said.splitlines() if "node:" in line)
        seen = [[first, "host1", True], [second, "host2", False]]
        assert ran.stdout.strip() == f"{[first, second]} {seen}"
        link = f"10.213.{first.split('.')[2]}.1"
        assert link in _addresses()
    finally:
        standing.process.kill()
        standing.process.wait()
        standing.process.stdout.close()
    left = lambda: [str(each) for each in processes if each.is_running()]  # noqa: E731
    until(lambda: not left() and link not in _addresses(), lambda: f"{link} or {left()} is left")


def _addresses() -> str:
    return subprocess.run(["ip", "addr"], text=True, stdout=subprocess.PIPE).stdout


@pytest.mark.skipif(not hosts.can_stand(), reason="hosts of their own need root and iproute2")
def test_the_disk_of_a_host_is_filled_without_writing(tmp_path: Path) -> None:
    network = hosts.Network()
    try:
        host = network.add(tmp_path / "disk", shm_mib=8)
        write = host.inside("sh", "-c", f"echo row >> {host.disk}/rows")
        subprocess.run(write, check=True)
        network.fill_disk(host)
        more = host.inside("dd", "if=/dev/zero", f"of={host.disk}/more", "bs=64k", "count=1")
        ran = subprocess.run(more, text=True, capture_output=True)
        assert "No space left on device" in ran.stderr
    finally:
        network.down()


@pytest.mark.skipif(not hosts.can_stand(), reason="nothing to be taken away")
def test_root_without_the_capabilities_of_a_machine_makes_no_hosts() -> None:
    """As in a container that was given none."""
    for less in ("-sys_admin", "-net_admin"):
        command = ["setpriv", "--bounding-set", less, sys.executable, "-c"]
        ran = subprocess.run(
            [*command, "import hosts; print(hosts.can_stand())"], cwd=LOCAL.parent, text=True,
            stdout=subprocess.PIPE,
        )  # fmt: skip
        assert ran.stdout == "False\n", less
