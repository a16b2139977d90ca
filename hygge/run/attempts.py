"""Which lane tried which split, from when to when, and how that ended.

An engine tells a `SplitAttempts` when an attempt begins and ends. It keeps bars for a chart, a few
hundred at most: where there are more, neighbours in one lane become one bar, the shortest first.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import Any, Literal

from hygge.model import Ticket

LANES = 32
"""Lanes whose attempts are kept: those with the lowest numbers."""
_BARS = 400
_FIRST_SHORTEST_S = 0.01
How = Literal["staged", "failed", "given_up"]
"""How an attempt ended; `given_up`: it did not fail itself, but its lane or its run ended."""


@dataclass
class _Bar:
    """One attempt, or neighbours in one lane; times in seconds since the flow began."""

    began: float
    ended: float
    staged: int = 0
    failed: int = 0
    given_up: int = 0
    rows: int = 0
    split: int | None = None
    """The split, where it is one attempt."""


class SplitAttempts:
    """Keeps the attempts of one flow; bounded in size. Every method may be called by any thread."""

    def __init__(self) -> None:
        self._start, self._lock = time.monotonic(), threading.Lock()
        self._open: dict[Ticket, tuple[int, float]] = {}
        """The lane and the begin of each attempt that has not ended."""
        self._bars: dict[int, list[_Bar]] = {}
        """Of each lane, in the order in which they ended."""
        self._count, self._shortest_s = 0, _FIRST_SHORTEST_S

    def began(self, lane: int, ticket: Ticket) -> None:
        """Note that a lane, by its number from 0, begins an attempt."""
        if lane < LANES:
            with self._lock:
                self._open[ticket] = lane, self._passed_s()

    def ended(self, ticket: Ticket, how: How, rows: int = 0) -> None:
        """Note how an attempt ended; the first call counts. `rows`: those that were staged."""
        with self._lock:
            if ticket in self._open:
                lane, began = self._open.pop(ticket)
                bar = _Bar(began, self._passed_s(), rows=rows, split=ticket.split)
                setattr(bar, how, 1)
                self._bars.setdefault(lane, []).append(bar)
                self._count += 1
                while self._count > _BARS:
                    self._merge()

    def close(self) -> None:
        """Note that attempts which have not ended are given up."""
        for ticket in list(self._open):
            self.ended(ticket, "given_up")

    def facts(self) -> dict[str, Any]:
        """Return the bars as JSON; the list has one entry a bar."""
        with self._lock:
            return {
                "columns": [
                    "lane", "began", "ended", "staged", "failed", "given_up", "rows", "split"
                ],
                "bars": [
                    [lane, bar.began, bar.ended, bar.staged, bar.failed, bar.given_up, bar.rows,
                     bar.split]
                    for lane in sorted(self._bars) for bar in self._bars[lane]
                ],
            }  # fmt: skip

    def _merge(self) -> None:
        """Make one bar of neighbours that are short together: twice as long as the time before."""
        self._shortest_s *= 2
        for bars in self._bars.values():
            kept = bars[:1]
            for bar in bars[1:]:
                last = kept[-1]
                if bar.ended - last.began > self._shortest_s:
                    kept.append(bar)
                    continue
                kept[-1] = _Bar(
                    min(last.began, bar.began), bar.ended, last.staged + bar.staged,
                    last.failed + bar.failed, last.given_up + bar.given_up, last.rows + bar.rows,
                )  # fmt: skip
            bars[:] = kept
        self._count = sum(map(len, self._bars.values()))

    def _passed_s(self) -> float:
        return round(time.monotonic() - self._start, 3)
