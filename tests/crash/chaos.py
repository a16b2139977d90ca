"""Chaos: flows run again and again while their processes are killed at random.

    python -m tests.crash.chaos --seed 1 --kills 200

Life of it: three Ray nodes on this machine (`cluster/local.py`) → a thread a flow, which lets its
source grow and runs `hygge flows.yml --select <flow>` again and again, in processes of their own →
SIGKILL for home, store and inbox actors, for drivers (most of them at the moment when something of
their run appears in the journal), and for all processes of a node, which comes back → a reader that
is not hygge looks all the time → a last run without kills. Exits with 1 if any look, or any run
that said "done", shows a row lost, doubled, or of another generation than its neighbours.
"""

# ruff: noqa: T201  # a program of its own, which prints its tally

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

TREE = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(TREE), str(TREE / "cluster")]

import local  # noqa: E402  # cluster/local.py

from tests.crash.growing import Growing  # noqa: E402

KINDS = {
    "table_appended": "table to directory append",
    "files_replaced": "files to directory replace",
    "table_merged": "table to table merge",
    "files_to_csv": "files to file replace",
    "delta_merged": "table to delta merge",
    "iceberg_appended": "table to iceberg append",
}
TITLES = {
    "home": ("ray::read ", "ray::HomeActor", "ray::Home("),
    "store": ("ray::stage ", "ray::move ", "ray::StoreActor", "ray::Store("),
    "inbox": ("ray::InboxActor", "ray::Inbox"),
}
WEIGHTS = {"home": 3, "store": 3, "inbox": 2, "driver": 4}
MOST_S = 240.0
"""A run that takes longer hangs."""


@dataclass
class Tally:
    """What happened; printed at the end."""

    kills: Counter[str] = field(default_factory=Counter)
    runs: Counter[str] = field(default_factory=Counter)
    retried: int = 0
    resumed: int = 0
    looks: int = 0
    wrong: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def note(self, wrong: str) -> None:
        with self.lock:
            self.wrong.append(wrong)
        print(f"WRONG: {wrong}", flush=True)


class Runner(threading.Thread):
    """Runs one flow again and again; its source grows now and then, between two runs."""

    def __init__(self, flow: Growing, seed: object, tally: Tally, over: threading.Event) -> None:
        super().__init__(name=flow.name, daemon=True)
        self.flow, self.tally, self.over = flow, tally, over
        self.rng = random.Random(f"{seed} {flow.name}")
        self.driver: subprocess.Popen[str] | None = None

    def run(self) -> None:
        try:
            ended = 0
            while not self.over.is_set():
                # After a death mostly not: then what is sealed can be gone on with.
                if self.rng.random() < (0.8 if ended == 0 else 0.15):
                    self.flow.grow(self.rng, 150)
                ended = self._run_once()
            if self._run_once() != 0:
                self.tally.note(f"{self.name}: the last run, without kills, did not end well")
        except BaseException as error:
            self.tally.note(f"{self.name}: the program itself: {error!r}")

    def _run_once(self) -> int:
        log = self.flow.folder / "logs" / f"{self.name}-{sum(self.tally.runs.values()):04}"
        command = [sys.executable, "-m", "hygge", "flows.yml", "--select", self.name]
        with open(log, "w") as errors:
            self.driver = subprocess.Popen(
                [*command, "--jobs", "one", "--json"], cwd=self.flow.folder,
                stdout=subprocess.PIPE, stderr=errors, text=True,
            )  # fmt: skip
            try:
                said, _ = self.driver.communicate(timeout=MOST_S)
            except subprocess.TimeoutExpired:
                self.tally.note(f"{self.name}: a run hangs ({log.name})")
                self.driver.kill()
                said, _ = self.driver.communicate()
        code = self.driver.returncode
        report = _report(said)
        with self.tally.lock:
            words = {0: "done", 1: "said that it failed", -signal.SIGKILL: "killed"}
            self.tally.runs[words.get(code, f"ended with {code}")] += 1
            self.tally.retried += report.get("retries", 0)
            self.tally.resumed += report.get("resumed", 0)
        if "Traceback" in log.read_text() and report:
            self.tally.note(f"{self.name}: a traceback for people to read ({log.name})")
        if code == 1 and report:
            print(f"{self.name} failed: {report['error']}", flush=True)
        if code == 0:
            generation, wrong = self.flow.judged(self.flow.seen())
            if not wrong and generation != self.flow.generation:
                wrong = f"lost: it said done and shows generation {generation}"
                wrong += f" of {self.flow.generation}"
            if wrong:
                self.tally.note(f"{self.name}: after a run that was done: {wrong} ({log.name})")
        return code


