"""Run flows on four different nodes of one machine, and print what was seen, as JSON.

Head without CPUs, `big` (4 CPUs, region=eu, 1 fast_disk), `left` and `right` (2 CPUs, region=us).
tests/engine/ray/test_placement.py runs this program and checks what it prints.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.waiting import LIMIT_S, until

os.environ |= {
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    "RAY_AUTH_MODE": "disabled",  # loopback only, for half a minute
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_metrics_report_interval_ms": "500",
    "RAY_TMPDIR": tempfile.mkdtemp(prefix="hygge-", dir="/tmp"),  # nobody else finds it
}
os.environ.pop("RAY_ADDRESS", None)

from hygge import Flow
from hygge.model import MIB, Limits
from hygge.run.watch import Progress, Silent
from tests.engine.ends import Careful, Counted

SMALL = {"memory_per_lane": 8 * MIB, "batch_bytes": MIB}
US, EU = {"region": "us"}, {"region": "eu"}


class Heard(Silent):
    """Keeps what was said, the names of actors, and the nodes of the lanes when most were up.

    `opens` is called at each report; the paths that it returns are gates to be opened.
    """

    def __init__(self, opens: Callable[[Heard], list[Path]] = lambda heard: []) -> None:
        self.opens = opens
        self.words: list[str] = []
        self.waits: set[str] = set()
        self.names: set[str] = set()
        self.where: Counter[str] = Counter()
        self.lanes = 0
        self.up = 0
        self.alive: list[int] = []

    def said(self, flow: str, text: str) -> None:
        self.words.append(text)
        if "is tried again" in text:  # the lane is put down next
            self._note_names()

    def _note_names(self) -> None:
        import ray

        actors = ray.util.list_named_actors(all_namespaces=True)
        self.names |= {each["name"] for each in actors}

    def moved(self, flow: str, seen: Progress) -> None:
        self.waits.add(seen.waits_for)
        if not seen.lanes:
            return
        from hygge.engine.ray import lanes

        self.alive.append(len(lanes._alive))
        if seen.lanes > self.lanes:
            self.lanes = seen.lanes
            self.where = Counter(NAMES.get(lane.node) for lane in lanes._alive if lane.is_up)
        self.up = seen.lanes
        self._note_names()
        for gate in self.opens(self):
            gate.touch()


NAMES: dict[str, str] = {}
RAYLETS: dict[str, int] = {}
SAW: dict[str, Any] = {}


def run(
    folder: Path,
    name: str,
    home: Counted,
    store: dict[str, Any],
    heard: Heard | None = None,
    **limits: Any,
) -> None:
    from hygge.engine.ray import lanes

    while lanes._idle:  # each has lanes of its own
        lanes.shut_down_lane(lanes._idle.pop())
    heard = heard or Heard()
    flow = Flow(
        home, Careful(path=folder / name, **store), name=name, limits=Limits(**limits, **SMALL)
    )
    began = time.monotonic()
    report = flow.run(heard)
    SAW[name] = {
        "rows": report.rows, "bytes": report.bytes, "splits": report.splits,
        "retries": report.retries, "lanes": report.lanes, "note": report.note,
        "seconds": time.monotonic() - began, "words": heard.words,
        "waits": sorted(heard.waits), "where": heard.where, "names": sorted(heard.names),
        "alive": heard.alive,
    }  # fmt: skip


def silent(folder: Path) -> list[str]:
    """What is said while a node does not answer, of all nodes and of others, and once it does."""
    from hygge.engine.ray import nodes

    def forget(name: str) -> None:
        nodes._seen.difference_update([each for each in nodes._seen if NAMES[each[1]] == name])

    nodes._PATIENCE_S = nodes._PATIENCE_AGAIN_S = LIMIT_S
    store = {"the store": str(folder / "lake")}
    nodes._seen.clear()
    nodes.check_nodes({}, store)  # all have answered
    forget("left")
    os.kill(RAYLETS["left"], signal.SIGSTOP)
    try:
        nodes._PATIENCE_S = 2.0
        said = [nodes.check_nodes({}, store)]
        nodes._PATIENCE_S = LIMIT_S
        forget("big")
        said.append(nodes.check_nodes({}, store, limits=Limits(label_selector=EU)))
    finally:
        os.kill(RAYLETS["left"], signal.SIGCONT)
    return [*said, nodes.check_nodes({}, store)]


def metrics(wanted: int) -> list[str]:
    """hygge's lines of the Prometheus port, once so many splits are counted there."""
    import ray

    head = next(node for node in ray.nodes() if NAMES[node["NodeID"]] == "head")
    url = f"http://{head['NodeManagerAddress']}:{head['MetricsExportPort']}/metrics"
    lines: list[str] = []

    def counted() -> bool:
        with urllib.request.urlopen(url, timeout=LIMIT_S) as answer:
            lines[:] = [line for line in answer.read().decode().splitlines() if "hygge" in line]
        splits = sum(float(line.split()[-1]) for line in lines if "hygge_splits_total{" in line)
        lanes = sum(float(line.split()[-1]) for line in lines if "ray_hygge_lanes{" in line)
        committed = any("hygge_commits_total{" in line for line in lines)
        return splits >= wanted and committed and not lanes

    until(counted, lambda: "\n".join(lines), every_s=0.3)
    return lines


