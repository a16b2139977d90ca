"""The default engine: lanes of actors on Ray, supervised by one loop.

The loop waits for whichever call ends first, in a thread of its own kind: no event loop, no signal
handler, so it works the same under the CLI, in a script and inside Jupyter. It gives splits to
lanes that have room, collects receipts and puts failed splits back with a new ticket; what a split
costs it is the same whether there are a hundred or a hundred thousand, in two lanes or a thousand.
What is seen meanwhile is told in `watching.py`. It must agree with `inline`, also when a process
dies.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import hygge.engine.ray.connection as connection
from hygge.engine.ray.failures import cause_of, hint_of, is_ray, may_be_mended, said_of
from hygge.errors import HyggeError, Stopped, Transient
from hygge.home import Home
from hygge.model import Limits, Split, Ticket
from hygge.run.engines import Move, Moved, Waits, backoff_s
from hygge.run.watch import Seen, Watch
from hygge.settings import import_all
from hygge.store import Store

_WAKE_EVERY_S = 0.25
_FIRST_LANE_S = 5.0
_PATIENCE_S = 5.0
_LOOK_S = 0.5
_AT_ONCE = 32
"""Lanes that are made before it is looked whether to stop, or others want one."""
_lock = threading.Lock()
_reserved = [0]
"""Bytes that the running lanes of this process may charge together."""
_GROW_EVERY_S = 5.0


def engine() -> RayEngine:
    """The engine that is used unless another is named."""
    return RayEngine()


class RayEngine:
    """Moves splits over lanes; comes to a Ray by itself."""

    name = "ray"

    def __init__(self) -> None:
        self.first: Any = None

    def get_ready(
        self, home: Home, store: Store, limits: Limits, waits: Waits, stop: threading.Event
    ) -> None:
        """Attach to a running Ray, or start a private one (seconds, once a process).

        The processes of the first lane, which every flow needs, are started as well, unless the
        flows of this process have lanes for every CPU: then it waits for one when it moves. On a
        cluster without nodes `lanes: auto` waits for the first, to plan for what there is.
        """
        needs = home.needs(), store.needs()
        # While Ray starts, which is to wait for it.
        importing = threading.Thread(target=import_all, args=(needs[0] + needs[1],), daemon=True)
        importing.start()
        grows = connection.connect().outlives
        from hygge.engine.ray.lanes import first_lane
        from hygge.engine.ray.placement import nodes, nowhere, wanted_lanes

        wanted_lanes(limits, grows)
        self.first = first_lane(limits.of or home.flow or "flow", limits)
        if self.first is not None:
            self.first.warm(*needs)
            if nodes(limits):
                self.first.wait(_FIRST_LANE_S)
        if limits.lanes is None and not nodes(limits):
            waits(nowhere(limits))
            while not stop.wait(_LOOK_S) and not nodes(limits):
                pass
        importing.join()

    def lanes(self, limits: Limits) -> int:
        """See `hygge.run.engines.Engine`."""
        grows = connection.connect().outlives
        from hygge.engine.ray.placement import wanted_lanes

        return min(wanted_lanes(limits, grows))

    def reaches(
        self,
        read: Mapping[str, str],
        written: Mapping[str, str],
        shared: Sequence[str],
        limits: Limits,
    ) -> str:
        """See `hygge.run.engines.Engine`."""
        from hygge.engine.ray import nodes

        return nodes.check(read, written, shared, limits)

    def release(self) -> None:
        """Put down the first lane where no move took it."""
        if self.first is not None:
            self.first.down()
            self.first = None

    def committed(self, home: Home, store: Store, seconds: float) -> None:
        """See `hygge.run.engines.Engine`."""
        import ray

        from hygge.engine.ray.metrics import Meter

        if ray.is_initialized():  # none is started only to count
            Meter("", home, store).committed(seconds)

    def move(self, move: Move, watch: Watch, stop: threading.Event) -> Moved:
        """See `hygge.run.engines.Engine`."""
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
        from hygge.engine.ray.watching import Watching

        self.move, self.watch, self.stop = move, watch, stop
        self.todo = deque(_Try(split) for split in move.splits)
        self.failures: dict[int, int] = {}
        self.tickets: dict[int, int] = {}
        self.moved = Moved()
        self.rows_read: dict[Ticket, int] = {}
        self.reserved = 0
        self.lanes = [first] if first is not None else []
        self.made = 0  # lanes so far: each has a number of its own
        self.calls: dict[Any, Any] = {}  # those that have not come back → their lanes
        self.came: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.roomy: dict[Any, None] = {}  # lanes that may be given a split
        self.grown = time.monotonic()
        self.seen = Watching(move, watch)

    def _man_lanes(self) -> None:
        from hygge.engine.ray.lanes import a_lane_in_turn, pack

        self.luggage = pack(self.move)
        limits = self.move.limits
        self.name = limits.of or self.move.home.flow or self.move.flow
        self.grows = connection.connect().outlives  # a private Ray gets no further CPUs
        if not self.lanes:
            waits = Seen(splits=len(self.move.splits), waits_for="a lane that another flow leaves")
            self.watch.moved(self.move.flow, waits)
            patience = _PATIENCE_S if self.grows else float("inf")
            lane = a_lane_in_turn(self.name, limits, self.stop, patience)
            if lane is None:
                raise Stopped("stopped")
            self.lanes = [lane]
        self._load(self.lanes)
        self._add_lanes()

    def _load(self, lanes: Iterable[Any], number: int | None = None) -> None:
        for lane in lanes:
            lane.load(self.luggage, self.made if number is None else number)
            self.made += number is None
            self._hear(lane, lane.readiness)

    def _add_lanes(self) -> None:
        """As many as there may be now: at the beginning, where nodes joined or flows ended."""
        from hygge.engine.ray.lanes import some_lanes
        from hygge.engine.ray.placement import how_many_lanes

        of_use = len(self.todo) + sum(bool(lane.works) for lane in self.lanes)
        with _lock:
            others = _reserved[0] - self.reserved
            count = min(of_use, how_many_lanes(self.move, others, self.grows))
            count = max(len(self.lanes), count)
            self.moved.lanes = max(self.moved.lanes, count)
            self._reserve(count)
        while len(self.lanes) < count and not self.stop.is_set():
            slice_ = range(self.made, self.made + min(_AT_ONCE, count - len(self.lanes)))
            more = some_lanes(self.name, self.move.limits, slice_)
            self.lanes += more
            self._load(more)

    def _reserve(self, lanes: int) -> None:
        before, self.reserved = self.reserved, lanes * self.move.limits.memory_per_lane
        _reserved[0] += self.reserved - before

    def _hear(self, lane: Any, calls: Iterable[Any]) -> None:
        """Be told when they come back, which costs the same however many there are."""
        for call in calls:
            self.calls[call] = lane
            call.future().add_done_callback(partial(self._back, call))

    def _back(self, call: Any, answer: Any) -> None:
        self.came.put((call, answer))

    def _forget(self, lane: Any) -> None:
        self.roomy.pop(lane, None)
        for call in [*lane.readiness, *lane.pending()]:
            self.calls.pop(call, None)

    def run(self) -> Moved:
        """Blocking, until each split has its receipt."""
        self._man_lanes()
        total = len(self.move.splits)
        while len(self.moved.receipts) < total:
            if self.stop.is_set():
                raise Stopped("stopped")
            if self.lanes[0].waits:
                self._take_a_left_one()
            self._give()
            with contextlib.suppress(queue.Empty):
                self._settle(*self.came.get(timeout=_WAKE_EVERY_S))
            self.seen.look(self.lanes, len(self.moved.receipts), bool(self.todo))
            self._grow()
        self.seen.end(self.lanes, self.moved)
        return self.moved

    def _grow(self) -> None:
        """More lanes where there is room for them now; none that stand too late."""
        now = time.monotonic()
        if now - self.grown < _GROW_EVERY_S:
            return
        self.grown = now
        if self.todo:
            self._add_lanes()
            return
        for lane in [each for each in self.lanes if not each.up and not each.works]:
            self.lanes.remove(lane)
            self._forget(lane)
            lane.down()
        with _lock:
            self._reserve(len(self.lanes))

    def _take_a_left_one(self) -> None:
        """The first lane still waits for its CPU: one that another flow has left comes before."""
        from hygge.engine.ray.lanes import a_left_lane

        left, waiting = a_left_lane(self.move.limits), self.lanes[0]
        if left is not None:
            self.lanes[0] = left
            self._forget(waiting)
            self._load([left], waiting.number)
            waiting.down()

    def down(self, keep: bool) -> None:
        from hygge.engine.ray.lanes import leave

        for lane in self.lanes:
            if keep:
                leave(lane)
            else:
                lane.down()
        with _lock:
            self._reserve(0)
        self.seen.close()

    def _give(self) -> None:
        now = time.monotonic()
        while self.todo and self.roomy:
            ready = next((each for each in self.todo if each.not_before <= now), None)
            if ready is None:
                return
            self.todo.remove(ready)
            # Idle lanes come before lanes that would read ahead.
            lane = next((each for each in self.roomy if not each.works), None)
            lane = lane or next(iter(self.roomy))
            del self.roomy[lane]
            n = self.tickets.get(ready.split.index, -1) + 1
            self.tickets[ready.split.index] = n
            ticket = Ticket(self.move.run.id, ready.split.index, self.move.epoch, n)
            lane.take(ready.split, ticket)
            self._hear(lane, (lane.works[-1].read, lane.works[-1].stage))

    def _settle(self, call: Any, answer: Any) -> None:
        import ray

        lane = self.calls.pop(call, None)
        if lane is None:
            return  # of a lane that was put down meanwhile
        try:
            value = answer.result()
        except Exception as error:
            self._failed(lane, call, error)
            return
        self.seen.progressed = time.monotonic()
        if call in lane.readiness:
            if lane.stands(call, value):
                self.failures.pop(_of_lane(lane), None)  # what counts is how often in a row
                self.roomy[lane] = None
            return
        work = next(each for each in lane.works if call in (each.read, each.stage))
        if call == work.read:
            work.was_read = True
            self.rows_read[work.ticket] = value
            if lane.has_room():
                self.roomy[lane] = None
            return
        lane.works.remove(work)
        if lane.has_room():
            self.roomy[lane] = None
        self.moved.receipts.append(value)
        if not work.was_read:  # both ended at once; the Store has seen the Home's last word
            self.calls.pop(work.read, None)
            with contextlib.suppress(ray.exceptions.RayError):
                self.rows_read[work.ticket] = ray.get(work.read)
        self.moved.rows_read += self.rows_read.pop(work.ticket, value.rows + value.set_aside)
        self.move.sealed(value)
        self.seen.sealed(lane, value)

    def _failed(self, lane: Any, call: Any, error: BaseException) -> None:
        """Put the lane down and its splits back, or raise what a retry cannot mend."""
        from hygge.engine.ray.lanes import Lane

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
        self.seen.again(f"{what} is tried again ({count + 1} of {tries} tries): {said}")
        wait = time.monotonic() + backoff_s(count - 1)
        for work in reversed(lane.works):
            later = wait if work.split.index == guilty else 0.0
            self.todo.appendleft(_Try(work.split, not_before=later))
        self.seen.put_down(lane)
        self._forget(lane)
        lane.down(keep_bundle=True)
        fresh = Lane(lane.place)
        self.lanes[self.lanes.index(lane)] = fresh
        self._load([fresh], lane.number)


def _of_lane(lane: Any) -> int:
    """Where failures that are of no split are counted."""
    return -1 - int(lane.number)