def _report(said: str) -> dict[str, Any]:
    for line in said.splitlines():
        if line.startswith('{"hygge_report":'):
            (report,) = json.loads(line)["hygge_report"]["flows"]
            return dict(report)
    return {}


class Reader(threading.Thread):
    """Looks at every store all the time: old or new, never back."""

    def __init__(self, flows: list[Growing], tally: Tally) -> None:
        super().__init__(name="reader", daemon=True)
        self.flows, self.tally, self.over = flows, tally, threading.Event()

    def run(self) -> None:
        shown = dict.fromkeys((flow.name for flow in self.flows), -1)
        while not self.over.wait(0.2):
            for flow in self.flows:
                try:
                    generation, wrong = flow.judged(flow.seen())
                except Exception as error:
                    generation, wrong = shown[flow.name], f"cannot be read: {error!r}"
                if not wrong and generation < shown[flow.name]:
                    wrong = f"went back from generation {shown[flow.name]} to {generation}"
                if wrong:
                    self.tally.note(f"{flow.name}: a reader saw: {wrong}")
                shown[flow.name] = max(shown[flow.name], generation)
                self.tally.looks += 1


class Killer:
    """Draws who is killed next, and kills."""

    def __init__(self, seed: object, runners: list[Runner], cluster: Any, asked: Any) -> None:
        self.rng = random.Random(f"{seed} killer")
        self.runners, self.cluster, self.asked = runners, cluster, asked
        self.tally = runners[0].tally

    def kill_one(self) -> None:
        kind = self.rng.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]
        if (self._driver() if kind == "driver" else self._actor(kind)) is not None:
            self.tally.kills[kind] += 1
            time.sleep(self.rng.uniform(0, 2))
        else:
            time.sleep(0.05)

    def _actor(self, kind: str) -> int | None:
        found = [
            process.pid
            for process in local.descendants()
            if _title(process).startswith(TITLES[kind])
        ]
        return _killed(self.rng.choice(sorted(found))) if found else None

    def _driver(self) -> int | None:
        runner = self.rng.choice(self.runners)
        driver = runner.driver
        if driver is None or driver.poll() is not None:
            return None
        if self.rng.random() < 0.7:  # at a step: something new of the run is in the journal
            step = self.rng.choice(["receipts", "receipts", "decision", "outcome"])
            before, until = _entries(runner.flow, step), time.monotonic() + 4
            while _entries(runner.flow, step) <= before:
                if time.monotonic() > until or driver.poll() is not None:
                    return None
                time.sleep(0.001)
            time.sleep(self.rng.uniform(0, 0.02))
        return _killed(driver.pid) if driver.poll() is None else None

    def crash_a_node(self) -> None:
        """All processes of one node at once; another one comes up a little later."""
        import psutil  # type: ignore[import-untyped]  # comes with ray

        node = self.rng.choice(sorted(self.cluster.worker_nodes, key=lambda each: each.unique_id))
        started = [each.process.pid for every in node.all_processes.values() for each in every]
        doomed = {pid: psutil.Process(pid) for pid in started if psutil.pid_exists(pid)}
        for process in list(doomed.values()):
            doomed |= {child.pid: child for child in process.children(recursive=True)}
        for process in doomed.values():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self.tally.kills["node"] += 1
        print(f"a node crashed: {len(doomed)} processes killed", flush=True)
        self.cluster.remove_node(node, allow_graceful=False)
        time.sleep(self.rng.uniform(1, 5))
        local.add_node(self.cluster, self.asked, head=False)


def _title(process: Any) -> str:
    with contextlib.suppress(Exception):
        return str((process.cmdline() or [""])[0])
    return ""


def _killed(pid: int) -> int | None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return None
    return pid


