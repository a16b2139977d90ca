"""The Prometheus metrics of a flow, which Ray serves on the metrics port of the driver's node.

The driver counts everything. It counts rows, bytes and splits when a split is sealed, so a retry
counts nothing twice. Ray puts `ray_` in front of the names. Tags are names only: never a URL, never
a path.

Ray keeps a counter on its port after the driver has ended, and drops a gauge. So what is added up
over runs is a counter, and there are few of them: the tables of a flow count under its one name.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

import ray
from ray.util.metrics import Counter, Gauge

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
    "hygge_commits_total": ("Commits that made rows visible", ()),
    "hygge_commit_seconds_total": ("Seconds that commits took", ()),
    "hygge_wait_seconds_total": ("Seconds of lanes that waited, by who was waited for", ("for",)),
}
_GAUGES = {
    "hygge_inbox_bytes": ("Arrow bytes between Homes and Stores", ()),
    "hygge_lanes": ("Lanes that run, are idle, or are pending", ("state",)),
}
STATES = ("running", "idle", "pending")
_lock = threading.Lock()


@dataclass(frozen=True)
class _Metrics:
    counters: Mapping[str, Counter]
    gauges: Mapping[str, Gauge]


@cache
def _create_metrics(session: str) -> _Metrics:
    """Return the metrics; new ones for each `session`, a connection of this process to Ray."""
    counters = {
        name: Counter(name, text, tag_keys=(*_TAGS, *more))
        for name, (text, more) in _COUNTERS.items()
    }
    gauges = {
        name: Gauge(name, text, tag_keys=(*_TAGS, *more)) for name, (text, more) in _GAUGES.items()
    }
    return _Metrics(counters, gauges)


class Meter:
    """Counts for one flow. `of`: the flow whose table this is; its tables count together."""

    def __init__(self, flow: str, home: Home, store: Store, of: str = "") -> None:
        self.tags = {"flow": of or home.flow or flow}
        self.tags |= {"home": _name(home, of), "store": _name(store, of)}
        self.counted_waits: dict[str, float] = {}
        with _lock:  # flows run side by side
            self.metrics = _create_metrics(ray.get_runtime_context().get_worker_id())

    def count_split(self, receipt: Receipt) -> None:
        """Count a sealed split, its rows and its bytes."""
        self._count("hygge_rows_total", receipt.rows)
        self._count("hygge_bytes_total", receipt.bytes)
        self._count("hygge_splits_total", 1)

    def count_retry(self) -> None:
        """Count a failure that is tried again."""
        self._count("hygge_retries_total", 1)

    def set_lanes(self, by_state: Mapping[str, int], inbox_bytes: int) -> None:
        """Set how many lanes there are in each of `STATES`, and the bytes in all Inboxes."""
        for state in STATES:
            tags = {**self.tags, "state": state}
            self.metrics.gauges["hygge_lanes"].set(by_state.get(state, 0), tags)
        self.metrics.gauges["hygge_inbox_bytes"].set(inbox_bytes, self.tags)

    def count_waits(self, seconds: Mapping[str, float]) -> None:
        """Count the lanes' waits. `seconds`: totals so far, for `home`, `store` and `rate`."""
        for who, total in seconds.items():
            before = self.counted_waits.get(who, 0.0)
            self._count("hygge_wait_seconds_total", total - before, {"for": who})
            self.counted_waits[who] = max(before, total)

    def observe_commit(self, seconds: float) -> None:
        """Count a commit and how long it took."""
        self._count("hygge_commits_total", 1)
        self._count("hygge_commit_seconds_total", seconds)

    def _count(self, name: str, amount: float, tags: Mapping[str, str] | None = None) -> None:
        if amount > 0:  # Ray refuses to count nothing
            self.metrics.counters[name].inc(amount, {**self.tags, **(tags or {})})


def _name(end: Connector, of: str) -> str:
    """Return the name of an end, else its table or its class; `describe()` may contain a path.

    An end of one table of many is named by its class: its table would be a series of its own.
    """
    if of:
        return type(end).__name__
    if end.name:
        return end.name
    table = getattr(end, "table", None)
    return table if isinstance(table, str) and table else type(end).__name__
