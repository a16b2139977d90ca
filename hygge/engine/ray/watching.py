"""Observe one move: its progress, who waits for whom, stalls, and lanes that have no node yet.

Four times a second the Inboxes are asked for their counters. The results go to the flow's watch, to
Prometheus, and back to the lanes where a Home may give only `max_bytes_per_second`.
"""

from __future__ import annotations

import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence

from hygge.engine.ray.lane import Lane
from hygge.engine.ray.lanes import refresh_stats
from hygge.engine.ray.metrics import Meter
from hygge.engine.ray.node_names import is_one_node, name_node
from hygge.engine.ray.patience import Patience
from hygge.engine.ray.placement import describe_pending
from hygge.errors import HyggeError
from hygge.model import Receipt
from hygge.run.engines import MoveRequest, MoveResult, rows_expected
from hygge.run.watch import Progress, Silent, Watch

LOOK_EVERY_S = 0.25
SAY_STALL_AFTER_S = 60.0
_SHOW_WAIT_AFTER_S = 5.0
_ASK_PENDING_EVERY_S, _SAY_PENDING_EVERY_S = 3.0, 30.0
_ASKED_AT_ONCE = 16
"""Lanes that are asked for their counters at a time, in turn: a thousand lanes cost no more."""
_NAMED = 5
_WAITED_FOR = {"home": "store", "": "store", "store": "home", "rate": "rate"}
"""The end that waits at the Inbox → the end that it waits for. If none waits, the Store works."""
_lock = threading.Lock()
_readers: dict[tuple[object, int], dict[Watching, int]] = {}
"""(flow, its `max_bytes_per_second`) → each of its moves, and how many lanes of the move read."""


