"""A lane: Home actor + Inbox + Store actor on one node, working on the same split.

It is a placement group of one bundle, so the three share a node and its shared memory. Its actors
are reused from split to split; the Home may read one split ahead under the same credits. After any
failure the whole lane is put down and a new one takes its bundle: a new Inbox is the only way to be
sure that no zombie put or stolen item survives. Its actors carry the name of the flow that it was
made for, which Ray's dashboard shows: `orders/lane 2: home`.
"""

from __future__ import annotations

import contextlib
import sys
import threading
import time
import uuid
import weakref
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import ray
from ray.util.placement_group import remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from hygge.engine.ray.actors import HomeActor, StoreActor, packed
from hygge.engine.ray.inbox import Inbox, InboxStats
from hygge.engine.ray.placement import Spread, bundle, has_room, parts
from hygge.errors import ConfigError
from hygge.model import Limits, Split, Ticket
from hygge.run.engines import Move
from hygge.run.watch import Seen

_KEPT_S, _LONGEST_KEPT_S = 2.0, 30.0
_LOOK_S = 0.2
_LAST_S = 2.0
_free = threading.Condition()
_goes = threading.Lock()
"""Held while an idle lane is put down: a Ray that ends meanwhile would end this process.

So it would if another thread let go of a result of it, which is why an idle lane has none, and a
timer does not keep a lane alive.
"""
_idle: list[Lane] = []
_alive: set[Lane] = set()
"""Those that have a bundle, or wait for one."""
_queue: list[object] = []
"""Who waits for a lane, in the order that they came."""


def _new_namespace() -> str:
    return f"hygge-{uuid.uuid4().hex}"


_namespace = _new_namespace()
_named: Counter[str] = Counter()
"""How often a name was given: a lane that takes another's place is a second of its name."""


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


def first_lane(flow: str, limits: Limits) -> Lane | None:
    """A new one for a flow that is only planned yet, if there is a CPU that no lane has."""
    with _free:
        return None if _idle or _queue or not _is_room(limits) else _new(flow, limits)[0]


def some_lanes(flow: str, limits: Limits, numbers: range) -> list[Lane]:
    """Those that a flow of this process has just left, then new ones, which may have to wait."""
    with _free:
        found: list[Lane] = []
        while len(found) < len(numbers) and not _queue and (lane := _left(limits)) is not None:
            found.append(lane)
        return [*found, *_new(flow, limits, numbers[len(found) :])]


def a_lane_in_turn(
    flow: str, limits: Limits, stop: threading.Event, patience_s: float
) -> Lane | None:
    """As `a_lane`, but where the lanes of this process have every CPU, one that is left.

    Of many flows each has its turn. After `patience_s` it is a new one, which waits for its CPU and
    so tells a cluster to grow. None where it was asked to stop meanwhile.
    """
    me, until = object(), time.monotonic() + patience_s
    with _free:
        _queue.append(me)
        try:
            while not stop.is_set():
                if _queue[0] is me:
                    if (left := _left(limits)) is not None:
                        return left
                    if _is_room(limits):
                        return _new(flow, limits)[0]
                    if _idle:  # made for flows that want something else of their nodes
                        _idle.pop(0).down()
                        continue
                if time.monotonic() > until:
                    (lane,) = _new(flow, limits)
                    lane.waits = True
                    return lane
                _free.wait(_LOOK_S)
            return None
        finally:
            _queue.remove(me)
            _free.notify_all()


def a_left_lane(limits: Limits) -> Lane | None:
    """One that a flow has just left, for a flow whose own still waits for its CPU."""
    with _free:
        return None if _queue else _left(limits)


def _left(limits: Limits) -> Lane | None:
    """An idle lane that stands where one with these limits may."""
    wish = (bundle(limits), limits.label_selector)
    for lane in reversed(_idle):
        if (bundle(lane.limits), lane.limits.label_selector) == wish:
            _idle.remove(lane)
            return lane
    return None


def _is_room(limits: Limits) -> bool:
    return has_room(limits, [lane.limits for lane in _alive])


def _new(flow: str, limits: Limits, numbers: range = range(1)) -> list[Lane]:
    if not numbers:
        return []
    spread = Spread(limits, [(lane.node, lane.limits) for lane in _alive])
    made = []
    for number in numbers:
        label = f"{flow}/lane {number}"
        made.append(Lane(Place(*spread.next(label), limits, label)))
    return made


def leave(lane: Lane) -> None:
    """Keep a lane that did its work for the flow that follows, for a moment: then it goes down.

    A file of many small tables does not pay for three processes a table. The moment is short
    because an idle lane holds its CPU, and its processes the modules that they have imported; it is
    as long as a new lane takes to stand, where that is longer.
    """
    if not lane.up or lane.works:
        lane.down()
        return
    lane.forget_calls()
    with _free:
        lane.left = time.monotonic()
        _idle.append(lane)
        _free.notify_all()
    _look_later(lane)


def ask_all(lanes: list[Lane]) -> None:
    """Have the counters of lanes once more, waiting for them a moment."""
    asked = {lane.inbox.actor.stats.remote(): lane for lane in lanes}
    done, _ = ray.wait(list(asked), num_returns=len(asked), timeout=_LAST_S) if asked else ([], [])
    for call in done:
        with contextlib.suppress(ray.exceptions.RayError):
            asked[call].last = ray.get(call)


