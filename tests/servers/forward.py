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
LONG = 1 << 16
"""Bytes of an answer that is more than a few words."""


class Forward:
    """Passes connections on to a port of 127.0.0.1; each at most at `bytes_a_second`, if given.

    Only the first `answers` long ones pass, if given: every other stops in its middle, and is
    one of `standing`, until `go_on()`.
    """

    def __init__(
        self,
        target: int,
        port: int = 0,
        bytes_a_second: float = 0.0,
        answers: float = float("inf"),
    ) -> None:
        self.target, self.rate, self.answers = target, bytes_a_second, answers
        self.standing: set[socket.socket] = set()
        self.said: dict[socket.socket, int] = {}
        """Bytes of the answer so far, by who is answered."""
        self.lock, self.going_on = threading.Lock(), threading.Event()
        self.listener = socket.create_server((HERE, port))
        self.host = f"{HERE}:{self.listener.getsockname()[1]}"
        self.open: set[socket.socket] = set()
        self.threads = [threading.Thread(target=self._accept)]
        self.threads[0].start()

    def go_on(self) -> None:
        self.going_on.set()

    def close(self) -> None:
        self.go_on()
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
            back = threading.Thread(target=self._pass, args=(server, client, True))
            back.start()
            self._pass(client, server, False)
            back.join()
            self.open -= {client, server}

    def _pass(self, source: socket.socket, sink: socket.socket, answers: bool) -> None:
        size = min(CHUNK, int(self.rate / 20)) if self.rate else CHUNK
        size = size if self.answers == float("inf") else LONG // 4
        try:
            while got := source.recv(size):
                if answers:
                    self._count(sink, len(got))
                else:
                    self.said[source] = 0
                sink.sendall(got)
                if self.rate:
                    time.sleep(len(got) / self.rate)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            for end in (source, sink):
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)

    def _count(self, client: socket.socket, size: int) -> None:
        """Stop here if the answer is a long one, and the first ones have been given."""
        before = self.said.get(client, 0)
        self.said[client] = before + size
        if before <= LONG < before + size:
            with self.lock:
                self.answers -= 1
            if self.answers < 0:
                self.standing.add(client)
                self.going_on.wait()
                self.standing.discard(client)