class Watching:
    """The observer of one move; called by its supervision only."""

    def __init__(self, move: MoveRequest, watch: Watch) -> None:
        self.move, self.watch = move, watch
        self.meter = Meter(move.flow, move.home, move.store, move.limits.of)
        self.looked_at = 0.0
        now = time.monotonic()
        self.progressed_at = self.said_stall_at = self.asked_pending_at = now
        self.progress = (-1, -1)
        """Rows and sealed splits when the move last made progress."""
        self.before = Progress()
        """Rows and bytes that lanes sealed which were shut down since."""
        self.waited = {"home": 0.0, "store": 0.0, "rate": 0.0}
        """Seconds that the same lanes waited, by who was waited for."""
        self.next_asked = 0
        self.retries, self.rows_expected = 0, rows_expected(move.splits)
        self.patience = Patience(move.limits)
        self.pending = ""
        """The CPUs and resources that lanes without a node wait for, in words."""
        self.said_pending, self.said_pending_at = "", -_SAY_PENDING_EVERY_S

    def note_progress(self) -> None:
        """Note that a call of a lane came back."""
        self.progressed_at = time.monotonic()

    def note_sealed(self, lane: Lane, receipt: Receipt) -> None:
        """Count a sealed split."""
        self.meter.count_split(receipt)
        rows = lane.sealed.rows + receipt.rows + receipt.set_aside
        lane.sealed = Progress(rows, lane.sealed.bytes + receipt.bytes)

    def note_retry(self, text: str) -> None:
        """Count a failure that is tried again, and say so."""
        self.meter.count_retry()
        self.retries += 1
        self.watch.said(self.move.flow, text)

    def note_left(self, where: str, text: str) -> None:
        """Count a failure after which a node is left, and say so."""
        self.note_retry(f"{where} failed: {text}; that node is left, its splits go elsewhere")

    def pass_on_said(self, lanes: Sequence[Lane]) -> None:
        """Report what the user's code wrote in lanes, as far as it is known."""
        for lane in lanes:
            while lane.said:
                line = lane.said.popleft()
                if isinstance(self.watch, Silent):  # in a notebook, say
                    sys.stderr.write(f"{self.move.flow}: {line}\n")
                else:
                    self.watch.said(self.move.flow, line)

    def note_failed(self, lane: Lane) -> None:
        """Report what the user's code wrote before it failed; its processes live."""
        refresh_stats([lane])
        self.pass_on_said([lane])

    def note_shut_down(self, lane: Lane) -> None:
        """Keep what a lane has sealed and how long it waited; its other rows are read again."""
        rows = self.before.rows + lane.sealed.rows
        self.before = Progress(rows, self.before.bytes + lane.sealed.bytes)
        self.waited = self._sum_waits([lane])

    def finish(self, lanes: Sequence[Lane], moved: MoveResult) -> None:
        """Write into `moved` who waited for whom, up to the end of the move."""
        refresh_stats([lane for lane in lanes if lane.is_up])
        self.pass_on_said(lanes)
        waited = self._sum_waits(lanes)
        moved.wait_home_s, moved.wait_store_s = waited["store"], waited["home"]
        self.meter.count_waits(waited)

    def describe_lanes(self, worked: int, asked: int) -> list[str]:
        """Return a sentence for people where lanes did not run because nodes had no room."""
        if worked >= asked or not self.said_pending:
            return []
        needs = self.said_pending.partition(";")[0]
        return [f"{worked} of {asked} lanes ran; the others waited for {needs}"]

    def close(self) -> None:
        """Report that the move has no lanes any more."""
        self.meter.set_lanes({}, 0)
        with _lock:
            for key in [key for key, moves in _readers.items() if self in moves]:
                del _readers[key][self]
                if not _readers[key]:
                    del _readers[key]

    def look(self, lanes: Sequence[Lane], splits_done: int, has_more: bool) -> None:
        """Report progress, if the last report is old enough. `has_more`: some splits have no lane.

        Raises HyggeError where nothing has moved for longer than `stall_timeout`, or where no node
        fits for longer than `wait_at_most`.
        """
        now = time.monotonic()
        if now - self.looked_at < LOOK_EVERY_S:
            return
        self.looked_at = now
        up = [lane for lane in lanes if lane.is_up]
        self._request_stats(up)
        self.pass_on_said(up)
        self._divide_rate(up, has_more)
        # The counters are from the time of the last look.
        rows = self.before.rows + sum(max(lane.stats.rows_out, lane.sealed.rows) for lane in up)
        size = self.before.bytes + sum(max(lane.stats.bytes_out, lane.sealed.bytes) for lane in up)
        if (rows, splits_done) != self.progress:
            self.progress = (rows, splits_done)
            self.progressed_at = self.said_stall_at = now
        self._check_pending(now, lanes, len(up), has_more)
        waits_for = self.pending
        if not waits_for and now - self.progressed_at > _SHOW_WAIT_AFTER_S:
            waits_for = self._describe_wait(lanes)
        seen = Progress(
            rows,
            size,
            splits_done,
            len(self.move.splits),
            len(up),
            waits_for,
            retries=self.retries,
            rows_expected=self.rows_expected,
        )
        self.watch.moved(self.move.flow, seen)
        running = sum(bool(lane.attempts) for lane in up)
        states = {"running": running, "idle": len(up) - running, "pending": len(lanes) - len(up)}
        self.meter.set_lanes(states, sum(lane.stats.charged for lane in up))
        self.meter.count_waits(self._sum_waits(up))
        self._check_stall(now, lanes, up)

    def _request_stats(self, up: Sequence[Lane]) -> None:
        end = self.next_asked + min(len(up), _ASKED_AT_ONCE)
        for lane in [*up, *up][self.next_asked : end]:
            lane.request_stats()
        self.next_asked = (self.next_asked + _ASKED_AT_ONCE) % max(1, len(up))

    def _check_stall(self, now: float, lanes: Sequence[Lane], up: Sequence[Lane]) -> None:
        """Say every minute that nothing moves; raise HyggeError after `stall_timeout`."""
        still_s = now - self.progressed_at
        # Lanes that are not up yet may wait for a busy cluster as long as it takes, and a Home that
        # may give a byte a second makes progress.
        is_stalled = (
            still_s > self.move.limits.stall_timeout_s
            and bool(up)
            and not any(lane.stats.waiting == "rate" for lane in up)
        )
        if not is_stalled and now - self.said_stall_at <= SAY_STALL_AFTER_S:
            return
        waits_for = f"{self._describe_wait(lanes)}{_name_lanes(lanes)}"
        text = f"nothing moved for {still_s:.0f} s: waiting for {waits_for}"
        if is_stalled:
            raise HyggeError(
                text, "look at what it does there; `stall_timeout` says how long hygge waits"
            )
        self.said_stall_at = now
        self.watch.said(self.move.flow, text)

    def _check_pending(self, now: float, lanes: Sequence[Lane], up: int, has_more: bool) -> None:
        """Find out and say which lanes have no node yet, as long as there is work for them."""
        if up == len(lanes) or not has_more:
            self.pending = ""
        elif now - self.asked_pending_at > _ASK_PENDING_EVERY_S:
            self.asked_pending_at = now
            if not up:
                self.patience.check()
            groups = [lane.place.group for lane in lanes if not lane.is_up]
            missing = describe_pending(self.move.limits, groups)
            self.pending = f"{missing}; {up} of {len(lanes)} lanes run" if missing else ""
        is_new = self.pending not in ("", self.said_pending)
        if is_new and now - self.said_pending_at > _SAY_PENDING_EVERY_S:
            self.said_pending, self.said_pending_at = self.pending, now
            self.watch.said(self.move.flow, f"waiting for {self.pending}")

    def _divide_rate(self, up: Sequence[Lane], has_more: bool) -> None:
        """Divide `max_bytes_per_second` among the lanes that read, of all moves of the flow."""
        rate = self.move.limits.max_bytes_per_second
        if rate is None:
            return
        reading = {
            lane for lane in up if has_more or any(not attempt.is_read for attempt in lane.attempts)
        }
        with _lock:
            moves = _readers.setdefault((self.move.limits.of or self, rate), {})
            moves[self] = len(reading)
            count = sum(moves.values())
        for lane in up:
            lane.set_rate(rate / count if lane in reading else 0.0)

    def _sum_waits(self, lanes: Sequence[Lane]) -> dict[str, float]:
        """Return seconds so far by who was waited for: of these lanes, and of those shut down."""
        stats = [lane.stats for lane in lanes]
        return {
            "store": self.waited["store"] + sum(each.wait_home_s for each in stats),
            "home": self.waited["home"] + sum(each.wait_store_s for each in stats),
            "rate": self.waited["rate"] + sum(each.wait_rate_s for each in stats),
        }

    def _describe_wait(self, lanes: Sequence[Lane]) -> str:
        """Return what most lanes wait for, in words."""
        up = [lane for lane in lanes if lane.is_up]
        if not up:
            return self.pending or f"{len(lanes)} lane{'s'[: len(lanes) != 1]} to start"
        # A lane without a split waits for nobody, and one without counters is not known.
        working = [lane for lane in up if lane.attempts]
        ends = Counter(_WAITED_FOR[lane.stats.waiting] for lane in working if lane.has_stats)
        if not ends:
            return "its lanes to answer" if working else "the time of its next try"
        ((end, _),) = ends.most_common(1)
        if end == "rate":
            return "its max_bytes_per_second"
        if end == "store":
            return f"the store {self.move.store.describe()}"
        return f"the home {self.move.home.describe()}"


def _name_lanes(lanes: Sequence[Lane]) -> str:
    """Return which lanes work, and on which nodes; "" where none does, or there is one node."""
    working = [lane for lane in lanes if lane.is_up and lane.attempts]
    if not working or is_one_node():
        return ""
    named = [f"lane {lane.number} on node {name_node(lane.node)}" for lane in working[:_NAMED]]
    more = [f"{len(working) - _NAMED} more"] if len(working) > _NAMED else []
    return f" ({', '.join([*named, *more])})"
