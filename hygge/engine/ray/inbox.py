"""The Inbox of a lane: a Ray queue of batch references, bounded in bytes by credits.

    Home actor                    Inbox actor                       Store actor
    charge(nbytes)  ── waits ──▶  charged + nbytes ≤ limit
    ref = shared.put(table)
    put(Batch(.., [ref]))  ────▶  queue  ─────────────────────────▶ get(freed)
                                  charged -= freed                   table = ray.get(ref)

Bytes are charged before `shared.put` and given back with the Store's next `get`, when the Store has
dropped its last reference. So the bound holds for what is charged, and nothing is estimated. An
empty lane always admits one batch, so a row larger than the budget passes alone. The part of a
batch above `batch_bytes` is charged three times, because the Home and the Store each hold a copy of
such a row while they make and encode it. The reference is nested in the message; otherwise Ray
would send the data itself through this actor.

After a failure a lane gets a new Inbox: a producer that was killed in `put` leaves a request behind
that still puts its item, and a consumer that was killed in `get` takes an item away.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Mapping
from dataclasses import dataclass

import ray
from ray.actor import ActorHandle
from ray.util.queue import Queue, _QueueActor

from hygge.model import Ticket

_MOST_LINES = 1_000
"""Lines of the user's code that wait for the driver; the others are counted."""


@dataclass(frozen=True)
class Batch:
    """The message for one table: its ticket, its number within the split, and its reference."""

    ticket: Ticket
    seq: int
    rows: int
    nbytes: int
    weight: int
    """The bytes that were charged for it."""
    refs: list[ray.ObjectRef]
    """One reference, nested in a list so that Ray does not resolve it."""


@dataclass(frozen=True)
class End:
    """The message behind the last batch of a split: the counts that the Store must reach."""

    ticket: Ticket
    batches: int
    rows: int


@dataclass(frozen=True)
class InboxStats:
    """Counters of an Inbox since its flow began; waits are in seconds."""

    rows_in: int = 0
    bytes_in: int = 0
    rows_out: int = 0
    bytes_out: int = 0
    charged: int = 0
    """Bytes that are charged now."""
    most_charged: int = 0
    wait_home_s: float = 0.0
    """Time that the Home waited for room; `wait_store_s`: the Store for a batch."""
    wait_store_s: float = 0.0
    wait_rate_s: float = 0.0
    said: tuple[str, ...] = ()
    """Lines that the user's code wrote since the last answer."""
    waiting: str = ""
    """The end that waits now: `home` (for room), `store` (for a batch), `rate` (the Home, for
    `max_bytes_per_second`), or ""."""


