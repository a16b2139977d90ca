"""What a run does, line by line, where there is no terminal: cron's mail, a CI log, a file.

A flow has a line when it begins and when it ends; one that fails says why at once. A flow that runs
has a sign of life every 30 s, also where nothing moves. Each line begins with the time of the day.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import TextIO

from hygge.errors import rows_text
from hygge.model import Report
from hygge.report.board import Board, Ticker
from hygge.report.grid import one_line
from hygge.report.progress import bytes_text, duration_text, retries_text
from hygge.run.watch import Progress

SIGN_EVERY_S = 30.0


class Lines:
    """A Watch that writes lines of text to `out`, by default standard error."""

    def __init__(self, out: TextIO | None = None, sign_every_s: float = SIGN_EVERY_S) -> None:
        self.out = out or sys.stderr
        self.board = Board()
        self._ticker = Ticker(sign_every_s, self._show_life)

    def expects(self, flows: Sequence[str]) -> None:
        with self.board.lock:
            self.board.expect(flows)

    def began(self, flow: str, splits: int) -> None:
        with self.board.lock:
            if self.board.begin(flow):
                self._begin(flow)

    def moved(self, flow: str, progress: Progress) -> None:
        with self.board.lock:
            if self.board.move(flow, progress):
                self._begin(flow)

    def said(self, flow: str, text: str) -> None:
        with self.board.lock:
            self._write(f"{flow}: {text}" if flow else text)

    def ended(self, report: Report) -> None:
        with self.board.lock:
            if self.board.end(report):
                count = self.board.count_text()
                self._write(end_text(report) + (f" ({count})" if count else ""))

    def close(self) -> None:
        self._ticker.stop()

    def _begin(self, flow: str) -> None:
        self._ticker.start()
        self._write(f"{flow}: begins")

    def _show_life(self) -> None:
        with self.board.lock:
            now = time.monotonic()
            for view in self.board.running():
                self._write(view.sentence(now))

    def _write(self, text: str) -> None:
        self.out.write(f"{time.strftime('%H:%M:%S')}  {text}\n")
        self.out.flush()


def end_text(report: Report) -> str:
    """Return how a flow ended, with its error, in words for people."""
    flow = one_line(report.flow)
    if report.status == "done":
        parts = [rows_text(report.rows), bytes_text(report.bytes)]
        if report.retries:
            parts.append(retries_text(report.retries))
        parts.append(duration_text(report.seconds))
        return f"{flow}: done, {' · '.join(parts)}"
    reason = report.error or report.note
    if reason == report.status:  # stopped: stopped
        reason = report.note
    after = f" after {duration_text(report.seconds)}" if report.seconds else ""
    return f"{flow}: {report.status}{after}" + (f": {reason}" if reason else "")
