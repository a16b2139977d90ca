"""What a flow costs its driver: 1,000 lanes, and 1,000, 10,000, 100,000 splits.

The driver is real: the flow, its journal on a disk, the supervision loop, metrics, and calls to
actors through Ray. Only the lanes are not: a thousand of them would be three thousand processes.
Their calls go to a few actors that answer at once with what a Home and a Store would.

    python benchmarks/many_splits.py                          # a few minutes
    python benchmarks/many_splits.py --splits 1000 10000      # less

Prints one line a size: CPU of the driver (all its threads, also those of Ray), memory that it grew
by, and operations on the journal, each a split. A thousand lanes have to stand before the first
split, which is paid once and weighs in a small plan; so the gates are on what each split more
costs, from one size to the next. Exits with 1 where that is 2 ms of CPU or 16 KiB or more, or where
it grows with the plan, by half or more.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from typing import Any

import pyarrow as pa

from hygge import Flow, Home, Store
from hygge.model import Column, Commit, Head, Limits, Plan, Receipt, Split, StoreTraits
from hygge.places.place import place_at
from hygge.run.watch import Progress

MOST_MS, MOST_KIB = 2.0, 16.0
GROWTH = 1.5
ACTORS = 2


class Many(Home):
    """Splits of ten rows that nobody reads."""

    def __init__(self, splits: int) -> None:
        super().__init__("many")
        self.splits = splits

    @contextlib.contextmanager
    def open(self, since: Any = None) -> Any:
        splits = tuple(Split(n, "1", {"from": n, "to": n + 1}, rows=10) for n in range(self.splits))
        yield Plan((Column("n", pa.int64()),), splits)

    def read(self, split: Split) -> Any:
        raise NotImplementedError


class Nowhere(Store):
    """Keeps its head, and nothing else."""

    traits = StoreTraits(modes=("replace",))
    now: Head | None = None

    def head(self, flow: str) -> Head | None:
        return self.now

    def prepare(self, run: Any, schema: Any) -> None: ...

    def stage(self, ticket: Any, schema: Any, batches: Any) -> Receipt:
        raise NotImplementedError

    def commit(self, run: Any, base: Any, receipts: Any, watermark: Any) -> Commit:
        rows = sum(each.rows for each in receipts)
        self.now = Head(run.flow, 1, run.id, rows)
        return Commit(self.now, rows)

    def discard(self, run: Any) -> None: ...


def fake_lanes() -> None:
    """Put lanes without processes in the place of the engine's."""
    import ray

    from hygge.engine.ray import lanes, placement, supervision, watching
    from hygge.engine.ray.inbox import InboxStats

    class Ends:
        """The Home, the Store and the Inbox of many lanes."""

        def ready(self) -> None: ...

        def read(self, ticket: Any, split: Any, schema: Any, limits: Any) -> int:
            return 10

        def stage(self, ticket: Any, schema: Any) -> Receipt:
            return Receipt(ticket, "1", 10, 80)

        def stats(self) -> InboxStats:
            return InboxStats(10, 80, 10, 80)

    actors = [ray.remote(Ends).options(num_cpus=0).remote() for _ in range(ACTORS)]

    class FakeLane(lanes.Lane):
        def __init__(self, place: Any, name: str, namespace: str) -> None:
            self.place, self.limits, self.node = place, place.limits, place.node
            self.attempts, self.is_up, self.number = [], False, 0
            self.waits_for_cpu = False
            self.created_at, self.idle_s = None, 2.0
            self.idle_since, self.has_timer = 0.0, False
            self.stats, self.has_stats = InboxStats(), False
            self._stats_call, self._node_call = None, None
            self.sealed = Progress()
            self.home = self.store = actors[len(lanes._alive) % ACTORS]
            self.inbox = type("_Inbox", (), {"actor": self.home})
            self.start_calls = [self.home.ready.remote()]

        def load(self, packed: Any, number: int) -> None:
            self.packed, self.number = packed, number
            self.is_up, self.bytes_per_second, self.sealed = False, 0.0, Progress()
            self.start_calls = [self.home.ready.remote()]

        def warm(self, home: Any, store: Any) -> None: ...

        def kill(self, keep_bundle: bool = False) -> None: ...

    lanes.Lane = FakeLane  # type: ignore[misc]  # a lane that moves nothing stands for a real one
    # There are no nodes for a thousand, and no bundle is asked for.
    supervision.count_lanes = lambda move, reserved, grows: placement.Bound(move.limits.lanes)
    placement.Spread.place_next = lambda self, label: (None, "")  # type: ignore[method-assign]  # the same: no node is asked
    watching.describe_pending = lambda limits, groups: ""


