"""A step that a retry may help: called again after Transient, with longer and longer pauses."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

from hygge.errors import Stopped, Transient
from hygge.run.engines import backoff_s

Result = TypeVar("Result")


def retried(
    what: str,
    call: Callable[[], Result],
    retries: int,
    say: Callable[[str], None],
    stop: threading.Event,
) -> Result:
    """Return the result of `call`; after Transient it is called again, `retries` times.

    `what` names the step, and `say` is told that it is tried again. Raises Stopped once `stop` is
    set.
    """
    for n in range(retries + 1):
        try:
            return call()
        except Transient as error:
            if n == retries:
                raise
            say(f"{what} is tried again: {error.message}")
            if stop.wait(backoff_s(n)):
                raise Stopped("stopped while it waited to try again") from error
    raise AssertionError("unreachable")
