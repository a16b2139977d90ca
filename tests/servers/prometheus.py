"""A Prometheus that scrapes a standing Ray each second, as one beside a cluster would."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.missing import skipped_without
from tests.waiting import LIMIT_S, free_port, until

CONFIG = """
global: {{scrape_interval: 1s, scrape_timeout: 1s}}
scrape_configs:
- job_name: ray
  static_configs:
  - targets: {targets}
  relabel_configs:
  - {{target_label: namespace, replacement: hygge}}
  - {{target_label: pod, replacement: head}}
"""


class Prometheus:
    """Answers queries at `url`."""

    def __init__(self, url: str) -> None:
        self.url = url

    def ask(self, path: str, **words: str | float) -> list[Any]:
        """Return the results of a query of its HTTP API."""
        text = urllib.parse.urlencode(words)
        with urllib.request.urlopen(f"{self.url}/api/v1/{path}?{text}", timeout=LIMIT_S) as answer:
            answered = json.load(answer)
        assert answered["status"] == "success", answered
        return list(answered["data"]["result"])

    def value(self, query: str) -> float:
        """Return the one value of a query now; 0 where there is none."""
        results = self.ask("query", query=query)
        assert len(results) <= 1, results
        return float(results[0]["value"][1]) if results else 0.0

    def curve(self, query: str, begin: float, end: float, step: float) -> list[float]:
        """Return the values of all series of a query at each step, one after another."""
        results = self.ask("query_range", query=query, start=begin, end=end, step=step)
        return [float(value) for series in results for _, value in series["values"]]


@contextlib.contextmanager
def prometheus(folder: Path, dashboard: str, token: str) -> Iterator[Prometheus]:
    """A Prometheus for the Ray with this dashboard; ended with the test."""
    program = shutil.which("prometheus")
    if program is None:
        skipped_without("Prometheus", "apt-get install prometheus")
    assert program
    found = urllib.request.Request(f"{dashboard}/api/prometheus/sd")
    found.add_header("Authorization", f"Bearer {Path(token).read_text()}")

    def targets_of_ray() -> list[str]:
        """Return the ports of the dashboard, of the autoscaler and of the node, once it has one."""
        with urllib.request.urlopen(found, timeout=LIMIT_S) as answer:
            targets = [target for group in json.load(answer) for target in group["targets"]]
        return targets if len(targets) > 2 else []

    targets = until(targets_of_ray, "Ray's node has no port for metrics", every_s=0.5)
    (folder / "prometheus.yml").write_text(CONFIG.format(targets=json.dumps(targets)))
    port = free_port()
    command = [program, f"--config.file={folder}/prometheus.yml"]
    command += [f"--storage.tsdb.path={folder}/series", f"--web.listen-address=127.0.0.1:{port}"]
    with open(folder / "prometheus.log", "w") as log:
        started = subprocess.Popen(command, stdout=log, stderr=log)
    asked = Prometheus(f"http://127.0.0.1:{port}")

    def scrapes() -> bool:
        assert started.poll() is None, (folder / "prometheus.log").read_text()
        with contextlib.suppress(OSError):
            return bool(asked.value("count(up == 1)"))
        return False

    try:
        until(scrapes, (folder / "prometheus.log").read_text)
        yield asked
    finally:
        started.send_signal(signal.SIGTERM)
        try:
            started.wait(LIMIT_S)
        except subprocess.TimeoutExpired:
            os.kill(started.pid, signal.SIGKILL)
            started.wait()