class InboxActor(_QueueActor):
    """The process of an Inbox: Ray's queue, with credits in bytes and counters."""

    def __init__(self, label: str) -> None:
        super().__init__(0)  # no bound on items: `charge` bounds their bytes
        self.label = label
        self.room = asyncio.Condition()
        self.rate = Rate(None)
        self._reset_counters(0)

    async def begin_flow(
        self, max_bytes: int, is_rate_limited: bool, has_one_process: bool = False
    ) -> None:
        """Set the budget of a flow, and all counters to zero.

        With `is_rate_limited` no byte passes before the first `set_rate`. `has_one_process`: one
        process reads and stages, and begins by asking for a batch.
        """
        self.rate = Rate(0.0 if is_rate_limited else None)
        self._reset_counters(max_bytes)
        if has_one_process:
            await self.note_asked(1)

    async def set_rate(self, bytes_per_second: float) -> None:
        """Set this lane's share of the flow's `max_bytes_per_second`."""
        await self.rate.change(bytes_per_second)

    def _reset_counters(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.charged = self.most_charged = 0
        self.rows_in = self.bytes_in = self.rows_out = self.bytes_out = 0
        self.wait_home = self.wait_store = 0.0
        self.asked = self.passed = 0
        self.home_waits_since: float | None = None
        self.store_waits_since: float | None = None
        self.lines: list[str] = []
        self.lines_left_out = 0

    async def say(self, lines: list[str]) -> None:
        """Keep lines until the next answer of `stats`."""
        room = _MOST_LINES - len(self.lines)
        self.lines += lines[:room]
        self.lines_left_out += len(lines[room:])

    async def charge(self, weight: int, nbytes: int) -> None:
        """Wait until `nbytes` are within the rate and there is room for `weight`; charge it."""
        await self.rate.take(nbytes)
        async with self.room:
            self.home_waits_since = time.monotonic()
            await self.room.wait_for(
                lambda: not self.charged or self.charged + weight <= self.max_bytes
            )
            self.wait_home += time.monotonic() - self.home_waits_since
            self.home_waits_since = None
            self.charged += weight
            self.most_charged = max(self.most_charged, self.charged)

    async def put(self, item: Batch | End, timeout: float | None = None) -> None:
        """Put a message, and count it."""
        if isinstance(item, Batch):
            self.rows_in += item.rows
            self.bytes_in += item.nbytes
        await super().put(item, timeout)

    async def get(self, timeout: float | None = None, freed: int = 0) -> Batch | End:
        """Give back `freed` charged bytes, then wait for the next message."""
        if freed:
            async with self.room:
                self.charged -= freed
                self.room.notify_all()
        self.store_waits_since = time.monotonic()
        item: Batch | End = await super().get(timeout)
        self.wait_store += time.monotonic() - self.store_waits_since
        self.store_waits_since = None
        if isinstance(item, Batch):
            self.rows_out += item.rows
            self.bytes_out += item.nbytes
        return item

    async def note_asked(self, number: int) -> None:
        """Note that the Store asks its own process for the batch `number`, and waits.

        The numbers are from 1. Notes may come in another order than they were sent in.
        """
        self.asked = max(self.asked, number)
        if self.asked > self.passed:
            self.store_waits_since = self.store_waits_since or time.monotonic()

    async def note_passed(self, rows: int, nbytes: int) -> None:
        """Count a batch that goes from Home to Store within one process."""
        self.passed += 1
        if self.store_waits_since and self.asked <= self.passed:
            self.wait_store += time.monotonic() - self.store_waits_since
            self.store_waits_since = None
        self.rows_in, self.bytes_in = self.rows_in + rows, self.bytes_in + nbytes
        self.rows_out, self.bytes_out = self.rows_out + rows, self.bytes_out + nbytes

    async def stats(self) -> InboxStats:
        """Return the counters of this moment."""
        now = time.monotonic()
        home = now - self.home_waits_since if self.home_waits_since else 0.0
        store = now - self.store_waits_since if self.store_waits_since else 0.0
        if self.rate.waits_since:
            waiting = "rate"
        elif home:
            waiting = "home"
        elif store:
            waiting = "store"
        else:
            waiting = ""
        lines, self.lines = self.lines, []
        if self.lines_left_out:
            lines.append(f"… {self.lines_left_out:,} more lines that are not shown")
            self.lines_left_out = 0
        return InboxStats(
            self.rows_in, self.bytes_in, self.rows_out, self.bytes_out, self.charged,
            self.most_charged, self.wait_home + home, self.wait_store + store,
            self.rate.waited(), tuple(lines), waiting,
        )  # fmt: skip

    def __repr__(self) -> str:
        return f"Inbox({self.label})"


class Rate:
    """Lets bytes pass at most at a rate, by keeping each batch until its bytes are earned.

    Bytes are earned from the moment when the batch before passed. So in any period at most the rate
    times its length passes, and one batch more.
    """

    def __init__(self, bytes_per_second: float | None) -> None:
        """`bytes_per_second`: None means without a limit, 0 that nothing passes."""
        self.bytes_per_second = bytes_per_second
        self.earned, self.earned_at = 0.0, time.monotonic()
        self.changed = asyncio.Condition()
        self.waits_since: float | None = None
        self.waited_s = 0.0

    async def change(self, bytes_per_second: float) -> None:
        """Set the rate from now on."""
        async with self.changed:
            self._earn()
            self.bytes_per_second = bytes_per_second
            self.changed.notify_all()

    async def take(self, nbytes: int) -> None:
        """Wait until `nbytes` are earned."""
        if self.bytes_per_second is None:
            return
        self.waits_since = time.monotonic()
        async with self.changed:
            self._earn()
            self.earned = min(self.earned, nbytes)  # the bytes of a pause are not saved up
            while self.earned < nbytes:
                rate = self.bytes_per_second
                timeout_s = (nbytes - self.earned) / rate if rate else None
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self.changed.wait(), timeout_s)
                self._earn()
            self.earned -= nbytes
        self.waited_s += time.monotonic() - self.waits_since
        self.waits_since = None

    def waited(self) -> float:
        """Return how many seconds batches have waited so far."""
        return self.waited_s + (time.monotonic() - self.waits_since if self.waits_since else 0.0)

    def _earn(self) -> None:
        now = time.monotonic()
        self.earned += (self.bytes_per_second or 0.0) * (now - self.earned_at)
        self.earned_at = now


class Inbox(Queue):
    """The handle of a lane's queue; picklable, held by the driver, the Home and the Store."""

    actor: ActorHandle

    def __init__(self, label: str, actor_options: Mapping[str, object]) -> None:
        self.maxsize = 0
        self.actor = ray.remote(InboxActor).options(**actor_options).remote(label)

    def charge(self, weight: int, nbytes: int) -> None:
        """Wait until `nbytes` may pass and there is room for `weight`; charge it."""
        ray.get(self.actor.charge.remote(weight, nbytes))

    def note_asked(self, number: int) -> None:
        """Note that a batch is waited for that does not come through here."""
        self.actor.note_asked.remote(number)

    def note_passed(self, rows: int, nbytes: int) -> None:
        """Count a batch that does not come through here; its answer is not waited for."""
        self.actor.note_passed.remote(rows, nbytes)

    def say(self, lines: list[str]) -> None:
        """Pass on lines that the user's code wrote to the driver."""
        ray.get(self.actor.say.remote(lines))

    def take(self, freed: int) -> Batch | End:
        """Give back `freed` charged bytes, then wait for the next message."""
        item: Batch | End = ray.get(self.actor.get.remote(None, freed))
        return item
