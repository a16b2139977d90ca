"""COPY … TO STDOUT past psycopg: whole blocks of messages from the socket, and no object a row.

psycopg makes an object of each message, and a message is a row. Where nothing encrypts the
connection, the socket of an idle session is ours for one statement: we send the query, and read
everything up to ReadyForQuery. Before and after, libpq holds no bytes of the socket, so it does not
notice. Elsewhere `copy_out.CopyOut` does the same with libpq.

A message is a letter, four bytes of its length, and its content: `d` is a row, `C` the number of
rows, `E` an error, `Z` ReadyForQuery. A passthrough hands on the messages as they came, since
another server takes them like that.
"""

from __future__ import annotations

import os
import select
import socket
from contextlib import suppress
from struct import Struct
from typing import TYPE_CHECKING

from hygge.connectors.postgres import session
from hygge.connectors.postgres.copy_out import CopyOut
from hygge.connectors.sql.socket_reader import SocketReader

if TYPE_CHECKING:
    import numpy as np
    import psycopg
    from numpy.typing import NDArray
    from psycopg.abc import Buffer

HEADER_BYTES = 5
"""Of a message: a letter, and how long the message is without the letter."""
_READ_BYTES = 1 << 20
_DATA, _READY = ord("d"), ord("Z")
_END = b"Z\0\0\0\5"
_FILLER, _COMMA = ord("x"), ord(",")
_length = Struct("!I").unpack_from


def connection_lost(error: OSError) -> psycopg.OperationalError:
    """Return psycopg's error for an error of its socket."""
    import psycopg

    return psycopg.OperationalError(f"the connection is lost: {error}")


def has_plain_socket(connection: psycopg.Connection) -> bool:
    """True if the bytes on a session's socket are not encrypted; asks the server."""
    import psycopg

    if os.name != "posix" or connection.pgconn.ssl_in_use or connection.pgconn.used_gssapi:
        return False
    try:
        with connection.transaction():  # an error in it, of a server without this view, ends here
            found = session.fetch_all(
                connection, "SELECT encrypted FROM pg_stat_gssapi WHERE pid = pg_backend_pid()"
            )
    except psycopg.Error:  # it is not the PostgreSQL that we know
        return False
    return bool(found) and not found[0][0]


def copy_out(connection: psycopg.Connection, statement: str, form: str, plain: bool) -> CopyOut:
    """Start a COPY in the format `form`; `plain` is the answer of `has_plain_socket`."""
    if plain:
        return SocketCopy(connection, statement, form)
    return CopyOut(connection, statement, framed=form != "csv")


