"""A way from the nodes of a test to what listens on 127.0.0.1 of this machine."""

from __future__ import annotations

import contextlib
import socket
import sys
import threading
import time

from tests import ROOT

sys.path.append(str(ROOT / "cluster"))
import hosts

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
