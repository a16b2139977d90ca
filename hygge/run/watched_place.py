"""The state of a flow in a bucket, whose requests are given up after `stall_timeout` as well.

The object store's own limits are two minutes a request, several requests a verb, and several verbs
a run: a network that forwards nothing more would hold a run for an hour.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from hygge.model import Limits
from hygge.places.place import Place
from hygge.run.stall import Stalled, StallGuard

Result = TypeVar("Result")


class WatchedPlace:
    """A place; each verb raises Stalled where nothing comes back for `stall_timeout`.

    `say` is told what is waited for. Verbs may be called by several threads.
    """

    def __init__(self, place: Place, limits: Limits, say: Callable[[str], None]) -> None:
        self.place, self.limits, self.say = place, limits, say
        self.at_once = place.at_once
        self._stalled: Stalled | None = None

    def describe(self) -> str:
        return self.place.describe()

    def check(self) -> None:
        self._watched(self.place.check)

    def check_rights(self) -> None:
        self._watched(self.place.check_rights)

    def create(self, key: str, content: bytes) -> bool:
        return self._watched(lambda: self.place.create(key, content))

    def put(self, key: str, content: bytes) -> None:
        self._watched(lambda: self.place.put(key, content))

    def get(self, key: str) -> bytes | None:
        return self._watched(lambda: self.place.get(key))

    def keys(self, below: str) -> list[str]:
        return self._watched(lambda: self.place.keys(below))

    def remove(self, below: str) -> None:
        self._watched(lambda: self.place.remove(below))

    def _watched(self, work: Callable[[], Result]) -> Result:
        guard = StallGuard(self.limits, self.say)
        guard.stalled = self._stalled  # what comes after a stall only clears up
        try:
            return guard.call(f"the state {self.place.describe()}", work)
        finally:
            self._stalled = self._stalled or guard.stalled
