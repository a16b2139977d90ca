"""Follow a submitted Ray job: its log line by line, then how it ended.

Ray's dashboard may start slowly, be busy, or be out of reach for a while; the job runs on
meanwhile. Requests that only read are therefore repeated, for `PATIENCE_S` seconds. The log of a
job is on the node of its driver, and is lost with it: such a job has ended without a word.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass

from hygge.engine.jobs.client import JobClient, JobDetails, shorten_error
from hygge.errors import HyggeError, as_hygge_error, without_password

PATIENCE_S = 300.0
_GONE_WITHIN_S = 10.0
"""Seconds in which a job that Ray does not know, or the log of a dead driver, may still come."""
_READ_EVERY_S = 0.5
_BYTES_A_S = 1_000_000
"""A long log is read less often, because Ray only sends all of it."""
_RAYS_OWN = re.compile(r"\tINFO \w+\.py:\d+ -- ")
"""The format in which Ray, and nobody else, writes into a job's log."""

_NOT_SET_UP = "runtime_env setup failed"
_NODE = re.compile(r"\[Node ([^\] ]+)")
"""Ray's words about a job whose node could not be made ready, and about which node that was."""
_SUPERVISOR = re.compile(r"\bip=([^,\s)]+)")
"""Where Ray's own process for the job died, in Ray's words."""
_NOT_STARTED = re.compile(r"raised in its creation task|^Traceback \(most recent call last\)")
"""Ray's words where that process failed before it had started the driver."""


@dataclass
class Ended:
    """The end of a job: Ray's `status`, and the driver's exit `code` (None if unknown)."""

    status: str
    code: int | None
    message: str
    node: str = ""
    """Where its driver was, or was to be, as Ray names it: an id or an address; empty: unknown."""

    @property
    def why(self) -> str:
        """The reason in one line; Ray's own message continues with the end of the log."""
        if self.code is not None and self.code < 0:
            return f"it was killed by signal {-self.code}"
        if self.code is None and "its node has died" in self.message:
            return "its node died"
        if self.code:
            return f"it exited with code {self.code}"
        lines = (without_password(self.message).strip() or "no message").splitlines()
        node = _NODE.search(self.message) or _SUPERVISOR.search(self.message)
        where = f" on node {node[1]}" if node else ""
        # A traceback follows, whose last line is the cause.
        if lines[0].startswith(_NOT_SET_UP):
            return f"its runtime_env could not be set up{where}: {lines[-1].strip()}"
        if _NOT_STARTED.search(lines[0]):
            return f"Ray could not start it{where}: {lines[-1].strip()}"
        return lines[0]


class Following:
    """Reads the log of one job; `ended` is set together with its last lines."""

    def __init__(self, client: JobClient, job: str) -> None:
        self.client, self.job = client, job
        self.ended: Ended | None = None
        self.is_pending = True
        """Whether its driver has not begun."""
        self.silent_s = 0.0
        """Seconds since the last answer; 0 while Ray answers."""
        self.silence = ""
        """Why the last look brought nothing, in one line; empty: it did."""
        self._characters_read = 0
        self._read_again_at = 0.0
        self._answered_at = time.monotonic()

    def read_lines(self) -> list[str]:
        """Return the lines that are new; raise HyggeError when Ray has not answered for long."""
        details = None
        try:
            # The status is read first: when it says "ended", the log is complete.
            details = self.client.get_job_info(self.job)
            is_over = details.status.is_terminal()
            self.is_pending = details.status.value == "PENDING"
            if not is_over and time.monotonic() < self._read_again_at:
                return []
            text = self.client.get_job_logs(self.job)
        except (RuntimeError, OSError) as error:
            self.silent_s = time.monotonic() - self._answered_at
            self.silence = shorten_error(error)
            if details is not None and self._is_log_lost(details):
                self.ended = _make_end(details)
                return []
            self._check_silence(error)
            return []
        self._answered_at, self.silent_s, self.silence = time.monotonic(), 0.0, ""
        self._read_again_at = self._answered_at + len(text) / _BYTES_A_S
        end = len(text) if is_over else text.rfind("\n") + 1
        lines: list[str] = []
        if end > self._characters_read:
            lines = text[self._characters_read : end].removesuffix("\n").split("\n")
            self._characters_read = end
        if is_over:
            self.ended = _make_end(details)
        return lines

    def pause_s(self) -> float:
        """Return how many seconds to wait before the next `read_lines`."""
        return min(10.0, _READ_EVERY_S + self.silent_s / 10)

    def _is_log_lost(self, details: JobDetails) -> bool:
        """Return whether a job has ended whose log does not come any more.

        A driver without an exit code was lost with its node, or with the process that started it.
        """
        is_dead = details.status.value == "FAILED" and details.driver_exit_code is None
        patience_s = _GONE_WITHIN_S if is_dead else PATIENCE_S
        return details.status.is_terminal() and self.silent_s > patience_s

    def _check_silence(self, error: Exception) -> None:
        is_unknown = "status code 404" in str(error)
        if self.silent_s > (_GONE_WITHIN_S if is_unknown else PATIENCE_S):
            what = "Ray does not know it any more" if is_unknown else as_hygge_error(error).message
            raise HyggeError(
                f"Ray job {self.job} cannot be followed: {what}",
                "the job goes on without being followed, unless its cluster has ended; "
                f"`hygge status {self.job}` asks again",
            ) from error


def _make_end(details: JobDetails) -> Ended:
    message = details.message or ""
    named = _NODE.search(message) or _SUPERVISOR.search(message)
    node = details.driver_node_id or (named[1] if named else "")
    return Ended(details.status.value, details.driver_exit_code, message, node)


def is_ray_line(line: str) -> bool:
    """Return whether Ray itself wrote this line of a job's log."""
    if _RAYS_OWN.search(line) is not None:
        return True
    return line.startswith(("Running entrypoint", "Runtime env"))
