"""What the manifests of k8s/ run, run here: their entrypoints as Ray jobs, and the nightly script.

The head is started as KubeRay starts it: with a token, and with the settings of the overlay in its
environment. Only the paths of the pod are paths of this machine.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import secrets
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pyarrow.dataset as ds
import pytest
import yaml

from tests.chaos import only_in_chaos
from tests.k8s.kuberay import judged
from tests.k8s.manifests import RAY_METRICS, ROOT, of_kind, overlay, rayjob
from tests.waiting import free_port, said_by, until

RAY = Path(sys.executable).parent / "ray"

OUTSIDE = {name: text for name, text in os.environ.items() if not name.startswith("RAY_")}


@contextlib.contextmanager
def head_pod(environ: dict[str, str], ports: dict[str, int]) -> Iterator[dict[str, str]]:
    """A Ray head as KubeRay starts it; gives the environment of its submitter."""
    folder = Path(tempfile.mkdtemp(prefix="hygge-", dir="/tmp"))  # Ray's socket paths must be short
    private = {
        "RAY_TMPDIR": str(folder),
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_worker_niceness": "0",
        "PATH": os.pathsep.join([str(RAY.parent), os.environ["PATH"]]),
    }
    command = [RAY, "start", "--head", "--block", "--num-cpus=2", "--node-ip-address=127.0.0.1"]
    command += ["--object-store-memory=500000000", "--dashboard-host=127.0.0.1"]
    command += [f"--{name}={port}" for name, port in ports.items()]
    with open(folder / "log", "w") as log:
        head = subprocess.Popen(command, env=environ | private, stdout=log, stderr=log)
    url = f"http://127.0.0.1:{ports['dashboard-port']}"
    try:

        def healthy() -> bool:  # as KubeRay waits
            assert head.poll() is None, (folder / "log").read_text()
            return _answers(url + "/api/gcs_healthz", private["RAY_AUTH_TOKEN"])

        until(healthy, (folder / "log").read_text, every_s=0.2)
        yield environ | private | {"RAY_API_SERVER_ADDRESS": url}
    finally:
        head.send_signal(signal.SIGTERM)
        try:
            head.wait(120)
        except subprocess.TimeoutExpired:
            head.kill()
            head.wait()
        shutil.rmtree(folder, ignore_errors=True)


def _answers(url: str, token: str) -> bool:
    page = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"})
    try:
        with urllib.request.urlopen(page, timeout=60) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


@only_in_chaos
def test_the_entrypoints_run_as_ray_jobs_with_the_settings_of_their_overlay(tmp_path: Path) -> None:
    leave = shutil.ignore_patterns("out", ".hygge")
    shutil.copytree(ROOT / "samples", tmp_path / "app" / "samples", ignore=leave)  # as in the image
    (tmp_path / "app" / "flows").mkdir()
    (tmp_path / "data").mkdir()

    def here(text: str) -> str:
        for there in ("/app/", "/data/"):
            text = text.replace(there, f"{tmp_path}{there}")
        return text

    maps = {each["metadata"]["name"]: each["data"] for each in of_kind(overlay("dev"), "ConfigMap")}
    (flows,) = [data for name, data in maps.items() if name.startswith("hygge-flows")]
    (settings,) = [data for name, data in maps.items() if name.startswith("hygge-settings")]
    for name, text in flows.items():  # a ConfigMap is mounted as links
        (tmp_path / "app" / name).write_text(text)
        (tmp_path / "app" / "flows" / name).symlink_to(tmp_path / "app" / name)
    entrypoints = dict.fromkeys(
        rayjob(overlay(name))["spec"]["entrypoint"] for name in ("dev", "migration", "nightly")
    )
    assert len(entrypoints) == 2
    runtime = json.dumps(yaml.safe_load(rayjob(overlay("dev"))["spec"]["runtimeEnvYAML"]))
    ports = {
        name: free_port()
        for name in (
            "port",
            "dashboard-port",
            "dashboard-agent-listen-port",
            "metrics-export-port",
            "ray-client-server-port",
        )
    }
    pod = OUTSIDE | {key: here(text) for key, text in settings.items()}
    with head_pod(pod, ports) as submitter:
        submit = [RAY, "job", "submit", "--runtime-env-json", runtime, "--"]
        jobs = [
            subprocess.Popen(
                [*submit, *shlex.split(here(entrypoint))],
                env=submitter,
                cwd=tmp_path,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            for entrypoint in entrypoints
        ]
        for job in jobs:  # both at once: most of the time they wait for processes to start
            said, _ = said_by(job)
            assert job.returncode == 0, said
            assert " succeeded" in said
        # Prometheus has no token, and gets in on this port alone.
        metrics = f"http://127.0.0.1:{ports['metrics-export-port']}/metrics"
        shown = until(lambda: _metrics(metrics), "not all metrics are shown", every_s=0.5)
        with pytest.raises(urllib.error.HTTPError, match="401"):
            urllib.request.urlopen(submitter["RAY_API_SERVER_ADDRESS"] + "/api/jobs/")
    lake = tmp_path / "data" / "lake"
    assert ds.dataset(lake / "main" / "customers").count_rows() == 400
    assert ds.dataset(lake / "main" / "sales").count_rows() == 1200
    assert ds.dataset(lake / "sales").count_rows() == 1200
    assert list((tmp_path / "data" / "state").rglob("outcome.json"))
    for name, labels in RAY_METRICS.items():
        assert all(f'{label}="' in shown[name] for label in labels), shown[name]


def _metrics(url: str) -> dict[str, str]:
    """A line of each of Ray's metrics that the dashboard shows; none before all are there."""
    with urllib.request.urlopen(url) as answer:
        lines = answer.read().decode().splitlines()
    found = {line.partition("{")[0]: line for line in reversed(lines) if "{" in line}
    return {name: found[name] for name in RAY_METRICS} if RAY_METRICS.keys() <= found.keys() else {}


