"""What a flow tells Prometheus, through Ray's own metrics on the port of its driver's node.

Rows, bytes and splits are counted when a split is sealed, so each is counted once, whatever was
tried twice; everything is counted by the driver. Ray puts `ray_` in front of the names. Tags are
names only: never a URL, never a path.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from functools import cache
from typing import Any

import ray
from ray.util.metrics import Counter, Gauge, Histogram

from hygge.home import Home
from hygge.model import Receipt
from hygge.settings import Connector
from hygge.store import Store

_TAGS = ("flow", "home", "store")
_COUNTERS = {
    "hygge_rows_total": ("Rows of sealed splits", ()),
    "hygge_bytes_total": ("Arrow bytes of sealed splits", ()),
    "hygge_splits_total": ("Splits that are sealed", ()),
    "hygge_retries_total": ("Tries at a split or a lane that failed and were begun again", ()),
    "hygge_wait_seconds_total": ("Seconds of lanes that waited, by who was waited for", ("for",)),
}
_GAUGES = {
    "hygge_inbox_bytes": ("Arrow bytes between Homes and Stores", ()),
    "hygge_lanes": ("Lanes that run, are idle, or are pending", ("state",)),
}
_COMMIT_S = [0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0]
STATES = ("running", "idle", "pending")
_lock = threading.Lock()


@cache
def _metrics(session: str) -> dict[str, Any]:
    """All of them; once for each time that this process came to a Ray."""
    made: dict[str, Any] = {}
    for kind, named in ((Counter, _COUNTERS), (Gauge, _GAUGES)):
        for name, (text, more) in named.items():
            made[name] = kind(name, text, tag_keys=(*_TAGS, *more))
    name = "hygge_commit_seconds"
    made[name] = Histogram(name, "Seconds that commits took", _COMMIT_S, tag_keys=_TAGS)
    return made


class Meter:
    """The metrics of one flow."""

    def __init__(self, flow: str, home: Home, store: Store) -> None:
        self.tags = {"flow": home.flow or flow, "home": _name(home), "store": _name(store)}
        self.waited: dict[str, float] = {}
        with _lock:  # flows run side by side
            self.metrics = _metrics(ray.get_runtime_context().get_worker_id())

    def sealed(self, receipt: Receipt) -> None:
        """A split more."""
        self._count("hygge_rows_total", receipt.rows)
        self._count("hygge_bytes_total", receipt.bytes)
        self._count("hygge_splits_total", 1)

    def retried(self) -> None:
        """Something failed, and is begun again."""
        self._count("hygge_retries_total", 1)

    def lanes(self, by_state: Mapping[str, int], inbox_bytes: int) -> None:
        """How it stands now."""
        for state in STATES:
            tags = {**self.tags, "state": state}
            self.metrics["hygge_lanes"].set(by_state.get(state, 0), tags)
        self.metrics["hygge_inbox_bytes"].set(inbox_bytes, self.tags)

    def waits(self, seconds: Mapping[str, float]) -> None:
        """Who was waited for so far, in all lanes: `home`, `store`, `rate`."""
        for who, so_far in seconds.items():
            before = self.waited.get(who, 0.0)
            self._count("hygge_wait_seconds_total", so_far - before, {"for": who})
            self.waited[who] = max(before, so_far)

    def committed(self, seconds: float) -> None:
        """A commit returned."""
        self.metrics["hygge_commit_seconds"].observe(seconds, self.tags)

    def _count(self, name: str, more: float, tags: Mapping[str, str] | None = None) -> None:
        if more > 0:  # Ray refuses to count nothing
            self.metrics[name].inc(more, {**self.tags, **(tags or {})})


def _name(end: Connector) -> str:
    """What an end is called, or its kind: what it describes may be a path or a host."""
    table = getattr(end, "table", None)
    return end.name or (table if isinstance(table, str) else "") or type(end).__name__
