"""What is seen of one move: progress, who is waited for, stalls, lanes that have no place yet.

A few times a second the Inboxes are asked for their counters, and what they tell goes to whoever
watches, to Prometheus, and back to the lanes where a Home may give only so many bytes a second.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

from hygge.engine.ray.lanes import ask_all
from hygge.engine.ray.metrics import Meter
from hygge.engine.ray.placement import waiting_for
from hygge.errors import HyggeError
from hygge.model import Receipt
from hygge.run.engines import Move, Moved
from hygge.run.watch import Seen, Watch

LOOK_EVERY_S = 0.25
SAY_STALL_AFTER_S = 60.0
_SAY_PENDING_AFTER_S, _SAY_PENDING_EVERY_S = 3.0, 30.0
_LOOKED_AT = 16
"""Lanes that are asked for their counters at a time, in turn: a thousand cost no more."""
_WAITED_FOR = {"home": "store", "": "store", "store": "home", "rate": "rate"}
"""Who waits at the Inbox → for whom; where nobody waits there, the Store is at work."""
_lock = threading.Lock()
_reading: dict[Any, dict[Watching, int]] = {}
"""Who keeps to one `max_bytes_per_second`: each move, and how many of its lanes read."""


class Watching:
    """Of one move; called by its supervision only."""

    def __init__(self, move: Move, watch: Watch) -> None:
        self.move, self.watch = move, watch
        self.meter = Meter(move.flow, move.home, move.store)
        self.looked = 0.0
        self.progressed = self.said_stall = self.asked_pending = time.monotonic()
        self.sum = (-1, -1)
        self.before = Seen()  # rows and bytes of lanes that were put down
        self.waited = {"home": 0.0, "store": 0.0, "rate": 0.0}  # of the same
        self.turn = 0
        self.pending, self.said_pending = "", ("", -_SAY_PENDING_EVERY_S)

    def sealed(self, lane: Any, receipt: Receipt) -> None:
        """A split more is sealed."""
        self.meter.sealed(receipt)
        rows = lane.sealed.rows + receipt.rows + receipt.set_aside
        lane.sealed = Seen(rows, lane.sealed.bytes + receipt.bytes)

    def again(self, text: str) -> None:
        """Something failed, and is tried again."""
        self.meter.retried()
        self.watch.said(self.move.flow, text)

    def put_down(self, lane: Any) -> None:
        """Keep what a lane has sealed, and for how long it waited; the rest is read again."""
        rows = self.before.rows + lane.sealed.rows
        self.before = Seen(rows, self.before.bytes + lane.sealed.bytes)
        self.waited = self._waited([lane])

    def end(self, lanes: Sequence[Any], moved: Moved) -> None:
        """The move is done: who waited for whom, to the last moment."""
        ask_all([lane for lane in lanes if lane.up])
        waited = self._waited(lanes)
        moved.wait_home_s, moved.wait_store_s = waited["store"], waited["home"]
        self.meter.waits(waited)

    def close(self) -> None:
        """It has no lanes any more."""
        self.meter.lanes({}, 0)
        with _lock:
            for key in [key for key, those in _reading.items() if self in those]:
                del _reading[key][self]
                if not _reading[key]:
                    del _reading[key]

    def look(self, lanes: Sequence[Any], done: int, wants_lanes: bool) -> None:
        """`done`: sealed splits; `wants_lanes`: there are splits that no lane has.

        Raises HyggeError where nothing has moved for longer than `stall_timeout`.
        """
        now = time.monotonic()
        if now - self.looked < LOOK_EVERY_S:
            return
        self.looked = now
        up = [lane for lane in lanes if lane.up]
        for lane in (up + up)[self.turn : self.turn + min(len(up), _LOOKED_AT)]:
            lane.look()
        self.turn = (self.turn + _LOOKED_AT) % max(1, len(up))
        self._pace(up, wants_lanes)
        # What an Inbox tells is a moment old.
        rows = self.before.rows + sum(max(each.last.rows_out, each.sealed.rows) for each in up)
        size = self.before.bytes + sum(max(each.last.bytes_out, each.sealed.bytes) for each in up)
        if (rows, done) != self.sum:
            self.sum = (rows, done)
            self.progressed = self.said_stall = now
        self._look_for_places(now, lanes, len(up), wants_lanes)
        waits = self.pending or (self._waits_for(lanes) if now - self.progressed > 5 else "")
        seen = Seen(rows, size, done, len(self.move.splits), len(up), waits)
        self.watch.moved(self.move.flow, seen)
        running = sum(bool(lane.works) for lane in up)
        states = {"running": running, "idle": len(up) - running, "pending": len(lanes) - len(up)}
        self.meter.lanes(states, sum(lane.last.charged for lane in up))
        self.meter.waits(self._waited(up))
        self._guard(now, lanes, up)

    def _guard(self, now: float, lanes: Sequence[Any], up: Sequence[Any]) -> None:
        still = now - self.progressed
        # Lanes that are not up yet may wait for a busy cluster as long as it takes, and a Home that
        # may give a byte a second is not at a stall.
        ends = still > self.move.limits.stall_timeout_s and bool(up)
        ends = ends and not any(lane.last.waiting == "rate" for lane in up)
        if not ends and now - self.said_stall <= SAY_STALL_AFTER_S:
            return
        said = f"nothing moved for {still:.0f} s: waiting for {self._waits_for(lanes)}"
        if ends:
            raise HyggeError(
                said, "look at what it does there; `stall_timeout` says how long hygge waits"
            )
        self.said_stall = now
        self.watch.said(self.move.flow, said)

    def _look_for_places(self, now: float, lanes: Sequence[Any], up: int, wants: bool) -> None:
        """Say for which lanes there is no place yet, as long as there is work for them."""
        if up == len(lanes) or not wants:
            self.pending = ""
        elif now - self.asked_pending > _SAY_PENDING_AFTER_S:
            self.asked_pending = now
            groups = [lane.place.group for lane in lanes if not lane.up]
            missing = waiting_for(self.move.limits, groups)
            self.pending = missing and f"{missing}; {up} of {len(lanes)} lanes run"
        text, when = self.said_pending
        if self.pending not in ("", text) and now - when > _SAY_PENDING_EVERY_S:
            self.said_pending = (self.pending, now)
            self.watch.said(self.move.flow, f"waiting for {self.pending}")

    def _pace(self, up: Sequence[Any], wants_lanes: bool) -> None:
        """Divide what may be read in a second among the lanes that read."""
        rate = self.move.limits.max_bytes_per_second
        if rate is None:
            return
        reading = {
            lane for lane in up if wants_lanes or any(not work.was_read for work in lane.works)
        }
        with _lock:
            sharing = _reading.setdefault((self.move.limits.of or self, rate), {})
            sharing[self] = len(reading)
            count = sum(sharing.values())
        for lane in up:
            lane.pace(rate / count if lane in reading else 0.0)

    def _waited(self, lanes: Sequence[Any]) -> dict[str, float]:
        """Seconds so far, of these and of those that were put down, by who was waited for."""
        last = [lane.last for lane in lanes]
        return {
            "store": self.waited["store"] + sum(each.wait_home_s for each in last),
            "home": self.waited["home"] + sum(each.wait_store_s for each in last),
            "rate": self.waited["rate"] + sum(each.wait_rate_s for each in last),
        }

    def _waits_for(self, lanes: Sequence[Any]) -> str:
        """Whom most lanes wait for."""
        up = [lane for lane in lanes if lane.up]
        # A lane without a split waits for nobody, and one that was not asked yet says nothing.
        works = [lane for lane in up if lane.works]
        ends = Counter(_WAITED_FOR[lane.last.waiting] for lane in works if lane.was_asked)
        if not up:
            return self.pending or f"{len(lanes)} lane{'s'[: len(lanes) != 1]} to stand"
        if not ends:
            return "the first word of its lanes" if works else "the moment to try again"
        ((end, _),) = ends.most_common(1)
        if end == "rate":
            return "its max_bytes_per_second"
        if end == "store":
            return f"the store {self.move.store.describe()}"
        return f"the home {self.move.home.describe()}"
