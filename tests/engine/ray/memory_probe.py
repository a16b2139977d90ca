"""Measure the memory of flows: a program runs them, and a probe observes it from outside.

`Probe` walks the process tree of the program a few times a second and adds up PSS (every page once,
a shared one divided among the processes that map it), which counts Arrow's heap, loaded libraries
and the pages of Ray's object store that the workers touched. Pages of the object store stay where
they are after an object is freed, so its part of the sum only grows: it is the most that ever lay
there. Ray's own daemons are left out; whatever else the program started is counted, idle workers
included.

`moved` runs flows one after the other in a program of its own, on a private Ray, and gives for each
what was held, what the Inboxes had charged at most, and what Ray spilled.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from hygge import Home, Store
from hygge.model import Column, Commit, Head, Limits, Plan, Receipt, Split, StoreTraits

MB = 1000 * 1000
LOOK_EVERY_S = 0.2
_RAYS_OWN = (
    "raylet/raylet",
    "gcs/gcs_server",
    "log_monitor.py",
    "dashboard/agent.py",
    "dashboard/dashboard.py",
    "runtime_env/agent/main.py",
    "autoscaler/_private/monitor.py",
    "ray::DashboardAgent",
    "ray::RuntimeEnvAgent",
)
_NAMES = {"HomeActor": "home", "::read ": "home", "StoreActor": "store", "::stage ": "store",
          "::move ": "store",
          "InboxActor": "inbox", "IDLE": "idle"}  # fmt: skip


@dataclass
class Held:
    """The most bytes that the processes of hygge held together, and which of them held how much."""

    most: int = 0
    shared: int = 0
    """The part of the object store in it."""
    of: dict[str, int] = field(default_factory=dict)
    """Name of the process → the bytes that it held besides."""
    looks: int = 0

    def __str__(self) -> str:
        who = ", ".join(f"{name} {size // MB}" for name, size in sorted(self.of.items()))
        return f"{self.most // MB} MB ({who}; object store {self.shared // MB})"


class Probe:
    """Measures a process and all that it started, until it is closed."""

    def __init__(self, pid: int) -> None:
        self.pid, self.held = pid, Held()
        self._over = threading.Event()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def begin(self) -> None:
        """Forget what was seen."""
        with self._lock:
            self.held = Held()

    def close(self) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._over.wait(LOOK_EVERY_S):
            now = look(self.pid)
            with self._lock:
                if now.most > self.held.most:
                    now.looks, self.held = self.held.looks, now
                self.held.looks += 1


def look(root: int) -> Held:
    """Return what the tree of processes below `root` holds at this moment."""
    now = Held()
    for pid in _tree(root):
        command = _text(f"/proc/{pid}/cmdline").replace("\0", " ")
        if any(name in command for name in _RAYS_OWN):
            continue
        total, shared = pss(pid)
        if total:
            name = _name(command) if pid != root else "driver"
            now.of[name] = now.of.get(name, 0) + total - shared
            now.most, now.shared = now.most + total, now.shared + shared
    return now


def pss(pid: int) -> tuple[int, int]:
    """Return a process's PSS and the shared memory in it, in bytes; 0 where it has ended."""
    kib = {}
    for line in _text(f"/proc/{pid}/smaps_rollup").splitlines():
        name, _, rest = line.partition(":")
        if name.startswith("Pss"):
            kib[name] = int(rest.split()[0])
    return kib.get("Pss", 0) * 1024, kib.get("Pss_Shmem", 0) * 1024


def _tree(root: int) -> list[int]:
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        if name.isdigit() and (stat := _text(f"/proc/{name}/stat")):
            parent = int(stat.rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(name))
    found = [root]
    for pid in found:
        found += children.get(pid, [])
    return found


def _name(command: str) -> str:
    known = (name for word, name in _NAMES.items() if word in command)
    return next(known, os.path.basename(command.split(" ")[0]) or "ending")


def _text(path: str) -> str:
    try:
        return Path(path).read_text(errors="replace")
    except (OSError, ProcessLookupError):
        return ""


# What is moved.


class Narrow(Home):
    """Many rows of a number and a short text, made up as they are read."""

    class Settings(Home.Settings):
        rows: int = 1_000_000
        splits: int = 1
        batch_rows: int = 1_000_000

    def open(self, since=None):
        columns = (Column("n", pa.int64()), Column("word", pa.string()))
        return nullcontext(Plan(columns, tuple(Split(i, "") for i in range(self.settings.splits))))

    def read(self, split):
        import numpy as np

        words = pa.array([f"word {i:03}" for i in range(1000)])
        words = words.take(pa.array(np.arange(self.settings.batch_rows) % 1000))
        share = self.settings.rows // self.settings.splits
        for start in range(split.index * share, (split.index + 1) * share, len(words)):
            stop = min(start + len(words), (split.index + 1) * share)
            numbers = pa.array(np.arange(start, stop))
            yield pa.table({"n": numbers, "word": words.slice(0, stop - start)})


