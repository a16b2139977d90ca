"""Bytes of a server in large pieces.

A server sends as soon as it has some kilobytes, and to be woken for each of them costs more than to
read them. So the socket wakes us when much has come (SO_RCVLOWAT, where the kernel heeds it), or
when a moment passed without that.
"""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Callable
from contextlib import suppress

_MUCH = 1 << 18
_MOMENT_MS = 5
_PATIENCE_S = 0.05
"""How long a few rows wait for more to come, so that they are looked at together."""


class Intake:
    """Reads a plain socket, blocking or not; nobody else reads it meanwhile."""

    def __init__(self, source: socket.socket) -> None:
        self.source = source
        self.poll = select.poll()
        self.poll.register(source, select.POLLIN)
        self._wake_at(_MUCH)

    def into(self, room: memoryview, ends: Callable[[memoryview], bool]) -> int:
        """Fill `room` while bytes come, at least with one; 0 where the other side has closed.

        Does not wait for more behind bytes of which `ends` says that they are the last. OSError.
        """
        filled, until = 0, 0.0
        while filled < len(room):
            try:
                got = self.source.recv_into(room[filled:], 0, socket.MSG_DONTWAIT)
            except BlockingIOError:
                if not self._wait(until if filled else None):
                    break
                continue
            if not filled:
                until = time.monotonic() + _PATIENCE_S
            filled += got
            if not got or ends(room[:filled]):
                break
        return filled

    def close(self) -> None:
        """The socket is as it was."""
        self._wake_at(1)

    def _wait(self, until: float | None) -> bool:
        """Whether more came, by a time of `time.monotonic`."""
        if until is not None and time.monotonic() > until:
            return False
        if self.poll.poll(_MOMENT_MS):
            return True
        self._wake_at(1)
        rest = None if until is None else max(0.0, until - time.monotonic()) * 1000
        came = bool(self.poll.poll(rest))
        self._wake_at(_MUCH)
        return came

    def _wake_at(self, size: int) -> None:
        with suppress(OSError):
            self.source.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, size)
