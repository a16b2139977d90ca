"""Events of a run as lines of JSON, for programs and for a process that follows a Ray job.

`JsonLines` is a Watch that writes each event as one JSON object on a line. `parse_event` reads such
a line, and `replay` reports the event to another Watch. So the Coordinator follows the logs of its
flows' jobs, a client follows the log of the Coordinator, and both see what a local run shows.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from dataclasses import asdict
from typing import Any, TextIO

from hygge.model import Report, from_facts
from hygge.run.watch import Progress, Watch

_MARK = '{"hygge_event": '
_SHORTEST_S, _LONGEST_S = 1.0, 30.0
"""Between two lines about the progress of one flow."""

Event = dict[str, Any]
"""A JSON object; `hygge_event` is its kind."""


class JsonLines:
    """Writes a line for each event; for progress each second at first, and less often later."""

    def __init__(self, out: TextIO | None = None) -> None:
        self.out = out or sys.stderr
        self._lock = threading.Lock()
        self._began = time.monotonic()
        self._due: dict[str, float] = {}

    def began(self, flow: str, splits: int) -> None:
        self._write("began", flow=flow, splits=splits)

    def moved(self, flow: str, progress: Progress) -> None:
        now = time.monotonic()
        if now < self._due.get(flow, 0.0):
            return
        # Followers read the whole log again and again, so a long run must not make it long.
        self._due[flow] = now + min(_LONGEST_S, max(_SHORTEST_S, (now - self._began) / 100))
        self._write("moved", flow=flow, **asdict(progress))

    def said(self, flow: str, text: str) -> None:
        self._write("said", flow=flow, text=text)

    def ended(self, report: Report) -> None:
        self._write("ended", flow=report.flow, report=asdict(report))

    def close(self) -> None: ...

    def failed(self, text: str, code: int) -> None:
        """Write that the whole command failed, and will exit with `code`."""
        self._write("error", text=text, code=code)

    def _write(self, kind: str, **facts: object) -> None:
        line = json.dumps({"hygge_event": kind, "at": round(time.time(), 3), **facts})
        with self._lock:
            self.out.write(line + "\n")
            self.out.flush()


def parse_event(line: str) -> Event | None:
    """Return the event in a line of a log, or None if there is none in it."""
    start = line.find(_MARK)  # not always 0: something may be printed without a line end before it
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
