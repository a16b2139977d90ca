"""Whether Ray still lives, and calls of Ray's that end when it does not.

Without its GCS, the process of its head, a call of Ray's waits for a minute, and then Ray ends the
whole process; without the raylet of this machine many calls wait for ever. Neither can be
interrupted. So they are made in a thread of their own, and the thread that wants the answer looks
beside it whether Ray lives.
"""

from __future__ import annotations

import contextvars
import os
import socket
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

from hygge.engine.ray import connection
from hygge.errors import HyggeError

Result = TypeVar("Result")

_PROBE_S = 1.0
_LOOK_S = 1.0
_LOOK_AT_HEAD_S = 3.0
_WORDS_S = 5.0
"""Seconds that a call may still take to say by itself what it found, when Ray has died."""
_RECONNECT = "RAY_gcs_rpc_server_reconnect_timeout_s"
_PART_OF_RECONNECT = 0.5
"""Of the time after which Ray ends this process: a head that comes back earlier is waited for."""


class _Head:
    """The GCS of a Ray that others started, by the port at which it listens."""

    lock = threading.Lock()
    address = ""
    looked_at = 0.0
    silent_since: float | None = None
    silent_s = 0.0

    @classmethod
    def has_ended(cls, address: str) -> bool:
        """Return whether nobody has listened at the address for too long."""
        now = time.monotonic()
        with cls.lock:
            if address != cls.address:
                cls.address, cls.looked_at, cls.silent_since = address, 0.0, None
            if now - cls.looked_at > _LOOK_AT_HEAD_S:
                answers = _listens(address)
                cls.looked_at = time.monotonic()
                cls.silent_since = None if answers else cls.silent_since or now
            cls.silent_s = 0.0 if cls.silent_since is None else now - cls.silent_since
            return cls.silent_s > float(os.environ.get(_RECONNECT, 60)) * _PART_OF_RECONNECT


def _listens(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_PROBE_S).close()
    except ValueError:
        return True  # another version of Ray, with other addresses
    except OSError:
        return False
    return True


def find_dead_process() -> str:
    """Return the name of a process of Ray that has died; "" where there is none.

    It is one of this machine, or the `head`. Without it nothing runs.
    """
    import ray._private.worker as worker

    node = getattr(worker, "_global_node", None)
    if node is None or not connection.is_initialized():
        return ""
    started: dict[str, list[Any]] = getattr(node, "all_processes", {})
    for name in ("raylet", "gcs_server"):
        if any(info.process.poll() is not None for info in started.get(name, ())):
            return name
    if "raylet" in started:
        return ""
    # A Ray that others started: nobody listens at the socket of a raylet that died.
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(_PROBE_S)
        try:
            probe.connect(str(getattr(node, "raylet_socket_name", "")))
        except (ConnectionRefusedError, FileNotFoundError):
            return "raylet"
        except OSError:
            pass  # it is busy, or no socket of this machine
    return "head" if _Head.has_ended(str(getattr(node, "gcs_address", ""))) else ""


def check_alive() -> None:
    """Raise HyggeError where Ray has died."""
    name = find_dead_process()
    if name == "head":
        raise HyggeError(
            f"Ray has ended under the run: its head, {_Head.address}, has not answered for "
            f"{_Head.silent_s:.0f} s",
            "see why its GCS has ended (gcs_server.out in its logs), and start the cluster again; "
            "then run it again",
        )
    if not name:
        return
    import ray._private.worker as worker

    logs = os.path.join(getattr(worker._global_node, "_session_dir", None) or "/tmp/ray", "logs")
    raise HyggeError(
        f"Ray has ended under the run: its {name} died on this machine",
        f"its last words are in {logs}; a process that is killed from outside mostly ran out of "
        "memory (`dmesg` tells). Run it again; a Python process that goes on calls "
        "`ray.shutdown()` before",
    )


def attended(work: Callable[[], Result], stop: threading.Event | None = None) -> Result:
    """Return the result of `work`, which calls Ray. Raises HyggeError where Ray has died.

    Where this thread is interrupted (Ctrl-C), `stop` is set, and `work` may end by it.
    """
    results: list[Result] = []
    errors: list[BaseException] = []
    done = threading.Event()
    context = contextvars.copy_context()

    def make() -> None:
        try:
            results.append(context.run(work))
        except BaseException as error:  # it is raised in the thread that waits
            errors.append(error)
        finally:
            done.set()

    # A daemon: where its call never returns, the process can end.
    threading.Thread(target=make, name="hygge-ray-call", daemon=True).start()
    try:
        while not done.wait(_LOOK_S):
            if find_dead_process() and not done.wait(_WORDS_S):
                check_alive()
    except KeyboardInterrupt:
        if stop is not None:
            stop.set()
            done.wait()
        raise
    if errors:
        raise errors.pop()
    return results.pop()