def main(folder: Path) -> None:
    from ray.cluster_utils import Cluster

    from hygge.engine.ray import connection, engine, lanes, supervision

    os.environ["HYGGE_STATE"] = str(folder / "state")
    cluster = Cluster()
    small = {"object_store_memory": 80 * MIB}

    def add(name: str, cpus: int, labels: dict[str, str], **more: Any) -> None:
        node = cluster.add_node(num_cpus=cpus, labels=labels, **small, **more)
        NAMES[node.node_id] = name
        RAYLETS[name] = node.all_processes["raylet"][0].process.pid

    try:
        add("head", 0, {}, include_dashboard=False)
        add("big", 4, EU, resources={"fast_disk": 1})
        add("left", 2, US)
        add("right", 2, US)
        os.environ["RAY_ADDRESS"] = cluster.address
        connection.connect()
        lanes._LAST_S = LIMIT_S
        supervision._GROW_EVERY_S, engine._FIRST_LANE_S = 0.2, LIMIT_S
        cut = Counted("orders", splits=8, act="transient", flag=str(folder / "flag"))
        gate = folder / "spread-gate"
        spread = Heard(
            lambda heard: [gate] if heard.up == 3 and "(2): home" in str(heard.names) else []
        )
        run(folder, "spread", cut, {"gate": str(gate), "gate_from": 1}, spread, lanes=3)
        SAW["metrics"] = metrics(8)
        here = {"resources": {"fast_disk": 1}, "label_selector": {"region": "!us"}}
        gates = [folder / f"chosen-gate-{split}" for split in range(8)]

        def chosen(heard: Heard) -> list[Path]:
            """The waiting is told while there is work; none is left when the last split ends."""
            told = any(waits and f"waiting for {waits}" in heard.words for waits in heard.waits)
            over = heard.alive[-1] == 1 and gates[6].exists()
            return [*(gates[4:7] if told else []), *(gates[7:] if over else [])]

        slow = {"gate": str(folder / "chosen-gate-{split}"), "gate_from": 4}
        home = Counted(splits=8, batches=8)
        run(folder, "chosen", home, slow, Heard(chosen), lanes=2, **here)
        # A node that is like that joins only when the flow has said that it waits for one.
        full = folder / "grown-gate"
        patient = Heard(lambda heard: [full] if heard.up == 2 else [])
        home, there = Counted(splits=16, batches=8), {"label_selector": {"region": "in(uk, ie)"}}
        growing = threading.Thread(
            target=run,
            args=(folder, "grown", home, {"gate": str(full), "gate_from": 8}, patient),
            kwargs=there,
        )
        growing.start()
        until(lambda: patient.words, "it does not say that it waits for a node")
        add("new", 4, {"region": "uk"})
        growing.join()
        paced = {"max_bytes_per_second": 1_000_000, "label_selector": US, "lanes": 1, "of": "shop"}
        both = [
            threading.Thread(
                target=run,
                args=(folder, name, Counted(splits=2, rows=50, width=1500), {}),
                kwargs=paced,
            )
            for name in ("slow", "slower")
        ]
        began = time.monotonic()
        for each in both:
            each.start()
        for each in both:
            each.join()
        SAW["together_s"] = time.monotonic() - began
        SAW["silent"] = silent(folder)
        sys.stdout.write(json.dumps(SAW) + "\n")
    finally:
        connection.disconnect()
        cluster.shutdown()
        shutil.rmtree(os.environ["RAY_TMPDIR"], ignore_errors=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
