"""Connect this process to Ray: to a running one, or to a private one that it starts.

A running Ray is one that this process has initialised already, that `RAY_ADDRESS` names, whose job
this process is, or that `ray start` started on this machine. Without one, `connect` starts a
private Ray: it listens on loopback only, prints nothing, has a dashboard only when asked, and ends
with the process.

Ray's daemons die with the *thread* that started them (PR_SET_PDEATHSIG). So a private Ray is
started in a thread that lives as long as the process.
"""

from __future__ import annotations

import atexit
import json
import logging
import os
import queue
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hygge.engine.ray import private
from hygge.engine.ray.ports import check_gcs, is_open
from hygge.errors import HyggeError, UsageError, without_password

# Set before the first import of ray: on Linux this alone makes every daemon of `ray.init()` listen
# on 127.0.0.1 (Ray's own default on macOS and Windows). A running cluster is not affected.
_LOOPBACK = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"


@dataclass(frozen=True)
class Connected:
    """The Ray that this process uses.

    `outlives`: it ran before this process and goes on after it, so flows can be its jobs.
    `dashboard` is a URL. `in_job`: this process is the driver of a Ray job.
    """

    address: str
    outlives: bool
    dashboard: str | None
    in_job: bool


_Answers = queue.SimpleQueue[Connected | BaseException]
_requests: queue.SimpleQueue[tuple[bool, _Answers]] = queue.SimpleQueue()
"""To the thread that starts Ray: with a dashboard or without, and where to put the answer."""
_lock = threading.Lock()
_thread: threading.Thread | None = None
_connected: Connected | None = None
_ON_THIS_MACHINE, _PRIVATE = "auto", "local"
"""Values of RAY_ADDRESS that are no address."""
_before_end: list[Callable[[], None]] = []
_auth_mode = ""
"""The RAY_AUTH_MODE that this module has set; "" where it was set from outside, or not at all."""


def is_in_job() -> bool:
    """Return whether this process is the driver of a Ray job."""
    return bool(os.environ.get("RAY_JOB_ID") or os.environ.get("RAY_JOB_CONFIG_JSON_ENV_VAR"))


def read_own_job() -> dict[str, Any]:
    """Return the runtime_env and the metadata of the Ray job that this process is; {} if none."""
    job: dict[str, Any] = json.loads(os.environ.get("RAY_JOB_CONFIG_JSON_ENV_VAR") or "{}")
    return job


def find_running() -> str | None:
    """Return the address of a Ray that this process can use, or None."""
    if is_in_job():
        return "auto"
    named = os.environ.get("RAY_ADDRESS", "").strip()
    if named and named not in (_ON_THIS_MACHINE, _PRIVATE):
        if named.lower().startswith(("http://", "https://")):
            raise UsageError(
                f"RAY_ADDRESS is {without_password(named)}, a dashboard: flows of a file are "
                "submitted there, and no process can join a cluster by it",
                f"write a file of flows: hygge flows.yml --address {without_password(named)}; or "
                "unset RAY_ADDRESS to use a private Ray",
            )
        if named.startswith("ray://"):
            raise UsageError(
                f"RAY_ADDRESS is {without_password(named)}: hygge does not go through Ray Client",
                "name the cluster's dashboard, RAY_API_SERVER_ADDRESS=http://head:8265, and unset "
                "RAY_ADDRESS; on a node of the cluster, RAY_ADDRESS=head:6379",
            )
        return named
    started = None if named == _PRIVATE else _find_started()
    if named == _ON_THIS_MACHINE and started is None:
        raise HyggeError(
            "RAY_ADDRESS is auto, and no Ray that `ray start` started runs on this machine",
            "start one, name its GCS (RAY_ADDRESS=head:6379), or unset RAY_ADDRESS to use a "
            "private Ray",
        )
    return started


def _find_started() -> str | None:
    """Return the address of the Ray that `ray start` started on this machine, if it runs."""
    # It writes its address there; the private instance of a `ray.init()` does not.
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
        return None  # the file of a cluster that crashed


def connect(dashboard: bool = False) -> Connected:
    """Connect to Ray, once a process; later calls return the same connection.

    Raises HyggeError where the Ray that is named does not answer.
    """
    global _connected, _thread
    with _lock:
        if _connected is not None and is_initialized():
            return _connected
        if _thread is None:
            _thread = threading.Thread(target=_serve_requests, name="hygge-ray", daemon=True)
            _thread.start()
        answers: _Answers = queue.SimpleQueue()
        _requests.put((dashboard, answers))
        answer = answers.get()
        if isinstance(answer, BaseException):
            raise answer
        # At exit Ray shuts itself down. The handler that was registered last is called first.
        atexit.unregister(_announce_end)
        atexit.register(_announce_end)
        _connected = answer
        return _connected


