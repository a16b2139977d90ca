"""A private Ray starts what hygge needs and no more, and is a whole Ray for other code."""

from __future__ import annotations

import os
import socket
from contextlib import closing
from pathlib import Path

import pytest

from hygge.engine.ray import private
from tests.chaos import only_in_chaos
from tests.engine.ray.dying import below


def _commands() -> list[str]:
    read = [Path(f"/proc/{pid}/cmdline") for pid in below(os.getpid())]
    return [each.read_bytes().replace(b"\0", b" ").decode() for each in read if each.exists()]


@pytest.mark.usefixtures("ray_here")
def test_nothing_is_started_for_people_who_watch_a_cluster():
    commands = [each for each in _commands() if "raylet/raylet" not in each.split()[0]]
    (agent,) = [command for command in commands if "dashboard/agent.py" in command]
    assert agent.split()[0].endswith("sh")
    started = " ".join(commands)
    assert "gcs/gcs_server" in started
    for part in ("log_monitor", "dashboard/dashboard.py", "autoscaler", "DashboardAgent"):
        assert part not in started


@only_in_chaos  # it waits for the agent that makes the environment
@pytest.mark.usefixtures("ray_here")
def test_a_task_of_the_users_own_may_have_a_runtime_env():
    import ray

    @ray.remote(runtime_env={"env_vars": {"SEEN": "7"}}, num_cpus=0)
    def look() -> str | None:
        return os.environ.get("SEEN")

    assert ray.get(look.remote()) == "7"


def test_a_port_that_somebody_has_is_passed_over():
    port = private.find_port()
    with closing(socket.create_server(("127.0.0.1", port))):
        assert private.find_port() != port
