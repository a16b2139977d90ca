"""A lane: Home actor + Inbox + Store actor on one node, working on the same split.

It is a placement group of one bundle, so the three share a node and its shared memory. Its actors
are reused from split to split; the Home may read one split ahead under the same credits. After any
failure the whole lane is put down and a new one takes its bundle: a new Inbox is the only way to be
sure that no zombie put or stolen item survives.
"""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from dataclasses import dataclass, field
from typing import Any

import ray
from ray.util.placement_group import placement_group, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from hygge.engine.actors import HomeActor, StoreActor, packed
from hygge.engine.inbox import Inbox, InboxStats
from hygge.errors import ConfigError
from hygge.model import Split, Ticket
from hygge.moving import Move

CPUS_PER_LANE = 1.0
_KEPT_S, _LONGEST_KEPT_S = 2.0, 30.0
_LOOK_S = 0.2
_free = threading.Condition()
_idle: list[Lane] = []
_alive: set[Lane] = set()
"""Those that have a bundle, or wait for one."""
_queue: list[object] = []
"""Who waits for a lane, in the order that they came."""


@dataclass
class Work:
    """One try at one split in a lane: a call to the Home and a call to the Store."""

    split: Split
    ticket: Ticket
    read: Any
    stage: Any
    was_read: bool = False


@dataclass(frozen=True)
class Luggage:
    """What every lane of a move needs; packed once."""

    move: Move
    home: bytes = field(repr=False)
    store: bytes = field(repr=False)
    paths: list[str] = field(default_factory=lambda: [p for p in sys.path if p])


def pack(move: Move) -> Luggage:
    """The connectors of a move as bytes. Raises ConfigError for what cannot travel."""
    blobs = []
    for end in (move.home, move.store):
        try:
            blobs.append(packed(end))
        except Exception as error:
            raise ConfigError(
                f"{type(end).__name__} cannot travel to another process: {error}",
                "open connections, files and locks inside read_batches or write, not in __init__",
            ) from error
    return Luggage(move, blobs[0], blobs[1])


def first_lane() -> Lane | None:
    """A new one for a flow that is only planned yet, if there is a CPU that no lane has."""
    with _free:
        return None if _idle or _queue or _are_all_taken() else Lane()


def a_lane() -> Lane:
    """One that a flow of this process has just left, or a new one, which may wait for its CPU."""
    with _free:
        return _idle.pop() if _idle and not _queue else Lane()


def a_lane_in_turn(stop: threading.Event, patience_s: float) -> Lane | None:
    """As `a_lane`, but where the lanes of this process have every CPU, one that is left.

    Of many flows each has its turn. After `patience_s` it is a new one, which waits for its CPU and
    so tells a cluster to grow. None where it was asked to stop meanwhile.
    """
    me, until = object(), time.monotonic() + patience_s
    with _free:
        _queue.append(me)
        try:
            while _queue[0] is not me or not (_idle or not _are_all_taken()):
                if stop.is_set():
                    return None
                if time.monotonic() > until:
                    lane = Lane()
                    lane.waits = True
                    return lane
                _free.wait(_LOOK_S)
            return _idle.pop() if _idle else Lane()
        finally:
            _queue.remove(me)
            _free.notify_all()


def a_left_lane() -> Lane | None:
    """One that a flow has just left, for a flow whose own still waits for its CPU."""
    with _free:
        return _idle.pop() if _idle and not _queue else None


def _are_all_taken() -> bool:
    cpus = ray.cluster_resources().get("CPU", 1.0)
    return bool(_alive) and (len(_alive) + 1) * CPUS_PER_LANE > cpus


def leave(lane: Lane) -> None:
    """Keep a lane that did its work for the flow that follows, for a moment: then it goes down.

    A file of many small tables does not pay for three processes a table. The moment is short
    because an idle lane holds its CPU, and its processes the modules that they have imported; it is
    as long as a new lane takes to stand, where that is longer.
    """
    if not lane.up or lane.works:
        lane.down()
        return
    with _free:
        lane.left = time.monotonic()
        _idle.append(lane)
        _free.notify_all()
    _look_later(lane)


def forget_idle() -> None:
    """The Ray that they are of has ended."""
    with _free:
        _idle.clear()
        _alive.clear()


def _look_later(lane: Lane) -> None:
    if not lane.is_watched:
        lane.is_watched = True
        timer = threading.Timer(lane.kept_s, _down_if_idle, [lane])
        timer.daemon = True
        timer.start()


def _down_if_idle(lane: Lane) -> None:
    with _free:
        lane.is_watched = False
        if lane not in _idle:
            return
        if time.monotonic() - lane.left < lane.kept_s:  # it was taken meanwhile, and left again
            _look_later(lane)
            return
        _idle.remove(lane)
    lane.down()


