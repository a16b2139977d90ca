"""Start the Coordinator of a submitted run again when it is killed, inside its own Ray job.

The entrypoint of the job is a small process that runs the command in a child. A child that a signal
killed (memory ran out on its node) is started again, up to three times; any other end is the end of
the job. So the run keeps its id, its log and its Ray job. All tries of the command are one request,
which HYGGE_TRY tells them. Ray sends its signals to both processes.

This module imports nothing that takes memory, since its process lives as long as the run.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from threading import Event
from types import FrameType

TRY = "HYGGE_TRY"
"""Environment variable of the child: the request of the command, and the number of the try."""
RETRIES = 3
_PAUSES_S = (1.0, 2.0, 4.0)
_STOPS = (signal.SIGINT, signal.SIGTERM)
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class CommandTry:
    """A try of a command that is started again when it is killed."""

    request: str
    """Unique id, the same for each try."""
    number: int
    """From 1."""


def read_try() -> CommandTry | None:
    """Return the try that this process is; None: nobody starts it again."""
    request, _, number = os.environ.get(TRY, "").partition("/")
    return CommandTry(request, int(number)) if number.isdigit() else None


def is_repeated() -> bool:
    """Return whether an earlier try of this command was killed."""
    own = read_try()
    return own is not None and own.number > 1


def run_with_restarts(
    arguments: Sequence[str], say: Callable[[str], None], retries: int = RETRIES
) -> int:
    """Run `hygge` with these arguments until it ends by itself; return its exit code.

    `say` writes a sentence into the log. Where the last try is killed, this process dies by the
    same signal, as Ray shows it. A signal to stop is for the child, which has it, too.
    """
    request, stop = uuid.uuid4().hex, Event()

    def on_signal(number: int, frame: FrameType | None) -> None:
        stop.set()

    for stop_signal in _STOPS:
        signal.signal(stop_signal, on_signal)
    for number in range(1, retries + 2):
        code = _run_once(arguments, {**os.environ, TRY: f"{request}/{number}"}, stop)
        if code >= 0 or stop.is_set() or number > retries:
            break
        say(
            f"the coordinator was killed by signal {-code}; it is started again and goes on with "
            f"its flows, try {number + 1} of {retries + 1}"
        )
        if stop.wait(_PAUSES_S[min(number, len(_PAUSES_S)) - 1]):
            return 130
    if code < 0:
        if -code not in (signal.SIGKILL, signal.SIGSTOP):
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    return code


def _run_once(arguments: Sequence[str], environ: dict[str, str], stop: Event) -> int:
    die_with_parent = _die_with_parent() if sys.platform == "linux" else None
    command = [sys.executable, "-m", "hygge", *arguments]
    child = subprocess.Popen(command, env=environ, preexec_fn=die_with_parent)
    if stop.is_set():  # the signal may have come before there was a child
        child.terminate()
    return child.wait()


def _die_with_parent() -> Callable[[], object]:
    """Return what a child calls so that it is killed when this process is: Ray sees only this."""
    prctl = ctypes.CDLL(None).prctl  # loaded before the fork
    return lambda: prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
