"""The reports of a run while it runs, and the interface that receives them.

A flow and its engine call the methods of a `Watch` from their own threads. The methods have the
names of the events that `--log-format json` writes. `Silent` ignores every event; the watches that
show something stand in `hygge/report`.
"""

from __future__ import annotations

import importlib
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from hygge.model import Report

_LOOK_S = 0.1
Result = TypeVar("Result")


@dataclass(frozen=True)
class Progress:
    """The progress of one flow."""

    rows: int = 0
    """Rows that Stores took so far."""
    bytes: int = 0
    """Arrow bytes that Stores took so far."""
    splits_done: int = 0
    """Splits that are staged."""
    splits: int = 0
    """Splits in all."""
    lanes: int = 0
    """Lanes that work."""
    waits_for: str = ""
    """Text for people about what the flow waits for; empty: nothing."""
    of: str = "splits"
    """The plural word for people of what `splits` counts."""
    retries: int = 0
    """Attempts that failed and were repeated."""
    rows_expected: int | None = None
    """Rows in all, as far as the plan tells; a database estimates them. None: not known."""


class Watch(Protocol):
    """Receives what a flow and its engine report. Every method may be called from any thread."""

    def expects(self, flows: Sequence[str]) -> None:
        """These flows will run. Called before the first of them begins; maybe again, for some."""
        ...

    def began(self, flow: str, splits: int) -> None:
        """`flow` is planned and begins to move this number of splits."""
        ...

    def moved(self, flow: str, progress: Progress) -> None:
        """`flow` has come as far as `progress` tells. Called often."""
        ...

    def said(self, flow: str, text: str) -> None:
        """`flow` has a message for people; "" as `flow`: the whole command has."""
        ...

    def ended(self, report: Report) -> None:
        """A flow has ended, well or not; or a table of one, where `of` of the report names it."""
        ...

    def close(self) -> None:
        """Nothing more will be reported; may be called again."""
        ...


class Silent:
    """Ignores every event: the default for Python users, but in a notebook."""

    def expects(self, flows: Sequence[str]) -> None: ...
    def began(self, flow: str, splits: int) -> None: ...
    def moved(self, flow: str, progress: Progress) -> None: ...
    def said(self, flow: str, text: str) -> None: ...
    def ended(self, report: Report) -> None: ...
    def close(self) -> None: ...


async def run_in_thread(
    run: Callable[[Watch, threading.Event], Result], watch: Watch | None
) -> Result:
    """Return what `run(watch, stop)` returns, which blocks; cancelling the task sets `stop`."""
    import asyncio  # slow to load, and not needed by a command

    stop, shown = threading.Event(), default_watch() if watch is None else watch
    running = asyncio.get_running_loop().run_in_executor(None, run, shown, stop)
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        stop.set()
        await asyncio.wait([running])
        raise
    finally:
        if watch is None:
            shown.close()


def default_watch() -> Watch:
    """Return the watch of a Python user who names none: one that draws in a notebook."""
    if "ipykernel" in sys.modules:
        watch: Watch | None = importlib.import_module("hygge.report.live").find_notebook()
        if watch is not None:
            return watch
    return Silent()


class LinkedStop(threading.Event):
    """A stop event of one flow; it counts as set too when `outer` is set."""

    def __init__(self, outer: threading.Event) -> None:
        super().__init__()
        self.outer = outer

    def is_set(self) -> bool:
        return self.outer.is_set() or super().is_set()

    def wait(self, timeout: float | None = None) -> bool:
        until = None if timeout is None else time.monotonic() + timeout
        while not self.is_set():
            left_s = _LOOK_S if until is None else until - time.monotonic()
            if left_s <= 0:
                break
            super().wait(min(_LOOK_S, left_s))
        return self.is_set()
