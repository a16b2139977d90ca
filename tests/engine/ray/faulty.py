"""Run flows on nodes of which two are broken, and print how each flow ended, as JSON.

Head without CPUs, `good`, `bare` where hygge cannot be imported, and `full`, where whatever is
written to the temporary file meets a full disk (/dev/full). Each is labelled with its name.
tests/engine/ray/test_faulty.py runs this program and checks what it prints.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ |= {
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    "RAY_AUTH_MODE": "disabled",  # loopback only, for half a minute
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_TMPDIR": tempfile.mkdtemp(prefix="hygge-", dir="/tmp"),
}
os.environ.pop("RAY_ADDRESS", None)

import hygge
from hygge import Flow, FlowFailed
from hygge.connectors.files import publish
from hygge.model import MIB, Limits, Report
from hygge.run.watch import Progress, Silent
from tests.engine.ends import Careful, Counted

_NO_HYGGE = """
import sys
class NoHygge:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "hygge":
            raise ModuleNotFoundError("No module named 'hygge'", name="hygge")
sys.meta_path.insert(0, NoHygge())
"""
NAMES: dict[str, str] = {}
SAW: dict[str, Any] = {}


class Spilling(Careful):
    """Writes a temporary file before it stages, as the stores of buckets do."""

    def stage(self, ticket, schema, batches):
        path = os.environ.get("TEST_SCRATCH", os.devnull)
        with publish.disk_errors(path), open(path, "wb", buffering=0) as file:
            file.write(b"rows")
        return super().stage(ticket, schema, batches)


class Heard(Silent):
    """Keeps what was said, and opens `gate` when a node is left."""

    def __init__(self, gate: Path) -> None:
        self.gate = gate
        self.words: list[str] = []
        self.waits: set[str] = set()

    def said(self, flow: str, text: str) -> None:
        self.words.append(text)
        if "that node is left" in text:
            self.gate.touch()

    def moved(self, flow: str, progress: Progress) -> None:
        self.waits.add(progress.waits_for)


def run(folder: Path, name: str, where: str, gate: str = "", **limits: Any) -> None:
    """Run a flow of 8 splits; with `gate` none of them is staged before a node is left."""
    from hygge.engine.ray import lanes

    while lanes._idle:  # each has lanes of its own
        lanes.shut_down_lane(lanes._idle.pop())
    limits = {"memory_per_lane": 8 * MIB, "batch_bytes": MIB, **limits}
    limits["label_selector"] = {"kind": where}
    gate = gate and str(folder / gate)
    store = Spilling(path=folder / name, gate=gate)
    flow = Flow(Counted(splits=8), store, name=name, limits=Limits(**limits))
    heard = Heard(Path(gate))
    began = time.monotonic()
    try:
        report: Report = flow.run(heard)
    except FlowFailed as error:
        report = error.report  # type: ignore[assignment]  # of one flow
    SAW[name] = {
        "status": report.status, "rows": report.rows, "error": report.error, "hint": report.hint,
        "note": report.note, "retries": report.retries, "lanes": report.lanes,
        "seconds": time.monotonic() - began,
        "words": heard.words, "waits": sorted(heard.waits),
    }  # fmt: skip


def main(folder: Path) -> None:
    from ray.cluster_utils import Cluster

    from hygge.engine.ray import connection, left, node_names, nodes, patience, watching

    os.environ["HYGGE_STATE"] = str(folder / "state")
    (folder / "broken").mkdir()
    (folder / "broken" / "sitecustomize.py").write_text(_NO_HYGGE)
    cluster, version = Cluster(), hygge.__version__
    began = time.monotonic()

    def add(kind: str, cpus: int, **environment: str) -> None:
        node = cluster.add_node(
            num_cpus=cpus, labels={"kind": kind}, object_store_memory=80 * MIB,
            env_vars=environment, include_dashboard=False,
        )  # fmt: skip
        NAMES[kind] = node.node_id

    try:
        add("head", 0)
        add("good", 2)
        add("bare", 2, PYTHONPATH=str(folder / "broken"))
        add("full", 2, TEST_SCRATCH="/dev/full")
        os.environ["RAY_ADDRESS"] = cluster.address
        connection.connect()
        watching._ASK_PENDING_EVERY_S = 0.5
        SAW["start_s"] = time.monotonic() - began
        SAW["nodes"] = {kind: node_names.name_node(node) for kind, node in NAMES.items()}
        SAW["may_grow"] = patience.may_grow()
        run(folder, "nowhere", "mars", lanes=2, wait_at_most_s=0.5)
        run(folder, "hangs", "good", "never opened", lanes=1, stall_timeout_s=0.5)
        patience.FIXED_S = 0.5
        run(folder, "nowhere, auto", "mars")
        run(folder, "asked", "in(good, bare)", retries=0)
        left.take_back(NAMES["bare"])
        nodes._seen.clear()
        run(folder, "asked alone", "bare")
        nodes._seen.clear()
        hygge.__version__ = "0.0.9"  # the driver's
        run(folder, "other version", "in(good, full)")
        hygge.__version__ = version
        nodes.check_nodes = lambda *_: ""  # as of nodes that join later
        run(folder, "bare", "bare", retries=1)
        run(folder, "full", "full", retries=1)
        # One try of each split, so that no failure of a node may count as one of them.
        run(folder, "around bare", "in(good, bare)", "gate 1", retries=0, lanes=4)
        left.take_back(NAMES["bare"])
        run(folder, "around full", "in(good, full)", "gate 2", retries=0, lanes=4)
        sys.stdout.write(json.dumps(SAW) + "\n")
    finally:
        connection.disconnect()
        cluster.shutdown()
        shutil.rmtree(os.environ["RAY_TMPDIR"], ignore_errors=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
