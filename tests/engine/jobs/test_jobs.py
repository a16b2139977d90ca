"""On a Ray that outlives the command, each flow is a Ray job that Ray's own tools show."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.chaos import only_in_chaos
from tests.waiting import LIMIT_S, free_port, said_by, until

RAY = Path(sys.executable).parent / "ray"
# tests/cli/test_cluster.py has a run whose flows are jobs, one of which fails, on the standing Ray.
pytestmark = [pytest.mark.ray_versions, only_in_chaos]


@pytest.fixture(scope="module")
def cluster() -> Iterator[dict[str, str]]:
    """`ray start --head` on ports and in a folder of its own; the environment to reach it.

    It has no authentication, though who uses it has a token, for another cluster.
    """
    home = tempfile.mkdtemp(prefix="hygge-", dir="/tmp")  # Ray's socket paths must be short
    port, dashboard = free_port(), free_port()
    command = [RAY, "start", "--head", "--block", f"--port={port}"]
    command += [f"--dashboard-port={dashboard}", "--dashboard-host=127.0.0.1", "--num-cpus=4"]
    command += [f"--dashboard-agent-listen-port={free_port()}"]
    command += ["--disable-usage-stats", "--object-store-memory=800000000"]
    environ = {**os.environ, "RAY_TMPDIR": home, "RAY_AUTH_MODE": "disabled"}
    # An earlier test of this process may have kept its own Ray to the loopback interface by it.
    environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "1"
    log = open(Path(home) / "start.log", "w")  # noqa: SIM115  # closed below, the process has it
    started = subprocess.Popen(command, env=environ, stdout=log, stderr=log, start_new_session=True)
    # For Ray's own commands, which `ray start` tells people to set.
    environ["RAY_API_SERVER_ADDRESS"] = f"http://127.0.0.1:{dashboard}"
    Path(home, "token").write_text("of-another-cluster-" * 4)
    environ["RAY_AUTH_TOKEN_PATH"] = str(Path(home, "token"))
    try:

        def stands() -> bool:
            assert started.poll() is None, Path(home, "start.log").read_text()
            return Path(home, "ray", "ray_current_cluster").exists()

        until(stands, Path(home, "start.log").read_text)
        yield environ
    finally:
        log.close()
        started.send_signal(signal.SIGTERM)
        try:
            started.wait(120)
        except subprocess.TimeoutExpired:
            os.killpg(started.pid, signal.SIGKILL)
            started.wait()
        shutil.rmtree(home, ignore_errors=True)


@pytest.fixture
def flows(tmp_path: Path) -> Path:
    pq.write_table(pa.table({"id": range(1000)}), tmp_path / "users.parquet")
    (tmp_path / "bad.parquet").write_bytes(b"not a parquet file")
    (tmp_path / "flows.yml").write_text(
        "flows:\n"
        "  one:\n    home: users.parquet\n    store: out/one\n"
        "  two:\n    home: users.parquet\n    store: out/two.csv\n"
        "  bad:\n    home: bad.parquet\n    store: out/bad\n"
    )
    return tmp_path / "flows.yml"


def near(cluster: dict[str, str]) -> dict[str, str]:
    """Return the environment in which hygge attaches to this machine's Ray and submits no run."""
    of_ray = ("RAY_API_SERVER_ADDRESS", "RAY_AUTH_MODE")
    return {name: text for name, text in cluster.items() if name not in of_ray}


def hygge(
    cluster: dict[str, str], *arguments: object, **variables: str
) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "hygge", *map(str, arguments)]
    environ = near(cluster) | variables
    return subprocess.run(command, env=environ, capture_output=True, text=True, timeout=LIMIT_S)


