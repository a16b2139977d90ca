"""Several nodes for a test, and ways from there to what listens on 127.0.0.1 of this machine.

`cluster/local.py` in a process of its own; as root its nodes are hosts with addresses of their own,
which reach this machine at the address of its end of the cable.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import socket
import threading
import time

from standing import Standing, hosts

HERE = hosts.HERE if hosts.can_stand() else "127.0.0.1"
"""This machine, as the nodes reach it once they stand."""
CHUNK = 1 << 18


class Forward:
    """Passes connections on to a port of 127.0.0.1; each at most at `bytes_a_second`, if given."""

    def __init__(self, target: int, port: int = 0, bytes_a_second: float = 0.0) -> None:
        self.target, self.rate = target, bytes_a_second
        self.listener = socket.create_server((HERE, port))
        self.host = f"{HERE}:{self.listener.getsockname()[1]}"
        self.open: set[socket.socket] = set()
        self.threads = [threading.Thread(target=self._accept)]
        self.threads[0].start()

    def close(self) -> None:
        # Closing alone does not wake a thread that is in `accept` or `recv`.
        for each in [self.listener, *self.open]:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        for thread in self.threads:
            thread.join()
        self.listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self.listener.accept()
                self.threads.append(threading.Thread(target=self._serve, args=(client,)))
                self.threads[-1].start()

    def _serve(self, client: socket.socket) -> None:
        with client, socket.create_connection(("127.0.0.1", self.target)) as server:
            self.open |= {client, server}
            back = threading.Thread(target=self._pass, args=(server, client))
            back.start()
            self._pass(client, server)
            back.join()
            self.open -= {client, server}

    def _pass(self, source: socket.socket, sink: socket.socket) -> None:
        size = min(CHUNK, int(self.rate / 20)) if self.rate else CHUNK
        try:
            while got := source.recv(size):
                sink.sendall(got)
                if self.rate:
                    time.sleep(len(got) / self.rate)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            for end in (source, sink):
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


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
