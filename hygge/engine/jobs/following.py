"""A Ray job as whoever submitted it sees it: submitted once, its log line by line, its end.

Ray's dashboard may be slow to start, busy, or behind a network that comes and goes; the job goes on
meanwhile. What is asked again here is only what can be asked twice.
"""

from __future__ import annotations

import re
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from hygge.errors import HyggeError, Stopped, in_words, without_password
from hygge.run.engines import backoff_s

PATIENCE_S = 300.0
_SUBMIT_WITHIN_S = 60.0
_GONE_WITHIN_S = 10.0
_LOOK_EVERY_S = 0.5
_REQUEST_WITHIN_S = 60.0
_BYTES_A_S = 1_000_000
"""A long log is read less often: Ray gives it only as a whole."""
_NOTED = re.compile(r"\tINFO \w+\.py:\d+ -- ")
"""How Ray writes into a job's log, and nobody else."""
_NOT_YET = re.compile(r"No available agent|not yet been started|try again later", re.I)


def client_of(address: str | None) -> Any:
    """Ray's client of jobs, which would wait for ever for an answer that was lost.

    It raises RuntimeError and OSError, of which PermissionError is about the token.
    """
    from ray.exceptions import AuthenticationError
    from ray.job_submission import JobSubmissionClient

    class Client(JobSubmissionClient):
        def _do_request(self, *given: Any, **words: Any) -> Any:
            try:
                # A redirect would take the token along, to whoever is named there.
                only_here = {"timeout": _REQUEST_WITHIN_S, "allow_redirects": False}
                return super()._do_request(*given, **only_here, **words)
            except AuthenticationError as error:
                raise PermissionError(str(error).splitlines()[0]) from error

    return Client(address)


def submitted(client: Any, job: str, stop: threading.Event | None = None, **words: Any) -> None:
    """Submit `job`, once; a Ray that has just started may say for a while that it cannot yet.

    Raises RuntimeError or OSError where it was not taken, Stopped where `stop` was set before that.
    """
    stop = stop or threading.Event()
    until, n = time.monotonic() + _SUBMIT_WITHIN_S, 0
    while True:
        try:
            client.submit_job(submission_id=job, **words)
            return
        except (RuntimeError, OSError) as error:
            text = str(error)
            if n and "already exists" in text:  # an answer that got lost on its way
                return
            lost = isinstance(error, OSError) and not isinstance(error, PermissionError)
            if lost and _is_there(client, job):
                return
            may_go = _NOT_YET.search(text) or lost
            if not may_go or time.monotonic() > until:
                raise
            n += 1
            if stop.wait(backoff_s(n)):
                with suppress(RuntimeError, OSError):
                    client.stop_job(job)
                raise Stopped("stopped before Ray took its job") from error


def _is_there(client: Any, job: str) -> bool:
    """Whether a job was taken, though the answer to its submission did not come."""
    try:
        client.get_job_info(job)
    except (RuntimeError, OSError):
        return False  # or nobody answers: then it is submitted again, under the same id
    return True


@dataclass
class Ended:
    """How a job ended: `status` is Ray's word; `code` that of the driver, or None if unknown."""

    status: str
    code: int | None
    message: str

    @property
    def why(self) -> str:
        """In one line; Ray's own has the end of the log behind it."""
        if self.code is not None and self.code < 0:
            return f"it was killed by signal {-self.code}"
        if self.code:
            return f"it exited with code {self.code}"
        return without_password(self.message.splitlines()[0])


class Following:
    """`look()` gives the new lines of a job's log; `ended` is set with the last of them."""

    def __init__(self, client: Any, job: str) -> None:
        self.client, self.job = client, job
        self.ended: Ended | None = None
        self.silent_s = 0.0
        """For how long there has been no answer."""
        self._heard = 0
        self._due = 0.0
        self._answered = time.monotonic()

    def look(self) -> list[str]:
        """The lines that came since; raises HyggeError when nobody has answered for long."""
        try:
            # The status first: what a job that has ended wrote is then all there.
            details = self.client.get_job_info(self.job)
            over = details.status.is_terminal()
            if not over and time.monotonic() < self._due:
                return []
            text: str = self.client.get_job_logs(self.job)
        except (RuntimeError, OSError) as error:
            return self._missed(error)
        self._answered, self.silent_s = time.monotonic(), 0.0
        self._due = self._answered + len(text) / _BYTES_A_S
        end = len(text) if over else text.rfind("\n") + 1
        lines = text[self._heard : end].removesuffix("\n").split("\n") if end > self._heard else []
        self._heard = max(self._heard, end)
        if over:
            message = details.message or "no message"
            self.ended = Ended(details.status.value, details.driver_exit_code, message)
        return lines

    def pause_s(self) -> float:
        """How long to wait before the next look."""
        return min(10.0, _LOOK_EVERY_S + self.silent_s / 10)

    def _missed(self, error: Exception) -> list[str]:
        self.silent_s = time.monotonic() - self._answered
        unknown = "status code 404" in str(error)
        if self.silent_s > (_GONE_WITHIN_S if unknown else PATIENCE_S):
            what = "Ray does not know it any more" if unknown else in_words(error).message
            raise HyggeError(
                f"Ray job {self.job} cannot be followed: {what}",
                "the job goes on without being followed, unless its cluster has ended; "
                f"`hygge status {self.job}` asks again",
            ) from error
        return []


def of_ray(line: str) -> bool:
    """Whether Ray itself wrote a line of a job's log."""
    noted = _NOTED.search(line) is not None
    return noted or line.startswith(("Running entrypoint", "Runtime env"))


def short(error: object) -> str:
    """What went wrong, in one line; of a traceback the line that says it."""
    lines = [*filter(str.strip, without_password(str(error)).splitlines())]
    if not lines:
        return type(error).__name__
    before, traceback, _ = lines[0].partition("Traceback")
    said = f"{before.strip()} {lines[-1].strip()}" if traceback else lines[0].strip()
    return said[:300]