@pytest.fixture
def second_node(cluster: dict[str, str]) -> Iterator[None]:
    """A node of this machine beside the head, with a resource that the head lacks."""
    address = Path(cluster["RAY_TMPDIR"], "ray", "ray_current_cluster").read_text()
    command = [RAY, "start", "--block", f"--address={address}", "--num-cpus=1"]
    command += ["--resources", '{"off_head": 1}', f"--dashboard-agent-listen-port={free_port()}"]
    command += ["--disable-usage-stats", "--object-store-memory=80000000"]
    log = Path(cluster["RAY_TMPDIR"], "second.log")
    with open(log, "w") as out:
        started = subprocess.Popen(command, env=cluster, stdout=out, stderr=out)
    try:

        def joined() -> bool:
            assert started.poll() is None, log.read_text()
            return "Ray runtime started" in log.read_text()

        until(joined, log.read_text)
        yield
    finally:
        started.send_signal(signal.SIGTERM)
        started.wait(LIMIT_S)


def jobs(cluster: dict[str, str]) -> list[str]:
    command = [RAY, "list", "jobs", "--format=json"]
    command += ["--address", cluster["RAY_API_SERVER_ADDRESS"]]
    listed = subprocess.run(
        command, env=cluster, capture_output=True, text=True, timeout=LIMIT_S, check=True
    )
    return [
        job["submission_id"]
        for job in json.loads(listed.stdout)
        if (job["submission_id"] or "").startswith("hygge-") and job["status"] == "SUCCEEDED"
    ]


SHAPED = """  two:
    home: {path: users.parquet, columns: [{name: id, as: number}], where: id >= 10}
    mask: {number: "null"}
    add: {source: "'users'"}
    transform: cleaning:clean
    store: out/two.csv
"""
CLEANING = """import pyarrow as pa

def clean(batch: pa.Table) -> pa.Table:
    print("cleans", batch.num_rows)
    return batch.slice(0, batch.num_rows - 1) if batch.num_rows else batch
"""


def test_two_flows_run_as_two_ray_jobs_and_a_third_fails_in_its_own(cluster, flows):
    plain = "  two:\n    home: users.parquet\n    store: out/two.csv\n"
    flows.write_text(flows.read_text().replace(plain, SHAPED))
    (flows.parent / "cleaning.py").write_text(CLEANING)
    done = hygge(cluster, flows, "--jobs", "each")
    assert done.returncode == 1, done.stderr + done.stdout
    assert "3 flows: 2 done, 1 failed" in done.stdout
    assert "cannot be read as Parquet" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr
    assert pq.read_table(flows.parent / "out" / "one").num_rows == 1000
    lines = (flows.parent / "out" / "two.csv").read_text().splitlines()
    assert lines == ['"number","source"', *[',"users"'] * 989]
    assert "two: cleans 990" in done.stderr
    names = sorted(each.rsplit("-", 1)[0] for each in jobs(cluster))
    assert names == ["hygge-one", "hygge-two"]


def test_a_token_that_is_asked_for_here_and_not_there_is_told_at_once(cluster, flows):
    """Otherwise every actor would die before it starts: the cluster could not call its driver."""
    done = hygge(cluster, flows, "--select", "one", "--jobs", "one", RAY_AUTH_MODE="token")
    assert done.returncode == 1
    assert "has no token authentication, and this process asks for a token" in done.stdout


