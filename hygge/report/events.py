"""Events of a run as lines of JSON, for programs and for a process that follows a Ray job.

`JsonLines` is a Watch that writes each event as one JSON object on a line. `parse_event` reads such
a line, and `replay` reports the event to another Watch. So the Coordinator follows the logs of its
flows' jobs, a client follows the log of the Coordinator, and both see what a local run shows.

Ray's dashboard shows the same log to people. So in a job each line begins with the time and a
sentence, and has its JSON behind.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, TextIO

from hygge.errors import rows_text
from hygge.model import Report, Summary, from_facts
from hygge.report.board import Board, FlowView, Ticker
from hygge.report.progress import flow_text
from hygge.report.text import report_json, report_text
from hygge.run.watch import Progress, Watch

_MARK = '{"hygge_event": '
_FOR_PEOPLE_ALONE = '{"hygge_event": "text"}'
_WIDTH = 100
"""Columns of the sentence in a line of a job's log."""
_SHORTEST_S, _LONGEST_S = 1.0, 30.0
"""Between two lines about the progress of one flow."""

Event = dict[str, Any]
"""A JSON object; `hygge_event` is its kind."""


class JsonLines:
    """Writes a line for each event; for progress each second at first, and less often later.

    A flow of which nothing is heard has its last progress written again every 30 s, as a sign of
    life. `in_job`: in the log of a Ray job, which people read as well.
    """

    def __init__(self, out: TextIO | None = None, in_job: bool = False) -> None:
        self.out, self.in_job = out or sys.stderr, in_job
        self.board = Board()
        self._lock = threading.Lock()
        self._began = time.monotonic()
        self._due: dict[str, float] = {}
        self._ticker = Ticker(_LONGEST_S / 4, self._show_life)

    def expects(self, flows: Sequence[str]) -> None:
        names = ", ".join(flows)
        text = names if len(names) <= _WIDTH else f"{len(flows)} flows"
        self._write(f"will run: {text}", "expects", flows=list(flows))

    def began(self, flow: str, splits: int) -> None:
        self._write(f"{flow}: begins", "began", flow=flow, splits=splits)

    def moved(self, flow: str, progress: Progress) -> None:
        self._ticker.start()
        with self.board.lock:
            self.board.move(flow, progress)
            view = self.board.flows[flow]
            if time.monotonic() >= self._due.get(flow, 0.0):
                self._write_progress(view)

    def _show_life(self) -> None:
        with self.board.lock:
            for view in self.board.running():
                if time.monotonic() >= self._due.get(view.name, 0.0) + _LONGEST_S * 3 / 4:
                    self._write_progress(view)

    def _write_progress(self, view: FlowView) -> None:
        now = time.monotonic()
        # Followers read the whole log again and again, so a long run must not make it long.
        pause_s = min(_LONGEST_S, max(_SHORTEST_S, (now - self._began) / 100))
        self._due[view.name] = now + pause_s
        rows_per_s, bytes_per_s = (round(rate) for rate in view.rates(now))
        self._write(
            flow_text(view.name, view.progress),
            "moved",
            flow=view.name,
            **asdict(view.progress),
            rows_per_s=rows_per_s,
            bytes_per_s=bytes_per_s,
        )

    def said(self, flow: str, text: str) -> None:
        self._write(f"{flow}: {text}" if flow else text, "said", flow=flow, text=text)

    def ended(self, report: Report) -> None:
        with self.board.lock:
            self.board.end(report)
        said = f"{report.flow}: {report.status}, {rows_text(report.rows)}"
        said += f": {report.error}" if report.error else ""
        self._write(said, "ended", flow=report.flow, report=asdict(report))

    def close(self) -> None:
        self._ticker.stop()

    def failed(self, text: str, code: int) -> None:
        """Write that the whole command failed, and will exit with `code`."""
        self._write(f"error: {text}", "error", text=text, code=code)

    def _write(self, sentence: str, kind: str, **facts: object) -> None:
        line = json.dumps({"hygge_event": kind, "at": round(time.time(), 3), **facts})
        if self.in_job:
            line = _for_both(sentence, line)
        with self._lock:
            self.out.write(line + "\n")
            self.out.flush()


def report_of_job(summary: Summary) -> str:
    """Return a report for the log of a Ray job: its text for people, then JSON for programs."""
    lines = [_for_both(line, _FOR_PEOPLE_ALONE) for line in report_text(summary).splitlines()]
    return "\n".join([*lines, _for_both("the report for programs:", report_json(summary))])


def _for_both(sentence: str, line: str) -> str:
    """Return a line that begins with the time and a sentence, and has its JSON behind."""
    text = " ".join(sentence.splitlines())
    return f"{time.strftime('%H:%M:%S')}  {text:<{_WIDTH}}  {line}"


def parse_event(line: str) -> Event | None:
    """Return the event in a line of a log, or None if there is none in it."""
    start = line.rfind(_MARK)  # not always 0: a sentence for people may be before it
    if start < 0:
        return None
    try:
        event, _ = json.JSONDecoder().raw_decode(line, start)
    except ValueError:  # a line that was cut, or that something else was written into
        return None
    return event if isinstance(event, dict) else None


def replay(event: Event, watch: Watch) -> None:
    """Report an event to `watch`; kinds that only a newer hygge knows are ignored."""
    try:
        match event["hygge_event"]:
            case "expects":
                watch.expects(event["flows"])
            case "began":
                watch.began(event["flow"], event["splits"])
            case "moved":
                watch.moved(event["flow"], from_facts(Progress, event))
            case "said":
                watch.said(event["flow"], event["text"])
            case "ended":
                watch.ended(from_facts(Report, event["report"]))
    except (TypeError, KeyError):
        return
