"""COPY … FROM STDIN: whole messages to the server, past psycopg where nothing encrypts them.

A passthrough comes as the messages that another server sent, and what a server sends of COPY and
what it takes are the same messages: they go from one socket to the other. What was encoded here
becomes one message a piece. Over TLS libpq sends the same.
"""

from __future__ import annotations

import os
import select
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from struct import Struct
from typing import Any

from hygge.connectors.postgres.wire import HEAD, lost

_head = Struct("!cI")
_WAIT_MS = 1000
"""Not without end: what TLS holds back makes no socket ready."""


@contextmanager
def copy_in(connection: Any, statement: str, bare: bool) -> Iterator[CopyIn]:
    """A COPY under way, in the transaction that is open; `bare`: what `open_socket` said.

    Raises psycopg's errors. Where the caller fails, the server has taken nothing.
    """
    copy = CopyIn(connection, bare)
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
    """See `copy_in`."""

    def __init__(self, connection: Any, bare: bool) -> None:
        self.pg = connection.pgconn
        self.rows = 0
        """What the server says that it took, when it has all."""
        self._open = self._torn = False
        self.socket = socket.socket(fileno=os.dup(self.pg.socket)) if bare else None
        self._poll = select.poll()

    def begin(self, statement: str) -> None:
        """Raises what the server says to it."""
        import psycopg

        self.pg.send_query(statement.encode())
        self._flush()
        result = self._result()
        if result.status != psycopg.pq.ExecStatus.COPY_IN:
            self._drain()
            raise psycopg.errors.error_from_result(result)
        self._open = True

    def write(self, data: Any) -> None:
        """Bytes of the format, in a message of their own."""
        if self.socket is None:
            self._put(data)
        else:
            self._send(_head.pack(b"d", len(data) + 4), data)

    def pass_on(self, messages: Any) -> None:
        """Whole messages as a COPY TO STDOUT gave them."""
        if self.socket is not None:
            self._send(messages)
            return
        view, at = memoryview(messages), 0
        while at < len(view):
            _, size = _head.unpack_from(view, at)
            self._put(view[at + HEAD : at + 1 + size])
            at += 1 + size

    def finish(self) -> None:
        """Say that this is all, and hear how many rows were taken."""
        import psycopg

        self._open = False
        self.pg.put_copy_end()
        self._flush()
        result = self._result()
        self._drain()
        if result.status != psycopg.pq.ExecStatus.COMMAND_OK:
            raise psycopg.errors.error_from_result(result)
        self.rows = result.command_tuples or 0

    def give_up(self) -> None:
        """The server forgets the COPY; where a message was cut off, the session ends."""
        if self._torn:
            self.pg.finish()
        elif self._open:
            with suppress(Exception):
                self.pg.put_copy_end(b"the rows ended with an error")
                self._flush()
                self._drain()

    def close(self) -> None:
        """Forget the socket; the session goes on."""
        if self.socket is not None:
            self.socket.close()

    def _send(self, *parts: Any) -> None:
        assert self.socket is not None  # asked only then
        rest = [memoryview(each).cast("B") for each in parts]
        self._torn = True
        while rest:
            try:
                sent = self.socket.sendmsg(rest)
            except BlockingIOError:
                self._wait()
                continue
            except OSError as error:
                raise lost(error) from error
            while rest and sent >= len(rest[0]):
                sent -= len(rest.pop(0))
            if rest:
                rest[0] = rest[0][sent:]
        self._torn = False

    def _put(self, data: Any) -> None:
        while not self.pg.put_copy_data(data):
            self._wait()
        self._flush()

    def _flush(self) -> None:
        while self.pg.flush():
            self._wait()

    def _wait(self) -> None:
        """Until the server takes more; hears what it says meanwhile."""
        self._poll.register(self.pg.socket, select.POLLIN | select.POLLOUT)
        if any(event & ~select.POLLOUT for _, event in self._poll.poll(_WAIT_MS)):
            self.pg.consume_input()

    def _result(self) -> Any:
        while self.pg.is_busy():
            self._poll.register(self.pg.socket, select.POLLIN)
            self._poll.poll(_WAIT_MS)
            self.pg.consume_input()
        return self.pg.get_result()

    def _drain(self) -> None:
        while self._result() is not None:
            pass
