"""Several nodes for a test: `cluster/local.py` in a process of its own.

As root its nodes are hosts with addresses of their own; they reach this machine at `forward.HERE`.
"""

from __future__ import annotations

import os
import shlex
import signal

from tests.servers.standing import Standing


class Nodes(Standing):
    """A cluster of `count` nodes with a CPU each; the first is the head.

    `environment` is that of each node, as where the secrets of a real one are.
    """

    def __init__(self, count: int, environment: dict[str, str]) -> None:
        size = ["--cpus", "1", "--store-mib", "400"]
        super().__init__(str(count), *size, environment=environment)
        lines = self.said.splitlines()
        told = [line.split() for line in lines if line.startswith("  node:")]
        self.pids = [int(words[-1].rstrip("`)")) for words in told]
        self.on_head = shlex.split(lines[-1])[:-2]
        """What stands before a command that uses the cluster."""

    def kill(self, node: int) -> None:
        """The node dies at once, and all that runs on it."""
        os.kill(self.pids[node], signal.SIGKILL)