def forget_idle() -> None:
    """The Ray that they are of ends, or has ended; another one may be the same cluster."""
    global _namespace
    with _goes, _free:
        _namespace = _new_namespace()
        _idle.clear()
        _alive.clear()
        _named.clear()


def _look_later(lane: Lane) -> None:
    if not lane.is_watched:
        lane.is_watched = True
        timer = threading.Timer(lane.kept_s, _look_at, [weakref.ref(lane)])
        timer.daemon = True
        timer.start()


def _look_at(lane: weakref.ref[Lane]) -> None:
    with _goes:
        _down_if_idle(lane())  # by no name here: it must be gone before another may have `_goes`


def _down_if_idle(lane: Lane | None) -> None:
    if lane is None:
        return
    with _free:
        lane.is_watched = False
        if lane not in _idle:
            return
        if time.monotonic() - lane.left < lane.kept_s:  # it was taken meanwhile, and left again
            _look_later(lane)
            return
        _idle.remove(lane)
    lane.down()


@dataclass(frozen=True)
class Place:
    """A placement group of one bundle; `node` is where it was asked for, "" if anywhere."""

    group: Any
    node: str
    limits: Limits
    label: str


class Lane:
    """Three actors in one bundle. `works` is ordered: the Store takes them in this order."""

    luggage: Luggage

    def __init__(self, place: Place) -> None:
        self.place, self.limits = place, place.limits
        self.works: list[Work] = []
        self.up = False
        self.number = 0
        self.made, self.kept_s = time.monotonic(), _KEPT_S
        self.left, self.is_watched = 0.0, False
        self.waits = False
        self.last, self.sealed, self.was_asked = InboxStats(), Seen(), False
        here = PlacementGroupSchedulingStrategy(
            placement_group=place.group, placement_group_bundle_index=0
        )
        _named[place.label] += 1
        again = f" ({_named[place.label]})" if _named[place.label] > 1 else ""
        label = f"{place.label}{again}"

        end, inbox = parts(bundle(place.limits)["CPU"])

        def options(end: str, cpus: float) -> dict[str, Any]:
            named = {"name": f"{label}: {end}", "namespace": _namespace}
            return {"num_cpus": cpus, "scheduling_strategy": here, **named}

        self.inbox = Inbox(label, {**options("inbox", inbox), "max_concurrency": 16})
        once: dict[str, Any] = {"max_restarts": 0, "max_task_retries": 0}
        home, store = options("home", end), options("store", end)
        self.home = ray.remote(HomeActor).options(**once, **home).remote(self.inbox, label)
        self.store = ray.remote(StoreActor).options(**once, **store).remote(self.inbox, label)
        self.node, self._where = place.node, self.home.node.remote()
        starts = [self._where, self.store.node.remote(), self.inbox.actor.stats.remote()]
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
        self.sealed, self.was_asked = Seen(), False
        limits = luggage.move.limits
        is_paced = limits.max_bytes_per_second is not None
        self.share = 0.0
        limit = self.inbox.actor.bound.remote(limits.memory_per_lane, is_paced)
        home = self.home.load.remote(luggage.home, luggage.paths)
        store = self.store.load.remote(luggage.store, luggage.paths)
        self.readiness = [limit, home, store]
        if self._where is not None:
            self.readiness.append(self._where)

    def take(self, split: Split, ticket: Ticket) -> None:
        """Begin a try at a split (behind the one that is being staged, if there is one)."""
        move = self.luggage.move
        name = f"{move.flow} split {split.index}"
        read = self.home.read.options(name=f"read {name}").remote(
            ticket, split, move.schema, move.limits
        )
        stage = self.store.stage.options(name=f"stage {name}").remote(ticket, move.schema)
        self.works.append(Work(split, ticket, read, stage))

    def pace(self, share: float) -> None:
        """Let its Home give so many bytes a second from now on."""
        if share != self.share:
            self.share = share
            self.inbox.actor.pace.remote(share)

    def stands(self, call: Any, value: Any) -> bool:
        """Whether it is ready for work, now that this call of its readiness has come back."""
        if call == self._where:
            self.node, self._where = value, None
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

    def look(self) -> None:
        """Ask the Inbox for its counters; `last` has them in a moment."""
        if self._stats is None:
            asked = self._stats = self.inbox.actor.stats.remote()
            asked.future().add_done_callback(lambda answer: self._saw(asked, answer))

    def _saw(self, asked: Any, answer: Any) -> None:
        if self._stats is asked:  # and not of the flow before
            self._stats = None
            if answer.exception() is None:
                self.last, self.was_asked = answer.result(), True

    def forget_calls(self) -> None:
        """Keep no result of Ray's: all calls of a lane that is left have come back."""
        self.readiness, self._where, self._stats = [], None, None

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
        if not ray.is_initialized():  # it went with its Ray; to kill it would start another Ray
            return
        for actor in (self.home, self.store, self.inbox.actor):
            with contextlib.suppress(Exception):
                ray.kill(actor, no_restart=True)
        if not keep_bundle:
            with contextlib.suppress(Exception):
                remove_placement_group(self.place.group)
