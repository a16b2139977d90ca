"""A proxy that takes connections and, from a moment on, forwards nothing more in either way."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable

from hygge.model import Limits
from tests.waiting import LIMIT_S

Sign = Callable[[bytes, bool], bool]
"""Called with what passes, and whether it is an answer; true: this passes, or not, and then all
stands still."""


class Freezer:
    """Passes bytes on to 127.0.0.1:`port` until `sign` is true of some, or `freeze` is called.

    `passes`: whether those bytes still pass. From then on the `stall_timeout` of `limits` is short:
    however slow the machine is, what came before is no stall.
    """

    def __init__(
        self, port: int, limits: Limits, sign: Sign = lambda *_: False, passes: bool = False
    ) -> None:
        self.target, self.limits, self.sign, self.passes = port, limits, sign, passes
        self.frozen = threading.Event()
        self.open: set[socket.socket] = set()
        self.lock = threading.Lock()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def freeze(self) -> None:
        self.frozen.set()
        object.__setattr__(self.limits, "stall_timeout_s", 0.5)

    def thaw(self) -> None:
        """Close what is open, so that the server learns of it; pass on what comes from now on."""
        self.sign = lambda *_: False
        with self.lock:
            for end in self.open:
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
        self.frozen.clear()
        object.__setattr__(self.limits, "stall_timeout_s", LIMIT_S)

    def __enter__(self) -> Freezer:
        return self

    def __exit__(self, *error: object) -> None:
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.thaw()
        for end in self.open:
            end.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self.listener.accept()
                server = socket.create_connection(("127.0.0.1", self.target))
                with self.lock:
                    self.open |= {client, server}
                for ends in ((client, server, False), (server, client, True)):
                    threading.Thread(target=self._pass, args=ends, daemon=True).start()

    def _pass(self, source: socket.socket, sink: socket.socket, answers: bool) -> None:
        with contextlib.suppress(OSError):
            while got := source.recv(16384):
                if self.frozen.is_set():
                    return  # it stays open
                if self.sign(got, answers):
                    if self.passes:
                        sink.sendall(got)
                    self.freeze()
                    return
                sink.sendall(got)
            sink.shutdown(socket.SHUT_WR)
