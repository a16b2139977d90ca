"""The Inbox of a lane: a Ray queue of batch references, bounded in bytes by credits.

    Home actor                    Inbox actor                       Store actor
    charge(nbytes)  ── waits ──▶  charged + nbytes ≤ limit
    ref = ray.put(table)
    put(Batch(.., [ref]))  ────▶  queue  ─────────────────────────▶ get(freed)
                                  charged -= freed                   table = ray.get(ref)

Bytes are charged before `ray.put` and given back with the Store's next `get`, when it has dropped
its last reference: what is bounded is the charge, not a guess. An empty lane always admits one
batch, so a row larger than the budget passes alone. What a batch has above `batch_bytes` is charged
three times: both ends hold such a row besides, where they make it and encode it. The reference is
nested in the message, or Ray would send the data itself through this actor. After a failure a lane
gets a new Inbox: a producer that was killed in `put` leaves a zombie behind, and a consumer killed
in `get` steals an item.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass
from typing import Any

import ray
from ray.util.queue import Queue, _QueueActor

from hygge.model import Ticket


@dataclass(frozen=True)
class Batch:
    """One table on its way: who it belongs to, its place in the split, and the nested reference."""

    ticket: Ticket
    seq: int
    rows: int
    nbytes: int
    weight: int
    """What was charged for it."""
    refs: list[Any]


@dataclass(frozen=True)
class End:
    """The Home has sent all of a split: what the Store must have counted."""

    ticket: Ticket
    batches: int
    rows: int


@dataclass(frozen=True)
class InboxStats:
    """What passed through an Inbox, and who waited for whom (seconds)."""

    rows_in: int = 0
    bytes_in: int = 0
    rows_out: int = 0
    bytes_out: int = 0
    charged: int = 0
    most_charged: int = 0
    wait_home_s: float = 0.0
    wait_store_s: float = 0.0
    wait_rate_s: float = 0.0
    waiting: str = ""
    """`home` while it waits for room, `store` while it waits for a batch, `rate` while the Home
    waits because it may give only so many bytes a second."""


class InboxActor(_QueueActor):
    def __init__(self, label: str) -> None:
        super().__init__(0)  # items are bounded by the bytes they were charged
        self.label = label
        self.room = asyncio.Condition()
        self.rate = Rate(None)
        self._count_from_zero(0)

    async def bound(self, max_bytes: int, is_paced: bool) -> None:
        """Begin a flow: its budget, and counters from zero.

        `is_paced`: no byte passes before it is told how fast they may.
        """
        self.rate = Rate(0.0 if is_paced else None)
        self._count_from_zero(max_bytes)

    async def pace(self, bytes_per_second: float) -> None:
        """From now on; the share of this lane in what its flow may read."""
        await self.rate.change(bytes_per_second)

    def _count_from_zero(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.charged = self.most = 0
        self.rows_in = self.bytes_in = self.rows_out = self.bytes_out = 0
        self.wait_home = self.wait_store = 0.0
        self.home_since: float | None = None
        self.store_since: float | None = None

    async def charge(self, weight: int, nbytes: int) -> None:
        await self.rate.take(nbytes)
        async with self.room:
            self.home_since = time.monotonic()
            await self.room.wait_for(
                lambda: not self.charged or self.charged + weight <= self.max_bytes
            )
            self.wait_home += time.monotonic() - self.home_since
            self.home_since = None
            self.charged += weight
            self.most = max(self.most, self.charged)

    async def put(self, item: Any, timeout: float | None = None) -> None:
        if isinstance(item, Batch):
            self.rows_in += item.rows
            self.bytes_in += item.nbytes
        await super().put(item, timeout)

    async def get(self, timeout: float | None = None, freed: int = 0) -> Any:
        if freed:
            async with self.room:
                self.charged -= freed
                self.room.notify_all()
        self.store_since = time.monotonic()
        item = await super().get(timeout)
        self.wait_store += time.monotonic() - self.store_since
        self.store_since = None
        if isinstance(item, Batch):
            self.rows_out += item.rows
            self.bytes_out += item.nbytes
        return item

    async def stats(self) -> InboxStats:
        now = time.monotonic()
        home = now - self.home_since if self.home_since else 0.0
        store = now - self.store_since if self.store_since else 0.0
        return InboxStats(
            self.rows_in, self.bytes_in, self.rows_out, self.bytes_out,
            self.charged, self.most, self.wait_home + home, self.wait_store + store,
            self.rate.waited(), "rate" if self.rate.since else "home" if home
            else "store" if store else "",
        )  # fmt: skip

    def __repr__(self) -> str:
        return f"Inbox({self.label})"


class Rate:
    """How many bytes may pass in a second; what it holds back is never more than one batch.

    A batch passes when all of its bytes are earned, counted from when the one before it passed. So
    what passes in any time is at most the rate, and one batch.
    """

    def __init__(self, bytes_per_second: float | None) -> None:
        self.bytes_per_second = bytes_per_second
        self.earned, self.at = 0.0, time.monotonic()
        self.changed = asyncio.Condition()
        self.since: float | None = None
        self.waited_s = 0.0

    async def change(self, bytes_per_second: float) -> None:
        """Another rate from now on."""
        async with self.changed:
            self._earn()
            self.bytes_per_second = bytes_per_second
            self.changed.notify_all()

    async def take(self, nbytes: int) -> None:
        """Wait until so many bytes are earned."""
        if self.bytes_per_second is None:
            return
        self.since = time.monotonic()
        async with self.changed:
            self._earn()
            self.earned = min(self.earned, nbytes)  # what was not taken in time is not kept
            while self.earned < nbytes:
                rate = self.bytes_per_second
                patience = (nbytes - self.earned) / rate if rate else None
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self.changed.wait(), patience)
                self._earn()
            self.earned -= nbytes
        self.waited_s += time.monotonic() - self.since
        self.since = None

    def waited(self) -> float:
        """Seconds so far."""
        return self.waited_s + (time.monotonic() - self.since if self.since else 0.0)

    def _earn(self) -> None:
        now = time.monotonic()
        self.earned += (self.bytes_per_second or 0.0) * (now - self.at)
        self.at = now


class Inbox(Queue):
    """The handle of a lane's queue; picklable, held by the Flow, the Home and the Store."""

    def __init__(self, label: str, actor_options: dict[str, Any]) -> None:
        self.maxsize = 0
        self.actor = ray.remote(InboxActor).options(**actor_options).remote(label)

    def charge(self, weight: int, nbytes: int) -> None:
        """Wait until `nbytes` may pass and there is room for `weight`, and take it."""
        ray.get(self.actor.charge.remote(weight, nbytes))

    def take(self, freed: int) -> Batch | End:
        """Give back `freed` bytes, then wait for the next message."""
        item: Batch | End = ray.get(self.actor.get.remote(None, freed))
        return item