class SocketCopy(CopyOut):
    """A COPY that gives rows, as its base, read from a socket that is not encrypted.

    The buffer holds, one behind the other: bytes of the last chunk (up to `consumed`), whole
    messages that were found (up to `parsed`), and bytes that were received (up to `filled`).
    """

    def __init__(self, connection: psycopg.Connection, statement: str, form: str) -> None:
        self.connection, self.has_lead = connection, form == "csv"
        self.rows: int | None = None
        self.row_count = -1
        self.error: psycopg.Error | None = None
        self.buffer, self.spare = bytearray(2 * _READ_BYTES), bytearray(2 * _READ_BYTES)
        self.filled = self.parsed = self.consumed = 0
        self.row_starts: list[NDArray[np.int64]] = []
        """Where rows begin in the buffer that no chunk has given yet."""
        self.gaps: list[tuple[int, int]] = []
        """Begin and end of messages in the buffer that are no rows: warnings and such."""
        self.socket = socket.socket(fileno=os.dup(connection.fileno()))
        self.reader = SocketReader(self.socket)
        try:
            self._send_query(statement)
        except OSError as error:
            self.socket.close()
            raise connection_lost(error) from error

    def _send_query(self, statement: str) -> None:
        query = statement.encode() + b"\0"
        rest = memoryview(b"Q" + (len(query) + 4).to_bytes(4, "big") + query)
        while rest:
            with suppress(BlockingIOError):  # libpq's socket does not block
                rest = rest[self.socket.send(rest) :]
                continue
            select.select([], [self.socket], [])

    def chunk(self, max_rows: int, size: int) -> tuple[Buffer, int, bytes]:
        """Return messages as its base does; those of CSV have a first cell of ours (`has_lead`).

        Asking for the next chunk but one overwrites them.
        """
        import numpy as np

        self._swap_buffers(2 * size + 2 * _READ_BYTES)
        while self.rows is None:
            count = sum(map(len, self.row_starts))
            if count >= max_rows or (count and self.parsed >= size):
                break
            self._receive()
            self._parse()
        starts = np.concatenate(self.row_starts) if self.row_starts else np.zeros(0, np.int64)
        end = int(starts[max_rows]) if max_rows < len(starts) else self.parsed
        self.row_starts, starts = [starts[max_rows:]], starts[:max_rows]
        self.consumed = end
        if not len(starts):
            return b"", 0, b""
        at = int(starts[-1])
        last = bytes(self.buffer[at + HEADER_BYTES : at + 1 + _length(self.buffer, at + 1)[0]])
        if self.has_lead:
            self._make_lead_cells(starts, end)
        data = memoryview(self.buffer)[:end]
        gaps = [gap for gap in self.gaps if gap[0] < end]
        if not gaps:
            return data, len(starts), last
        bounds = [0, *(bound for gap in gaps for bound in gap), end]
        pieces = [data[a:b] for a, b in zip(bounds[::2], bounds[1::2], strict=True)]
        return memoryview(b"".join(pieces)), len(starts), last

    def _make_lead_cells(self, starts: NDArray[np.int64], end: int) -> None:
        """Turn the header of each row's message into a cell of CSV: `xxxx,`."""
        import numpy as np

        data = np.frombuffer(self.buffer, np.uint8, end)
        for step in range(HEADER_BYTES - 1):
            data[starts + step] = _FILLER
        data[starts + HEADER_BYTES - 1] = _COMMA

    def _swap_buffers(self, max_bytes: int) -> None:
        """Copy what no chunk has given into the spare buffer, and go on there.

        A spare buffer over `max_bytes` is replaced by a smaller one, unless the rest needs it.
        """
        rest = self.filled - self.consumed
        if not rest <= len(self.spare) <= max(max_bytes, 2 * rest):
            self.spare = bytearray(rest + _READ_BYTES)
        with memoryview(self.buffer) as view, memoryview(self.spare) as fresh:
            fresh[:rest] = view[self.consumed : self.filled]
        self.buffer, self.spare = self.spare, self.buffer
        self.row_starts = [starts - self.consumed for starts in self.row_starts]
        self.gaps = [
            (a - self.consumed, b - self.consumed) for a, b in self.gaps if a >= self.consumed
        ]
        self.parsed, self.filled, self.consumed = self.parsed - self.consumed, rest, 0

    def _receive(self) -> None:
        import psycopg

        until = self.filled + _READ_BYTES
        if until > len(self.buffer):
            self.buffer = self.buffer + bytearray(max(_READ_BYTES, len(self.buffer)))
        with memoryview(self.buffer) as view, view[self.filled : until] as room:
            try:
                got = self.reader.into(room, _is_end)
            except OSError as error:
                raise connection_lost(error) from error
        if not got:
            self._parse()
            raise self.error or psycopg.OperationalError(
                "the server closed the connection unexpectedly"
            )
        self.filled += got

    def _parse(self) -> None:
        """Find the whole messages that came since, and handle those that are no rows."""
        import numpy as np

        buffer, may_be_run = self.buffer, True
        single_starts: list[int] = []
        while self.parsed + HEADER_BYTES <= self.filled:
            at = self.parsed
            if may_be_run:
                starts, at = _row_run(buffer, at, self.filled)
                if len(starts):
                    self.row_starts.append(starts)
                    self.parsed = at
                    continue
            end = at + 1 + _length(buffer, at + 1)[0]
            if end > self.filled:
                break
            self.parsed = end
            if buffer[at] == _DATA:
                single_starts.append(at)
                may_be_run = False
                continue
            if single_starts:
                self.row_starts.append(np.array(single_starts, np.int64))
                single_starts = []
            may_be_run = True
            self.gaps.append((at, end))
            self._handle(buffer[at], bytes(buffer[at + HEADER_BYTES : end]))
        if single_starts:
            self.row_starts.append(np.array(single_starts, np.int64))

    def _handle(self, letter: int, content: bytes) -> None:
        """Handle a message that is no row: the end of the COPY, or an error, which it raises."""
        if letter == ord("E"):
            self.error = self.error or _error_of(content)
        elif letter == ord("C"):
            self.row_count = int(content.rstrip(b"\0").rpartition(b" ")[2])
        elif letter == _READY:
            if self.error is not None:
                self.rows = 0
                raise self.error
            self.rows = self.row_count

    def give_up(self) -> None:
        """Make `chunk` end soon, which may be running in another thread."""
        try:
            super().give_up()
        finally:
            self.socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """End the COPY; where rows are still to come, cancel it and close the connection."""
        if self.rows is None:
            if not self.given_up:
                with suppress(Exception):
                    self.give_up()
            self.connection.close()
        self.reader.close()
        self.socket.close()


