"""Progress for people: one quiet line on a terminal, plain lines in a log.

`Terminal` keeps the sums and redraws one line on standard error a few times a second, where that is
a terminal. A log file gets a line when a flow begins, retries or ends, and nothing in between.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from dataclasses import dataclass, field
from typing import TextIO

from hygge.model import Limits, Report
from hygge.run.watch import Seen, Silent, Watch


class Quiet(Silent):
    """No progress, for `--quiet`: of what is said only the warnings reach `watch`."""

    def __init__(self, watch: Watch) -> None:
        self.watch = watch

    def said(self, flow: str, text: str) -> None:
        if text.startswith("warning: "):
            self.watch.said(flow, text)

    def close(self) -> None:
        self.watch.close()


class Together:
    """Many flows seen as one: sums, and how many of them have ended."""

    def __init__(self, watch: Watch, flow: str, count: int) -> None:
        self.watch, self.flow, self.count = watch, flow, count
        self._lock = threading.Lock()
        self._running: dict[str, Seen] = {}
        self._done = Seen()
        self._show()

    def began(self, flow: str, splits: int) -> None: ...

    def moved(self, flow: str, seen: Seen) -> None:
        with self._lock:
            self._running[flow] = seen
            self._show()

    def said(self, flow: str, text: str) -> None:
        self.watch.said(flow, text)

    def ended(self, report: Report) -> None:
        with self._lock:
            self._running.pop(report.flow, None)
            done = self._done
            self._done = Seen(
                done.rows + report.rows, done.bytes + report.bytes, done.splits_done + 1
            )
            self._show()

    def close(self) -> None: ...

    def _show(self) -> None:
        now = list(self._running.values())
        waits = {each.waits_for for each in now}
        self.watch.moved(
            self.flow,
            Seen(
                self._done.rows + sum(each.rows for each in now),
                self._done.bytes + sum(each.bytes for each in now),
                self._done.splits_done,
                self.count,
                sum(each.lanes for each in now),
                waits.pop() if len(waits) == 1 else "",
                of="tables",
            ),
        )


@dataclass
class Terminal:
    """One line on a terminal, redrawn in place; plain lines elsewhere."""

    out: TextIO = field(default_factory=lambda: sys.stderr)
    every_s: float = 0.2

    def __post_init__(self) -> None:
        self._lock = threading.Lock()
        self._running: dict[str, Seen] = {}
        self._drawn = 0.0
        self._since = time.monotonic()
        self._live = self.out.isatty()
        self._width = 0

    def began(self, flow: str, splits: int) -> None:
        with self._lock:
            self._running[flow] = Seen(splits=splits)
            self._draw(force=True)

    def moved(self, flow: str, seen: Seen) -> None:
        with self._lock:
            self._running[flow] = seen
            self._draw()

    def said(self, flow: str, text: str) -> None:
        with self._lock:
            self._clear()
            self.out.write(f"{flow}: {text}\n" if flow else f"{text}\n")
            self._draw(force=True)

    def ended(self, report: Report) -> None:
        with self._lock:
            self._running.pop(report.flow, None)
            self._clear()
            self._draw(force=True)

    def close(self) -> None:
        """Leave a clean line behind."""
        with self._lock:
            self._running.clear()
            self._clear()
            self.out.flush()

    def _clear(self) -> None:
        if self._live and self._width:
            self.out.write("\r\x1b[K")
            self._width = 0

    def _draw(self, force: bool = False) -> None:
        now = time.monotonic()
        if not self._live or (not force and now - self._drawn < self.every_s):
            return
        self._drawn = now
        if not self._running:
            self.out.flush()
            return
        text = "  ".join(_one(flow, seen) for flow, seen in list(self._running.items())[:3])
        if len(self._running) > 3:
            text += f"  and {len(self._running) - 3} more"
        text += f"  {now - self._since:.0f} s"
        try:
            columns = os.get_terminal_size(self.out.fileno()).columns
        except OSError:
            columns = 80
        text = text[: max(10, columns - 1)]
        self.out.write(f"\r\x1b[K{text}")
        self.out.flush()
        self._width = len(text)


def _one(flow: str, seen: Seen) -> str:
    if not seen.rows and seen.waits_for:
        return f"{flow}: waiting for {seen.waits_for}"
    parts = [f"{flow}: {count(seen.rows)} rows", size(seen.bytes)]
    if seen.splits > 1:
        parts.append(f"{seen.splits_done}/{seen.splits} {seen.of}")
    if seen.waits_for:
        parts.append(f"waiting for {seen.waits_for}")
    return " · ".join(parts)


def count(number: int) -> str:
    """1234567 → `1.23 M`; up to five digits in full."""
    if number < 100_000:
        return f"{number:,}"
    return f"{number / 1e6:.2f} M" if number < 1e9 else f"{number / 1e9:.2f} G"


def size(number: float) -> str:
    """Bytes in decimal units, as disks are sold."""
    for unit in ("B", "kB", "MB"):
        if number < 1000:
            return f"{number:.0f} {unit}" if unit == "B" or number >= 10 else f"{number:.1f} {unit}"
        number /= 1000
    return f"{number:.2f} GB"


def wanted(limits: Limits, lanes: int = 1) -> str:
    """What so many lanes take of their nodes: `2 CPUs and 2 fast_disk on nodes with region=eu`."""
    cpus = (limits.cpus_per_lane or 1.0) * lanes
    parts = [f"{cpus:g} CPU{'s'[: cpus != 1]}"]
    for name, amount in limits.resources.items():
        all_of_it = amount * lanes
        parts.append(
            f"{size(all_of_it)} of memory" if name == "memory" else f"{all_of_it:g} {name}"
        )
    said = " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)
    labels = ", ".join(f"{name}={value}" for name, value in limits.label_selector.items())
    return f"{said} on nodes with {labels}" if labels else said