class Lane:
    """Three actors in one bundle. `works` is ordered: the Store takes them in this order."""

    luggage: Luggage

    def __init__(self, bundle: Any = None) -> None:
        self.bundle = bundle or placement_group([{"CPU": CPUS_PER_LANE}])
        self.works: list[Work] = []
        self.up = False
        self.number = 0
        self.made, self.kept_s = time.monotonic(), _KEPT_S
        self.left, self.is_watched = 0.0, False
        self.waits = False
        self.last: InboxStats = InboxStats()
        here = PlacementGroupSchedulingStrategy(
            placement_group=self.bundle, placement_group_bundle_index=0
        )
        # The Inbox only passes references on: it takes what the two others leave of the CPU.
        half = {"num_cpus": CPUS_PER_LANE * 0.45, "scheduling_strategy": here}
        rest = {"num_cpus": CPUS_PER_LANE * 0.1, "scheduling_strategy": here}
        self.inbox = Inbox({**rest, "max_concurrency": 16})
        once: dict[str, Any] = {"max_restarts": 0, "max_task_retries": 0, **half}
        self.home = ray.remote(HomeActor).options(**once).remote(self.inbox)
        self.store = ray.remote(StoreActor).options(**once).remote(self.inbox)
        starts = [self.home.pid.remote(), self.store.pid.remote(), self.inbox.actor.stats.remote()]
        self.readiness: list[Any] = starts
        self._stats: Any = None
        with _free:
            _alive.add(self)

    def warm(self, home: tuple[str, ...], store: tuple[str, ...]) -> None:
        """Have the two ends import what they will need."""
        self.readiness += [self.home.warm.remote(home), self.store.warm.remote(store)]

    def wait(self, timeout_s: float) -> None:
        """Give the processes a moment to stand; a busy cluster may take longer, and may."""
        ray.wait(self.readiness, num_returns=len(self.readiness), timeout=timeout_s)

    def load(self, luggage: Luggage, number: int) -> None:
        """Bring the connectors in; no split is given before both are unpacked."""
        self.luggage, self.number = luggage, number
        self.up, self.last, self._stats = False, InboxStats(), None
        label = f"{luggage.move.flow}/{number}"
        limit = self.inbox.actor.bound.remote(luggage.move.limits.memory_per_lane)
        home = self.home.load.remote(label, luggage.home, luggage.paths)
        store = self.store.load.remote(label, luggage.store, luggage.paths)
        self.readiness = [limit, home, store]

    def take(self, split: Split, ticket: Ticket) -> None:
        """Begin a try at a split (behind the one that is being staged, if there is one)."""
        move = self.luggage.move
        name = f"{move.flow} split {split.index}"
        read = self.home.read.options(name=f"read {name}").remote(
            ticket, split, move.schema, move.limits
        )
        stage = self.store.stage.options(name=f"stage {name}").remote(ticket, move.schema)
        self.works.append(Work(split, ticket, read, stage))

    def stands(self, call: Any) -> bool:
        """Whether it is ready for work, now that this call of its readiness has come back."""
        self.readiness = [each for each in self.readiness if each != call]
        self.waits, self.up = False, not self.readiness
        if self.up and self.made:
            took = time.monotonic() - self.made
            self.made, self.kept_s = 0.0, max(_KEPT_S, min(took, _LONGEST_KEPT_S))
        return self.up

    def has_room(self) -> bool:
        """Whether a split may be given: idle, or one split ahead when the Home is done reading."""
        return self.up and (not self.works or (len(self.works) == 1 and self.works[0].was_read))

    def pending(self) -> list[Any]:
        """The calls that the supervisor waits for."""
        calls = [] if self.up else list(self.readiness)
        for work in self.works:
            calls += [work.stage] if work.was_read else [work.read, work.stage]
        return calls

    def stats(self) -> InboxStats:
        """The newest counters of the Inbox; asks again without waiting."""
        if self._stats is None:
            self._stats = self.inbox.actor.stats.remote()
        done, _ = ray.wait([self._stats], timeout=0)
        if done:
            with contextlib.suppress(ray.exceptions.RayError):
                self.last = ray.get(self._stats)
            self._stats = None
        return self.last

    def final_stats(self) -> InboxStats:
        """The counters once more, waiting for them a moment."""
        with contextlib.suppress(ray.exceptions.RayError):
            self.last = ray.get(self.inbox.actor.stats.remote(), timeout=2)
        return self.last

    def partners_error(self, failed: Any, grace_s: float = 0.3) -> BaseException | None:
        """Why the other side failed, if it says so within a short grace."""
        others = [call for call in self.pending() if call != failed]
        done, _ = ray.wait(others, num_returns=1, timeout=grace_s) if others else ([], [])
        for call in done:
            try:
                ray.get(call)
            except Exception as error:
                return error
        return None

    def down(self, keep_bundle: bool = False) -> None:
        """Kill the three actors, and give the bundle back unless a new lane takes it."""
        with _free:
            _alive.discard(self)
            _free.notify_all()
        for actor in (self.home, self.store, self.inbox.actor):
            with contextlib.suppress(Exception):
                ray.kill(actor, no_restart=True)
        if not keep_bundle:
            with contextlib.suppress(Exception):
                remove_placement_group(self.bundle)
