"""Progress for people: one line on a terminal, plain lines in a log.

`Terminal` redraws one line on standard error a few times a second if that is a terminal; elsewhere
it writes messages only. `Combined` shows many flows as one, `Quiet` only warnings.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TextIO

from hygge.model import Limits, Report
from hygge.run.watch import Progress, Silent, Watch

_SHOWN_FLOWS = 3
"""Flows that the line of a terminal shows; of the others it shows how many they are."""


class Quiet(Silent):
    """Passes only warnings on to `watch`, for `--quiet`."""

    def __init__(self, watch: Watch) -> None:
        self.watch = watch

    def said(self, flow: str, text: str) -> None:
        if text.startswith("warning: "):
            self.watch.said(flow, text)

    def close(self) -> None:
        self.watch.close()


class Combined:
    """Shows the tables of a flow as one flow: sums, and how many tables have ended.

    `count` is the number of tables.
    """

    def __init__(self, watch: Watch, flow: str, count: int) -> None:
        self.watch, self.flow, self.count = watch, flow, count
        self._lock = threading.Lock()
        self._running: dict[str, Progress] = {}
        self._done = Progress()
        self._show()

    def began(self, flow: str, splits: int) -> None: ...

    def moved(self, flow: str, progress: Progress) -> None:
        with self._lock:
            self._running[flow] = progress
            self._show()

    def said(self, flow: str, text: str) -> None:
        self.watch.said(flow, text)

    def ended(self, report: Report) -> None:
        with self._lock:
            self._running.pop(report.flow, None)
            done = self._done
            self._done = Progress(
                done.rows + report.rows, done.bytes + report.bytes, done.splits_done + 1
            )
            self._show()

    def close(self) -> None: ...

    def _show(self) -> None:
        running = list(self._running.values())
        waits = {progress.waits_for for progress in running}
        self.watch.moved(
            self.flow,
            Progress(
                self._done.rows + sum(progress.rows for progress in running),
                self._done.bytes + sum(progress.bytes for progress in running),
                self._done.splits_done,
                self.count,
                sum(progress.lanes for progress in running),
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
        self._running: dict[str, Progress] = {}
        self._drawn = 0.0
        self._since = time.monotonic()
        self._live = self.out.isatty()
        self._width = 0

    def began(self, flow: str, splits: int) -> None:
        with self._lock:
            self._running[flow] = Progress(splits=splits)
            self._draw(force=True)

    def moved(self, flow: str, progress: Progress) -> None:
        with self._lock:
            self._running[flow] = progress
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
        """Remove the line that is drawn."""
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
        shown = list(self._running.items())[:_SHOWN_FLOWS]
        text = "  ".join(flow_text(flow, progress) for flow, progress in shown)
        if len(self._running) > _SHOWN_FLOWS:
            text += f"  and {len(self._running) - _SHOWN_FLOWS} more"
        text += f"  {now - self._since:.0f} s"
        try:
            columns = os.get_terminal_size(self.out.fileno()).columns
        except OSError:
            columns = 80
        text = text[: max(10, columns - 1)]
        self.out.write(f"\r\x1b[K{text}")
        self.out.flush()
        self._width = len(text)


def flow_text(flow: str, progress: Progress) -> str:
    """Return the progress of a flow in one line: `orders: 1.24 M rows · 310 MB · 12/64 splits`."""
    if not progress.rows and progress.waits_for:
        return f"{flow}: waiting for {progress.waits_for}"
    parts = [f"{flow}: {count_text(progress.rows)} rows", bytes_text(progress.bytes)]
    if progress.splits > 1:
        parts.append(f"{progress.splits_done}/{progress.splits} {progress.of}")
    if progress.waits_for:
        parts.append(f"waiting for {progress.waits_for}")
    return " · ".join(parts)


def count_text(number: int) -> str:
    """Return a number for people: 1234567 → `1.23 M`; up to five digits in full."""
    if number < 100_000:
        return f"{number:,}"
    return f"{number / 1e6:.2f} M" if number < 1e9 else f"{number / 1e9:.2f} G"


def bytes_text(number: float) -> str:
    """Return a number of bytes for people, in decimal units: 1234567 → `1.2 MB`."""
    for unit in ("B", "kB", "MB"):
        if number < 1000:
            digits = 0 if unit == "B" or number >= 10 else 1
            return f"{number:.{digits}f} {unit}"
        number /= 1000
    return f"{number:.2f} GB"


def amounts_text(amounts: Mapping[str, float]) -> str:
    """Return amounts of Ray's resources in words: `2 CPUs, 2.0 GiB of memory and 1 fast_disk`."""
    parts = []
    for name, amount in amounts.items():
        if name == "CPU":
            parts.append(f"{amount:g} CPU{'s'[: amount != 1]}")
        elif name == "memory":
            parts.append(f"{bytes_text(amount)} of memory")
        else:
            parts.append(f"{amount:g} {name}")
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)


def resources_text(limits: Limits, lanes: int = 1) -> str:
    """Return what lanes take of their nodes: `2 CPUs and 2 fast_disk on nodes with region=eu`."""
    amounts = {"CPU": limits.cpus_per_lane or 1.0, **limits.resources}
    text = amounts_text({name: amount * lanes for name, amount in amounts.items()})
    labels = ", ".join(f"{name}={value}" for name, value in limits.label_selector.items())
    return f"{text} on nodes with {labels}" if labels else text
