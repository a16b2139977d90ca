"""Calls of a Home or a Store that the network may never answer: watched, and given up in time.

A call is made in its caller's thread, and another thread watches it. When nothing has moved for a
minute, people are told what is waited for, and again each minute. After `stall_timeout` the call is
given up: its connections are shut down, which ends it, and `Stalled` names end, phase and time.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TypeVar

from hygge.errors import HyggeError
from hygge.model import Limits
from hygge.open_connections import WatchedCall, watching

Result = TypeVar("Result")

SAY_AFTER_S = 60.0
_AFTER_STALL_S = 10.0
"""How long calls may take after one was given up: they only clear up, and may hang as well."""
_LOOK_S = 0.5
HINT = "look at what it does there; `stall_timeout` says how long hygge waits"


class Stalled(HyggeError):
    """A call that was given up, because nothing had moved for `stall_timeout`."""


class StallGuard:
    """Watches calls, one at a time. `say` is told what is waited for."""

    def __init__(self, limits: Limits, say: Callable[[str], None]) -> None:
        self.limits, self.say = limits, say
        self.waited_for = ""
        """The end that is waited for, and the phase; a call may change it while it works."""
        self.stalled: Stalled | None = None
        """The first call that was given up."""
        self._progressed_at = 0.0

    def note_progress(self) -> None:
        """Note that something moved. Called by the call itself."""
        self._progressed_at = time.monotonic()

    def call(self, waited_for: str, work: Callable[[], Result]) -> Result:
        """Return the result of `work`; raise Stalled where nothing moved for too long."""
        self.waited_for, self._progressed_at = waited_for, time.monotonic()
        limit_s = self.limits.stall_timeout_s if self.stalled is None else _AFTER_STALL_S
        done = threading.Event()
        given_up: list[Stalled] = []
        with watching() as call:
            watcher = threading.Thread(
                target=self._watch, args=(call, done, given_up, limit_s), daemon=True,
                name="hygge-stall",
            )  # fmt: skip
            watcher.start()
            try:
                return work()
            except Exception as error:
                if given_up:
                    raise given_up[0] from error
                raise
            finally:
                done.set()
                watcher.join()

    def _watch(
        self, call: WatchedCall, done: threading.Event, given_up: list[Stalled], most_s: float
    ) -> None:
        said_at = self._progressed_at
        while True:
            limit_s = min(most_s, self.limits.stall_timeout_s)
            said_at = max(said_at, self._progressed_at)
            until = min(self._progressed_at + limit_s, said_at + SAY_AFTER_S)
            if done.wait(min(_LOOK_S, max(0.0, until - time.monotonic()))):
                return
            now = time.monotonic()
            if now < until:
                continue  # something may have moved meanwhile
            still_s = now - self._progressed_at
            text = f"nothing moved for {still_s:.0f} s: waiting for {self.waited_for}"
            if still_s >= limit_s:
                given_up.append(Stalled(text, HINT))
                self.stalled = self.stalled or given_up[0]
                call.give_up()
                # Once more for what it opens while it ends; it may be in no state to be ended.
                while not done.wait(SAY_AFTER_S):
                    self.say(f"{text}; it is given up, and has not ended yet")
                    call.give_up()
                return
            if now - said_at >= SAY_AFTER_S:
                said_at = now
                self.say(text)