def _entries(flow: Growing, step: str) -> int:
    return sum(1 for _ in (flow.folder / ".hygge" / "flows").glob(f"*{flow.name}*/**/*{step}*"))


@contextlib.contextmanager
def three_nodes(folder: Path) -> Iterator[tuple[Any, Any]]:
    asked = local.parse(["3", "--cpus", "2", "--store-mib", "160", "--no-dashboard"])
    local.listen()
    local.adopt_orphans()
    os.environ.pop("RAY_ADDRESS", None)
    os.environ.update(local.private_settings(folder))
    from ray.cluster_utils import Cluster

    cluster = Cluster(shutdown_at_exit=True)
    try:
        for number in range(asked.nodes):
            local.add_node(cluster, asked, head=number == 0)
        os.environ.update(local.addresses(cluster))
        yield cluster, asked
    finally:
        local.take_down(cluster)


def main() -> int:
    parser = argparse.ArgumentParser(description="Kill flows at random and count their rows.")
    parser.add_argument("--seed", default="1")
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--nodes", type=int, default=2, help="how many of the kills are of nodes")
    asked = parser.parse_args()
    began = time.monotonic()
    # A short path: the sockets of a session live below it, and a socket's path has 107 characters.
    folder = Path(tempfile.mkdtemp(prefix="chaos-", dir="/tmp"))
    (folder / "logs").mkdir()
    (folder / "ray").mkdir()
    os.environ["PYTHONPATH"] = str(TREE)
    os.environ.pop("HYGGE_STATE", None)
    tally, over = Tally(), threading.Event()
    flows = [Growing(name, folder, kind) for name, kind in KINDS.items()]
    for flow in flows:
        flow.grow(random.Random(0), 3000)
    (folder / "flows.yml").write_text("flows:\n" + "".join(flow.described() for flow in flows))
    with three_nodes(folder / "ray") as (cluster, size):
        runners = [Runner(flow, asked.seed, tally, over) for flow in flows]
        reader, killer = Reader(flows, tally), Killer(asked.seed, runners, cluster, size)
        for thread in (*runners, reader):
            thread.start()
        crashes = {asked.kills * (n + 1) // (asked.nodes + 1) for n in range(asked.nodes)}
        while (count := sum(tally.kills.values())) < asked.kills:
            if due := {at for at in crashes if at <= count}:
                crashes -= due
                killer.crash_a_node()
            else:
                killer.kill_one()
            if sum(tally.kills.values()) // 20 > count // 20:
                print(f"{sum(tally.kills.values())} kills, {dict(tally.runs)}", flush=True)
        over.set()
        for runner in runners:
            runner.join()
        reader.over.set()
        reader.join()
    told(tally, flows, asked, time.monotonic() - began)
    if tally.wrong:
        print(f"everything is kept in {folder}")
        return 1
    shutil.rmtree(folder, ignore_errors=True)
    return 0


def told(tally: Tally, flows: list[Growing], asked: argparse.Namespace, seconds: float) -> None:
    """The tally, as it stands in docs/reliability.md."""
    print(f"\nchaos, seed {asked.seed}, {time.strftime('%Y-%m-%d')}, {seconds:.0f} s")
    for what, counted in (("kills", tally.kills), ("runs", tally.runs)):
        each = ", ".join(f"{number} {word}" for word, number in sorted(counted.items()))
        print(f"  {what:<10}{sum(counted.values())}: {each}")
    print(f"  splits    {tally.retried} tried again, {tally.resumed} taken over from a dead run")
    rows = sum(len(flow.states[-1]) for flow in flows)
    print(
        f"  sources   {len(flows)}, grown {sum(f.generation for f in flows)} times to {rows:,} rows"
    )
    print(f"  looks     {tally.looks} by a reader that is not hygge")
    found = Counter(
        word for word in ("lost", "doubled", "half visible") for w in tally.wrong if word in w
    )
    said = ", ".join(f"{found[word]} {word}" for word in ("lost", "doubled", "half visible"))
    print(f"  wrong     {said}, {len(tally.wrong) - sum(found.values())} otherwise")


if __name__ == "__main__":
    sys.exit(main())
