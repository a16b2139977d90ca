"""Start a private Ray: a Ray that only this process uses, and that ends with it.

By itself `ray.init` starts processes for people who watch a cluster, and waits until each of them
answers, and until one worker for each CPU has started. Here the parts that nobody asks are left
out, and nothing is waited for but the GCS and the raylet: that is two thirds of the time. Ray has
no settings for this, so parts of its Python code are replaced while it starts. A part that another
version of Ray does not have is left alone: then that version starts as it does by itself.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
from collections.abc import Callable, Iterator
from typing import Any

_AGENT, _ENVIRONMENTS = "dashboard_agent", "runtime_env_agent"
"""The two processes that a raylet starts, and without which it ends."""
_READ_TO_THE_END = "while read -r line; do :; done"
"""Of standard input, which the raylet holds open as long as it lives."""
_FIRST_PORT, _PORTS = 20_000, 10_000
"""Below the ports that systems give out by themselves."""
_NO_PORT = -1


def start(dashboard: bool) -> Any:
    """Start a private Ray and connect this process to it; return what `ray.init` does."""
    import ray

    parts = contextlib.nullcontext() if dashboard else _without_dashboard_parts()
    with without_worker_messages(), parts:
        return ray.init(
            include_dashboard=dashboard,
            dashboard_host="127.0.0.1",
            _system_config={
                # Free the memory of a batch at once. Ray's default frees it up to a second later,
                # in which a fast lane fills hundreds of MiB beyond its budget.
                "free_objects_period_milliseconds": 0,
                # Otherwise `ray.init` waits for one worker a CPU. A lane's are started when it is
                # made, which is a moment later.
                "prestart_worker_first_driver": False,
            },
            logging_level="ERROR",
            log_to_driver=False,
        )


def without_worker_messages() -> contextlib.AbstractContextManager[None]:
    """Keep Ray from printing twelve lines to standard output for each worker that dies.

    The flow says it in one line on standard error; standard output is for reports.
    """
    import ray._private.worker as worker

    return _replaced([(worker, "listen_error_messages", lambda *_: None)])


@contextlib.contextmanager
def _replaced(parts: list[tuple[Any, str, Callable[..., object]]]) -> Iterator[None]:
    """Replace parts of Ray, given as (owner, name, replacement), during `ray.init`."""
    originals = [(owner, name, getattr(owner, name, None)) for owner, name, _ in parts]
    for (owner, name, replacement), (_, _, original) in zip(parts, originals, strict=True):
        if original is not None:
            setattr(owner, name, replacement)
    try:
        yield
    finally:
        for owner, name, original in originals:
            if original is not None:
                setattr(owner, name, original)


def _without_dashboard_parts() -> contextlib.AbstractContextManager[None]:
    """Do not start what a private Ray without a dashboard has no use for.

    These are the API server, the autoscaler's monitor, the log monitor (hygge reads no logs by it)
    and the agent of the dashboard, which serves nothing without one. The raylet ends without its
    agent, so a shell takes its place, which waits for the end of the raylet as the agent would.
    The agent that makes a `runtime_env` stays, for users who give one to tasks of their own; it
    starts at a low priority.
    """
    import ray._private.services as services
    import ray._private.utils as utils
    from ray._private.node import Node

    def start_no_api_server(node: Any, **_: object) -> None:
        node._webui_url = ""

    command = getattr(services, "_build_python_executable_command_memory_profileable", None)
    start_raylet = Node.start_raylet
    shell, nice = shutil.which("sh"), shutil.which("nice")

    def command_of(process: str, *others: Any, **more: Any) -> Any:
        if process == _AGENT and shell:
            return [shell, "-c", _READ_TO_THE_END, "sh"]
        assert command is not None  # else it is not replaced
        words = command(process, *others, **more)
        return [nice, "-n", "10", *words] if process == _ENVIRONMENTS and nice else words

    def start_with_known_ports(node: Any, *others: Any, **more: Any) -> None:
        node._ray_params.runtime_env_agent_port = port = find_port()
        if command is not None and shell:
            _write_ports(node, port)
        start_raylet(node, *others, **more)

    return _replaced(
        [
            (Node, "start_api_server", start_no_api_server),
            (Node, "start_monitor", lambda node: None),
            (Node, "start_log_monitor", lambda node: None),
            (Node, "start_raylet", start_with_known_ports),
            (services, "_build_python_executable_command_memory_profileable", command_of),
            (utils, "get_dashboard_dependency_error", lambda: "hygge asks for none"),
        ]
    )


def _write_ports(node: Any, runtime_env_agent: int) -> None:
    """Tell the raylet the ports of its agents, so that it does not wait until they tell it.

    A raylet reads them from files of its session, which its agents write when they have started.
    """
    ports = {
        "metrics_agent_port": _NO_PORT,
        "metrics_export_port": _NO_PORT,
        "dashboard_agent_listen_port": _NO_PORT,
        "runtime_env_agent_port": runtime_env_agent,
    }
    for name, port in ports.items():
        with open(os.path.join(node._session_dir, f"{name}_{node._node_id}"), "w") as file:
            file.write(str(port))


def find_port() -> int:
    """Return a port on which nobody listens, another one for each process that asks now."""
    begin = os.getpid() % _PORTS
    for n in range(_PORTS):
        port = _FIRST_PORT + (begin + n) % _PORTS
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("", port))
            return port
    return 0  # Ray chooses one
