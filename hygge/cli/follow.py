"""Follows a run on a cluster, or one of its flows, until it ends.

A `Follower` reads the log of the job and reports its events to a watch. Its `end` prints the
report, or raises why there is none, both after `hygge submit` and in `hygge logs`. Ctrl-C is only
noted while lines are read, so that no line is lost by it.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import FrameType

from hygge.engine.jobs import cluster as remote
from hygge.engine.jobs.following import Following, is_ray_line
from hygge.errors import HyggeError, UsageError
from hygge.model import Summary
from hygge.report.events import parse_event, replay
from hygge.report.text import report_from_json
from hygge.run.watch import Watch

_SAY_SILENT_AFTER_S = 3.0
_NAMED = 5


@dataclass
class JobLog:
    """The parts of a job's log that tell how it ended."""

    summary: Summary | None = None
    """The report; None: it wrote none."""
    error: str = ""
    """The error of the whole command, with its hint; empty: there was none."""
    code: int = 1
    """The exit code of the command that failed with `error`."""

    def read(self, line: str, watch: Watch) -> None:
        """Take in one line of the log: an event, the report, or a message for people."""
        event = parse_event(line)
        if event is not None and event["hygge_event"] == "error":
            self.error, self.code = str(event.get("text")), int(event.get("code", 1))
        elif event is not None:
            replay(event, watch)
        elif (summary := report_from_json(line)) is not None:
            self.summary = summary
        elif line and not is_ray_line(line):
            watch.said("", line)


@dataclass
class Follower:
    """Follows the job `name` of a cluster, and reports to `watch`."""

    cluster: remote.Cluster
    name: str
    watch: Watch
    log: JobLog = field(default_factory=JobLog)
    asked_to_stop: bool = False
    """True if this process asked the run to stop."""

    def __post_init__(self) -> None:
        self.following = Following(self.cluster.client, self.name)
        self._is_silent = False

    def look(self) -> None:
        """Report what the job has written since the last look."""
        for line in self.following.read_lines():
            self.log.read(line, self.watch)
        is_silent = self.following.silent_s > _SAY_SILENT_AFTER_S
        if is_silent and not self._is_silent:
            self.watch.said("", f"no answer from {self.cluster.address}; the run goes on there")
        self._is_silent = is_silent

    def follow(self, on_interrupt: Callable[[], None]) -> bool:
        """Follow the job until it ends or Ctrl-C is pressed twice; return whether it has ended.

        The first Ctrl-C calls `on_interrupt`, which may raise KeyboardInterrupt to leave at once.
        """
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

    def end(self, print_report: Callable[[Summary], None], has_report: bool) -> int:
        """Print the report with `print_report`, and return the exit code.

        `has_report`: hygge submitted the job, so it writes a report unless it fails or dies.
        Raises the error that the run wrote, or how it died.
        """
        ended, log = self.following.ended, self.log
        is_stopped = self.asked_to_stop or (ended is not None and ended.status == "STOPPED")
        self.watch.close()
        if log.summary is not None:
            print_report(log.summary)
        elif log.error:
            message, _, hint = log.error.partition("\n\nhint: ")
            raise (UsageError if log.code == 2 else HyggeError)(message, hint or None)
        elif ended is not None and has_report and not is_stopped:
            raise self._death()
        if is_stopped:
            return 130
        if log.summary is not None:
            return 0 if log.summary.ok else 1
        return 1 if ended is not None and ended.status == "FAILED" else 0

    def _death(self) -> HyggeError:
        """Return the error that explains why a run ended without a word about it."""
        ended, run = self.following.ended, self.name
        assert ended is not None  # it is called only then
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
        flows = self.cluster.list_flow_jobs(run)
        running = [flow.submission_id for flow in flows if not flow.status.is_terminal()]
        message = f"the driver of {run} died: {ended.why}"
        hint = f"`hygge logs {run}` shows what it said"
        if running:
            message += f"; these of its flows go on: {', '.join(running[:_NAMED])}"
            hint += f", `hygge stop {run}` ends its flows"
        return HyggeError(message, f"{hint}; running it again goes on where it stopped")


@contextlib.contextmanager
def _interrupts() -> Iterator[threading.Event]:
    """An event that the first Ctrl-C sets; the second one raises KeyboardInterrupt."""
    interrupted = threading.Event()
    was_interrupted = False

    def on_signal(number: int, frame: FrameType | None) -> None:
        nonlocal was_interrupted
        if was_interrupted:
            raise KeyboardInterrupt
        was_interrupted = True
        interrupted.set()

    if threading.current_thread() is not threading.main_thread():
        yield interrupted
        return
    before = signal.signal(signal.SIGINT, on_signal)
    try:
        yield interrupted
    finally:
        signal.signal(signal.SIGINT, before)