def _row_run(buffer: bytearray, at: int, filled: int) -> tuple[NDArray[np.int64], int]:
    """Return where the rows begin that follow each other from `at`, and where the last one ends.

    All are found at once: each is a `d` before a zero (of a length below 16 MiB), at a place where
    another one ends. It may find fewer than there are; the rest is parsed one by one.
    """
    import numpy as np

    part = np.frombuffer(buffer, np.uint8, filled - at, at)
    none = np.zeros(0, np.int64)
    if part[0] != _DATA:
        return none, at
    starts = np.flatnonzero(
        (part[: -HEADER_BYTES + 1] == _DATA) & (part[1 : 2 - HEADER_BYTES or None] == 0)
    )
    sizes = np.zeros(len(starts), np.int64)
    for step in range(2, HEADER_BYTES):
        sizes = sizes << 8 | part[starts + step]
    ends = starts + 1 + sizes
    # A `d` inside of a row seldom stands where another candidate ends: three rounds drop most.
    for _ in range(3):
        is_start = np.zeros(len(part) + 1, bool)
        is_start[0] = True
        is_start[ends[ends <= len(part)]] = True
        kept = is_start[starts]
        if kept.all():
            break
        starts, ends = starts[kept], ends[kept]
    if not len(starts) or starts[0] != 0:
        return none, at
    broken = np.flatnonzero(ends[:-1] != starts[1:])
    count = int(broken[0]) + 1 if len(broken) else len(starts)
    while count and ends[count - 1] > len(part):
        count -= 1
    return starts[:count] + at, at + int(ends[count - 1]) if count else at


def _is_end(view: memoryview) -> bool:
    return view[-len(_END) - 1 : -1] == _END


def _error_of(content: bytes) -> psycopg.Error:
    """Return the error that psycopg would raise for an ErrorResponse."""
    import psycopg

    fields: dict[int, bytes | None] = {
        field[0]: field[1:] for field in content.split(b"\0") if field
    }

    def text_of(letter: str) -> str:
        return (fields.get(ord(letter)) or b"").decode(errors="replace")

    state, message = text_of("C"), text_of("M")
    for letter, title in (("D", "DETAIL"), ("H", "HINT"), ("W", "CONTEXT")):
        if text := text_of(letter):
            message += f"\n{title}:  {text}"
    try:
        kind = psycopg.errors.lookup(state)
    except KeyError:
        kind = psycopg.errors.get_base_exception(state)
    return kind(message, info=fields)
