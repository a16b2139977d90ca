"""CPU seconds (user + system) of a program with all that it started, and of servers beside it.

Looked at from outside a few times a second, since nobody waits for Ray's processes; what a process
used after the last look at it is missed.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path

LOOK_EVERY_S = 0.2
_TICKS = os.sysconf("SC_CLK_TCK")
_NAMES = (
    ("HomeActor", "home"), ("::read ", "home"), ("StoreActor", "store"), ("::stage ", "store"),
    ("InboxActor", "inbox"), ("raylet/raylet", "ray"), ("gcs_server", "ray"), ("ray::", "ray"),
    ("/ray/", "ray"), ("ray/_private", "ray"),
)  # fmt: skip


class Sampler:
    """Counts while its `with` lasts."""

    def __init__(self, pid: int, servers: list[int]) -> None:
        self._roots = {pid: "client", **dict.fromkeys(servers, "server")}
        self._used: dict[int, tuple[str, float]] = {}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._before = {each: used for each, (_, _, used) in _processes().items()}

    def __enter__(self) -> Sampler:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._look()
        self._over.set()
        self._thread.join()

    def seconds(self) -> dict[str, float]:
        """`cpu_<who>`: client and server, and of the client's: home, store, inbox, ray."""
        sums: dict[str, float] = {}
        for who, used in list(self._used.values()):
            sums[f"cpu_{who}"] = sums.get(f"cpu_{who}", 0.0) + used
        return sums

    def _run(self) -> None:
        while not self._over.wait(LOOK_EVERY_S):
            self._look()

    def _look(self) -> None:
        now = _processes()
        for pid, (parent, _, used) in now.items():
            root, at = self._roots.get(pid), parent
            while root is None and at in now:
                root, at = self._roots.get(at), now[at][0]
            if root is not None:
                who = self._who(pid, root)
                self._used[pid] = (who, used - self._before.get(pid, 0.0))

    def _who(self, pid: int, root: str) -> str:
        if root == "server" or pid in self._roots:
            return root
        command = _text(f"/proc/{pid}/cmdline").replace("\0", " ")
        known = next((name for word, name in _NAMES if word in command), None)
        return known or self._used.get(pid, (root, 0.0))[0]


def _processes() -> dict[int, tuple[int, str, float]]:
    """pid: parent, name, CPU seconds so far."""
    found = {}
    for name in os.listdir("/proc"):
        if name.isdigit() and (stat := _text(f"/proc/{name}/stat")):
            head, _, rest = stat.rpartition(")")
            fields = rest.split()
            used = (int(fields[11]) + int(fields[12])) / _TICKS
            found[int(name)] = (int(fields[1]), head.partition("(")[2], used)
    return found


def _text(path: str) -> str:
    try:
        return Path(path).read_text(errors="replace")
    except (OSError, ProcessLookupError):
        return ""
