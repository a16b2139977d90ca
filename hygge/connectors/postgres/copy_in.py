"""COPY … FROM STDIN: whole messages to the server, past psycopg where nothing encrypts them.

What a server sends in a COPY and what it takes are the same messages, so a passthrough goes from
one socket to the other as it came. Each piece of rows that was encoded here becomes one message.
Over TLS libpq sends the same messages.
"""

from __future__ import annotations

import os
import select
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from struct import Struct
from typing import TYPE_CHECKING

from hygge.connectors.postgres.wire import HEADER_BYTES, connection_lost

if TYPE_CHECKING:
    import psycopg
    from psycopg.abc import Buffer
    from psycopg.pq.abc import PGresult

_header = Struct("!cI")
_WAIT_MS = 1000
"""The longest wait for a socket: what TLS holds back makes no socket ready."""


@contextmanager
def copy_in(connection: psycopg.Connection, statement: str, plain: bool) -> Iterator[CopyIn]:
    """Run a COPY in the transaction that is open; `plain` is the answer of `has_plain_socket`.

    Raises psycopg's errors. Where the caller fails, the server has taken nothing.
    """
    copy = CopyIn(connection, plain)
    try:
        copy.begin(statement)
        yield copy
        copy.finish()
    except BaseException:
        copy.give_up()
        raise
    finally:
        copy.close()


class CopyIn:
    """A COPY that takes rows: `write` or `pass_on` for each piece, within `copy_in`."""

    def __init__(self, connection: psycopg.Connection, plain: bool) -> None:
        self.pgconn = connection.pgconn
        self.rows = 0
        """The number of rows that the server took, known after `finish`."""
        self._is_open = self._is_torn = False
        self.socket = socket.socket(fileno=os.dup(self.pgconn.socket)) if plain else None
        self._poll = select.poll()

    def begin(self, statement: str) -> None:
        """Start the COPY; raises psycopg's error where the server refuses the statement."""
        import psycopg

        self.pgconn.send_query(statement.encode())
        self._flush()
        result = self._result()
        assert result is not None  # the first result of a statement
        if result.status != psycopg.pq.ExecStatus.COPY_IN:
            self._drain()
            raise psycopg.errors.error_from_result(result)
        self._is_open = True

    def write(self, data: Buffer) -> None:
        """Send bytes of the format as one message."""
        if self.socket is None:
            self._put(data)
        else:
            size = memoryview(data).nbytes
            self._send(_header.pack(b"d", size + 4), data)

    def pass_on(self, messages: Buffer) -> None:
        """Send whole messages, as a COPY TO STDOUT gave them."""
        if self.socket is not None:
            self._send(messages)
            return
        view, at = memoryview(messages), 0
        while at < len(view):
            _, size = _header.unpack_from(view, at)
            self._put(view[at + HEADER_BYTES : at + 1 + size])
            at += 1 + size

    def finish(self) -> None:
        """End the COPY, and learn how many rows the server took."""
        import psycopg

        self._is_open = False
        self.pgconn.put_copy_end()
        self._flush()
        result = self._result()
        assert result is not None  # the last result of a statement
        self._drain()
        if result.status != psycopg.pq.ExecStatus.COMMAND_OK:
            raise psycopg.errors.error_from_result(result)
        self.rows = result.command_tuples or 0

    def give_up(self) -> None:
        """Make the server forget the COPY; where a message was cut off, end the session."""
        if self._is_torn:
            self.pgconn.finish()
        elif self._is_open:
            with suppress(Exception):
                self.pgconn.put_copy_end(b"the rows ended with an error")
                self._flush()
                self._drain()

    def close(self) -> None:
        """Close our handle of the socket; the session goes on."""
        if self.socket is not None:
            self.socket.close()

    def _send(self, *parts: Buffer) -> None:
        assert self.socket is not None  # called only then
        rest = [memoryview(part).cast("B") for part in parts]
        self._is_torn = True
        while rest:
            try:
                sent = self.socket.sendmsg(rest)
            except BlockingIOError:
                self._wait()
                continue
            except OSError as error:
                raise connection_lost(error) from error
            while rest and sent >= len(rest[0]):
                sent -= len(rest.pop(0))
            if rest:
                rest[0] = rest[0][sent:]
        self._is_torn = False

    def _put(self, data: Buffer) -> None:
        while not self.pgconn.put_copy_data(data):
            self._wait()
        self._flush()

    def _flush(self) -> None:
        while self.pgconn.flush():
            self._wait()

    def _wait(self) -> None:
        """Wait until the server takes more; read what it says meanwhile."""
        self._poll.register(self.pgconn.socket, select.POLLIN | select.POLLOUT)
        if any(event & ~select.POLLOUT for _, event in self._poll.poll(_WAIT_MS)):
            self.pgconn.consume_input()

    def _result(self) -> PGresult | None:
        while self.pgconn.is_busy():
            self._poll.register(self.pgconn.socket, select.POLLIN)
            self._poll.poll(_WAIT_MS)
            self.pgconn.consume_input()
        return self.pgconn.get_result()

    def _drain(self) -> None:
        while self._result() is not None:
            pass
