"""The loop in the driver that supervises the lanes of one move.

`Supervision.run` gets lanes, gives splits to those that are free, and waits for whichever call of a
lane comes back first. It collects receipts, and gives a split of a lane that failed to another one
under a new ticket. Each step costs the same for a hundred splits or a hundred thousand, in two
lanes or a thousand. What the loop observes meanwhile is in `watching`.

It runs in a plain thread, without an event loop or signal handlers, so it works the same under the
command line, in a script and inside Jupyter. Its results must agree with those of `engine/inline`,
also when a process dies.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NoReturn

import ray

from hygge.engine.ray import alive, connection
from hygge.engine.ray.calls import Calls, Reservation, Returned
from hygge.engine.ray.failures import (
    describe_failure,
    find_cause,
    is_ray_failure,
    is_retryable,
    suggest_remedy,
)
from hygge.engine.ray.faults import NodeFaults
from hygge.engine.ray.lane import Lane, SplitAttempt, pack
from hygge.engine.ray.lanes import (
    get_lanes,
    release_lane,
    replace_lane,
    shut_down_lane,
    take_idle_lane,
    wait_for_lane,
)
from hygge.engine.ray.left import is_left
from hygge.engine.ray.node_names import is_one_node, name_node
from hygge.engine.ray.placement import Bound, bound_by_nodes, count_lanes, describe_left
from hygge.engine.ray.watching import Watching
from hygge.errors import HyggeError, Stopped, Transient
from hygge.model import Receipt, Split, Ticket
from hygge.run.engines import MoveRequest, MoveResult, backoff_s
from hygge.run.watch import Progress, Watch

_WAKE_EVERY_S = 0.25
_PATIENCE_S = 5.0
_GROW_EVERY_S = 5.0
_CHECK_EVERY_S = 1.0
_AT_ONCE = 32
"""Lanes that are created before the loop looks again whether to stop."""


@dataclass
class _Waiting:
    """A split that no lane has; `not_before` is when it may be tried, on the monotonic clock."""

    split: Split
    not_before: float = 0.0


class Supervision:
    """Moves the splits of one move; `first_lane` is used if there is one."""

    def __init__(
        self, move: MoveRequest, watch: Watch, stop: threading.Event, first_lane: Lane | None
    ) -> None:
        self.move, self.watch, self.stop = move, watch, stop
        self.todo = deque(_Waiting(split) for split in move.splits)
        self.failures: dict[int, int] = {}
        """Failures in a row: of a split by its index, of a lane by a negative number."""
        self.next_tickets: dict[int, int] = {}
        self.moved = MoveResult()
        self.rows_read: dict[Ticket, int] = {}
        self.calls, self.reservation = Calls(), Reservation()
        self.lanes = [first_lane] if first_lane is not None else []
        self.lanes_numbered = 0
        self.most = Bound(0)
        """The most lanes that were asked for at one time, and what bounded them."""
        self.worked: set[int] = set()
        """Numbers of the lanes that were given a split."""
        self.free_lanes: dict[Lane, None] = {}
        """Lanes that may be given a split, in the order in which they became free."""
        self.adjusted_at = time.monotonic()
        self.checked_at = 0.0
        self.watching, self.faults = Watching(move, watch), NodeFaults(move.limits)

    def run(self) -> MoveResult:
        """Block until every split has its receipt; raise Stopped, or what no retry mends."""
        self._start_lanes()
        total = len(self.move.splits)
        while len(self.moved.receipts) < total:
            if self.stop.is_set():
                raise Stopped("stopped")
            self._check_ray()
            if self.lanes[0].waits_for_cpu:
                self._take_idle_lane()
            self._assign_splits()
            returned = self.calls.next(_WAKE_EVERY_S)
            if returned is not None:
                self._handle_return(returned)
            self.watching.look(self.lanes, len(self.moved.receipts), bool(self.todo))
            self._adjust_lanes()
        self.watching.finish(self.lanes, self.moved)
        self.moved.lanes = min(len(self.worked), self.most.lanes)
        self.moved.lanes_bound = self.most.by
        if self.moved.lanes < self.most.lanes:
            self.moved.lanes_bound = bound_by_nodes(self.move.limits, self.moved.lanes)
        self.moved.notes += describe_left(self.move.limits)
        self.moved.notes += self.watching.describe_lanes(self.moved.lanes, self.most.lanes)
        return self.moved

    def close(self, keep_lanes: bool) -> None:
        """Release the lanes for the next flow, or shut them down."""
        if not keep_lanes:
            self.faults.take_back()
        for lane in self.lanes:
            if keep_lanes:
                release_lane(lane)
            else:
                shut_down_lane(lane)
        self._reserve(0)
        self.watching.close()

    # Lanes

    def _start_lanes(self) -> None:
        self.packed = pack(self.move)
        limits = self.move.limits
        self.name = limits.of or self.move.home.flow or self.move.flow
        self.grows = connection.connect().outlives  # a private Ray gets no further CPUs
        if not self.lanes:
            seen = Progress(
                splits=len(self.move.splits), waits_for="a lane that another flow leaves"
            )
            self.watch.moved(self.move.flow, seen)
            patience_s = _PATIENCE_S if self.grows else float("inf")
            lane = wait_for_lane(self.name, limits, self.stop, patience_s)
            if lane is None:
                raise Stopped("stopped")
            self.lanes = [lane]
        elif is_left(self.lanes[0].node):
            self.lanes = [replace_lane(self.lanes[0])]
        self._load(self.lanes)
        self._add_lanes()

    def _load(self, lanes: Sequence[Lane]) -> None:
        for lane in lanes:
            self._load_one(lane, self.lanes_numbered)
            self.lanes_numbered += 1

    def _load_one(self, lane: Lane, number: int) -> None:
        lane.load(self.packed, number)
        self.calls.add(lane, lane.start_calls)

    def _add_lanes(self) -> None:
        """Get as many lanes as there may be now: at the start, and when there is room for more."""
        usable = len(self.todo) + sum(bool(lane.attempts) for lane in self.lanes)
        with Reservation.lock:
            bound = count_lanes(self.move, self.reservation.of_others(), self.grows)
            if usable < bound.lanes:
                bound = Bound(usable)
            count = max(len(self.lanes), bound.lanes)
            self.most = max(self.most, bound._replace(lanes=count), key=lambda most: most.lanes)
            self.reservation.set(count * self.move.limits.memory_per_lane)
        while len(self.lanes) < count and not self.stop.is_set():
            missing = min(_AT_ONCE, count - len(self.lanes))
            numbers = range(self.lanes_numbered, self.lanes_numbered + missing)
            lanes = get_lanes(self.name, self.move.limits, numbers)
            self.lanes += lanes
            self._load(lanes)

    def _adjust_lanes(self) -> None:
        """Every few seconds: add lanes while splits wait, else drop lanes that did not start."""
        now = time.monotonic()
        if now - self.adjusted_at < _GROW_EVERY_S:
            return
        self.adjusted_at = now
        if self.todo:
            self._add_lanes()
            return
        for lane in [lane for lane in self.lanes if not lane.is_up and not lane.attempts]:
            self.lanes.remove(lane)
            self._forget(lane)
            shut_down_lane(lane)
        self._reserve(len(self.lanes))

    def _take_idle_lane(self) -> None:
        """While the first lane waits for its CPU: replace it by one that another flow left."""
        idle, waiting = take_idle_lane(self.move.limits), self.lanes[0]
        if idle is not None:
            self.lanes[0] = idle
            self._forget(waiting)
            self._load_one(idle, waiting.number)
            shut_down_lane(waiting)

    def _reserve(self, lanes: int) -> None:
        with Reservation.lock:
            self.reservation.set(lanes * self.move.limits.memory_per_lane)

    def _check_ray(self) -> None:
        """Raise HyggeError where Ray has died; once a second, as it may ask a socket."""
        now = time.monotonic()
        if now - self.checked_at > _CHECK_EVERY_S:
            self.checked_at = now
            alive.check_alive()

    # Calls

    def _forget(self, lane: Lane) -> None:
        self.free_lanes.pop(lane, None)
        self.calls.drop([*lane.start_calls, *lane.pending_calls()])

    def _assign_splits(self) -> None:
        now = time.monotonic()
        while self.todo and self.free_lanes:
            waiting = next((each for each in self.todo if each.not_before <= now), None)
            if waiting is None:
                return
            self.todo.remove(waiting)
            # Idle lanes come before lanes that would read ahead.
            lane = next((lane for lane in self.free_lanes if not lane.attempts), None)
            lane = lane or next(iter(self.free_lanes))
            del self.free_lanes[lane]
            index = waiting.split.index
            n = self.next_tickets.get(index, 0)
            self.next_tickets[index] = n + 1
            self.worked.add(lane.number)
            ticket = Ticket(self.move.run.id, index, self.move.epoch, n)
            attempt = lane.start(waiting.split, ticket)
            self.move.attempts.began(lane.number, ticket)
            self.calls.add(lane, (attempt.read, attempt.stage))

    def _handle_return(self, returned: Returned) -> None:
        lane, call, answer = returned
        try:
            value = answer.result()
        except Exception as error:
            self._handle_failure(lane, call, error)
            return
        self.watching.note_progress()
        if call in lane.start_calls:
            if lane.note_started(call, value):
                self.failures.pop(_failure_key(lane), None)  # failures count in a row
                self.faults.has_worked = True
                self._free(lane)
            return
        attempt = _find_attempt(lane, call)
        assert attempt is not None  # a lane that is up has no other calls
        if call == attempt.read:
            attempt.is_read = True
            self.rows_read[attempt.ticket] = value
        else:
            lane.attempts.remove(attempt)
        if call == attempt.stage:
            self._keep_receipt(lane, attempt, value)
        if lane.can_start():
            self._free(lane)

    def _keep_receipt(self, lane: Lane, attempt: SplitAttempt, receipt: Receipt) -> None:
        self.moved.receipts.append(receipt)
        self.move.attempts.ended(attempt.ticket, "staged", receipt.rows)
        if not attempt.is_read:  # both calls ended at once: the Store has the Home's last message
            self.calls.drop([attempt.read])
            with contextlib.suppress(ray.exceptions.RayError):
                self.rows_read[attempt.ticket] = ray.get(attempt.read)
        rows = receipt.rows + receipt.set_aside
        self.moved.rows_read += self.rows_read.pop(attempt.ticket, rows)
        self.move.on_receipt(receipt)
        self.watching.note_sealed(lane, receipt)

    def _handle_failure(self, lane: Lane, call: ray.ObjectRef, error: BaseException) -> None:
        """Replace the lane and put its splits back, or raise what a retry cannot mend."""
        cause = find_cause(error)
        if is_ray_failure(error):
            alive.check_alive()
        if is_ray_failure(error):
            other = lane.find_other_error(call)
            if other is not None and not is_ray_failure(other):
                error, cause = other, find_cause(other)
        if not is_ray_failure(error):
            self.watching.note_failed(lane)
        node = lane.find_node()
        where = f"lane {lane.number} on node {name_node(node)}"
        attempt = _find_attempt(lane, call)
        if attempt is None:
            key, end = _failure_key(lane), ""
        else:
            key, end = attempt.split.index, "home" if call == attempt.read else "store"
            end = "" if lane.packed.is_small else end  # one process does both
            self.move.attempts.ended(attempt.ticket, "failed")
        text, tries = describe_failure(error, cause, end), self.move.limits.retries + 1
        was_left = is_left(node)
        if self.faults.note(node, error, cause, attempt is None, f"lane {lane.number}: {text}"):
            if not was_left:
                self.watching.note_left(where, text)
            self._put_back(lane, 0.0)
            self._leave_node(node, lane)
            return
        if not is_retryable(error, cause):
            self._raise_with_place(error, cause, where)
        count = self.failures[key] = self.failures.get(key, 0) + 1
        if attempt is None:
            what, last, again = where, "the last time", text
        else:
            what = f"split {key}"
            last, again = f"the last time in {where}", f"{where}: {text}"
        if count == tries:
            raise Transient(
                f"{what} failed {count} times; {last}: {text}", suggest_remedy(cause)
            ) from cause
        self.watching.note_retry(f"{what} is tried again ({count + 1} of {tries} tries): {again}")
        self._put_back(lane, time.monotonic() + backoff_s(count - 1), key)
        self._replace(lane)

    def _put_back(self, lane: Lane, retry_at: float, key: int | None = None) -> None:
        """Have other lanes do the splits of a lane that failed; the split `key` from `retry_at`."""
        self.moved.retries += 1
        for attempt in reversed(lane.attempts):
            self.move.attempts.ended(attempt.ticket, "given_up")
            not_before = retry_at if attempt.split.index == key else 0.0
            self.todo.appendleft(_Waiting(attempt.split, not_before))

    def _replace(self, lane: Lane) -> None:
        self.watching.note_shut_down(lane)
        self._forget(lane)
        fresh = replace_lane(lane)
        self.lanes[self.lanes.index(lane)] = fresh
        self._load_one(fresh, lane.number)

    def _leave_node(self, node: str, failed: Lane) -> None:
        """Replace the lane that failed, and those of its node that have no split, elsewhere.

        A lane that is amid a split is replaced when it has ended it. There are no more lanes than
        the other nodes have room for.
        """
        idle = [
            lane
            for lane in self.lanes
            if lane is not failed and lane.node == node and not lane.attempts
        ]
        with Reservation.lock:
            most = count_lanes(self.move, self.reservation.of_others(), self.grows).lanes
        for lane in [failed, *idle]:
            if len(self.lanes) <= most:
                self._replace(lane)
                continue
            self.watching.note_shut_down(lane)
            self._forget(lane)
            self.lanes.remove(lane)
            shut_down_lane(lane)

    def _free(self, lane: Lane) -> None:
        """Let a lane have a split; one whose node is left is replaced instead."""
        if not is_left(lane.node):
            self.free_lanes[lane] = None
        elif not lane.attempts:
            self._leave_node(lane.node, lane)

    def _raise_with_place(self, error: BaseException, cause: BaseException, where: str) -> NoReturn:
        """Raise what no retry mends; where there are several nodes, say which lane it was."""
        if not is_one_node():
            if isinstance(cause, HyggeError):
                cause.message = f"{cause.message} ({where})"
            else:
                self.watch.said(self.move.flow, f"{where} failed: {type(cause).__name__}")
        if cause is not error:
            raise cause from error  # Ray's wrapping has the worker's traceback
        raise cause


def _find_attempt(lane: Lane, call: ray.ObjectRef) -> SplitAttempt | None:
    for attempt in lane.attempts:
        if call in (attempt.read, attempt.stage):
            return attempt
    return None


def _failure_key(lane: Lane) -> int:
    """Return the key of `failures` for what fails before a split is begun."""
    return -1 - lane.number
