"""Runs one command and measures it with all that it starts: `launch.py TASK.json`.

The task has `command`, `out`, `err`, `result` (files), `timeout_s`, `environment`, `cwd` and
`servers` (process ids). The result is JSON:

    whole_s         from the start of the process to its end
    report_s        until its last line of output
    cpu_s           user + system, of the process and of all that it started
    server_cpu_s    of the servers, meanwhile
    peak_mb         the most memory of the tree at one look (PSS: a shared page counts once), 10^6 B
    own_mb          the same without Ray's own daemons
    written_mb      what the tree sent to disks; `server_written_mb`: the servers
    left            processes that still ran LINGER_S after the command had ended; they are killed
    code            how it ended, or "timeout"

Whatever the command starts becomes a child of this process when its own parent ends (Linux,
PR_SET_CHILD_SUBREAPER), so the kernel's account of ended children is whole. What nobody waits for
is in the looks alone, without what it did after the last one. Standard library only.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import resource
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

LOOK_EVERY_S = 0.2
LOOK_SHARE = 0.04
"""Looks take at most this share of the time: reading the memory of a big process is not free."""
LINGER_S = 20.0
MB = 1_000_000
PR_SET_CHILD_SUBREAPER = 36
TICKS = os.sysconf("SC_CLK_TCK")
RAYS_OWN = (
    "raylet/raylet", "gcs/gcs_server", "log_monitor.py", "dashboard/agent.py",
    "dashboard/dashboard.py", "runtime_env/agent/main.py", "autoscaler/_private/monitor.py",
    "ray::DashboardAgent", "ray::RuntimeEnvAgent",
)  # fmt: skip


def text(path: str) -> str:
    try:
        return Path(path).read_text(errors="replace")
    except (OSError, ProcessLookupError):
        return ""


def processes() -> dict[int, tuple[int, float, float]]:
    """Process id → parent, CPU seconds of its own, CPU seconds of its ended children."""
    found = {}
    for name in os.listdir("/proc"):
        if name.isdigit() and (stat := text(f"/proc/{name}/stat")):
            fields = stat.rpartition(")")[2].split()
            user, system, children_user, children_system = (int(each) for each in fields[11:15])
            own, ended = (user + system) / TICKS, (children_user + children_system) / TICKS
            found[int(name)] = (int(fields[1]), own, ended)
    return found


def below(roots: list[int], now: dict[int, tuple[int, float, float]]) -> list[int]:
    """The roots and all that they started and that runs."""
    children: dict[int, list[int]] = {}
    for pid, (parent, _, _) in now.items():
        children.setdefault(parent, []).append(pid)
    found = [root for root in roots if root in now]
    for pid in found:
        found += children.get(pid, [])
    return found


def pss(pid: int) -> int:
    for line in text(f"/proc/{pid}/smaps_rollup").splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    return 0


def written(pid: int) -> int:
    """Bytes that a process, and its children that have ended, sent to disks."""
    for line in text(f"/proc/{pid}/io").splitlines():
        if line.startswith("write_bytes:"):
            return int(line.split()[1])
    return 0


class Looks:
    """Looks at the tree below this process, and at the servers, while the command runs."""

    def __init__(self, servers: list[int]) -> None:
        self.servers, self.peak, self.own, self.has_ray = servers, 0, 0, False
        self.seen: dict[int, float] = {}
        self.server_before = self._of_servers()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _of_servers(self) -> tuple[float, int]:
        now = processes()
        there = below(self.servers, now)
        return sum(sum(now[pid][1:]) for pid in there), sum(map(written, there))

    def look(self) -> None:
        now, peak, own = processes(), 0, 0
        for pid in below([os.getpid()], now)[1:]:
            self.seen[pid] = now[pid][1]
            size = pss(pid)
            peak += size
            command = text(f"/proc/{pid}/cmdline").replace("\0", " ")
            rays = any(word in command for word in RAYS_OWN)
            own += 0 if rays else size
            self.has_ray |= rays
        self.peak, self.own = max(self.peak, peak), max(self.own, own)

    def _run(self) -> None:
        pause = 0.02  # a short command is seen, too
        while not self._over.wait(pause):
            began = time.monotonic()
            self.look()
            pause = max(LOOK_EVERY_S, (time.monotonic() - began) / LOOK_SHARE)

    def end(self) -> dict[str, float]:
        self._over.set()
        self._thread.join()
        cpu, sent = self._of_servers()
        return {
            "server_cpu_s": cpu - self.server_before[0],
            "server_written_mb": (sent - self.server_before[1]) / MB,
            "peak_mb": self.peak / MB,
            "own_mb": self.own / MB,
        }


def pass_on(stream: Any, path: str, said: list[float]) -> None:
    with open(path, "wb") as file:
        for line in stream:
            said[0] = time.monotonic()
            file.write(line)
            file.flush()


def linger() -> int:
    """Wait for what the command left running; kill what does not end, and return how many."""
    until = time.monotonic() + LINGER_S
    left = 0
    while True:
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        there = below([os.getpid()], processes())[1:]
        if not there:
            return left
        if time.monotonic() > until:
            left = max(left, len(there))
            kill(there)
        time.sleep(0.05)


def kill(pids: list[int]) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, 9)


def main() -> None:
    task = json.loads(Path(sys.argv[1]).read_text())
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)
    looks = Looks(task["servers"])
    with open(task["err"], "wb") as err:
        began = time.monotonic()
        child = subprocess.Popen(
            task["command"], stdout=subprocess.PIPE, stderr=err, stdin=subprocess.DEVNULL,
            env=task["environment"], cwd=task["cwd"], start_new_session=True,
        )  # fmt: skip
    said = [began]
    reader = threading.Thread(target=pass_on, args=(child.stdout, task["out"], said), daemon=True)
    reader.start()
    try:
        code: int | str = child.wait(task["timeout_s"])
    except subprocess.TimeoutExpired:
        kill(below([child.pid], processes()))
        child.wait()
        code = "timeout"
    whole = time.monotonic() - began
    left = linger()
    reader.join(5)
    figures = looks.end()
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    figures["peak_mb"] = max(figures["peak_mb"], used.ru_maxrss * 1024 / MB)  # of a short one
    if not looks.has_ray:
        figures["own_mb"] = figures["peak_mb"]
    result = {
        "whole_s": whole,
        "report_s": said[0] - began,
        "cpu_s": max(used.ru_utime + used.ru_stime, sum(looks.seen.values())),
        "written_mb": written(os.getpid()) / MB,
        "left": left,
        "code": code,
        **figures,
    }
    Path(task["result"]).write_text(json.dumps(result))


if __name__ == "__main__":
    main()
