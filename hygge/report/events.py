"""Progress as lines of JSON, for machines and for whoever follows a run from elsewhere.

`JsonLines` is a Watch that writes what it is told, a JSON object a line; `event` reads such a line
and `replay` tells it to another Watch. A Ray job tells its progress so: the Coordinator reads the
logs of its flows, a client that of the Coordinator, and what is seen far away is what is seen here.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from dataclasses import asdict
from typing import Any, TextIO

from hygge.model import Report, known
from hygge.run.watch import Seen, Watch

_MARK = '{"hygge_event": '
_EVERY_S = (1.0, 30.0)


class JsonLines:
    """A line for each thing that is told; how far a flow is, each second at first, later less."""

    def __init__(self, out: TextIO | None = None) -> None:
        self.out = out or sys.stderr
        self._lock = threading.Lock()
        self._began = time.monotonic()
        self._due: dict[str, float] = {}

    def began(self, flow: str, splits: int) -> None:
        self._write("began", flow=flow, splits=splits)

    def moved(self, flow: str, seen: Seen) -> None:
        now = time.monotonic()
        if now < self._due.get(flow, 0.0):
            return
        # Whoever follows reads the log again and again: a long run must not make a long one.
        shortest, longest = _EVERY_S
        self._due[flow] = now + min(longest, max(shortest, (now - self._began) / 100))
        self._write("moved", flow=flow, **asdict(seen))

    def said(self, flow: str, text: str) -> None:
        self._write("said", flow=flow, text=text)

    def ended(self, report: Report) -> None:
        self._write("ended", flow=report.flow, report=asdict(report))

    def close(self) -> None: ...

    def failed(self, text: str, code: int) -> None:
        """The whole command failed, and will exit with `code`."""
        self._write("error", text=text, code=code)

    def _write(self, kind: str, **told: Any) -> None:
        line = json.dumps({"hygge_event": kind, "at": round(time.time(), 3), **told})
        with self._lock:
            self.out.write(line + "\n")
            self.out.flush()


def event(line: str) -> dict[str, Any] | None:
    """What a line of JSON tells, or None if it is any other line."""
    at = line.find(_MARK)  # behind what was printed without an end of the line
    if at < 0:
        return None
    try:
        told, _ = json.JSONDecoder().raw_decode(line, at)
    except ValueError:  # a line that was cut, or that something else was written into
        return None
    return told if isinstance(told, dict) else None


def replay(told: dict[str, Any], watch: Watch) -> None:
    """Tell an event to `watch`; kinds that only a newer hygge knows are passed over."""
    rest = {key: each for key, each in told.items() if key not in ("hygge_event", "at", "flow")}
    try:
        match told["hygge_event"]:
            case "began":
                watch.began(told["flow"], rest["splits"])
            case "moved":
                watch.moved(told["flow"], known(Seen, rest))
            case "said":
                watch.said(told["flow"], rest["text"])
            case "ended":
                watch.ended(known(Report, rest["report"]))
    except (TypeError, KeyError):
        return
