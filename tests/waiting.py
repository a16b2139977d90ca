"""How tests wait: for what they assert, and never for a time.

The one limit is against hanging for ever. Nothing is asserted by it: a busy machine may take as
long as it takes, and whoever raises the limit changes no test.
"""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

LIMIT_S = 600.0
"""When a test that waits is taken to wait for ever."""
T = TypeVar("T")


def until(condition: Callable[[], T], what: str | Callable[[], str], every_s: float = 0.02) -> T:
    """What `condition` gives, once that is true; `what` is said, with the last, if it never is."""
    over = time.monotonic() + LIMIT_S
    while not (found := condition()):
        if time.monotonic() > over:
            said = what if isinstance(what, str) else what()
            raise AssertionError(f"waited {LIMIT_S:.0f} s in vain: {said}; the last: {found!r}")
        time.sleep(every_s)
    return found


def join(*threads: threading.Thread) -> None:
    """Wait for threads to end."""
    for each in threads:
        each.join(LIMIT_S)
        assert not each.is_alive(), f"{each} does not end"


def said_by(process: subprocess.Popen[str]) -> tuple[str, str]:
    """What a process says on stdout and stderr until it ends; one that never does is killed."""
    try:
        said, errors = process.communicate(timeout=LIMIT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        said, errors = process.communicate()
        raise AssertionError(f"it does not end: {process.args}\n{said}\n{errors}") from None
    return said or "", errors or ""


def is_gone(pid: int) -> bool:
    """Whether a process has ended, if perhaps nobody has asked for its exit code yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except OSError:
        return True


_reserved: list[socket.socket] = []


def free_port() -> int:
    """A port of 127.0.0.1 that stays free until whoever asked for it listens there.

    The system gives none of these to whoever asks it for any, Ray none to its workers, and this
    function none to two that ask, in whatever process (on Linux).
    """
    for port in range(20_000, 32_000):
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            if sys.platform == "linux":
                _reserved.append(_taken(f"\0hygge-test-port-{port}"))
            return port
    raise AssertionError("no port is free")


def _taken(name: str) -> socket.socket:
    """A name without a file, which this process has for as long as it lives."""
    held = socket.socket(socket.AF_UNIX)
    try:
        held.bind(name)
    except OSError:
        held.close()
        raise
    return held
