"""Where a driver dies: its calls that touch disk or database, numbered as it makes them.

They are found by interposition (`sys.setprofile`, in every thread but the one of the lease), not by
hand: whatever a run calls in `posix`, `fcntl` and `sqlite3` that changes something. A driver stops
just *before* a call. Between two numbered calls it computes, and writes to files that have no
receipt yet and no name that anybody trusts; so "after call n" and "before call n + 1" differ in
nothing that a later run, or a reader, may lean on, and only the second is tried.

DuckDB's own calls are not seen by Python: those of hygge's functions around them are numbered.

A point may also be a call of a function of Python's, by its module, its name, and which time it is
(`hygge.connectors.files.parts.close_part 4`).

`HYGGE_CRASH=all` tries every point (`make chaos`); otherwise a sample of them, the same each time.
"""

from __future__ import annotations

import itertools
import os
import signal
import sys
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

ALL = os.environ.get("HYGGE_CRASH") == "all"
STEP = 1 if ALL else 11
"""From point to point, where a program counts them as it goes: the end is not known before."""
CALLS = {"rename", "replace", "fsync", "mkdir", "unlink", "rmdir", "link", "flock"}
STATEMENTS = {"execute", "executemany", "executescript", "commit"}
FUNCTIONS = {f"hygge.connectors.duckdb.{each}" for each in ("store", "publish", "heads")}
"""Modules whose functions are numbered."""
SIGNALS = {"kill": signal.SIGKILL, "stop": signal.SIGSTOP}


def numbered(at: Mapping[str, str], told: Callable[[str], None]) -> Callable[[], int]:
    """Number the calls of this process from now on, and end or stop it at those of `at`.

    `told` hears which call that is. Gives a function that says how many there were.
    """
    counter = itertools.count()
    met: list[str] = []
    last = [0]
    named = {point.split()[0] for point in at if not point.isdigit()}
    times: Counter[str] = Counter()

    def reached(point: str, call: str) -> None:
        how = at.get(point)
        if how is not None and point not in met:
            met.append(point)
            told(call)
            os.kill(os.getpid(), SIGNALS[how])

    def profile(frame: Any, event: str, what: Any) -> None:
        if threading.current_thread().name == "hygge-lease":
            return
        if event == "call":
            module = frame.f_globals.get("__name__")
            name = f"{module}.{frame.f_code.co_qualname}"
            if name in named:
                times[name] += 1
                reached(f"{name} {times[name]}", name)
            if module in FUNCTIONS:
                number = next(counter)
                last[0] = max(last[0], number + 1)
                reached(str(number), name)
        if event != "c_call":
            return
        name, module = what.__name__, getattr(what, "__module__", None)
        owner = type(getattr(what, "__self__", None)).__module__
        if (name in CALLS and module in ("posix", "fcntl")) or (
            name in STATEMENTS and owner == "sqlite3"
        ):
            number = next(counter)
            last[0] = max(last[0], number + 1)
            reached(str(number), name)

    threading.setprofile(profile)
    sys.setprofile(profile)
    return lambda: last[0]


def unnumbered() -> None:
    """End it, in this thread."""
    threading.setprofile(None)
    sys.setprofile(None)
