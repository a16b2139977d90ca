"""The calls of a move's lanes that have not come back, and the bytes that its lanes may charge.

`Calls` hands calls to the supervision in the order in which they come back, at the same cost for
any number of them. `Reservation` counts, over all moves of this process, the bytes that the lanes
may hold in the nodes' object stores.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterable
from concurrent.futures import Future
from functools import partial
from typing import Any, NamedTuple

import ray

from hygge.engine.ray.lane import Lane


class Returned(NamedTuple):
    """A call that came back: its lane, the call, and its answer, which may be an error."""

    lane: Lane
    call: ray.ObjectRef
    answer: Future[Any]


class Calls:
    """The calls that one move waits for."""

    def __init__(self) -> None:
        self.lane_of: dict[ray.ObjectRef, Lane] = {}
        self.returned: queue.SimpleQueue[tuple[ray.ObjectRef, Future[Any]]] = queue.SimpleQueue()

    def add(self, lane: Lane, calls: Iterable[ray.ObjectRef]) -> None:
        """Have `next` return each of these calls; `ray.wait` would look at all of them."""
        for call in calls:
            self.lane_of[call] = lane
            call.future().add_done_callback(partial(self._put_returned, call))

    def _put_returned(self, call: ray.ObjectRef, answer: Future[Any]) -> None:
        self.returned.put((call, answer))

    def drop(self, calls: Iterable[ray.ObjectRef]) -> None:
        """Have `next` not return these calls any more."""
        for call in calls:
            self.lane_of.pop(call, None)

    def next(self, timeout_s: float) -> Returned | None:
        """Return the next call that came back; None where none did, or one that was dropped."""
        try:
            call, answer = self.returned.get(timeout=timeout_s)
        except queue.Empty:
            return None
        lane = self.lane_of.pop(call, None)
        return None if lane is None else Returned(lane, call, answer)


class Reservation:
    """The bytes that the lanes of one move may charge. Used with `lock` held."""

    lock = threading.Lock()
    total = 0
    """Bytes of all moves of this process."""

    def __init__(self) -> None:
        self.bytes = 0

    def of_others(self) -> int:
        """Return the bytes of the other moves."""
        return Reservation.total - self.bytes

    def set(self, nbytes: int) -> None:
        """Reserve so many bytes, in place of those before."""
        Reservation.total += nbytes - self.bytes
        self.bytes = nbytes
