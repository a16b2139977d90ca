"""The version of a SQLite file: equal versions mean that nothing was committed in between.

SQLite shares no snapshot between connections. So a plan carries the version of the file, and each
lane compares it in its own read transaction.
"""

from __future__ import annotations

import os
import time

from hygge.places.shipped import version_of

_CLOCK_TICK_NS = 20_000_000
"""The coarsest step of a file system's clock that we expect."""


def version(path: str) -> str:
    """Return the kind, size and modification time of the write-ahead log, or of the file itself.

    Every commit grows or rewrites one of the two. A file that changed within the last clock tick
    could change again without a new time, so the function waits for the tick to pass.
    """
    for _ in range(50):
        name, stat = path, os.stat(path)
        try:
            stat = os.stat(path + "-wal")
            name = path + "-wal"
        except FileNotFoundError:
            pass
        age = time.time_ns() - stat.st_mtime_ns
        if not 0 <= age < _CLOCK_TICK_NS:
            break
        time.sleep((_CLOCK_TICK_NS - age) / 1e9)
    return f"{'wal' if name != path else 'db'}:{stat.st_size}:{version_of(name, stat)}"
