"""The lanes of this process: created, handed from flow to flow, kept idle for a while, shut down.

A flow gets its first lane before it is planned (`start_first_lane`) or waits for its turn
(`wait_for_lane`), and then its further lanes (`get_lanes`). When it ends, each of them is kept idle
for a few seconds (`release_lane`), in which another flow may take it: a file of many small tables
does not pay for three processes a table. `replace_lane` puts a new lane in the place of one that
failed, on another node where its node is left.
"""

from __future__ import annotations

import contextlib
import threading
import time
import uuid
import weakref
from collections import Counter
from collections.abc import Sequence

import ray

from hygge.engine.ray import alive, connection
from hygge.engine.ray.lane import Lane, Place
from hygge.engine.ray.left import is_left
from hygge.engine.ray.placement import Spread, has_room, lane_resources
from hygge.model import Limits

_LOOK_S = 0.2
_LAST_S = 2.0
_changed = threading.Condition()
"""Guards the lists below; notified when a lane becomes idle or its bundle is given back."""
_shutdown_lock = threading.Lock()
"""Held while a timer shuts an idle lane down, so that Ray does not end meanwhile.

If another thread kills an actor or drops a result while Ray ends, Ray ends this process. For the
same reason an idle lane keeps no result, and a timer does not keep its lane alive.
"""
_idle: list[Lane] = []
_alive: set[Lane] = set()
"""Lanes that have a bundle, or wait for one."""
_waiting: list[object] = []
"""Flows that wait for a lane, in the order in which they came."""


def _new_namespace() -> str:
    return f"hygge-{uuid.uuid4().hex}"


_namespace = _new_namespace()
_names: Counter[str] = Counter()
"""Name → how often it was given; the lane that replaces another is the second of its name."""


def start_first_lane(flow: str, limits: Limits) -> Lane | None:
    """Create a lane for a flow that is not planned yet; None where no CPU is free for it."""
    with _changed:
        if _idle or _waiting or not _is_room(limits):
            return None
        return _create_lanes(flow, limits)[0]


def get_lanes(flow: str, limits: Limits, numbers: range) -> list[Lane]:
    """Return one lane for each number: idle ones first, then new ones, which may wait for CPUs."""
    with _changed:
        lanes: list[Lane] = []
        while len(lanes) < len(numbers) and not _waiting:
            lane = _take_idle(limits)
            if lane is None:
                break
            lanes.append(lane)
        return [*lanes, *_create_lanes(flow, limits, numbers[len(lanes) :])]


def wait_for_lane(
    flow: str, limits: Limits, stop: threading.Event, patience_s: float
) -> Lane | None:
    """Return an idle lane, or a new one where there is a CPU for it, when it is this flow's turn.

    After `patience_s` seconds it is a new lane that waits for its CPU, so that a cluster with an
    autoscaler grows. Returns None when `stop` was set meanwhile.
    """
    me, until = object(), time.monotonic() + patience_s
    with _changed:
        _waiting.append(me)
        try:
            while not stop.is_set():
                alive.check_alive()
                if _waiting[0] is me:
                    if (lane := _take_idle(limits)) is not None:
                        return lane
                    if _is_room(limits):
                        return _create_lanes(flow, limits)[0]
                    if _idle:  # made for flows that need something else of their nodes
                        shut_down_lane(_idle.pop(0))
                        continue
                if time.monotonic() > until:
                    (lane,) = _create_lanes(flow, limits)
                    lane.waits_for_cpu = True
                    return lane
                _changed.wait(_LOOK_S)
            return None
        finally:
            _waiting.remove(me)
            _changed.notify_all()


def take_idle_lane(limits: Limits) -> Lane | None:
    """Return an idle lane, for a flow whose own lane still waits for its CPU; None without one."""
    with _changed:
        return None if _waiting else _take_idle(limits)


