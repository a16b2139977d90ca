"""One lane: a Home actor, an Inbox and a Store actor on one node, working on the same split.

A lane is a placement group of one bundle, so its three processes share a node and its shared
memory. `load` brings in the connectors of a move; `start` gives the lane a split. The lane is
reused from split to split, and the Home may read one split ahead within the same budget of bytes.
After any failure `kill` ends all three processes, and a new lane takes the bundle: only a new Inbox
is certain to hold no message of an attempt that was given up.

The actors carry the name of the flow that the lane was made for, which Ray's dashboard shows:
`orders/lane 2: home`.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections import deque
from concurrent.futures import Future
from dataclasses import dataclass, field

import ray
from ray.actor import ActorHandle
from ray.util.placement_group import (
    PlacementGroup,
    placement_group_table,
    remove_placement_group,
)
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from hygge.engine.ray import alive
from hygge.engine.ray.actors import HomeActor, StoreActor, pickle_connector
from hygge.engine.ray.inbox import Inbox, InboxStats
from hygge.engine.ray.placement import divide_cpus, lane_resources
from hygge.errors import ConfigError
from hygge.model import Limits, Split, Ticket
from hygge.run.engines import MoveRequest
from hygge.run.watch import Progress

SHORTEST_IDLE_S, LONGEST_IDLE_S = 2.0, 30.0
_LARGER = 8
"""How many times larger the rows of a split may be in memory than at the source."""


@dataclass
class SplitAttempt:
    """One attempt at a split in a lane: a call of the Home and a call of the Store."""

    split: Split
    ticket: Ticket
    read: ray.ObjectRef
    stage: ray.ObjectRef
    is_read: bool = False


@dataclass(frozen=True)
class PackedMove:
    """The data that each lane of a move loads: connectors as bytes, and folders of `sys.path`."""

    move: MoveRequest
    home: bytes = field(repr=False)
    store: bytes = field(repr=False)
    paths: list[str] = field(default_factory=lambda: [path for path in sys.path if path])

    @property
    def is_small(self) -> bool:
        """Return whether the move is one split of one batch, as far as its plan tells.

        Then a Store's process does all of it: two would take turns. Being wrong costs time alone.
        """
        limits, splits = self.move.limits, self.move.splits
        size = splits[0].bytes if len(splits) == 1 and not limits.max_bytes_per_second else None
        return size is not None and size * _LARGER <= limits.batch_bytes


def pack(move: MoveRequest) -> PackedMove:
    """Pickle the connectors of a move; raise ConfigError for what cannot be pickled."""
    blobs = []
    for end in (move.home, move.store):
        try:
            blobs.append(pickle_connector(end))
        except Exception as error:
            raise ConfigError(
                f"{type(end).__name__} cannot travel to another process: {error}",
                "open connections, files and locks inside read_batches or write, not in __init__",
            ) from error
    return PackedMove(move, blobs[0], blobs[1])


@dataclass(frozen=True)
class Place:
    """A placement group of one bundle; `node` is where it was asked for, "" if anywhere."""

    group: PlacementGroup
    node: str
    limits: Limits
    label: str


class Lane:
    """Three actors in one bundle; `attempts` are in the order in which the Store takes them."""

    packed: PackedMove

    def __init__(self, place: Place, name: str, namespace: str) -> None:
        self.place, self.limits = place, place.limits
        self.attempts: list[SplitAttempt] = []
        self.is_up = False
        """True when the lane is ready for work: its processes run, its connectors are loaded."""
        self.number = 0
        self.created_at: float | None = time.monotonic()
        self.idle_s = SHORTEST_IDLE_S
        """Seconds to keep the lane without work: as many as it took to start, within bounds."""
        self.idle_since, self.has_timer = 0.0, False
        self.waits_for_cpu = False
        self.stats, self.has_stats = InboxStats(), False
        self.said: deque[str] = deque()
        """Lines that the user's code wrote, until somebody takes them."""
        self.sealed = Progress()
        here = PlacementGroupSchedulingStrategy(
            placement_group=place.group, placement_group_bundle_index=0
        )
        end_cpus, inbox_cpus = divide_cpus(lane_resources(place.limits)["CPU"])

        def options(part: str, cpus: float, **more: int) -> dict[str, object]:
            identity = {"name": f"{name}: {part}", "namespace": namespace}
            return {"num_cpus": cpus, "scheduling_strategy": here, **identity, **more}

        self.inbox = Inbox(name, options("inbox", inbox_cpus, max_concurrency=16))
        home = options("home", end_cpus, max_restarts=0, max_task_retries=0)
        store = options("store", end_cpus, max_restarts=0, max_task_retries=0)
        self.home: ActorHandle = ray.remote(HomeActor).options(**home).remote(self.inbox, name)
        self.store: ActorHandle = ray.remote(StoreActor).options(**store).remote(self.inbox, name)
        self.node = place.node
        self._node_call: ray.ObjectRef | None = self.home.node.remote()
        self._stats_call: ray.ObjectRef | None = None
        self.start_calls: list[ray.ObjectRef] = [
            self._node_call,
            self.store.node.remote(),
            self.inbox.actor.stats.remote(),
        ]
        """Calls that must come back before the lane is up."""

    def warm(self, home: tuple[str, ...], store: tuple[str, ...]) -> None:
        """Have both ends import the modules that they will need."""
        self.start_calls += [self.home.warm.remote(home), self.store.warm.remote(store)]

    def wait(self, timeout_s: float) -> None:
        """Wait for the processes to start, at most so long; a busy cluster may take longer."""
        ray.wait(self.start_calls, num_returns=len(self.start_calls), timeout=timeout_s)

    def load(self, packed: PackedMove, number: int) -> None:
        """Bring in the connectors of a move; the lane is up again when both are unpickled."""
        self.packed, self.number = packed, number
        self.is_up, self.stats, self.has_stats = False, InboxStats(), False
        self._stats_call = None
        self.sealed = Progress()
        self.bytes_per_second = 0.0
        limits = packed.move.limits
        self.start_calls = [
            self.inbox.actor.begin_flow.remote(
                limits.memory_per_lane, limits.max_bytes_per_second is not None, packed.is_small
            ),
        ]
        if packed.is_small:
            self.start_calls.append(self.store.load.remote(packed.store, packed.paths, packed.home))
        else:
            self.start_calls += [
                self.home.load.remote(packed.home, packed.paths),
                self.store.load.remote(packed.store, packed.paths),
            ]
        if self._node_call is not None:
            self.start_calls.append(self._node_call)

    def start(self, split: Split, ticket: Ticket) -> SplitAttempt:
        """Begin an attempt at a split, behind the one that is being staged, if there is one."""
        move = self.packed.move
        name = f"{move.flow} split {split.index}"
        if self.packed.is_small:
            call = self.store.move.options(name=f"move {name}", num_returns=2)
            read, stage = call.remote(ticket, split, move.schema, move.limits)
            attempt = SplitAttempt(split, ticket, read, stage)
            self.attempts.append(attempt)
            return attempt
        read = self.home.read.options(name=f"read {name}").remote(
            ticket, split, move.schema, move.limits
        )
        stage = self.store.stage.options(name=f"stage {name}").remote(ticket, move.schema)
        attempt = SplitAttempt(split, ticket, read, stage)
        self.attempts.append(attempt)
        return attempt

    def set_rate(self, bytes_per_second: float) -> None:
        """Limit the bytes that its Home may give from now on."""
        if bytes_per_second != self.bytes_per_second:
            self.bytes_per_second = bytes_per_second
            self.inbox.actor.set_rate.remote(bytes_per_second)

    def note_started(self, call: ray.ObjectRef, value: object) -> bool:
        """Note that one of `start_calls` returned `value`; return whether the lane is up now."""
        if call == self._node_call:
            self.node, self._node_call = str(value), None
        self.start_calls = [other for other in self.start_calls if other != call]
        self.waits_for_cpu, self.is_up = False, not self.start_calls
        if self.is_up and self.created_at is not None:
            took_s = time.monotonic() - self.created_at
            self.created_at = None
            self.idle_s = max(SHORTEST_IDLE_S, min(took_s, LONGEST_IDLE_S))
        return self.is_up

    def find_node(self) -> str:
        """Return the id of its node, also while its processes start; "" where it has none yet."""
        if self._node_call is None:
            return self.node
        placed = placement_group_table(self.place.group).get("bundles_to_node_id") or {}
        return placed.get(0) or self.node

    def can_start(self) -> bool:
        """Return whether it may be given a split: it has none, or only one that is read already."""
        if not self.is_up:
            return False
        return not self.attempts or (len(self.attempts) == 1 and self.attempts[0].is_read)

    def pending_calls(self) -> list[ray.ObjectRef]:
        """Return the calls that have not come back."""
        calls = [] if self.is_up else list(self.start_calls)
        for attempt in self.attempts:
            if not attempt.is_read:
                calls.append(attempt.read)
            calls.append(attempt.stage)
        return calls

    def request_stats(self) -> None:
        """Ask the Inbox for its counters; a moment later they are in `stats`."""
        if self._stats_call is None:
            call = self._stats_call = self.inbox.actor.stats.remote()
            call.future().add_done_callback(lambda answer: self._keep_stats(call, answer))

    def _keep_stats(self, call: ray.ObjectRef, answer: Future[InboxStats]) -> None:
        if self._stats_call is call:  # otherwise the answer is about the flow before
            self._stats_call = None
            if answer.exception() is None:
                self.keep_stats(answer.result())

    def keep_stats(self, stats: InboxStats) -> None:
        """Keep an answer of the Inbox."""
        self.stats, self.has_stats = stats, True
        self.said += stats.said

    def drop_calls(self) -> None:
        """Keep no reference to a result of Ray's; all calls of an idle lane have come back."""
        self.start_calls, self._node_call, self._stats_call = [], None, None

    def find_other_error(self, failed: ray.ObjectRef, grace_s: float = 0.3) -> Exception | None:
        """Return the error of another call of this lane, if one comes within a short time."""
        others = [call for call in self.pending_calls() if call != failed]
        done, _ = ray.wait(others, num_returns=1, timeout=grace_s) if others else ([], [])
        for call in done:
            try:
                ray.get(call)
            except Exception as error:
                return error
        return None

    def kill(self, keep_bundle: bool = False) -> None:
        """End the three processes, and give the bundle back unless another lane takes it."""
        if not ray.is_initialized():  # they ended with their Ray, and `kill` would start another
            return
        if alive.find_dead_process():  # `kill` would wait for it
            return
        for actor in (self.home, self.store, self.inbox.actor):
            with contextlib.suppress(Exception):
                ray.kill(actor, no_restart=True)
        if not keep_bundle:
            with contextlib.suppress(Exception):
                remove_placement_group(self.place.group)