def test_ray_list_actors_shows_home_inbox_and_store_in_different_processes(cluster, tmp_path):
    script = tmp_path / "slow.py"
    script.write_text(
        "import time, pandas as pd\n"
        "from hygge import Home, Store\n"
        "class Slow(Home):\n"
        "    async def read_batches(self):\n"
        "        while True:\n"
        f"            open({str(tmp_path / 'reading')!r}, 'w').close()\n"
        "            time.sleep(0.1)\n"
        "            yield pd.DataFrame({'n': [1]})\n"
    )
    (tmp_path / "flows.yml").write_text(
        "flows:\n  slow:\n    home: {type: 'slow:Slow'}\n    store: out\n"
    )
    running = subprocess.Popen(
        [sys.executable, "-m", "hygge", "flows.yml", "--jobs", "one"],
        env=near(cluster), cwd=tmp_path, text=True, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )  # fmt: skip

    def actors() -> dict[str, int]:
        assert running.poll() is None, running.communicate()
        listed = subprocess.run(
            [RAY, "list", "actors", "--format=json", "--filter", "state=ALIVE",
             "--address", cluster["RAY_API_SERVER_ADDRESS"]],
            env=cluster, capture_output=True, text=True, timeout=LIMIT_S, check=True,
        )  # fmt: skip
        found = json.loads(listed.stdout) if listed.stdout.startswith("[") else []
        names = ("HomeActor", "StoreActor", "InboxActor")
        seen = {each["class_name"]: each["pid"] for each in found if each["pid"]}
        return {name: seen[name] for name in names if name in seen}

    try:
        # To ask Ray's tool takes seconds of a CPU: only when all three are at work.
        reads = (tmp_path / "reading").exists
        until(lambda: reads() or running.poll() is not None, "no row moves")
        until(lambda: len(set(actors().values())) == 3, "not three actors in three processes")
    finally:
        running.send_signal(signal.SIGINT)
        output, _ = said_by(running)
    assert running.returncode == 130, output
    assert not (tmp_path / "out").exists()


def test_the_tables_or_files_of_one_flow_are_one_job_and_each_has_its_report(cluster, tmp_path):
    with contextlib.closing(sqlite3.connect(tmp_path / "shop.db")) as shop:
        for n in range(3):
            shop.execute(f"CREATE TABLE t{n} AS SELECT {n} AS n")
        shop.execute("CREATE TABLE bad (day DATE)")
        shop.execute("INSERT INTO bad VALUES ('never')")
        shop.commit()
    (tmp_path / "in").mkdir()
    for name in ("x", "y"):
        (tmp_path / "in" / f"{name}.csv").write_text("id\n1\n")
    (tmp_path / "flows.yml").write_text(
        'connections: {shop: "sqlite:///shop.db"}\n'
        "max_parallel_flows: 1\n"  # one lane for all tables: each starts three processes
        "flows:\n  many:\n    home: {connection: shop, tables: ['*']}\n    store: 'out/{table}'\n"
        "  after: {home: 'shop#t0', store: after.csv, depends_on: [many]}\n"
        "  in: {home: {files: 'in/*.csv'}, store: 'out/{file}'}\n"
    )
    done = hygge(cluster, tmp_path / "flows.yml", "--json")
    assert done.returncode == 1, done.stderr
    reports = {each["flow"]: each for each in json.loads(done.stdout)["hygge_report"]["flows"]}
    assert {name: each["status"] for name, each in reports.items()} == {
        "many.main.bad": "failed", "many.main.t0": "done", "many.main.t1": "done",
        "many.main.t2": "done", "after": "skipped", "in.x": "done", "in.y": "done",
    }  # fmt: skip
    assert "INFO" not in done.stderr
    assert done.stderr.count("runs as Ray job hygge-many-") == 1
    assert done.stderr.count("runs as Ray job hygge-in-") == 1
    assert sorted(os.listdir(tmp_path / "out")) == ["t0", "t1", "t2", "x", "y"]


def test_a_driver_runs_on_the_node_that_has_what_it_takes(cluster, second_node, flows):
    a_flow = "home: users.parquet, mode: append, store: out"
    takes = "{cpus: 0.5, memory: 64MiB, resources: {off_head: 1}}"
    flows.write_text(
        "flows:\n"
        f"  off: {{{a_flow}/off, driver: {takes}}}\n"
        f"  head: {{{a_flow}/head}}\n"
        f"  never: {{{a_flow}/never, driver: {{resources: {{nowhere: 1}}}}, wait_at_most: 1s}}\n"
    )
    done = hygge(cluster, flows)
    assert done.returncode == 1, done.stderr + done.stdout
    assert "3 flows: 2 done, 1 failed" in done.stdout
    wanted = "no node came that has what the driver of the flow needs, 1 nowhere, within 1 s"
    assert wanted in done.stdout
    command = [RAY, "list", "jobs", "--format=json", "--detail"]
    command += ["--address", cluster["RAY_API_SERVER_ADDRESS"]]
    listed = subprocess.run(
        command, env=cluster, capture_output=True, text=True, timeout=LIMIT_S, check=True
    )
    found = {
        each["metadata"]["hygge_flow"]: each
        for each in json.loads(listed.stdout)
        if (each["submission_id"] or "").startswith(("hygge-off", "hygge-head", "hygge-never"))
    }
    assert found["off"]["driver_node_id"] != found["head"]["driver_node_id"]
    assert found["never"]["status"] == "FAILED", "it would begin when a node comes"
    for flow in ("off", "head"):
        assert pq.read_table(flows.parent / "out" / flow).num_rows == 1000


