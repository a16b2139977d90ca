"""COPY … TO STDOUT through libpq, which gives one message for each row.

psycopg's own loop makes a coroutine step of each row, which costs more than reading it. Here all
rows that have arrived are taken at once, from the same libpq.
"""

from __future__ import annotations

import selectors
from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING

from hygge.errors import HomeError

if TYPE_CHECKING:
    import psycopg
    from psycopg.abc import Buffer
    from psycopg.pq.abc import PGresult

_CANCEL_S = 2.0
_WAIT_S = 1.0
"""The longest wait for a socket: what TLS holds back makes no socket ready."""
_ROWS_AT_ONCE = 512


class CopyOut:
    """A COPY that gives rows: `chunk` returns what comes; `close` cancels what did not come."""

    given_up = False
    """True when nobody wants the rest."""
    has_lead = False
    """True if each row of its CSV begins with a cell that belongs to no column."""

    def __init__(
        self, connection: psycopg.Connection, statement: str, framed: bool = False
    ) -> None:
        """Start the COPY. With `framed`, chunks are messages as they go over the wire.

        Raises psycopg's errors.
        """
        import psycopg

        self.connection, self.pgconn, self.framed = connection, connection.pgconn, framed
        self.rows: int | None = None
        """The number of rows that the server sent, by its own word; None until all of them came."""
        self.selector = selectors.DefaultSelector()
        self.selector.register(self.pgconn.socket, selectors.EVENT_READ)
        self.pgconn.send_query(statement.encode())
        while self.pgconn.flush():
            self._wait()
        result = self._result()
        assert result is not None  # the first result of a statement
        if result.status != psycopg.pq.ExecStatus.COPY_OUT:
            self._drain()
            raise psycopg.errors.error_from_result(result)

    def chunk(self, max_rows: int, size: int) -> tuple[Buffer, int, bytes]:
        """Return up to `max_rows` messages, about `size` bytes, joined; their number; the last one.

        A message is never cut: a row larger than `size` comes alone. No message is the end.
        """
        parts: list[bytes] = []
        messages: list[Buffer] = []
        part_bytes = count = 0
        last = b""
        get, add = self.pgconn.get_copy_data, messages.append
        while self.rows is None and count < max_rows and part_bytes < size:
            got = 1
            for _ in range(min(_ROWS_AT_ONCE, max_rows - count)):
                got, message = get(1)
                if got <= 0:
                    break
                if self.framed:
                    add(b"d" + (len(message) + 4).to_bytes(4, "big"))
                count += 1
                add(message)
            if messages:
                part = b"".join(messages)
                parts.append(part)
                part_bytes += len(part)
                last = bytes(messages[-1])
                messages.clear()
            if got < 0:
                self._end()
            elif got == 0 and part_bytes < size:
                self._wait()
        return parts[0] if len(parts) == 1 else b"".join(parts), count, last

    def chunks(self, max_rows: int, size: int) -> Iterator[tuple[Buffer, int, bytes]]:
        """Yield every `chunk` until the end; asking for the next but one overwrites it."""
        while True:
            chunk = self.chunk(max_rows, size)
            if not chunk[1]:
                return
            yield chunk
            del chunk

    def give_up(self) -> None:
        """Make `chunk` end soon, which may be running in another thread."""
        self.given_up = True
        self.connection.cancel_safe(timeout=_CANCEL_S)

    def check(self, rows: int, who: str) -> None:
        """Raise a HomeError unless `rows` is the number that the server says that it sent."""
        if rows != self.rows:
            raise HomeError(
                f"{who}: the server sent {self.rows} rows, and {rows} came",
                "this is a defect of hygge: please report it with this message",
            )

    def close(self) -> None:
        """End the COPY; where rows are still to come, cancel it and close the connection."""
        self.selector.close()
        if self.rows is None:
            if not self.given_up:
                with suppress(Exception):
                    self.give_up()
            self.connection.close()

    def _wait(self) -> None:
        self.selector.select(_WAIT_S)
        if self.given_up:
            raise HomeError("nobody wants the rest of a COPY")
        self.pgconn.consume_input()

    def _result(self) -> PGresult | None:
        while self.pgconn.is_busy():
            self._wait()
        return self.pgconn.get_result()

    def _end(self) -> None:
        """Read the result of the COPY: how many rows it was, or the error that ended it."""
        import psycopg

        result = self._result()
        if result is None or result.status != psycopg.pq.ExecStatus.COMMAND_OK:
            self._drain()
            if result is None:
                raise psycopg.OperationalError("the server said nothing at the end of a COPY")
            raise psycopg.errors.error_from_result(result)
        self.rows = result.command_tuples or 0
        self._drain()

    def _drain(self) -> None:
        while self._result() is not None:
            pass
