"""Whoever follows a run, or one of its flows, from elsewhere: what it says, and how it ended.

A `Follower` tells a watch what the job tells; `end` is the same for whoever submitted the run and
for `hygge logs`: the report, or why there is none. Ctrl-C is only noted here while lines are read,
so that none is lost by it.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from hygge.engine.jobs import cluster as remote
from hygge.engine.jobs.following import Following, is_ray_line
from hygge.errors import HyggeError, UsageError
from hygge.model import Summary
from hygge.report.events import event, replay
from hygge.report.text import report_from_json
from hygge.run.watch import Watch

_SAY_SILENT_AFTER_S = 3.0
_NAMED = 5


@dataclass
class Heard:
    """What a run said of its end."""

    summary: Summary | None = None
    error: str = ""
    code: int = 1

    def hear(self, line: str, watch: Watch) -> None:
        """One line of the job's log."""
        told = event(line)
        if told is not None and told["hygge_event"] == "error":
            self.error, self.code = str(told.get("text")), int(told.get("code", 1))
        elif told is not None:
            replay(told, watch)
        elif (summary := report_from_json(line)) is not None:
            self.summary = summary
        elif line and not is_ray_line(line):
            watch.said("", line)


@dataclass
class Follower:
    """Follows the job `name` of a cluster."""

    cluster: remote.Cluster
    name: str
    watch: Watch
    heard: Heard = field(default_factory=Heard)
    asked: bool = False
    """Whether the run was asked to stop, from here."""

    def __post_init__(self) -> None:
        self.following = Following(self.cluster.client, self.name)
        self._said = False

    def look(self) -> None:
        """Tell what came since."""
        for line in self.following.read_lines():
            self.heard.hear(line, self.watch)
        silent = self.following.silent_s > _SAY_SILENT_AFTER_S
        if silent and not self._said:
            self.watch.said("", f"no answer from {self.cluster.address}; the run goes on there")
        self._said = silent

    def follow(self, on_interrupt: Callable[[], None]) -> bool:
        """Until it has ended, or a second Ctrl-C; whether it has. `on_interrupt` at the first."""
        with _interrupts() as interrupted:
            try:
                while True:
                    self.look()
                    if self.following.ended is not None:
                        return True
                    if interrupted.is_set():
                        interrupted.clear()
                        on_interrupt()
                    interrupted.wait(self.following.pause_s())
            except KeyboardInterrupt:
                return False

    def end(self, report: Callable[[Summary], None], mine: bool) -> int:
        """Tell how it ended; gives the exit code. `mine`: hygge submitted it, so it has a report.

        Raises what the run said of its error, or how it died.
        """
        ended, heard = self.following.ended, self.heard
        self.watch.close()
        if heard.summary is not None:
            report(heard.summary)
        elif heard.error:
            message, _, hint = heard.error.partition("\n\nhint: ")
            raise (UsageError if heard.code == 2 else HyggeError)(message, hint or None)
        elif ended is not None and ended.status != "STOPPED" and mine and not self.asked:
            raise self._died()
        if self.asked or (ended is not None and ended.status == "STOPPED"):
            return 130
        if heard.summary is not None:
            return 0 if heard.summary.ok else 1
        return 1 if ended is not None and ended.status == "FAILED" else 0

    def _died(self) -> HyggeError:
        """Why a run ended that said nothing about it."""
        ended, run = self.following.ended, self.name
        assert ended is not None  # asked only then
        if ended.status == "SUCCEEDED":
            return HyggeError(
                f"{run} ended well, but its report was not heard",
                f"`hygge logs {run}` shows what it said; look into the stores before you run it "
                "again",
            )
        if ended.code == 127:
            return HyggeError(
                "there is no `hygge` on the cluster's head node",
                "install the same hygge-data there: in the image, or in the environment of "
                "`ray start`",
            )
        if ended.code == 2:
            return HyggeError(
                "the hygge on the cluster does not know what this one asks of it",
                "let both be the same version (`hygge --version`)",
            )
        left = [
            e.submission_id for e in self.cluster.list_flow_jobs(run) if not e.status.is_terminal()
        ]
        goes_on = f"; these of its flows go on: {', '.join(left[:_NAMED])}" if left else ""
        return HyggeError(
            f"the driver of {run} died: {ended.why}{goes_on}",
            f"`hygge logs {run}` shows what it said"
            + (f", `hygge stop {run}` ends its flows" if left else "")
            + "; running it again goes on where it stopped",
        )


@contextlib.contextmanager
def _interrupts() -> Iterator[threading.Event]:
    """Set by a first Ctrl-C; a second one raises KeyboardInterrupt."""
    interrupted, many = threading.Event(), [0]

    def on_signal(number: int, frame: Any) -> None:
        many[0] += 1
        if many[0] > 1:
            raise KeyboardInterrupt
        interrupted.set()

    if threading.current_thread() is not threading.main_thread():
        yield interrupted
        return
    before = signal.signal(signal.SIGINT, on_signal)
    try:
        yield interrupted
    finally:
        signal.signal(signal.SIGINT, before)
