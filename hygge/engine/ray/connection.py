"""The one place that knows how hygge comes to a Ray: a running one, or a private one of its own.

A running Ray is used where there is one: already initialised in this process, named by
`RAY_ADDRESS`, the job that this process is, or a `ray start` on this machine. Otherwise a private
instance is started: bound to loopback, quiet, without a dashboard unless asked, ended with the
process.

Ray's daemons die with the *thread* that started them (PR_SET_PDEATHSIG), so a private instance is
started in a thread that lives as long as the process.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import logging
import os
import queue
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from hygge.errors import HyggeError, UsageError, without_password

# Before the first import of ray: on Linux this alone makes every daemon of `ray.init()` listen on
# 127.0.0.1 (Ray's own default on macOS and Windows). A running cluster is not affected.
_LOOPBACK = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"


@dataclass(frozen=True)
class Connected:
    """Which Ray this is. `outlives`: it was there before and stays, so flows can be its jobs."""

    address: str
    outlives: bool
    dashboard: str | None
    in_job: bool


_work: queue.SimpleQueue[tuple[Callable[[], Any], queue.SimpleQueue[Any]]] = queue.SimpleQueue()
_lock = threading.Lock()
_thread: threading.Thread | None = None
_connected: Connected | None = None


def in_job() -> bool:
    """Whether this process is the driver of a Ray job."""
    return bool(os.environ.get("RAY_JOB_ID") or os.environ.get("RAY_JOB_CONFIG_JSON_ENV_VAR"))


def own_job() -> dict[str, Any]:
    """The runtime_env and the metadata that this process's Ray job was submitted with, if any."""
    told: dict[str, Any] = json.loads(os.environ.get("RAY_JOB_CONFIG_JSON_ENV_VAR") or "{}")
    return told


def running() -> str | None:
    """The address of a Ray that is there to be used, or None."""
    if in_job():
        return "auto"
    if named := os.environ.get("RAY_ADDRESS"):
        if named.startswith("ray://"):
            raise UsageError(
                f"RAY_ADDRESS is {without_password(named)}: hygge does not go through Ray Client",
                "name the cluster's dashboard, RAY_API_SERVER_ADDRESS=http://head:8265, and unset "
                "RAY_ADDRESS; on a node of the cluster, RAY_ADDRESS=head:6379",
            )
        return named
    # Where `ray start` leaves its address; a private instance of `ray.init()` leaves none.
    folder = os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR") or "/tmp"
    try:
        with open(os.path.join(folder, "ray", "ray_current_cluster")) as file:
            address = file.read().strip()
    except OSError:
        return None
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=0.5):
            return address
    except (OSError, ValueError):
        return None  # what a crashed cluster left behind


def connect(dashboard: bool = False) -> Connected:
    """Come to a Ray, once a process; later calls give the same."""
    global _connected, _thread
    with _lock:
        if _connected is not None and _is_initialized():
            return _connected
        if _thread is None:
            _thread = threading.Thread(target=_serve, name="hygge-ray", daemon=True)
            _thread.start()
        answer: queue.SimpleQueue[Any] = queue.SimpleQueue()
        _work.put((lambda: _init(dashboard), answer))
        came = answer.get()
        if isinstance(came, BaseException):
            raise came
        from hygge.engine.ray.lanes import forget_idle

        # At exit Ray goes by itself. Of handlers the last that came is called first.
        atexit.unregister(forget_idle)
        atexit.register(forget_idle)
        _connected = came
        return _connected


def disconnect() -> None:
    """End a private instance (or leave a running one) now instead of at exit."""
    global _connected
    with _lock:
        if _connected is not None:
            import ray

            from hygge.engine.ray.lanes import forget_idle

            _connected = None
            forget_idle()
            ray.shutdown()