def is_connected() -> bool:
    """Return whether this process is connected to Ray."""
    return _connected is not None and is_initialized()


def is_private() -> bool:
    """Return whether the Ray of this process is its own; that has one node, which stays."""
    return _connected is not None and not _connected.outlives


def disconnect() -> None:
    """End a private Ray, or leave a running one, now instead of at exit."""
    global _connected
    with _lock:
        if _connected is not None:
            import ray

            _connected = None
            _announce_end()
            ray.shutdown()


def call_before_end(function: Callable[[], None]) -> None:
    """Have `function` called each time before this process leaves its Ray, also at exit."""
    _before_end.append(function)


def _announce_end() -> None:
    for function in _before_end:
        function()


def has_token() -> bool:
    """Return whether this process has a token for Ray clusters, and sends it."""
    if os.environ.get("RAY_AUTH_MODE", "").lower() == "disabled":
        return False
    if os.environ.get("RAY_AUTH_TOKEN"):
        return True
    named = os.environ.get("RAY_AUTH_TOKEN_PATH")
    return os.path.exists(named or os.path.expanduser("~/.ray/auth_token"))


def _choose_auth_mode(address: str | None) -> None:
    """Have this process send its token, and ask for it, where the cluster does so, and only there.

    Ray by itself sends no token to an address that is named, and asks for one where the address is
    `auto` and a token lies here. Without a token, the cluster cannot call a process that asks for
    one: each of its actors would die before it starts. Raises HyggeError where RAY_AUTH_MODE says
    so.
    """
    global _auth_mode
    if _auth_mode and os.environ.get("RAY_AUTH_MODE") == _auth_mode:
        del os.environ["RAY_AUTH_MODE"]  # it was chosen for the Ray before this one
    _auth_mode = ""
    if address is None or not has_token():
        return
    # Ray tells each job the address of its cluster.
    gcs = os.environ.get("RAY_ADDRESS", "") if address == "auto" else address
    needs_none = is_open(gcs)
    if named := os.environ.get("RAY_AUTH_MODE"):
        if needs_none and named.lower() == "token":
            raise HyggeError(
                f"the Ray at {without_password(gcs)} has no token authentication, and this process "
                "asks for a token (RAY_AUTH_MODE=token), so that the cluster could not call it",
                "unset RAY_AUTH_MODE here, or start the cluster with it too",
            )
        return
    _auth_mode = "disabled" if needs_none else "token"
    os.environ["RAY_AUTH_MODE"] = _auth_mode


def _serve_requests() -> None:
    while True:
        dashboard, answers = _requests.get()
        try:
            answers.put(_start_or_attach(dashboard))
        except BaseException as error:
            answers.put(error)


def _dashboard_in_job() -> str | None:
    """Return the URL of the dashboard of a Ray that the program of a Ray job initialised itself."""
    from ray._private.worker import global_worker

    url = global_worker.node.address_info["webui_url"] if is_in_job() else None
    return f"http://{url}" if url else None


def is_initialized() -> bool:
    """Return whether this process has a Ray."""
    import ray

    return bool(ray.is_initialized())


def _start_or_attach(dashboard: bool) -> Connected:
    address = find_running()
    _choose_auth_mode(address)
    if address is None:
        os.environ.setdefault(_LOOPBACK, "0")
    # Otherwise a call after Ray's end starts another Ray, also while this process exits.
    os.environ.setdefault("RAY_ENABLE_AUTO_CONNECT", "0")
    # Otherwise uv ships the whole environment to each worker.
    os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
    # Otherwise Ray warns that the default will change.
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    # Otherwise Ray, when a notebook imports it, advises to install its widgets.
    logging.getLogger("ray.widgets").setLevel(logging.ERROR)
    import ray

    if ray.is_initialized():
        context = ray.get_runtime_context()
        return Connected(context.gcs_address, True, _dashboard_in_job(), is_in_job())
    if address is not None:
        if address == os.environ.get("RAY_ADDRESS"):
            check_gcs(address)
        try:
            with private.without_worker_messages():
                info = ray.init(address=address, logging_level="ERROR", log_to_driver=False)
        except (ConnectionError, TimeoutError, ray.exceptions.AuthenticationError) as error:
            why = str(error.__cause__ or error).strip().splitlines()[-1]  # of a traceback
            raise HyggeError(
                f"there is no Ray at {address}, or it does not answer: {why}",
                "unset RAY_ADDRESS to use a private Ray, or start that cluster; one with token "
                "authentication needs its token here (RAY_AUTH_MODE=token, ~/.ray/auth_token)",
            ) from error
    else:
        info = private.start(dashboard)
        atexit.register(ray.shutdown)
    url = f"http://{info.dashboard_url}" if info.dashboard_url else None
    return Connected(info.address_info["gcs_address"], address is not None, url, is_in_job())