@pytest.mark.parametrize("dies", [False, True])
def test_small_flows_share_one_job_and_each_has_its_report_also_after_its_driver_died(
    dies, cluster, tmp_path
):
    pq.write_table(pa.table({"id": range(1000)}), tmp_path / "users.parquet")
    (tmp_path / "bad.parquet").write_bytes(b"not a parquet file")
    # The first driver dies when `a` is committed and `b` is asked for its rows.
    (tmp_path / "dies.py").write_text(
        "import os, signal\nfrom hygge import ParquetHome\n"
        "class Dies(ParquetHome):\n"
        "    def open(self, since=None):\n"
        f"        flag = {str(tmp_path / 'flag')!r}\n"
        "        if not os.path.exists(flag):\n"
        "            open(flag, 'w').close()\n"
        "            os.kill(os.getpid(), signal.SIGKILL)\n"
        "        return super().open(since)\n"
    )
    ends = "mode: append, home: users.parquet, store: out"
    file = tmp_path / "flows.yml"
    text = (
        "flows:\n"
        f"  a: {{{ends}/a}}\n"
        f"  b: {{{ends}/b, depends_on: [a]}}\n"
        "  bad: {home: bad.parquet, store: out/bad}\n"
        f"  after: {{{ends}/after, depends_on: [bad]}}\n"
        f"  tagged: {{{ends}/tagged, tags: {{team: shop}}}}\n"
    )
    file.write_text(text)
    planned = hygge(cluster, "plan", file).stdout
    assert "these small flows share one Ray job" in planned
    (shared,) = (line for line in planned.splitlines() if "share one Ray job" in line)
    assert shared.count("its files have") == 4, "one of them has other tags"
    assert "tagged" not in shared

    def ran() -> dict[str, str]:
        done = hygge(cluster, file, "--json")
        assert done.returncode == 1, done.stderr
        assert done.stderr.count("runs as Ray job hygge-a-and-3-more-") == 1
        assert done.stderr.count("runs as Ray job hygge-tagged-") == 1
        reports = json.loads(done.stdout)["hygge_report"]["flows"]
        return {each["flow"]: each["status"] for each in reports}

    done = {"a": "done", "b": "done", "bad": "failed", "after": "skipped", "tagged": "done"}
    assert ran() == done
    for flow in ("a", "b", "tagged"):
        assert pq.read_table(tmp_path / "out" / flow).num_rows == 1000
    if not dies:
        return
    # Of `b` it is known now that its last run was short: a class of one's own may share as well.
    file.write_text(
        text.replace(f"b: {{{ends}", "b: {mode: append, store: out").replace(
            "out/b, ", "out/b, home: {type: 'dies:Dies', path: users.parquet}, "
        )
    )
    done_again = hygge(cluster, file, "--json", "--fresh")
    assert "its driver died: it was killed by signal 9; it goes on as try 2" in done_again.stderr
    reports = json.loads(done_again.stdout)["hygge_report"]["flows"]
    assert {each["flow"]: each["status"] for each in reports} == done
    for flow in ("a", "b", "tagged"):
        assert pq.read_table(tmp_path / "out" / flow).num_rows == 2000, flow
