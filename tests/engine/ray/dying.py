"""A program that moves rows over a Ray of its own, of which it kills a process at a moment.

    dying.py <folder> <raylet | agent | gcs_server | head> <moment>

`head` is the GCS of a Ray that another process started, to which this one attaches. It prints how
the run ended, and then how the next one did, which is without Ray.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

from hygge import Flow, FlowFailed, Limits, ParquetHome, ParquetStore
from hygge.engine.ray import connection, lanes
from hygge.engine.ray.lane import Lane
from hygge.run.watch import Silent

COMMANDS = {
    "raylet": ("/raylet/raylet",),
    "agent": ("DashboardAgent", "dashboard/agent.py"),
    "gcs_server": ("/gcs/gcs_server",),
    "head": ("/gcs/gcs_server",),
}
ANOTHER_RAY = """
import sys, ray
quiet = dict(include_dashboard=False, logging_level="ERROR")
print(ray.init(num_cpus=2, **quiet).address_info["gcs_address"], flush=True)
sys.stdin.read()
"""
STARTED: set[int] = set()
"""Processes of Ray: some of them outlive the raylet that is killed, and this program."""


def below(parent: int) -> list[int]:
    """Return the ids of the processes that this one has started, and theirs."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if int((entry / "stat").read_text().rpartition(")")[2].split()[1]) == parent:
                found.append(int(entry.name))
        except (OSError, ValueError):
            continue
    return found + [each for child in found for each in below(child)]


def kill(what: str) -> None:
    killed = 0
    STARTED.update(below(os.getpid()))
    for pid in below(os.getpid()):
        try:
            command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
        if any(word in command for word in COMMANDS[what]):
            os.kill(pid, signal.SIGKILL)
            killed += 1
    assert killed, f"there is no {what}"


def at(owner: object, verb: str, what: str, is_after: bool = False) -> None:
    """Kill once, before `owner` does `verb`, or after it."""
    do = getattr(owner, verb)

    def instead(*values, **named):
        setattr(owner, verb, do)
        if not is_after:
            kill(what)
        result = do(*values, **named)
        if is_after:
            kill(what)
        return result

    setattr(owner, verb, instead)


def start_another_ray() -> None:
    """Start a Ray in a process of its own; a process of it waits 40 s for its head."""
    os.environ |= {"RAY_gcs_rpc_server_reconnect_timeout_s": "40", "RAY_AUTH_MODE": "disabled"}
    command = [sys.executable, "-c", ANOTHER_RAY]
    other = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert other.stdout is not None
    os.environ["RAY_ADDRESS"] = other.stdout.readline().strip()


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()  # Ray may end this process


def main(folder: Path, what: str, moment: str) -> None:
    home = ParquetHome(path=folder / "in", options={"split_bytes": 1})
    store = ParquetStore(path=folder / "out")
    if moment == "before the first lane":
        at(lanes, "start_first_lane", what)
    elif moment == "while it is made":
        at(lanes, "start_first_lane", what, is_after=True)
    elif moment == "in mid-run":
        at(Lane, "start", what, is_after=True)
    else:
        at(ParquetStore, "commit", what)
    if what == "head":
        start_another_ray()
    connection.connect()
    flow = Flow(home, store, name="f", mode="append", state=folder / "state", limits=Limits())
    try:
        say(flow.run(Silent()).status)
    except FlowFailed as error:
        say(f"failed: {error}")
    flow.engine = "inline"
    if moment != "in the commit":
        say(flow.run().status)


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]), *sys.argv[2:])
    finally:
        for pid in STARTED:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
