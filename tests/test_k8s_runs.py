"""What the manifests of k8s/ run, run here: their entrypoints as Ray jobs, and the nightly script.

The head is started as KubeRay starts it: with a token, and with the settings of the overlay in its
environment. Only the paths of the pod are paths of this machine.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pyarrow.dataset as ds
import pytest
import yaml
from manifests import RAY_METRICS, ROOT, of_kind, overlay, rayjob

RAY = Path(sys.executable).parent / "ray"
START = ROOT / "k8s" / "overlays" / "nightly" / "start.py"
OUTSIDE = {name: text for name, text in os.environ.items() if not name.startswith("RAY_")}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def head_pod(environ: dict[str, str], ports: dict[str, int]) -> Iterator[dict[str, str]]:
    """A Ray head as KubeRay starts it; gives the environment of its submitter."""
    folder = Path(tempfile.mkdtemp(prefix="hygge-", dir="/tmp"))  # Ray's socket paths must be short
    private = {
        "RAY_TMPDIR": str(folder),
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "RAY_USAGE_STATS_ENABLED": "0",
        "PATH": os.pathsep.join([str(RAY.parent), os.environ["PATH"]]),
    }
    command = [RAY, "start", "--head", "--block", "--num-cpus=2", "--node-ip-address=127.0.0.1"]
    command += ["--object-store-memory=500000000", "--dashboard-host=127.0.0.1"]
    command += [f"--{name}={port}" for name, port in ports.items()]
    with open(folder / "log", "w") as log:
        head = subprocess.Popen(command, env=environ | private, stdout=log, stderr=log)
    url = f"http://127.0.0.1:{ports['dashboard-port']}"
    try:
        until = time.monotonic() + 60
        while not _answers(url + "/api/gcs_healthz", private["RAY_AUTH_TOKEN"]):  # as KubeRay waits
            assert head.poll() is None, (folder / "log").read_text()
            assert time.monotonic() < until, (folder / "log").read_text()
            time.sleep(0.2)
        yield environ | private | {"RAY_API_SERVER_ADDRESS": url}
    finally:
        head.send_signal(signal.SIGTERM)
        try:
            head.wait(20)
        except subprocess.TimeoutExpired:
            head.kill()
            head.wait()
        shutil.rmtree(folder, ignore_errors=True)


def _answers(url: str, token: str) -> bool:
    page = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"})
    try:
        with urllib.request.urlopen(page, timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


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
            said, _ = job.communicate()
            assert job.returncode == 0, said
            assert " succeeded" in said
        # Prometheus has no token, and gets in on this port alone.
        metrics = f"http://127.0.0.1:{ports['metrics-export-port']}/metrics"
        with urllib.request.urlopen(metrics) as answer:
            shown = answer.read().decode()
        with pytest.raises(urllib.error.HTTPError, match="401"):
            urllib.request.urlopen(submitter["RAY_API_SERVER_ADDRESS"] + "/api/jobs/")
    lake = tmp_path / "data" / "lake"
    assert ds.dataset(lake / "main" / "customers").count_rows() == 400
    assert ds.dataset(lake / "main" / "sales").count_rows() == 1200
    assert ds.dataset(lake / "sales").count_rows() == 1200
    assert list((tmp_path / "data" / "state").rglob("outcome.json"))
    for name, labels in RAY_METRICS.items():
        lines = [line for line in shown.splitlines() if line.startswith(name + "{")]
        assert lines, name
        assert all(f'{label}="' in lines[0] for label in labels), lines[0]
