"""The name of a state of a SQLite file, by which all lanes read one snapshot."""

from __future__ import annotations

import os
import time

_YOUNG_NS = 20_000_000


def version(path: str) -> str:
    """A name for the state of a database: size and time of its log, or of the file itself.

    Every committed change grows or rewrites one of the two. A file that changed a moment ago could
    change again within one tick of its clock, so it is looked at again a little later.
    """
    for _ in range(50):
        name, stat = path, os.stat(path)
        try:
            stat = os.stat(path + "-wal")
            name = path + "-wal"
        except FileNotFoundError:
            pass
        age = time.time_ns() - stat.st_mtime_ns
        if not 0 <= age < _YOUNG_NS:
            break
        time.sleep((_YOUNG_NS - age) / 1e9)
    return f"{'wal' if name != path else 'db'}:{stat.st_size}:{stat.st_mtime_ns}"
