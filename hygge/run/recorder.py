"""What a run leaves for people: its report, rates over time, attempts, who waited, messages.

A `Recorder` stands between a flow and its watch, and passes everything on. What it keeps is bounded
in size, however long the run takes. `hygge/journal/history.py` keeps it in the state.
"""

from __future__ import annotations

import contextlib
import platform
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from hygge.journal import history
from hygge.model import Column, Report
from hygge.places.place import place_at
from hygge.run.attempts import SplitAttempts
from hygge.run.watch import Progress, Watch
from hygge.type_words import word_of

_POINTS = 60
_FIRST_EVERY_S = 0.5
_MESSAGES, _LONGEST = 50, 500
_WAITS = 20
_COLUMNS = 500
_PACKAGES = ("hygge", "ray", "pyarrow")


class Recorder:
    """Passes on what a flow reports to `watch`, and keeps what is asked later."""

    def __init__(self, watch: Watch) -> None:
        self.watch = watch
        self.run = ""
        """Id of the run, from when there is one."""
        self.attempts = SplitAttempts()
        self._start, self._seen_at = time.monotonic(), 0.0
        self._points: list[tuple[float, int, int, int, int]] = []
        """(seconds, rows, bytes, splits done, lanes)"""
        self._every_s = _FIRST_EVERY_S
        self._waits: dict[str, float] = {}
        self._messages: list[tuple[float, str]] = []
        self._left_out = 0
        self._last = Progress()
        self._columns: list[list[str]] = []
        """Of each column: name, type in the source, type as it is moved."""

    def restart_clock(self) -> None:
        """Count seconds from now, as the report does: the engine is ready."""
        self._start, self._seen_at = time.monotonic(), 0.0
        self._points, self._every_s = [(0.0, 0, 0, 0, 0)], _FIRST_EVERY_S
        self._messages = [(0.0, text) for _, text in self._messages]
        self.attempts = SplitAttempts()

    def note_run(self, run: str, columns: Sequence[Column]) -> None:
        """Note the id of the run, and the columns of its plan."""
        self.run = run
        self._columns = [[each.name, each.native or "", word_of(each.type)] for each in columns]

    def expects(self, flows: Sequence[str]) -> None:
        self.watch.expects(flows)

    def began(self, flow: str, splits: int) -> None:
        # What comes now is moved from now on, and not while the plan was made.
        self._points.append((self._passed_s(), self._last.rows, self._last.bytes, 0, 0))
        self.watch.began(flow, splits)

    def moved(self, flow: str, progress: Progress) -> None:
        self._note(progress)
        self.watch.moved(flow, progress)

    def said(self, flow: str, text: str) -> None:
        if len(self._messages) < _MESSAGES:
            self._messages.append((self._passed_s(), text[:_LONGEST]))
        else:
            self._left_out += 1
        self.watch.said(flow, text)

    def ended(self, report: Report) -> None:
        self.watch.ended(report)

    def close(self) -> None:
        self.watch.close()

    def facts(self, report: Report) -> dict[str, Any]:
        """Return what is kept, as JSON: `report` and what was seen while it ran."""
        self._note(Progress(report.rows or self._last.rows, report.bytes or self._last.bytes), True)
        waits = self._waits
        longest = sorted(waits, key=lambda text: -waits[text])
        return {
            **asdict(report),
            "run": report.run or self.run,
            "started_at": report.started_at or time.time() - self._passed_s(),
            "over_time": {
                "columns": ["seconds", "rows", "bytes", "splits_done", "lanes"],
                "points": [list(point) for point in self._points],
            },
            "split_attempts": self.attempts.facts(),
            "columns": self._columns[:_COLUMNS],
            "waited_s": {text: round(waits[text], 1) for text in longest[:_WAITS]},
            "messages": [list(message) for message in self._messages],
            "messages_left_out": self._left_out,
            "versions": versions(),
        }

    def keep(self, state: str, flow: str, report: Report) -> None:
        """Write the record of a run into the state; where that fails, there is no record."""
        with contextlib.suppress(Exception):  # evidence only: it changes no run
            history.keep(place_at(state), flow, self.facts(report))

    def _note(self, progress: Progress, is_last: bool = False) -> None:
        now, seen = self._passed_s(), self._last
        if seen.waits_for and (seen.waits_for in self._waits or len(self._waits) < 5 * _WAITS):
            waited_s = self._waits.get(seen.waits_for, 0.0)
            self._waits[seen.waits_for] = waited_s + now - self._seen_at
        self._seen_at, self._last = now, progress
        if not is_last and self._points and now - self._points[-1][0] < self._every_s:
            return
        done, lanes = progress.splits_done, progress.lanes
        self._points.append((now, progress.rows, progress.bytes, done, lanes))
        if len(self._points) > _POINTS:  # half of them, twice as far apart
            self._points = [*self._points[:-1:2], self._points[-1]]
            self._every_s *= 2

    def _passed_s(self) -> float:
        return round(time.monotonic() - self._start, 3)


def versions() -> dict[str, str]:
    """Return the versions of what moved the rows; a package that is not loaded did not."""
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        if name in sys.modules:  # to read the metadata of a package takes much longer
            found[name] = str(sys.modules[name].__version__)
    return found
