"""`hygge --address`, `submit`, `status`, `logs`, `stop`: a run on a cluster, from outside it.

On a standing Ray whose nodes know a password that the client does not have.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import urllib.request
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.chaos import only_in_chaos
from tests.servers.postgres import Proxy
from tests.servers.standing import OUTSIDE, SECRET, psutil, standing_ray
from tests.waiting import LIMIT_S, said_by, until

HYGGE = [sys.executable, "-m", "hygge"]
RAY = str(Path(sys.executable).parent / "ray")
OF_DOTENV = "swordfish-of-the-laptop"
KEY = "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADAN-nobody-may-see\n-----END PRIVATE KEY-----\n"
CONNECTORS = """
import os
import time
import pandas as pd
from hygge import Home, ParquetHome

print("the letter is", os.environ.get("LETTER"))

class Slow(ParquetHome):
    def read(self, split):
        for table in super().read(split):
            while not os.path.exists(GO):
                time.sleep(0.05)
            yield table

class Knows(Home):
    def __init__(self, password):
        self.password = password
    async def read_batches(self):
        yield pd.DataFrame({"n": [len(self.password)]})
"""


class Folder:
    """A folder with flows.yml on a laptop, and what lies on the cluster's disk, beside it."""

    def __init__(self, path: Path, flows: str, more: str = "") -> None:
        self.path, self.disk = path / "laptop", path / "disk"
        self.path.mkdir()
        (self.disk / "in").mkdir(parents=True)
        for n in range(4):
            pq.write_table(pa.table({"n": [n]}), self.disk / "in" / f"{n}.parquet")
        go = f"GO = {str(self.disk / 'go')!r}\n"
        (self.path / "connectors.py").write_text(go + CONNECTORS)
        (self.path / "flows.yml").write_text(
            f"state: {self.disk}/state\n{more}"
            "defaults: {lanes: 1, memory_per_lane: 32 MiB, batch_bytes: 4 MiB}\n"
            f"flows:\n{flows.replace('DISK', str(self.disk))}"
        )
        standing = standing_ray().environ
        self.address = standing["RAY_API_SERVER_ADDRESS"]
        kept = ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN_PATH")
        self.laptop = OUTSIDE | {name: standing[name] for name in kept}

    def start(self, *words: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*HYGGE, *words, "--address", self.address], cwd=self.path, env=self.laptop, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def hygge(self, *words: str, code: int = 0) -> str:
        running = self.start(*words)
        said, errors = said_by(running)
        assert running.returncode == code, said + errors
        assert "Traceback" not in said + errors or "--debug" in words
        # An older Ray tells people where its token lies.
        lines = errors.splitlines(keepends=True)
        return said + "".join(line for line in lines if "authentication_token_loader" not in line)

    def reading(self) -> bool:
        return any(self.disk.glob("state/flows/*/runs/*"))


SLOW = (
    "  slow:\n    home: {type: 'connectors:Slow', path: DISK/in, options: {split_bytes: 1}}\n"
    "    store: DISK/out/slow\n"
)


LISTED = """
import json, os
from ray.job_submission import JobSubmissionClient
from ray.util import state
client = JobSubmissionClient(os.environ["RAY_API_SERVER_ADDRESS"])
print(json.dumps([json.loads(each.json()) for each in client.list_jobs()]))
words = {"limit": 1000, "detail": True, "raise_on_missing_output": False}
for kind in ("jobs", "actors", "tasks", "workers", "runtime_envs"):
    print(getattr(state, "list_" + kind)(**words))
"""


def listed() -> list[str]:
    """What Ray's own tools list: the jobs as a line of JSON, then all else that there is."""
    ran = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", LISTED], env=standing_ray().environ,
        text=True, capture_output=True, timeout=LIMIT_S, check=True,
    )  # fmt: skip
    return ran.stdout.splitlines()


