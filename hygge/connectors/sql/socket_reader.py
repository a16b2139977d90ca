"""Read the bytes of a server in large pieces.

A server sends as soon as it has a few kilobytes, and waking up for each of them costs more than
reading them. So the socket wakes the reader when many bytes have come (SO_RCVLOWAT, if the kernel
heeds it), or after a short time without that.
"""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Callable
from contextlib import suppress

_MANY_BYTES = 1 << 18
_SHORT_MS = 5
_PATIENCE_S = 0.05
"""How long a few rows wait for more, so that they are handled together."""


class SocketReader:
    """Reads a plain socket, blocking or not; nothing else may read it meanwhile."""

    def __init__(self, source: socket.socket) -> None:
        self.source = source
        self.poll = select.poll()
        self.poll.register(source, select.POLLIN)
        self._wake_at(_MANY_BYTES)

    def into(self, room: memoryview, ends: Callable[[memoryview], bool]) -> int:
        """Fill `room` while bytes come, with one at least; gives their number, 0 at the end.

        Does not wait for more behind bytes that are the last ones, as `ends` says. Raises OSError.
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
        """Leave the socket as it was."""
        self._wake_at(1)

    def _wait(self, until: float | None) -> bool:
        """Wait for more until a time of `time.monotonic`; gives whether more came."""
        if until is not None and time.monotonic() > until:
            return False
        if self.poll.poll(_SHORT_MS):
            return True
        self._wake_at(1)
        rest = None if until is None else max(0.0, until - time.monotonic()) * 1000
        came = bool(self.poll.poll(rest))
        self._wake_at(_MANY_BYTES)
        return came

    def _wake_at(self, size: int) -> None:
        with suppress(OSError):
            self.source.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, size)
