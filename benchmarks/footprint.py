"""What each process of a run on a cluster holds in memory: to size heads, workers and drivers.

A Ray of one node stands as `cluster/local.py` starts it. `hygge flows.yml` runs two flows there,
each a Ray job of its own with two lanes, slowly. Meanwhile the PSS of every process is looked at:
each page once, a shared one divided among those who map it, and without the object store's pages.

    python benchmarks/footprint.py       # about a minute

Prints one line a kind of process: how many there were at once, how much one held at most, and how
much all of them together (MB).
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

sys.path.insert(0, str(Path(__file__).parent.parent))
from tests.engine.ray.memory_probe import MB, _text, _tree, pss
from tests.servers.standing import Standing

KINDS = {
    "gcs_server": "head: Ray's GCS",
    "dashboard/dashboard.py": "head: dashboard and jobs API",
    "monitor.py": "head: Ray's monitors",
    "log_monitor.py": "node: Ray's agents",
    "raylet/raylet": "node: raylet",
    "agent": "node: Ray's agents",
    "Agent": "node: Ray's agents",
    "dashboard": "head: dashboard and jobs API",
    "JobSupervisor": "job: Ray's supervisor",
    "--jobs one": "flow: driver",
    "hygge flows.yml": "coordinator",
    "Home": "lane: Home",
    "InboxActor": "lane: Inbox",
    "Inbox(": "lane: Inbox",
    "StoreActor": "lane: Store",
    "Store": "lane: Store",
    "stage ": "lane: Store",
    "read ": "lane: Home",
    "ray::IDLE": "idle worker of Ray",
}
"""A word of the command → the kind of process; the first that fits."""
SLOW = """
import time
from hygge import ParquetHome

class Slow(ParquetHome):
    def read(self, split):
        for table in super().read(split):
            time.sleep(0.2)
            yield table
"""
FLOWS = """
state: {folder}/state
shared_paths: [{folder}]
defaults:
  lanes: 2
  home: {{options: {{split_bytes: 8_000_000}}}}
flows:
  one: {{home: {{type: "slow:Slow", path: {folder}/in}}, store: {folder}/one}}
  two: {{home: {{type: "slow:Slow", path: {folder}/in}}, store: {folder}/two}}
"""


def main() -> int:
    if not Path("/proc/self/smaps_rollup").exists():
        sys.exit("needs Linux")
    with tempfile.TemporaryDirectory(prefix="hygge-footprint-") as name:
        folder = Path(name)
        rng = np.random.default_rng(1)
        (folder / "in").mkdir()
        for number in range(8):
            columns = {each: rng.random(500_000) for each in "abcdef"}
            pq.write_table(pa.table(columns), folder / "in" / f"{number}.parquet")
        (folder / "slow.py").write_text(SLOW)
        (folder / "flows.yml").write_text(FLOWS.format(folder=folder))
        size = ["--loopback", "--cpus", "6", "--store-mib", "1024", "--for", "3600"]
        standing = Standing("1", *size)
        try:
            kinds = watched(standing, folder)
        finally:
            standing.end()
    for kind, (number, most, together) in sorted(kinds.items()):
        print(f"{kind:32} {number:3} {most // MB:6} {together // MB:6}")
    return 0


def watched(standing: Standing, folder: Path) -> dict[str, tuple[int, int, int]]:
    """Return of each kind how many there were at once, and what one held and all of them."""
    command = [sys.executable, "-m", "hygge", "flows.yml", "--quiet"]
    run = subprocess.Popen(command, cwd=folder, env=standing.environ)
    kinds: dict[str, tuple[int, int, int]] = defaultdict(lambda: (0, 0, 0))
    while run.poll() is None:
        now: dict[str, list[int]] = defaultdict(list)
        looks = [(pid, kind_of(pid)) for pid in _tree(standing.process.pid)]
        for pid, kind in [*looks, (run.pid, "coordinator")]:
            total, shared = pss(pid)
            if kind and total:
                now[kind].append(total - shared)
        for kind, held in now.items():
            seen = zip(kinds[kind], (len(held), max(held), sum(held)), strict=True)
            number, most, together = (max(pair) for pair in seen)
            kinds[kind] = number, most, together
        time.sleep(0.3)
    if run.returncode:
        sys.exit("the run failed")
    return kinds


def kind_of(pid: int) -> str:
    command = _text(f"/proc/{pid}/cmdline").replace("\0", " ")
    if command.startswith("sh ") or " sh -c" in command[:40]:
        return ""
    return next((kind for word, kind in KINDS.items() if word in command), "")


if __name__ == "__main__":
    sys.exit(main())
