"""COPY … TO STDOUT, as its messages come: one a row.

psycopg's own loop makes a coroutine step of each row, which costs more than reading it; here the
rows that have arrived are taken in one go, from the same libpq.
"""

from __future__ import annotations

import selectors
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from hygge.errors import HomeError

_TIDY_S = 2.0
_ROWS_AT_ONCE = 512


class CopyOut:
    """A COPY under way. `chunk` gives what comes; `close` cancels what did not come."""

    left = False
    """Nobody wants the rest."""
    lead = False
    """Whether its CSV has a first cell that is not of the rows."""

    def __init__(self, connection: Any, statement: str, framed: bool = False) -> None:
        """`framed`: chunks are messages as they go over the wire. Raises psycopg's errors."""
        import psycopg

        self.connection, self.pg, self.framed = connection, connection.pgconn, framed
        self.rows: int | None = None
        """What the server says that it sent, when all of it came."""
        self.selector = selectors.DefaultSelector()
        self.selector.register(self.pg.socket, selectors.EVENT_READ)
        self.pg.send_query(statement.encode())
        while self.pg.flush():
            self._wait()
        result = self._result()
        if result.status != psycopg.pq.ExecStatus.COPY_OUT:
            self._end()
            raise psycopg.errors.error_from_result(result)

    def chunk(self, rows: int, size: int) -> tuple[bytes, int, bytes]:
        """Up to `rows` messages, about `size` bytes of them joined; how many, and the last one.

        A message is never cut: a row larger than `size` comes alone. No message: it is the end.
        """
        parts: list[bytes] = []
        came: list[Any] = []
        held = count = 0
        last = b""
        get, add = self.pg.get_copy_data, came.append
        while self.rows is None and count < rows and held < size:
            got = 1
            for _ in range(min(_ROWS_AT_ONCE, rows - count)):
                got, message = get(1)
                if got <= 0:
                    break
                if self.framed:
                    add(b"d" + (len(message) + 4).to_bytes(4, "big"))
                count += 1
                add(message)
            if came:
                part = b"".join(came)
                parts.append(part)
                held += len(part)
                last = bytes(came[-1])
                came.clear()
            if got < 0:
                self._ended()
            elif got == 0 and held < size:
                self._wait()
        return parts[0] if len(parts) == 1 else b"".join(parts), count, last

    def chunks(self, rows: int, size: int) -> Iterator[tuple[Any, int, bytes]]:
        """Every `chunk` until the end; one is good until the next but one is asked for."""
        while True:
            got = self.chunk(rows, size)
            if not got[1]:
                return
            yield got
            del got

    def give_up(self) -> None:
        """Make `chunk` end soon, which another thread may be in."""
        self.left = True
        self.connection.cancel_safe(timeout=_TIDY_S)

    def check(self, rows: int, who: str) -> None:
        """HomeError unless `rows` rows are what the server says that it sent."""
        if rows != self.rows:
            raise HomeError(
                f"{who}: the server sent {self.rows} rows, and {rows} came",
                "this is a defect of hygge: please report it with this message",
            )

    def close(self) -> None:
        """End it, also in the middle: the server stops reading."""
        self.selector.close()
        if self.rows is None:
            if not self.left:
                with suppress(Exception):
                    self.give_up()
            self.connection.close()

    def _wait(self) -> None:
        # Not without end: what TLS holds back makes no socket ready.
        self.selector.select(1.0)
        if self.left:
            raise HomeError("nobody wants the rest of a COPY")
        self.pg.consume_input()

    def _result(self) -> Any:
        while self.pg.is_busy():
            self._wait()
        return self.pg.get_result()

    def _ended(self) -> None:
        import psycopg

        result = self._result()
        if result is None or result.status != psycopg.pq.ExecStatus.COMMAND_OK:
            self._end()
            if result is None:
                raise psycopg.OperationalError("the server said nothing at the end of a COPY")
            raise psycopg.errors.error_from_result(result)
        self.rows = result.command_tuples or 0
        self._end()

    def _end(self) -> None:
        while self._result() is not None:
            pass
