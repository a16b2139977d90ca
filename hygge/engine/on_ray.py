"""The default engine: lanes of actors on Ray, supervised by one loop.

The loop waits for whichever call ends first, in a thread of its own kind: no event loop, no signal
handler, so it works the same under the CLI, in a script and inside Jupyter. It gives splits to
lanes that have room, collects receipts, puts failed splits back with a new ticket, and looks at the
Inboxes for progress, for who waits for whom, and for stalls. It must agree with `inline`, also when
a process dies.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import hygge.engine.connection as connection
from hygge.engine.failures import cause_of, hint_of, is_ray, may_be_mended, said_of
from hygge.errors import ConfigError, HyggeError, Stopped, Transient
from hygge.home import Home
from hygge.model import MIB, Limits, Split, Ticket
from hygge.moving import Move, Moved, backoff_s
from hygge.progress import Seen, Watch
from hygge.settings import import_all
from hygge.store import Store

_LOOK_EVERY_S = 0.25
_FIRST_LANE_S = 5.0
_PATIENCE_S = 5.0
_lock = threading.Lock()
_reserved = [0]
"""Bytes that the running lanes of this process may charge together."""
_SAY_STALL_AFTER_S = 60.0


def engine() -> RayEngine:
    """The engine that is used unless another is named."""
    return RayEngine()


class RayEngine:
    """Moves splits over lanes; comes to a Ray by itself."""

    name = "ray"

    def __init__(self) -> None:
        self.first: Any = None

    def get_ready(self, home: Home, store: Store) -> None:
        """Attach to a running Ray, or start a private one (seconds, once a process).

        The processes of the first lane, which every flow needs, are started as well, unless the
        flows of this process have lanes for every CPU: then it waits for one when it moves.
        """
        needs = home.needs(), store.needs()
        # While Ray starts, which is to wait for it.
        importing = threading.Thread(target=import_all, args=(needs[0] + needs[1],), daemon=True)
        importing.start()
        connection.connect()
        from hygge.engine.lanes import first_lane

        self.first = first_lane()
        if self.first is not None:
            self.first.warm(*needs)
            self.first.wait(_FIRST_LANE_S)
        importing.join()

    def lanes(self, limits: Limits) -> int:
        """See `hygge.moving.Engine`."""
        connection.connect()
        return min(_wanted_lanes(limits))

    def reaches(
        self, read: Mapping[str, str], written: Mapping[str, str], shared: Sequence[str]
    ) -> None:
        """See `hygge.moving.Engine`."""
        from hygge.engine import nodes

        nodes.check(read, written, shared)

    def release(self) -> None:
        """Put down the first lane where no move took it."""
        if self.first is not None:
            self.first.down()
            self.first = None

    def move(self, move: Move, watch: Watch, stop: threading.Event) -> Moved:
        """See `hygge.moving.Engine`."""
        connection.connect()
        supervision = _Supervision(move, watch, stop, self.first)
        self.first = None
        try:
            moved = supervision.run()
        except BaseException:
            supervision.down(keep=False)
            raise
        supervision.down(keep=True)
        return moved


@dataclass
class _Try:
    split: Split
    n: int = 0
    not_before: float = 0.0


class _Supervision:
    def __init__(self, move: Move, watch: Watch, stop: threading.Event, first: Any) -> None:
        self.move, self.watch, self.stop = move, watch, stop
        self.todo = deque(_Try(split) for split in move.splits)
        self.failures: dict[int, int] = {}
        self.tickets: dict[int, int] = {}
        self.moved = Moved()
        self.rows_read: dict[Ticket, int] = {}
        self.reserved = 0
        self.lanes = [first] if first is not None else []
        self.looked = 0.0
        self.progressed = time.monotonic()
        self.said_stall = self.progressed
        self.sum = (-1, -1)
        self.before = Seen()  # rows and bytes of lanes that were put down

    def _man_lanes(self) -> None:
        from hygge.engine.lanes import a_lane, a_lane_in_turn, pack

        luggage = pack(self.move)
        if not self.lanes:
            waits = Seen(splits=len(self.move.splits), waits_for="a lane that another flow leaves")
            self.watch.moved(self.move.flow, waits)
            grows = connection.connect().outlives  # a private Ray gets no further CPUs
            lane = a_lane_in_turn(self.stop, _PATIENCE_S if grows else float("inf"))
            if lane is None:
                raise Stopped("stopped")
            self.lanes = [lane]
        with _lock:
            self.moved.lanes = how_many_lanes(self.move, _reserved[0])
            self.reserved = self.moved.lanes * self.move.limits.memory_per_lane
            _reserved[0] += self.reserved
        self.lanes += [a_lane() for _ in range(self.moved.lanes - len(self.lanes))]
        for number, lane in enumerate(self.lanes):
            lane.load(luggage, number)

    def run(self) -> Moved:
        import ray

        self._man_lanes()
        total = len(self.move.splits)
        while len(self.moved.receipts) < total:
            if self.stop.is_set():
                raise Stopped("stopped")
            if self.lanes[0].waits:
                self._take_a_left_one()
            self._give()
            calls = [call for lane in self.lanes for call in lane.pending()]
            if calls:
                done, _ = ray.wait(calls, num_returns=1, timeout=_LOOK_EVERY_S)
            else:
                done = []
                self.stop.wait(_LOOK_EVERY_S / 2)
            for call in done:
                self._settle(call)
            self._look()
        for lane in self.lanes:
            if lane.up:
                stats = lane.final_stats()
                self.moved.wait_home_s += stats.wait_home_s
                self.moved.wait_store_s += stats.wait_store_s
        return self.moved

    def _take_a_left_one(self) -> None:
        """The first lane still waits for its CPU: one that another flow has left comes before."""
        from hygge.engine.lanes import a_left_lane

        left, waiting = a_left_lane(), self.lanes[0]
        if left is not None:
            left.load(waiting.luggage, waiting.number)
            self.lanes[0] = left
            waiting.down()

    def down(self, keep: bool) -> None:
        from hygge.engine.lanes import leave

        for lane in self.lanes:
            if keep:
                leave(lane)
            else:
                lane.down()
        with _lock:
            _reserved[0] -= self.reserved

    def _give(self) -> None:
        now = time.monotonic()
        # Idle lanes come before lanes that would read ahead.
        for lane in sorted(self.lanes, key=lambda each: len(each.works)):
            if not self.todo or not lane.has_room():
                continue
            ready = next((each for each in self.todo if each.not_before <= now), None)
            if ready is None:
                return
            self.todo.remove(ready)
            n = self.tickets.get(ready.split.index, -1) + 1
            self.tickets[ready.split.index] = n
            ticket = Ticket(self.move.run.id, ready.split.index, self.move.epoch, n)
            lane.take(ready.split, ticket)

    def _settle(self, call: Any) -> None:
        import ray

        lane = next((each for each in self.lanes if call in each.pending()), None)
        if lane is None:
            return  # of a lane that was put down meanwhile
        try:
            value = ray.get(call)
        except Exception as error:
            self._failed(lane, call, error)
            return
        self.progressed = time.monotonic()
        if call in lane.readiness:
            if lane.stands(call):
                self.failures.pop(_of_lane(lane), None)  # what counts is how often in a row
            return
        work = next(each for each in lane.works if call in (each.read, each.stage))
        if call == work.read:
            work.was_read = True
            self.rows_read[work.ticket] = value
            return
        lane.works.remove(work)
        self.moved.receipts.append(value)
        if not work.was_read:  # both ended at once; the Store has seen the Home's last word
            with contextlib.suppress(ray.exceptions.RayError):
                self.rows_read[work.ticket] = ray.get(work.read)
        self.moved.rows_read += self.rows_read.pop(work.ticket, value.rows + value.set_aside)
        self.move.sealed(value)

    def _failed(self, lane: Any, call: Any, error: BaseException) -> None:
        """Put the lane down and its splits back, or raise what a retry cannot mend."""
        from hygge.engine.lanes import Lane

        cause = cause_of(error)
        if is_ray(error):
            other = lane.partners_error(call)
            if other is not None and not is_ray(other):
                error, cause = other, cause_of(other)
        if not may_be_mended(error, cause):
            if cause is not error:
                raise cause from error  # the worker's traceback stands in Ray's wrapping
            raise cause
        work = next((each for each in lane.works if call in (each.read, each.stage)), None)
        guilty = _of_lane(lane) if work is None else work.split.index
        what = f"lane {lane.number}" if work is None else f"split {guilty}"
        who = "" if work is None else "home" if call == work.read else "store"
        count = self.failures[guilty] = self.failures.get(guilty, 0) + 1
        said, tries = said_of(error, cause, who), self.move.limits.retries + 1
        if count == tries:
            raise Transient(
                f"{what} failed {count} times; the last time: {said}",
                cause.hint if isinstance(cause, HyggeError) else hint_of(cause),
            ) from cause
        self.moved.retries += 1
        self.watch.said(
            self.move.flow, f"{what} is tried again ({count + 1} of {tries} tries): {said}"
        )
        wait = time.monotonic() + backoff_s(count - 1)
        for work in reversed(lane.works):
            later = wait if work.split.index == guilty else 0.0
            self.todo.appendleft(_Try(work.split, not_before=later))
        self.before = Seen(
            self.before.rows + lane.last.rows_out, self.before.bytes + lane.last.bytes_out
        )
        self.moved.wait_home_s += lane.last.wait_home_s
        self.moved.wait_store_s += lane.last.wait_store_s
        lane.down(keep_bundle=True)
        fresh = Lane(lane.bundle)
        fresh.load(lane.luggage, lane.number)
        self.lanes[self.lanes.index(lane)] = fresh

    def _look(self) -> None:
        """Progress from the Inboxes' counters, a few times a second; and the stall guard."""
        now = time.monotonic()
        if now - self.looked < _LOOK_EVERY_S:
            return
        self.looked = now
        stats = [lane.stats() for lane in self.lanes if lane.up]
        rows = self.before.rows + sum(each.rows_out for each in stats)
        size = self.before.bytes + sum(each.bytes_out for each in stats)
        if (rows, len(self.moved.receipts)) != self.sum:
            self.sum = (rows, len(self.moved.receipts))
            self.progressed = self.said_stall = now
        up = sum(lane.up for lane in self.lanes)
        waits = self._waits_for() if now - self.progressed > 5 else ""
        self.watch.moved(
            self.move.flow,
            Seen(rows, size, len(self.moved.receipts), len(self.move.splits), up, waits),
        )
        still = now - self.progressed
        # Lanes that are not up yet may wait for a busy cluster as long as it takes.
        if up and still > self.move.limits.stall_timeout_s:
            raise HyggeError(
                f"nothing moved for {still:.0f} s: waiting for {self._waits_for()}",
                "look at what it does there; `stall_timeout` says how long hygge waits",
            )
        if now - self.said_stall > _SAY_STALL_AFTER_S:
            self.said_stall = now
            self.watch.said(
                self.move.flow,
                f"nothing moved for {still:.0f} s: waiting for {self._waits_for()}",
            )

    def _waits_for(self) -> str:
        # A lane without a split waits for nobody.
        ends = {lane.last.waiting for lane in self.lanes if lane.up and lane.works}
        if not ends and any(lane.up for lane in self.lanes):
            return "the moment to try again"
        if not ends:
            count = len(self.lanes)
            return f"{count} CPU{'s'[: count != 1]} for {count} lane{'s'[: count != 1]}"
        if "home" in ends or "" in ends:
            return f"the store {self.move.store.describe()}"
        return f"the home {self.move.home.describe()}"