def _take_idle(limits: Limits) -> Lane | None:
    """Return an idle lane that takes the same of its node as one with these limits would."""
    needed = (lane_resources(limits), limits.label_selector)
    for lane in [lane for lane in _idle if is_left(lane.node)]:
        _idle.remove(lane)
        shut_down_lane(lane)
    for lane in reversed(_idle):
        if (lane_resources(lane.limits), lane.limits.label_selector) == needed:
            _idle.remove(lane)
            return lane
    return None


def _is_room(limits: Limits) -> bool:
    return has_room(limits, [lane.limits for lane in _alive])


def _create_lanes(flow: str, limits: Limits, numbers: range = range(1)) -> list[Lane]:
    if not numbers:
        return []
    return _place_lanes(limits, [f"{flow}/lane {number}" for number in numbers])


def _place_lanes(limits: Limits, labels: Sequence[str]) -> list[Lane]:
    spread = Spread(limits, [(lane.node, lane.limits) for lane in _alive])
    lanes = []
    for label in labels:
        group, node = spread.place_next(label)
        lanes.append(_create_lane(Place(group, node, limits, label)))
    return lanes


def _create_lane(place: Place) -> Lane:
    with _changed:
        _names[place.label] += 1
        count = _names[place.label]
        name = place.label if count == 1 else f"{place.label} ({count})"
        lane = Lane(place, name, _namespace)
        _alive.add(lane)
        return lane


def replace_lane(lane: Lane) -> Lane:
    """Shut down a lane, and return a new one: in its bundle, unless its node is left."""
    if not is_left(lane.find_node()):
        shut_down_lane(lane, keep_bundle=True)
        return _create_lane(lane.place)
    shut_down_lane(lane)
    with _changed:
        return _place_lanes(lane.limits, [lane.place.label])[0]


def shut_down_lane(lane: Lane, keep_bundle: bool = False) -> None:
    """End a lane's processes, and give its bundle back unless a new lane takes it."""
    with _changed:
        _alive.discard(lane)
        _changed.notify_all()
    lane.kill(keep_bundle)


def release_lane(lane: Lane) -> None:
    """Keep a lane idle for the next flow, for `lane.idle_s` seconds; then it is shut down.

    The time is short because an idle lane keeps its CPU, and its processes the modules that they
    imported. It is as long as a new lane takes to start, where that is longer.
    """
    if not lane.is_up or lane.attempts or is_left(lane.node):
        shut_down_lane(lane)
        return
    lane.drop_calls()
    with _changed:
        lane.idle_since = time.monotonic()
        _idle.append(lane)
        _changed.notify_all()
    _start_timer(lane)


def refresh_stats(lanes: Sequence[Lane]) -> None:
    """Ask lanes for their counters, and wait for them, two seconds at most."""
    calls = {lane.inbox.actor.stats.remote(): lane for lane in lanes}
    done, _ = ray.wait(list(calls), num_returns=len(calls), timeout=_LAST_S) if calls else ([], [])
    for call in done:
        with contextlib.suppress(ray.exceptions.RayError):
            calls[call].keep_stats(ray.get(call))


def forget_lanes() -> None:
    """Forget every lane, because their Ray ends; the next one may be the same cluster."""
    global _namespace
    with _shutdown_lock, _changed:
        _namespace = _new_namespace()
        _idle.clear()
        _alive.clear()
        _names.clear()


connection.call_before_end(forget_lanes)


def _start_timer(lane: Lane) -> None:
    if not lane.has_timer:
        lane.has_timer = True
        timer = threading.Timer(lane.idle_s, _check_idle, [weakref.ref(lane)])
        timer.daemon = True
        timer.start()


def _check_idle(lane: weakref.ref[Lane]) -> None:
    with _shutdown_lock:
        # Not kept in a variable here: it must be gone before another thread gets the lock.
        _shut_down_if_idle(lane())


def _shut_down_if_idle(lane: Lane | None) -> None:
    if lane is None:
        return
    with _changed:
        lane.has_timer = False
        if lane not in _idle:
            return
        if time.monotonic() - lane.idle_since < lane.idle_s:  # it was taken and released again
            _start_timer(lane)
            return
        _idle.remove(lane)
    shut_down_lane(lane)