class RayJobs:
    """The part of an API server that has RayJobs; a whole one cannot be had here."""

    def __init__(self, folder: Path) -> None:
        self.jobs: dict[str, dict[str, Any]] = {}
        self.refuses: dict[str, int] = {}
        self.second = itertools.count()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                body = json.loads(self.rfile.read(length)) if length else None
                assert self.headers["Authorization"] == "Bearer of-the-pod"
                code, told = outer.answer(self.command, self.path, body)
                self.send_response(code)
                self.end_headers()
                self.wfile.write(json.dumps(told).encode())

            do_GET = do_POST = do_DELETE = do  # names that the base class calls

            def log_message(self, *_: object) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever)
        self.thread.start()
        self.folder = folder
        (folder / "token").write_text("of-the-pod")
        (folder / "namespace").write_text("hygge")

    def answer(self, verb: str, path: str, body: Any) -> tuple[int, Any]:
        base, _, query = path.partition("?")
        name = base.removeprefix("/apis/ray.io/v1/namespaces/hygge/rayjobs").lstrip("/")
        if verb in self.refuses:
            return self.refuses[verb], {"message": "rayjobs.ray.io is forbidden"}
        if verb == "POST":
            if body["metadata"]["name"] in self.jobs:
                return 409, {"reason": "AlreadyExists"}
            self.add(body)
            return 201, body
        if verb == "DELETE":
            return 200, self.jobs.pop(name)
        if name:
            return 200, self.jobs[name]
        label, _, value = query.removeprefix("labelSelector=").replace("%3D", "=").partition("=")
        picked = [
            each
            for each in self.jobs.values()
            if each["metadata"].get("labels", {}).get(label) == value
        ]
        return 200, {"items": picked}

    def add(self, job: dict[str, Any]) -> None:
        at = f"2026-01-01T00:00:{next(self.second):02}Z"
        job = {**job, "metadata": {**job["metadata"], "creationTimestamp": at, "uid": at}}
        self.jobs[job["metadata"]["name"]] = job

    def end(self, name: str, status: str = "Complete") -> None:
        self.jobs[name]["status"] = {"jobDeploymentStatus": status}

    def start(self, night: str) -> subprocess.CompletedProcess[str]:
        """What the CronJob runs, as it stands there."""
        (cron,) = of_kind(overlay("nightly"), "CronJob")
        box = cron["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"][0]
        (script,) = [
            each["data"]["start.py"]
            for each in of_kind(overlay("nightly"), "ConfigMap")
            if "start.py" in each["data"]
        ]
        (self.folder / "start.py").write_text(script)
        api = f"http://127.0.0.1:{self.server.server_port}"
        words = [*box["command"], *box["args"]]
        assert words[:1] == ["python"]
        places = {
            "/nightly/start.py": str(self.folder / "start.py"),
            "https://kubernetes.default.svc": api,
            "/var/run/secrets/kubernetes.io/serviceaccount": str(self.folder),
        }
        command = [sys.executable, *(places.get(word, word) for word in words[1:])]
        (variable,) = box["env"]
        environ = {variable["name"]: night}
        return subprocess.run(command, env=environ, capture_output=True, text=True)


