"""The state of all flows of a command, as a watch shows it: what runs, how fast, what has ended.

A `Board` is told the events of a run, and is read under its lock by the watch that owns it.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from hygge.model import Report
from hygge.report.progress import bytes_text, count_text, flow_text
from hygge.run.watch import Progress

_RATE_OVER_S = 10.0
"""The rate that is shown is that of so many last seconds."""
_SAMPLE_EVERY_S = 0.5
_LEAST_SHARE = 0.02
"""Share of the rows from which on the time that is left is guessed."""


@dataclass
class FlowView:
    """One flow, as far as it has come."""

    name: str
    began_at: float
    """Time of the first event, as `time.monotonic` gives it."""
    progress: Progress = field(default_factory=Progress)
    report: Report | None = None
    """How it ended; None: it runs."""
    moves_since: float | None = None
    """Time when it began to move rows; None: it has not."""
    samples: deque[tuple[float, int, int]] = field(default_factory=deque)
    """(time, rows, bytes) of the last seconds."""

    def note(self, progress: Progress, now: float) -> None:
        """Take in how far the flow has come."""
        self.progress = progress
        if progress.rows and self.moves_since is None:
            self.moves_since = now
        if not self.samples:
            self.samples.append((now, progress.rows, progress.bytes))
        elif now - self.samples[-1][0] >= _SAMPLE_EVERY_S:
            self.samples.append((now, progress.rows, progress.bytes))
            while len(self.samples) > 2 and now - self.samples[1][0] >= _RATE_OVER_S:
                self.samples.popleft()

    def rates(self, now: float) -> tuple[float, float]:
        """Return (rows, bytes) in a second, over the last seconds; it falls where nothing moves."""
        if not self.samples:
            return 0.0, 0.0
        at, rows, size = self.samples[0]
        passed_s = max(now - at, _SAMPLE_EVERY_S)
        moved, gone = self.progress.rows - rows, self.progress.bytes - size
        return max(0.0, moved / passed_s), max(0.0, gone / passed_s)

    def share(self) -> float | None:
        """Return which part is done, 0 to 1: of the rows, else of the splits; None: not known.

        Until the first split is staged, the splits tell nothing: all lanes are in the midst of one.
        """
        seen = self.progress
        if seen.rows_expected:
            return min(1.0, seen.rows / seen.rows_expected)
        return seen.splits_done / seen.splits if seen.splits > 1 and seen.splits_done else None

    def left_s(self, now: float) -> float | None:
        """Return about how many seconds are left; None: not known."""
        share, seen = self.share(), self.progress
        if share is None or share < _LEAST_SHARE or share >= 1 or self.moves_since is None:
            return None
        if seen.rows_expected:
            rows_per_s, _ = self.rates(now)
            return (seen.rows_expected - seen.rows) / rows_per_s if rows_per_s else None
        return (now - self.moves_since) * (1 - share) / share

    def sentence(self, now: float) -> str:
        """Return its progress and rate in one line for people."""
        text = flow_text(self.name, self.progress)
        if not self.progress.rows:
            return f"{text}, for {now - self.began_at:.0f} s"
        rows_per_s, bytes_per_s = self.rates(now)
        return f"{text} · {count_text(round(rows_per_s))} rows/s · {bytes_text(bytes_per_s)}/s"


class Board:
    """The flows of a command, in the order in which they began. Use it under `lock`."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.began_at = time.monotonic()
        self.expected: dict[str, None] = {}
        self.flows: dict[str, FlowView] = {}

    def expect(self, flows: Sequence[str]) -> None:
        """Note flows that will run."""
        self.expected.update(dict.fromkeys(flows))

    def begin(self, flow: str) -> bool:
        """Note that a flow runs; return whether this is news."""
        if flow in self.flows:
            return False
        self.flows[flow] = FlowView(flow, time.monotonic())
        return True

    def move(self, flow: str, progress: Progress) -> bool:
        """Note how far a flow has come; return whether the flow is new."""
        is_new = self.begin(flow)
        view = self.flows[flow]
        if view.report is None:
            view.note(progress, time.monotonic())
        return is_new

    def end(self, report: Report) -> bool:
        """Note how a flow ended; return whether this is news that people should see.

        It is none where it was said before, and for one table of many that is done.
        """
        if report.of:
            key = f"\0{report.flow}"
            is_news = report.status == "failed" and key not in self.expected
            if is_news:
                self.expected[key] = None
            return is_news
        self.begin(report.flow)
        view = self.flows[report.flow]
        is_news = view.report is None or view.report.status != report.status
        view.report = report
        return is_news

    def running(self) -> list[FlowView]:
        """Return the flows that have not ended."""
        return [view for view in self.flows.values() if view.report is None]

    def ended(self) -> list[FlowView]:
        """Return the flows that have ended."""
        return [view for view in self.flows.values() if view.report is not None]

    def count_text(self) -> str:
        """Return how many flows have ended: `3 of 10 flows`.

        "" where there is one flow only, or where nobody told how many there are (`--quiet`).
        """
        expected = {name for name in self.expected if not name.startswith("\0")}
        names = expected | self.flows.keys()
        if len(names) < 2 or not expected:
            return ""
        ended = self.ended()
        failed = sum(view.report is not None and view.report.status == "failed" for view in ended)
        text = f"{len(ended)} of {len(names)} flows"
        return f"{text} · {failed} failed" if failed else text


def progress_of(report: Report) -> Progress:
    """Return the progress that a flow had come to when it ended."""
    return replace(Progress(), rows=report.rows, bytes=report.bytes, retries=report.retries)


class Ticker:
    """Calls `tick` every `every_s` seconds from a thread of its own, until `stop`."""

    def __init__(self, every_s: float, tick: Callable[[], None]) -> None:
        self.every_s, self.tick = every_s, tick
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start, unless it runs or was stopped."""
        if self._thread is None and not self._stop.is_set():
            self._thread = threading.Thread(target=self._work, name="hygge-watch", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """End it; may be called again. Not under a lock that `tick` takes."""
        self._stop.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(1.0)

    def _work(self) -> None:
        while not self._stop.wait(self.every_s):
            self.tick()
