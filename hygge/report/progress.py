"""Progress in words for people, and the watches that pass on a part of what they are told.

`Combined` shows many flows as one, `Quiet` passes on only warnings and failures. What a terminal
shows stands in `hygge/report/live.py`, the lines of a log in `hygge/report/lines.py`.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Mapping

from hygge.model import Limits, Report, Status
from hygge.run.watch import Progress, Silent, Watch

_WORST_FIRST: tuple[Status, ...] = ("failed", "stopped", "skipped")


class Quiet(Silent):
    """Passes only warnings and failures on to `watch`, for `--quiet`."""

    def __init__(self, watch: Watch) -> None:
        self.watch = watch

    def said(self, flow: str, text: str) -> None:
        if text.startswith("warning: "):
            self.watch.said(flow, text)

    def ended(self, report: Report) -> None:
        if report.status == "failed":
            self.watch.ended(report)

    def close(self) -> None:
        self.watch.close()


class Combined(Silent):
    """Shows the tables of a flow as one flow: sums, and how many tables have ended.

    `count` is the number of tables. A table that fails is passed on at once.
    """

    def __init__(self, watch: Watch, flow: str, count: int) -> None:
        self.watch, self.flow, self.count = watch, flow, count
        self._lock = threading.Lock()
        self._running: dict[str, Progress] = {}
        self._done = Progress()
        self._statuses: Counter[Status] = Counter()
        self._began = time.monotonic()
        self._show()

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
                done.rows + report.rows,
                done.bytes + report.bytes,
                done.splits_done + 1,
                retries=done.retries + report.retries,
            )
            self._statuses[report.status] += 1
            self._show()
            is_last = self._done.splits_done == self.count
        if report.status == "failed":
            self.watch.ended(report)
        if is_last:
            self.watch.ended(self._sum())

    def _sum(self) -> Report:
        """Return the report of the flow: the sums of its tables, and how many did not end well."""
        bad: list[Status] = [each for each in _WORST_FIRST if self._statuses[each]]
        status: Status = bad[0] if bad else "done"
        number = self._statuses[status]
        return Report(
            self.flow,
            status,
            rows=self._done.rows,
            bytes=self._done.bytes,
            retries=self._done.retries,
            seconds=time.monotonic() - self._began,
            error=f"{number} of {self.count} tables failed" if status == "failed" else None,
            note=f"{number} of {self.count} tables {status}" if status != "failed" else "",
        )

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
                retries=self._done.retries + sum(progress.retries for progress in running),
            ),
        )


def flow_text(flow: str, progress: Progress) -> str:
    """Return the progress of a flow in one line: `orders: 1.24 M rows · 310 MB · 12/64 splits`."""
    if not progress.rows and progress.waits_for:
        return f"{flow}: waiting for {progress.waits_for}"
    parts = [f"{flow}: {count_text(progress.rows)} rows", bytes_text(progress.bytes)]
    if progress.splits > 1:
        parts.append(f"{progress.splits_done}/{progress.splits} {progress.of}")
    if progress.retries:
        parts.append(retries_text(progress.retries))
    if progress.waits_for:
        parts.append(f"waiting for {progress.waits_for}")
    return " · ".join(parts)


def retries_text(number: int) -> str:
    """Return a number of repeated attempts for people: `1 retry`, `3 retries`."""
    return f"{number:,} {'retry' if number == 1 else 'retries'}"


def duration_text(seconds: float) -> str:
    """Return a time for people: `4.2 s`, `3 min 20 s`, `2 h 5 min`."""
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest_s = divmod(int(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest_s} s"
    return f"{minutes // 60:,} h {minutes % 60} min"


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