def jobs() -> list[Any]:
    """Return the jobs of the cluster, from its dashboard: one of Ray's tools starts in seconds."""
    environ = standing_ray().environ
    token = Path(environ["RAY_AUTH_TOKEN_PATH"]).read_text()
    page = urllib.request.Request(environ["RAY_API_SERVER_ADDRESS"] + "/api/jobs/")
    page.add_header("Authorization", f"Bearer {token}")
    with urllib.request.urlopen(page, timeout=LIMIT_S) as answer:
        return json.loads(answer.read())


def flows_of(run: str) -> list[Any]:
    return [each for each in jobs() if (each["metadata"] or {}).get("hygge_run") == run]


def driver_of(job: str) -> int:
    """The process of a job, once it has told Ray of itself."""

    def told() -> Any:
        return next(each["driver_info"] for each in jobs() if each["submission_id"] == job)

    return int(until(told, f"{job} has no driver")["pid"])


def run_of(errors: str) -> str:
    return errors.partition(" runs on http")[0].splitlines()[-1].split()[-1]


def first_lines(running: subprocess.Popen[str], last: str) -> str:
    said, over = "", threading.Timer(LIMIT_S, running.kill)
    over.start()
    assert running.stderr
    try:
        while last not in said:
            line = running.stderr.readline()
            assert line, said
            said += line
    finally:
        over.cancel()
    return said