def how_many_lanes(move: Move, reserved: int = 0) -> int:
    """As many as there are splits, CPUs, and as the connectors and the object store allow.

    `reserved`: bytes that the lanes of other flows of this process may charge. One lane is given in
    any case: flows that wait for each other's memory would be slower than Ray's own spilling.
    """
    import ray

    limits = move.limits
    resources = ray.cluster_resources()
    room = int(resources.get("object_store_memory", 0) * 0.6)
    if room and limits.memory_per_lane > room:
        raise ConfigError(
            f"memory_per_lane is {limits.memory_per_lane // MIB} MiB, but 60 % of Ray's object "
            f"store is {room // MIB} MiB",
            "lower memory_per_lane, or give Ray a larger object store",
        )
    most = [*_wanted_lanes(limits), len(move.splits)]
    most += [each for each in (move.home.traits.max_lanes, move.store.traits.max_lanes) if each]
    if room:
        most.append((room - reserved) // limits.memory_per_lane)
    if limits.batch_bytes > limits.memory_per_lane:
        raise ConfigError(
            f"batch_bytes ({limits.batch_bytes // MIB} MiB) is more than memory_per_lane "
            f"({limits.memory_per_lane // MIB} MiB)",
            "lower batch_bytes or raise memory_per_lane",
        )
    return max(1, min(most))


def _wanted_lanes(limits: Limits) -> list[int]:
    """Bounds that are known before the splits are."""
    import ray

    cpus = max(1, int(ray.cluster_resources().get("CPU", 1)))
    # A lane keeps two processes busy, its Home and its Store.
    most = [limits.lanes or max(1, cpus // 2)]
    return most if limits.most_lanes is None else [*most, max(1, limits.most_lanes)]


def _of_lane(lane: Any) -> int:
    """Where failures that are of no split are counted."""
    return -1 - int(lane.number)
