"""Every panel of the dashboard, asked of a real Prometheus after runs whose rows are known.

Each run is a driver of its own, so each of its counters is born with a value: what `increase()` and
`rate()` do not count.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time

import pytest

from tests.chaos import only_in_chaos
from tests.k8s.test_dashboard import dashboard
from tests.servers.prometheus import Prometheus, prometheus
from tests.servers.standing import standing_ray
from tests.waiting import LIMIT_S, until

pytestmark = only_in_chaos
ROWS, SPLITS, RUNS, STEP_S = 100, 8, 2, 5
HOMES = """
import os, time
import pyarrow as pa
from hygge import Home
from hygge.model import Column, Plan, Split
from contextlib import contextmanager

class Slow(Home):
    @contextmanager
    def open(self, since=None):
        splits = [Split(n, version="1", where={}, label=str(n)) for n in range(SPLITS)]
        yield Plan((Column("n", pa.int64(), "bigint"),), splits)

    def read(self, split):
        time.sleep(0.3)
        failed = os.path.join(os.path.dirname(os.path.abspath(__file__)), "failed")
        if split.index == 3 and not os.path.exists(failed):
            open(failed, "w").close()
            os._exit(1)
        yield pa.table({"n": pa.array(range(ROWS), pa.int64())})
"""


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> tuple[Prometheus, float, dict[str, int]]:
    """Prometheus after the runs, when they began, and the sums of their reports."""
    folder = tmp_path_factory.mktemp("metrics")
    standing = standing_ray().environ
    token = standing["RAY_AUTH_TOKEN_PATH"]
    (folder / "homes.py").write_text(
        HOMES.replace("SPLITS", str(SPLITS)).replace("ROWS", str(ROWS))
    )
    (folder / "flows.yml").write_text(
        "jobs: each\ndefaults: {lanes: 1, memory_per_lane: 32 MiB, batch_bytes: 4 MiB}\nflows:\n"
        "  scraped: {home: {type: 'homes:Slow', name: slow}, store: out}\n"
    )
    near = {name: text for name, text in standing.items() if name != "RAY_API_SERVER_ADDRESS"}
    with prometheus(folder, standing["RAY_API_SERVER_ADDRESS"], token) as asked:
        began = time.time()
        totals = dict.fromkeys(("rows", "bytes", "retries"), 0)
        for _ in range(RUNS):
            command = [sys.executable, "-m", "hygge", "flows.yml", "--json"]
            done = subprocess.run(
                command, cwd=folder, env=near, capture_output=True, text=True, timeout=LIMIT_S
            )
            assert done.returncode == 0, done.stdout + done.stderr
            (flow,) = json.loads(done.stdout)["hygge_report"]["flows"]
            for name in totals:
                totals[name] += flow[name]
        yield asked, began, totals


def queries(title: str, window_s: int, kind: str = "timeseries") -> list[str]:
    """Return the queries of a panel, for one flow, with windows of so many seconds."""
    panels = dashboard()["panels"]
    (panel,) = (p for p in panels if (p["title"], p["type"]) == (title, kind))
    words = {"$__interval_ms": f"{window_s * 1000}", "$__interval": f"{window_s}s",
             "$__range": f"{window_s}s", "$flow": "scraped", "$namespace": "hygge"}  # fmt: skip
    texts = []
    for target in panel["targets"]:
        text = target["expr"]
        for variable, value in words.items():
            text = text.replace(variable, value)
        texts.append(text)
    return texts


def test_the_totals_are_those_of_the_reports_though_each_run_is_a_driver_of_its_own(ran):
    asked, began, totals = ran
    known = {"Rows": totals["rows"], "Bytes": totals["bytes"], "Splits done": SPLITS * RUNS,
             "Retries": 1}  # fmt: skip
    for title, total in known.items():

        def shown(title: str = title) -> float:
            (query,) = queries(title, int(time.time() - began) + 60, "stat")
            return asked.value(query)

        until(lambda shown=shown, total=total: shown() == total, lambda shown=shown: f"{shown()}")
    assert totals["rows"] == ROWS * SPLITS * RUNS


@pytest.mark.parametrize(
    ("title", "total", "each_s"),
    [
        ("Rows a second", ROWS * SPLITS * RUNS, 1),
        ("Splits done an hour", SPLITS * RUNS, 3600),
        ("Retries", 1, None),
    ],
)
def test_what_a_curve_shows_adds_up_to_the_total(ran, title, total, each_s):
    asked, began, _ = ran
    (query,) = queries(title, STEP_S)

    def sum_of_curve() -> float:
        values = asked.curve(query, began, time.time() + STEP_S, STEP_S)
        return sum(values) * (STEP_S / each_s if each_s else 1)

    until(lambda: sum_of_curve() == pytest.approx(total), lambda: f"{sum_of_curve()}")


OTHERS = ["Bytes a second", "Who is waited for", "Lanes", "Inbox", "Commit", "Object store",
          "Spilled to disk", "Memory"]  # fmt: skip


@pytest.mark.parametrize("title", OTHERS)
def test_every_other_panel_shows_something(ran, title):
    asked, began, _ = ran
    for query in queries(title, STEP_S):
        until(lambda query=query: asked.curve(query, began, time.time(), 1), query)


def test_a_driver_that_has_ended_leaves_nine_counters_at_most_and_no_gauge(ran):
    """Each has series of its own on the port of its node, which Ray's agent never drops."""
    asked, _, _ = ran
    gauges = 'ray_hygge_lanes{flow="scraped"} or ray_hygge_inbox_bytes{flow="scraped"}'
    until(lambda: not asked.ask("query", query=gauges), "a gauge stays")
    left = 'count by (WorkerId) ({__name__=~"ray_hygge_.*_total", flow="scraped"})'
    counts = [int(series["value"][1]) for series in asked.ask("query", query=left)]
    assert len(counts) == RUNS
    assert max(counts) <= 9
    names = asked.ask("query", query='{__name__=~"ray_hygge_.*", flow="scraped"}')
    assert {series["metric"]["__name__"].endswith("_total") for series in names} == {True}


def test_no_panel_is_forgotten():
    titles = {panel["title"] for panel in dashboard()["panels"] if panel["type"] != "row"}
    tried = {"Rows", "Bytes", "Splits done", "Retries", "Rows a second", "Splits done an hour"}
    assert titles == tried | set(OTHERS)
