"""Rows of MariaDB as bytes: results of many rows in blocks, and loads from memory.

pymysql makes and keeps the session; what is in bulk goes past it, since a Python object a value
would cost ten times as much as all the rest. A result is expected to have `lead` columns that are
nearly always NULL, and a last one that is a line of CSV which begins with a comma. So the bytes of
a block are CSV as they stand, once the few bytes of framing before each line are overwritten: they
become a first column that nobody asked for.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterable, Iterator
from struct import Struct
from typing import Any, NamedTuple

from hygge.connectors.sql.socket_reader import Intake

_LONGEST = 0xFFFFFF
_CHUNK = 1 << 20
_NULL, _TWO, _THREE, _EIGHT, _ERROR = 0xFB, 0xFC, 0xFD, 0xFE, 0xFF
_FILLER = ord("x")
_END_BYTES = 9


class Block(NamedTuple):
    """Some rows of a result."""

    lines: memoryview
    """Their CSV; good until the next block but one is asked for."""
    rows: int
    wide: list[tuple[int, int, bytes]]
    """Values of lead columns that are not NULL: row, column, bytes."""


class TooLong(Exception):
    """The server could not put a row into one line: it is longer than max_allowed_packet."""


def blocks(
    connection: Any, sql: str, lead: int, most_rows: int, most_bytes: int
) -> Iterator[Block]:
    """The result of a query in blocks of about so many rows and bytes, whichever comes first.

    A block is good until the next but one is asked for. The connection is of no use after an
    iterator that was not read to its end.
    """
    from pymysql import err

    _begin(connection, sql)
    # What pymysql has read ahead; from here on the socket is read past it.
    ahead = connection._rfile.peek()
    ahead = connection._rfile.read(len(ahead))
    source = connection._sock
    intake = None if isinstance(source, ssl.SSLSocket) else Intake(source)
    number = Struct("<I").unpack_from
    buffer, other = bytearray(2 * _CHUNK), bytearray(2 * _CHUNK)
    buffer[: len(ahead)] = ahead
    filled, at = len(ahead), 0
    starts: list[int] = []
    while True:
        length = 0
        while at + 4 <= filled and len(starts) < most_rows:
            length = number(buffer, at)[0] & _LONGEST
            end = at + 4 + length
            if length == _LONGEST or end > filled:
                break
            starts.append(at)
            at = end
        done = False
        if starts:
            last = starts[-1]
            if buffer[last + 4] == _ERROR:
                err.raise_mysql_exception(bytes(buffer[last + 4 : at]))
            done = buffer[last + 4] == _EIGHT and at - last < 13
            if done:
                at = starts.pop()
        long = length == _LONGEST and not done
        if starts and (done or long or len(starts) >= most_rows or at >= most_bytes):
            yield _block(memoryview(buffer)[:at], starts, lead)
            rest = filled - at
            if len(other) < rest + _CHUNK:
                other = bytearray(rest + _CHUNK)
            with memoryview(buffer) as view, memoryview(other) as fresh:
                fresh[:rest] = view[at:filled]
            buffer, other = other, buffer
            at, filled, starts = 0, rest, []
        elif long:
            filled = yield from _long_row(source, buffer, filled, lead, intake)
        elif not done:
            if len(buffer) - filled < _CHUNK:
                buffer = buffer + bytearray(len(buffer))
            with memoryview(buffer) as view, view[filled : filled + _CHUNK] as room:
                filled += _more(source, room, intake)
        if done:
            if intake is not None:
                intake.close()
            return


def hang_up(connection: Any) -> None:
    """Make `blocks` end soon, which another thread may be in."""
    socket.socket.shutdown(connection._sock, socket.SHUT_RDWR)


def _begin(connection: Any, sql: str) -> None:
    from pymysql.constants import COMMAND

    connection._execute_command(COMMAND.COM_QUERY, connection.hygge + sql)
    columns = connection._read_packet().read_length_encoded_integer()
    for _ in range(columns + 1):
        connection._read_packet()


def _more(source: Any, room: memoryview, intake: Intake | None = None) -> int:
    """Read some bytes from a socket; gives how many."""
    from pymysql import err

    try:
        got: int = source.recv_into(room) if intake is None else intake.into(room, _is_end)
    except OSError as error:
        raise err.OperationalError(2013, f"Lost connection while rows came: {error}") from error
    if not got:
        raise err.OperationalError(2013, "Lost connection while rows came")
    return got


def _is_end(view: memoryview) -> bool:
    """Whether it may end with what ends a result; where it only looks so, we read again."""
    last = bytes(view[-_END_BYTES:])
    return len(last) == _END_BYTES and last[:3] == b"\5\0\0" and last[4] == _EIGHT


def _block(lines: memoryview, starts: list[int], lead: int) -> Block:
    import numpy as np

    data = np.frombuffer(lines, np.uint8)
    at = np.array(starts, np.int64)
    body = at + 4
    plain = np.ones(len(at), bool)
    for column in range(lead):
        plain &= data[body + column] == _NULL
    wide = []
    body = body + lead
    for row in np.flatnonzero(~plain).tolist():
        begin = starts[row] + 4
        for column in range(lead):
            value, begin = _value(lines, begin)
            if value is not None:
                wide.append((row, column, bytes(value)))
        body[row] = begin
        data[starts[row] : begin] = _FILLER
    first = data[body]
    if (first == _NULL).any():
        raise TooLong
    for step in range(4 + lead):
        data[at + step] = _FILLER
    for mark, more in ((_TWO, 2), (_THREE, 3), (_EIGHT, 8)):
        found = body[first == mark]
        for step in range(1, more + 1):
            data[found + step] = _FILLER
    data[body] = _FILLER
    return Block(lines, len(starts), wide)


def _value(lines: memoryview, at: int) -> tuple[memoryview | None, int]:
    """A value as the protocol writes it, and where the next one begins."""
    first = lines[at]
    if first == _NULL:
        return None, at + 1
    width = {_TWO: 2, _THREE: 3, _EIGHT: 8}.get(first, 0)
    length = int.from_bytes(lines[at + 1 : at + 1 + width], "little") if width else first
    begin = at + 1 + width
    return lines[begin : begin + length], begin + length


def _long_row(source: Any, buffer: bytearray, filled: int, lead: int, intake: Intake | None) -> Any:
    """A row of 16 MiB or more, which comes in several packets: a block of its own.

    It begins at the start of `buffer`; gives how many bytes of what follows are there now.
    """
    head = bytes(buffer[:filled])
    at = 0

    def take(count: int) -> bytearray:
        nonlocal at
        part = bytearray(head[at : at + count])
        got = len(part)
        at += got
        part += bytes(count - got)
        with memoryview(part) as view:
            while got < count:
                got += _more(source, view[got:], intake)
        return part

    row = bytearray(4)
    length = _LONGEST
    while length == _LONGEST:
        length = int.from_bytes(take(4)[:3], "little")
        row += take(length)
    yield _block(memoryview(row), [0], lead)
    rest = head[at:]
    buffer[: len(rest)] = rest
    return len(rest)


def load(connection: Any, sql: str, chunks: Iterable[Any]) -> int:
    """Run a LOAD DATA LOCAL whose file is `chunks` of bytes; gives how many rows it took.

    A failure in `chunks` breaks the connection, so that nothing of it can be committed.
    """
    from pymysql import err
    from pymysql.constants import COMMAND

    connection._execute_command(COMMAND.COM_QUERY, connection.hygge + sql)
    packet = connection._read_packet()
    if not packet.is_load_local_packet():
        raise err.NotSupportedError(1148, "the server does not ask for the rows")
    whole = False
    try:
        for chunk in chunks:
            with memoryview(chunk) as data:
                for start in range(0, len(data), _CHUNK):
                    connection.write_packet(bytes(data[start : start + _CHUNK]))
        whole = True
    finally:
        if not whole:
            connection._force_close()
    connection.write_packet(b"")
    packet = connection._read_packet()
    if not packet.is_ok_packet():
        raise err.InternalError(0, "the server did not say how many rows it took")
    packet.advance(1)
    return int(packet.read_length_encoded_integer())