def measure(splits: int, lanes: int) -> dict[str, float]:
    """One flow, in this process."""
    from hygge.engine.ray import connection

    connection.connect()
    fake_lanes()
    entries = [0]
    with tempfile.TemporaryDirectory(prefix="hygge-splits-") as state:
        counted = type(place_at(state))
        for verb in ("create", "put", "remove", "get", "keys"):
            _count(counted, verb, entries)
        limits = Limits(lanes=lanes)
        # What is paid once, whatever the size: imports, actors, the first of everything.
        Flow(Many(100), Nowhere(), name="warm", limits=limits, state=state).run()
        entries[0], cpu, began = 0, time.process_time(), time.monotonic()
        before = _rss()
        report = Flow(Many(splits), Nowhere(), name="many", limits=limits, state=state).run()
        after, cpu = _rss(), time.process_time() - cpu
    assert (report.splits, report.applied) == (splits, 10 * splits)
    return {
        "splits": splits,
        "ms": cpu / splits * 1000,
        "kib": (after - before) / splits / 1024,
        "entries": entries[0] / splits,
        "seconds": time.monotonic() - began,
    }


def _count(kind: type, verb: str, entries: list[int]) -> None:
    plain = getattr(kind, verb)

    def counted(self: Any, *given: Any, **named: Any) -> Any:
        entries[0] += 1
        return plain(self, *given, **named)

    setattr(kind, verb, counted)


def _rss() -> int:
    """The most that this process held so far, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--splits", type=int, nargs="+", default=[1000, 10_000, 100_000])
    parser.add_argument("--lanes", type=int, default=1000)
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    given.splits = sorted(set(given.splits))
    if len(given.splits) < 2:
        parser.error("--splits needs two sizes or more: the gate is on what a split more costs")
    if given.one:
        print(json.dumps(measure(given.one, given.lanes)))
        return 0
    print(f"{given.lanes:,} lanes, {os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}")
    print("| splits | driver CPU a split | memory a split | journal operations a split | whole |")
    print("| --- | --- | --- | --- | --- |")
    found = []
    os.environ["RAY_TMPDIR"] = tempfile.mkdtemp(prefix="hygge-", dir="/tmp")  # a Ray of its own
    for splits in given.splits:  # each in a process of its own, which begins with nothing
        command = [sys.executable, __file__, "--one", str(splits), "--lanes", str(given.lanes)]
        ran = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        found.append(json.loads(ran.stdout.splitlines()[-1]))
        print(
            "| {splits:,} | {ms:.2f} ms | {kib:.1f} KiB | {entries:.3f} | {seconds:.1f} s |".format(
                **found[-1]
            ),
            flush=True,
        )
    shutil.rmtree(os.environ["RAY_TMPDIR"], ignore_errors=True)
    steps = [_step(*pair) for pair in pairwise(found)]
    cost, kib = max(each["ms"] for each in steps), max(each["kib"] for each in steps)
    growth = steps[-1]["ms"] / steps[0]["ms"] if len(steps) > 1 else 1.0
    more = found[-1]["entries"] / found[0]["entries"]
    print(f"\na split more costs {cost:.2f} ms (gate {MOST_MS}) and {kib:.1f} KiB ({MOST_KIB}) at")
    print(f"most; the last of them {growth:.2f} times the CPU of the first, and in the largest")
    print(f"plan it costs {more:.2f} times the journal of the smallest ({GROWTH})")
    return int(cost >= MOST_MS or kib >= MOST_KIB or growth >= GROWTH or more >= GROWTH)


def _step(small: dict[str, float], large: dict[str, float]) -> dict[str, float]:
    """What each split costs that the larger plan has more."""
    more = large["splits"] - small["splits"]
    whole = {
        each: large[each] * large["splits"] - small[each] * small["splits"]
        for each in ("ms", "kib")
    }
    return {each: total / more for each, total in whole.items()}


if __name__ == "__main__":
    sys.exit(main())