@contextlib.contextmanager
def _instead(parts: list[tuple[Any, str, Any]]) -> Iterator[None]:
    """Others in the place of parts of Ray, for the moment of `ray.init`.

    Ray has no setting for them; where a name changes there, that part is simply as Ray has it.
    """
    kept = [(where, name, getattr(where, name, None)) for where, name, _ in parts]
    for (where, name, other), (_, _, own) in zip(parts, kept, strict=True):
        if own is not None:
            setattr(where, name, other)
    try:
        yield
    finally:
        for where, name, own in kept:
            if own is not None:
                setattr(where, name, own)


def _lean() -> contextlib.AbstractContextManager[None]:
    """Leave out what a private instance without a dashboard has no use for.

    The API server (it would serve nothing, and `ray.init` waits for it), the autoscaler's monitor,
    and the parts of the node's agent that belong to the dashboard.
    """
    import ray._private.utils as utils
    from ray._private.node import Node

    def without_api_server(node: Any, **_: Any) -> None:
        node._webui_url = ""

    return _instead(
        [
            (Node, "start_api_server", without_api_server),
            (Node, "start_monitor", lambda node: None),
            (utils, "get_dashboard_dependency_error", lambda: "hygge asks for none"),
        ]
    )


def _quiet() -> contextlib.AbstractContextManager[None]:
    """Ray would print twelve lines to standard output for each worker that dies.

    The flow says it in one, to standard error; and reports are what standard output is for.
    """
    import ray._private.worker as worker

    return _instead([(worker, "listen_error_messages", lambda *_: None)])


def has_token() -> bool:
    """Whether this process has a token for Ray clusters, and offers it."""
    if os.environ.get("RAY_AUTH_MODE", "").lower() == "disabled":
        return False
    if os.environ.get("RAY_AUTH_TOKEN"):
        return True
    named = os.environ.get("RAY_AUTH_TOKEN_PATH")
    return os.path.exists(named or os.path.expanduser("~/.ray/auth_token"))


def _serve() -> None:
    while True:
        call, answer = _work.get()
        try:
            answer.put(call())
        except BaseException as error:
            answer.put(error)


def _is_initialized() -> bool:
    import ray

    return bool(ray.is_initialized())


def _init(dashboard: bool) -> Connected:
    address = running()
    if address is None:
        os.environ.setdefault(_LOOPBACK, "0")
    elif has_token():
        # Since 2.59 `ray start` asks for the token, and only `auto` offers it by itself; a cluster
        # without authentication does not mind.
        os.environ.setdefault("RAY_AUTH_MODE", "token")
    # A call after the end of Ray would start another Ray, also while this process exits.
    os.environ.setdefault("RAY_ENABLE_AUTO_CONNECT", "0")
    # uv would otherwise ship the whole environment to each worker.
    os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
    os.environ.setdefault(
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0"
    )  # or Ray warns about its future
    # In a notebook Ray would advise, while it is imported, to install its widgets.
    logging.getLogger("ray.widgets").setLevel(logging.ERROR)
    import ray

    if ray.is_initialized():
        context = ray.get_runtime_context()
        return Connected(context.gcs_address, True, None, in_job())
    quiet: dict[str, Any] = {"logging_level": "ERROR", "log_to_driver": False}
    if address is not None:
        try:
            with _quiet():
                info = ray.init(address=address, **quiet)
        except (ConnectionError, TimeoutError, ray.exceptions.AuthenticationError) as error:
            raise HyggeError(
                f"there is no Ray at {address}, or it does not answer: {error.__cause__ or error}",
                "unset RAY_ADDRESS to use a private Ray, or start that cluster; one with token "
                "authentication needs its token here (RAY_AUTH_MODE=token, ~/.ray/auth_token)",
            ) from error
    else:
        with _quiet(), contextlib.nullcontext() if dashboard else _lean():
            info = ray.init(
                include_dashboard=dashboard,
                dashboard_host="127.0.0.1",
                # Memory that a batch gave back is free at once, and not up to a second later, in
                # which a fast lane fills hundreds of MiB more than its budget.
                _system_config={"free_objects_period_milliseconds": 0},
                **quiet,
            )
        atexit.register(ray.shutdown)
    url = f"http://{info.dashboard_url}" if info.dashboard_url else None
    return Connected(info.address_info["gcs_address"], address is not None, url, in_job())