class Wide(Home):
    """Rows of one huge value each."""

    class Settings(Home.Settings):
        rows: int = 30
        row_bytes: int = 50 * MB

    def open(self, since=None):
        columns = (Column("n", pa.int64()), Column("body", pa.large_binary()))
        return nullcontext(Plan(columns, (Split(0, ""),)))

    def read(self, split):
        for number in range(self.settings.rows):
            body = pa.py_buffer(os.urandom(MB) * (self.settings.row_bytes // MB))
            offsets = pa.py_buffer(bytes(8) + len(body).to_bytes(8, "little"))
            value = pa.LargeBinaryArray.from_buffers(pa.large_binary(), 1, [None, offsets, body])
            del body
            table = pa.table({"n": pa.array([number]), "body": value})
            del value
            yield table
            del table


class Sink(Store):
    """Takes its time for each batch, and keeps nothing of it."""

    traits = StoreTraits(modes=("append",))

    class Settings(Store.Settings):
        delay_s: float = 0.0

    def stage(self, ticket, schema, batches):
        rows = size = 0
        for batch in batches:
            time.sleep(self.settings.delay_s)
            rows, size = rows + batch.num_rows, size + batch.nbytes
            del batch
        return Receipt(ticket, "", rows, size)

    def commit(self, run, base, receipts, watermark):
        rows = sum(receipt.rows for receipt in receipts)
        return Commit(Head(run.flow, 1, run.id, rows), applied=rows)


# Who moves it.


@dataclass
class Measured:
    """One flow: what it moved, and what that took."""

    name: str
    rows: int
    bytes: int
    seconds: float
    lanes: int
    most_charged: int
    spilled: int
    held: Held = field(default_factory=Held)

    @property
    def bound(self) -> int:
        """What hygge promises to stay under."""
        return (300 + 500 * self.lanes) * MB


def moved(flows: list[dict[str, Any]], timeout_s: float = 3600) -> Iterator[Measured]:
    """Run `flows` in a program of its own, and measure each.

    A flow is {name, home, store, lanes, …limits}; an end is [class, settings], the class one of
    this module or of hygge.
    """
    command = [sys.executable, "-m", "tests.engine.ray.memory_probe", json.dumps(flows)]
    environment = {**os.environ, "RAY_USAGE_STATS_ENABLED": "0"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as program:
        probe, alarm = Probe(program.pid), threading.Timer(timeout_s, program.kill)
        alarm.start()
        try:
            assert program.stdout is not None
            for line in program.stdout:
                if line.startswith("begins"):
                    probe.begin()
                else:
                    yield Measured(**json.loads(line), held=probe.held)
            if program.wait():
                raise AssertionError(f"the program that moves ended with {program.returncode}")
        finally:
            alarm.cancel()
            probe.close()
            program.kill()


def main() -> None:
    """The program that moves: each flow in turn, on a private Ray."""
    import hygge
    from hygge import Flow
    from hygge.engine.ray import connection

    charged = _listen()
    connection.connect()
    for given in json.loads(sys.argv[1]):
        name, lanes = given.pop("name"), given.pop("lanes", None)
        home, store = (
            (globals().get(kind) or getattr(hygge, kind))(**settings)
            for kind, settings in (given.pop("home"), given.pop("store"))
        )
        mode = "append" if isinstance(store, Sink) else "replace"
        flow = Flow(home, store, name=name, mode=mode, limits=Limits(lanes, **given))
        charged.clear()
        _tell("begins")
        report = flow.run()
        told = {
            **{each: getattr(report, each) for each in ("rows", "bytes", "seconds", "lanes")},
            "name": name,
            "most_charged": max(charged),
            "spilled": spilled(),
        }
        _tell(json.dumps(told))
    connection.disconnect()


def _tell(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _listen() -> list[int]:
    """Return a list of the most bytes that each lane had charged; it is filled as flows end."""
    from hygge.engine.ray import watching

    charged: list[int] = []
    refresh = watching.refresh_stats

    def listening(lanes: list[Any]) -> None:
        refresh(lanes)
        charged.extend(lane.stats.most_charged for lane in lanes)

    watching.refresh_stats = listening  # what is measured
    return charged


def spilled() -> int:
    """Bytes that this Ray ever spilled to disk, or kept in files because its memory was full."""
    import ray
    from ray._private import internal_api

    state = internal_api.get_state_from_address(ray.get_runtime_context().gcs_address)
    stats = internal_api.get_memory_info_reply(state).store_stats
    return int(stats.spilled_bytes_total + stats.object_store_bytes_fallback)


if __name__ == "__main__":
    # The workers find the classes in the module, not in the program.
    from tests.engine.ray import memory_probe

    memory_probe.main()