@pytest.fixture
def api(tmp_path: Path) -> Iterator[RayJobs]:
    server = RayJobs(tmp_path)
    server.add(rayjob(overlay("nightly")))
    yield server
    server.server.shutdown()
    server.thread.join()
    server.server.server_close()


def ray_head(job: dict[str, Any]) -> dict[str, Any]:
    (box,) = job["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]["containers"]
    assert isinstance(box, dict)
    return box


def test_a_night_starts_a_copy_that_is_not_suspended(api: RayJobs) -> None:
    ran = api.start("hygge-nightly-1")
    assert (ran.returncode, ran.stdout) == (0, "hygge-nightly-1 is started\n"), ran.stderr
    night, suspended = api.jobs["hygge-nightly-1"], api.jobs["hygge"]
    assert suspended["spec"]["suspend"] is True
    same = suspended["spec"].keys() - {"suspend", "shutdownAfterJobFinishes"}
    same -= {"ttlSecondsAfterFinished"}  # its place is taken by the rules
    (named,) = ray_head(night).pop("env")
    assert named == {"name": "HYGGE_REQUEST", "value": "hygge-nightly-1"}  # KubeRay's tries are one
    assert {key: night["spec"][key] for key in same} == {k: suspended["spec"][k] for k in same}
    ray_head(night)["env"] = [named]
    assert night["spec"].keys() == same | {"deletionStrategy"}
    copied = [each for each in overlay("nightly") if each["kind"] != "RayJob"]
    assert judged([*copied, night]).broken == {}


def test_while_a_night_is_not_done_no_other_is_started(api: RayJobs) -> None:
    api.start("hygge-nightly-1")
    ran = api.start("hygge-nightly-2")
    assert ran.returncode == 0
    assert ran.stdout == "hygge-nightly-1 is not done yet: nothing is started\n"
    assert set(api.jobs) == {"hygge", "hygge-nightly-1"}
    api.end("hygge-nightly-1", "Failed")
    assert api.start("hygge-nightly-2").stdout == "hygge-nightly-2 is started\n"


def test_a_second_try_of_one_night_starts_nothing_twice(api: RayJobs) -> None:
    api.start("hygge-nightly-1")
    api.end("hygge-nightly-1")
    ran = api.start("hygge-nightly-1")
    assert (ran.returncode, ran.stdout) == (0, "hygge-nightly-1 was started before\n")


def test_the_last_seven_nights_are_kept(api: RayJobs) -> None:
    nights = [f"hygge-nightly-{number}" for number in range(10)]
    for night in nights:
        assert api.start(night).returncode == 0
        api.end(night)
    assert list(api.jobs) == ["hygge", *nights[3:]]


def test_an_api_server_that_refuses_is_told_with_what_to_look_at(api: RayJobs) -> None:
    api.refuses["POST"] = 403
    ran = api.start("hygge-nightly-1")
    assert ran.returncode == 1
    assert "answered 403" in ran.stderr
    assert "hint: the Role hygge-nightly" in ran.stderr
    assert "of-the-pod" not in ran.stderr
    (role,) = of_kind(overlay("nightly"), "Role")
    assert set(role["rules"][0]["verbs"]) == {"get", "list", "create", "delete"}