class ProcessList(threading.Thread):
    """Every command line of what this test started, the cluster too, looked at all the time."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.seen: set[str] = set()
        self.over = threading.Event()
        self.start()

    def run(self) -> None:
        while not self.over.wait(0.5):
            for process in psutil.Process().children(recursive=True):
                with contextlib.suppress(psutil.NoSuchProcess):
                    self.seen.add(" ".join(process.cmdline()))


def test_a_run_is_jobs_of_the_cluster_and_leaves_no_secret_anywhere(tmp_path):
    folder = Folder(
        tmp_path,
        "  knows: {home: {type: 'connectors:Knows', password: '${SHOP_PASSWORD}'},"
        " store: DISK/out/knows, depends_on: [files]}\n"
        "  files: {home: DISK/in, store: DISK/out/files, tags: {team: lake, cost: 0012}}\n"
        "  broken: {home: 'shop#public.orders', store: DISK/out/broken, retries: 0}\n",
        more="tags: {team: shop, part: nightly}\nconnections:\n  shop: 'postgresql://app:${SHOP_PASSWORD}@127.0.0.1:1/shop'\n",
    )
    (folder.path / ".env").write_text(f"OTHER={OF_DOTENV}\n")
    (folder.path / "deploy").write_text(KEY)
    watching = ProcessList()
    said = folder.hygge("flows.yml", "--debug", code=1)
    watching.over.set()
    assert any("flows.yml" in each for each in watching.seen), "nothing was looked at"
    assert "3 flows: 2 done, 1 failed" in said
    assert "warning: not shipped, as secrets may be in it: .env, deploy;" in said
    assert "error: broken: " in said
    assert "files: the letter is None" in said, "logs come with the flow's name in front"
    assert pq.read_table(folder.disk / "out" / "knows")["n"].to_pylist() == [len(SECRET)]
    run = run_of(said)
    children = flows_of(run)
    assert sorted(each["metadata"]["hygge_flow"] for each in children) == [
        "broken", "files", "knows",
    ]  # fmt: skip
    by_flow = {each["metadata"]["hygge_flow"]: each for each in children}
    assert by_flow["files"]["end_time"] <= by_flow["knows"]["start_time"]
    tagged = {"team": "lake", "part": "nightly", "cost": "0012"}
    assert tagged.items() <= by_flow["files"]["metadata"].items()
    assert by_flow["knows"]["metadata"]["team"] == "shop"
    told = folder.hygge("status", run)
    assert f"{run}  failed  flows.yml" in told
    assert f"{by_flow['files']['submission_id']}  succeeded  files" in told
    logs = folder.hygge("logs", run)
    assert "3 flows: 2 done, 1 failed" in logs
    assert "error: broken: " in logs
    assert "files: the letter is None" in logs
    assert f"{run}  failed" in folder.hygge("status")

    everything = listed()
    assert len(everything) >= 6
    assert run in everything[0]
    session = Path(standing_ray().environ["RAY_TMPDIR"]).resolve()
    left = [said, told, *everything, *watching.seen]
    files = [each for each in (*session.rglob("*"), *folder.disk.rglob("*")) if each.is_file()]
    assert any("job-driver" in each.name and run in each.name for each in files)
    assert any(each.name == "connectors.py" for each in files), "what was shipped is looked at too"
    left += [each.read_bytes().decode(errors="replace") for each in files]
    for secret in (SECRET, OF_DOTENV, "nobody-may-see"):
        assert [text[:200] for text in left if secret in text] == []


@only_in_chaos
def test_a_lost_connection_is_waited_for_and_ctrl_c_stops_the_run_there_and_exits_130(tmp_path):
    folder, lost = Folder(tmp_path, SLOW), []
    port = int(folder.address.rpartition(":")[2])
    with Proxy(port, lambda: 0 if lost else None) as proxy:
        folder.address = f"http://127.0.0.1:{proxy.port}"
        running = folder.start("flows.yml")
        errors = first_lines(running, " runs on http")
        lost.append(True)
        proxy.cut()
        errors += first_lines(running, f"no answer from {folder.address}; the run goes on there")
        lost.clear()
        if "slow: runs as Ray job" not in errors:
            errors += first_lines(running, "slow: runs as Ray job")
        until(folder.reading, "the flow did not begin")
        running.send_signal(signal.SIGINT)
        said, rest = said_by(running)
    assert running.returncode == 130, errors + said + rest
    assert "slow  stopped" in said
    assert "Traceback" not in rest
    run = run_of(errors)
    assert [each["status"] for each in flows_of(run)] == ["STOPPED"]


@only_in_chaos
@pytest.mark.ray_versions
def test_a_closed_laptop_stops_nothing_and_a_dead_driver_is_started_again(tmp_path):
    folder = Folder(tmp_path, SLOW)
    running = folder.start("flows.yml")
    run = run_of(first_lines(running, " runs on http"))
    until(folder.reading, "the flow did not begin")
    running.send_signal(signal.SIGHUP)
    assert running.wait(LIMIT_S) == -signal.SIGHUP
    running.communicate()
    following = folder.start("logs", "--follow", run)
    first_lines(following, "slow: runs as Ray job")
    following.send_signal(signal.SIGTERM)
    assert following.wait(LIMIT_S) == -signal.SIGTERM
    following.communicate()
    (flow,) = flows_of(run)
    os.kill(driver_of(flow["submission_id"]), signal.SIGKILL)
    (folder.disk / "go").touch()
    said = folder.hygge("logs", "--follow", run)
    assert "slow: its driver died: it was killed by signal 9; it goes on as try 2 of 4" in said
    assert "slow  done  4 rows read = staged = applied" in said
    assert "note: slow: its driver died and was started again (2 tries)" in said
    first, second = sorted(flows_of(run), key=lambda each: each["start_time"])
    assert (first["status"], second["status"]) == ("FAILED", "SUCCEEDED")
    assert second["metadata"]["hygge_try"] == "2"
    assert pq.read_table(folder.disk / "out" / "slow").num_rows == 4


@only_in_chaos
@pytest.mark.ray_versions
def test_a_killed_coordinator_is_started_again_and_goes_on_with_the_flows_that_run(tmp_path):
    more = "    mode: append\n  next: {home: DISK/in, store: DISK/out/next, mode: append,"
    folder = Folder(tmp_path, f"{SLOW}{more} depends_on: [slow]}}\n", "jobs: each\n")
    run = folder.hygge("submit", "--no-wait", "flows.yml", "--fresh").strip()
    assert len(run.split()) == 1, "the id alone"
    until(folder.reading, "the flow did not begin")
    killed = driver_of(run)
    os.kill(killed, signal.SIGKILL)
    until(lambda: driver_of(run) != killed, "no other coordinator")
    (folder.disk / "go").touch()
    said = folder.hygge("logs", "--follow", run)
    assert "the coordinator was killed by signal 9; it is started again" in said
    assert "slow: goes on as Ray job hygge-slow-" in said
    assert "2 flows: 2 done" in said
    assert sorted(each["metadata"]["hygge_flow"] for each in flows_of(run)) == ["next", "slow"]
    for flow in ("slow", "next"):
        assert sorted(pq.read_table(folder.disk / "out" / flow)["n"].to_pylist()) == [0, 1, 2, 3]


@only_in_chaos
def test_the_flows_of_a_coordinator_that_is_gone_are_ended_by_hygge_stop(tmp_path):
    folder = Folder(tmp_path, SLOW)
    run = folder.hygge("submit", "--no-wait", "flows.yml", "--select", "slow").strip()
    until(folder.reading, "the flow did not begin")
    child = psutil.Process(driver_of(run))
    child.parent().kill()  # nobody is left who would start another

    def is_gone() -> bool:
        return not child.is_running() or child.status() == psutil.STATUS_ZOMBIE

    until(is_gone, "the coordinator outlives its parent, and Ray does not see it")
    said = folder.hygge("logs", "--follow", run, code=1)
    assert "slow: runs as Ray job hygge-slow-" in said
    (flow,) = flows_of(run)
    assert flow["status"] == "RUNNING"
    assert folder.hygge("stop", run) == f"stopped  {flow['submission_id']}\n"
    assert [each["status"] for each in flows_of(run)] == ["STOPPED"]
    assert "had ended already" in folder.hygge("stop", run)


@only_in_chaos
def test_plain_ray_job_submit_does_the_same_with_its_own_runtime_env(tmp_path):
    folder = Folder(tmp_path, SLOW)
    (folder.path / ".env").write_text("LETTER=a\n")
    (folder.disk / "go").touch()
    ran = subprocess.run(
        [RAY, "job", "submit", "--working-dir", ".", "--submission-id", f"own-{os.getpid()}",
         "--runtime-env-json", '{"env_vars": {"LETTER": "b"}}', "--", "hygge", "flows.yml"],
        cwd=folder.path, env=standing_ray().environ, text=True, capture_output=True,
        timeout=LIMIT_S,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert pq.read_table(folder.disk / "out" / "slow").num_rows == 4
    assert "slow: the letter is b" in ran.stdout
    assert "warning: .env was shipped" in ran.stdout
    (flow,) = flows_of(f"own-{os.getpid()}")
    assert flow["metadata"]["hygge_flow"] == "slow"
    told = folder.hygge("status", f"own-{os.getpid()}")
    assert f"{flow['submission_id']}  succeeded  slow" in told


@only_in_chaos
def test_check_and_plan_see_what_the_cluster_sees(tmp_path):
    one = "  one: {home: DISK/in, store: 'DISK/out/${SHOP_PASSWORD}'}\n"
    folder = Folder(tmp_path, one)
    here = [*HYGGE, "check", "flows.yml"]
    ran = subprocess.run(here, cwd=folder.path, env=folder.laptop, text=True, capture_output=True)
    assert "the variable SHOP_PASSWORD is not set" in ran.stderr
    assert "flows.yml: 1 flow, nothing wrong found" in folder.hygge("check", "flows.yml")
    said = folder.hygge("plan", "flows.yml")
    assert "one: replace, exactly once" in said
    assert "4 files in 1 split" in said
    said = json.loads(folder.hygge("preview", "flows.yml", "--rows", "1", "--json").split("\n")[0])
    assert len(said["rows"]) == 1
    (plan, *_) = folder.hygge("plan", "flows.yml", "--json").split("\n")
    assert (json.loads(plan)["flow"], json.loads(plan)["rows"]) == ("one", 4)
    said = folder.hygge("check", "flows.yml", "--connect")
    assert "2 ends and the state are reached, no right is missing" in said
    assert not (folder.disk / "out").exists()
    (folder.disk / "in" / "0.parquet").write_text("PAR1")
    said = folder.hygge("plan", "flows.yml", code=1)
    assert "error: one: " in said
    assert "0.parquet" in said
    said = folder.hygge("check", "flows.yml", "--select", "two", code=2)
    assert "error: flows.yml has no flow 'two'" in said
    assert "hint: " in said
    assert "plan" not in folder.hygge("status")
