"""What a command does before it ends at once: free leases, stop its jobs, kill its processes."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable

_JOBS_WITHIN_S = 1.5
"""Time that the jobs of a run have to be stopped when this process ends at once."""
_LEASES_WITHIN_S = 0.5
"""Time that the leases of a run have to be freed when this process ends at once."""


def release_all() -> None:
    """Free leases, so that the next run begins at once, and stop jobs that nobody would follow.

    A lease that cannot be freed in time is found dead later; a job that cannot be stopped goes on.
    """
    from hygge.journal import interrupt_all

    calls: list[tuple[Callable[[], None], float]] = [(interrupt_all, _LEASES_WITHIN_S)]
    if jobs := sys.modules.get("hygge.engine.jobs.submit"):
        calls.append((lambda: jobs.stop_open_jobs(_JOBS_WITHIN_S), _JOBS_WITHIN_S))
    for call, within_s in calls:
        thread = threading.Thread(target=call, daemon=True)
        thread.start()
        thread.join(within_s)


def kill_descendants() -> None:
    """Kill the processes that this one started, and theirs: some of Ray's would outlive it."""
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc") if os.path.isdir("/proc") else ():
        if name.isdigit():
            with contextlib.suppress(OSError), open(f"/proc/{name}/stat") as file:
                parent = int(file.read().rpartition(")")[2].split()[1])
                children.setdefault(parent, []).append(int(name))
    parents = [os.getpid()]
    while parents:
        for child in children.get(parents.pop(), ()):
            parents.append(child)
            with contextlib.suppress(OSError):
                os.kill(child, signal.SIGKILL)
