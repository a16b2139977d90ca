"""docs/platform.md and docs/orchestrators.md: their commands run, their numbers are the code's."""

from __future__ import annotations

import ast
import os
import re
import signal
import subprocess
from pathlib import Path
from typing import Any

import promql_parser
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from hygge.cli import main as cli
from hygge.cli.arguments import parse
from hygge.model import MIB, Limits
from hygge.run import flow as run_flow
from tests import ROOT
from tests.chaos import only_in_chaos
from tests.k8s.manifests import HYGGE_METRICS, RAY_METRICS
from tests.servers.standing import standing_ray
from tests.waiting import said_by, until

PLATFORM, SCHEDULERS = (ROOT / "docs" / f"{name}.md" for name in ("platform", "orchestrators"))


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)


def test_the_alerts_are_promql_over_metrics_that_there_are() -> None:
    (alerts,) = [text for text in blocks(PLATFORM, "yaml") if "alert:" in text]
    rules = yaml.safe_load(alerts)["groups"][0]["rules"]
    assert len(rules) == 5
    for rule in rules:
        promql_parser.parse(rule["expr"])
        named = re.findall(r"\bray_\w+", rule["expr"])
        assert named
        assert set(named) <= HYGGE_METRICS.keys() | RAY_METRICS.keys()


def test_the_numbers_of_the_pages_are_those_of_the_code_and_of_the_benchmark() -> None:
    text = PLATFORM.read_text()
    assert f"`memory_per_lane`, {Limits().memory_per_lane // MIB} MiB" in text
    assert f"within `resume_within` ({Limits().resume_within_s / 3600:.0f} h)" in text
    assert f"waits up to {run_flow._PATIENCE_S:.0f} seconds" in SCHEDULERS.read_text()
    assert "0 done, 1 failed, 2 wrong usage, 130 stopped" in str(cli.__doc__)
    table = (ROOT / "benchmarks" / "README.md").read_text().partition("## Processes")[2]
    most = {
        kind.strip(): int(one)
        for kind, one in re.findall(r"^\| ([a-z]+: [^|]+) \| \d+ \| (\d+) \|", table, re.MULTILINE)
    }
    lane = sum(most[f"lane: {end}"] for end in ("Home", "Inbox", "Store"))
    assert f"{round(lane, -1)} MB; at most 500 MB" in text
    flow = most["flow: driver"] + most["job: Ray's supervisor"]
    assert f"| {round(flow, -1)} MB on the head" in text


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    pq.write_table(pa.table({"n": [1, 2, 3]}), tmp_path / "in" / "0.parquet")
    (tmp_path / "slow.py").write_text(
        "import os, time\nfrom hygge import ParquetHome\n\n"
        "class Slow(ParquetHome):\n    def read(self, split):\n"
        f"        while not os.path.exists({str(tmp_path / 'go')!r}):\n"
        "            time.sleep(0.05)\n"
        "        yield from super().read(split)\n"
    )
    (tmp_path / "flows.yml").write_text(
        f"state: {tmp_path}/state\n"
        "defaults: {lanes: 1, memory_per_lane: 32 MiB, batch_bytes: 4 MiB}\n"
        f"flows:\n  n:\n    home: {{type: 'slow:Slow', path: {tmp_path}/in}}\n"
        f"    store: {tmp_path}/out\n    mode: append\n"
    )
    (script,) = [text for text in blocks(SCHEDULERS, "sh") if "# run.sh" in text]
    (tmp_path / "run.sh").write_text(script)
    return tmp_path


def started(folder: Path, order: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        ["sh", "run.sh", order], cwd=folder, env=standing_ray().environ, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


@only_in_chaos
def test_the_script_moves_an_order_once_and_prints_its_link(folder: Path) -> None:
    (folder / "go").touch()
    for _ in range(2):  # the second is a retry: its first try was not heard
        script = started(folder, "orders 2026-11-30")
        said, errors = said_by(script)
        assert script.returncode == 0, said + errors
        address = standing_ray().environ["RAY_API_SERVER_ADDRESS"]
        assert re.match(rf"{re.escape(address)}/#/jobs/hygge-flows-\w{{8}}\n", said)
        assert pq.read_table(folder / "out").num_rows == 3
    assert move(folder, "flows.yml", "another order") == {"n": 3}
    assert pq.read_table(folder / "out").num_rows == 6
    with pytest.raises(ValueError, match="a retry does not help"):
        move(folder, "no_such.yml", "a third order")


def move(folder: Path, file: str, order: str) -> Any:
    """What docs/orchestrators.md has for Dagster, run as it stands there."""
    (text,) = [text for text in blocks(SCHEDULERS, "python") if "def move(" in text]
    names: dict[str, Any] = {}
    exec(compile(text, "orchestrators.md", "exec"), names)
    before, outside = Path.cwd(), dict(os.environ)
    try:
        os.chdir(folder)
        os.environ.clear()
        os.environ.update(standing_ray().environ)
        return names["move"](file, order)
    finally:
        os.chdir(before)
        os.environ.clear()
        os.environ.update(outside)


@only_in_chaos
def test_the_script_stops_the_run_when_it_is_stopped(folder: Path) -> None:
    script = started(folder, "orders")
    until(lambda: list(folder.glob("state/flows/*/runs/*")), "the run does not begin")
    script.send_signal(signal.SIGTERM)
    said, errors = said_by(script)
    assert script.returncode == 130, said + errors
    assert "stopped  hygge-flows-" in said
    assert not (folder / "out").exists()


def test_what_is_written_for_the_schedulers_can_be_read() -> None:
    for text in blocks(SCHEDULERS, "python"):
        ast.parse(text)
    (workflow,) = (yaml.safe_load(text) for text in blocks(SCHEDULERS, "yaml"))
    (template,) = workflow["spec"]["templates"]
    box = template["container"]
    assert parse(box["args"]).command == "submit"
    assert {each["name"] for each in box["env"]} >= {"HYGGE_REQUEST", "RAY_API_SERVER_ADDRESS"}
    assert template["retryStrategy"]["expression"] == "lastRetry.exitCode != '2'"
