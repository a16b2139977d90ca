"""The bytes of MariaDB's protocol: large results in blocks of rows, and loads from memory.

pymysql opens the session. Rows go past it, since a Python object for each value would cost ten
times as much as all the rest. `blocks` expects a result whose last column is a line of CSV that
begins with a comma, and whose columns before it are nearly always NULL. So the bytes of a block are
CSV as they stand, once the few bytes of framing before each line are overwritten: they become a
first column that nobody asked for.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Generator, Iterable, Iterator, Sequence
from struct import Struct
from typing import TYPE_CHECKING, NamedTuple

from hygge.connectors.sql.socket_reader import SocketReader

if TYPE_CHECKING:
    from pymysql.connections import Connection

_LONGEST_PACKET = 0xFFFFFF
"""A packet of this length goes on in the next one."""
_CHUNK_BYTES = 1 << 20
_HEADER_BYTES = 4
"""Of a packet: three for its length, one for its number."""
# The first byte of a value: NULL, or how many bytes of length follow; and of an error's packet.
_NULL, _TWO, _THREE, _EIGHT, _ERROR = 0xFB, 0xFC, 0xFD, 0xFE, 0xFF
_LENGTH_BYTES = {_TWO: 2, _THREE: 3, _EIGHT: 8}
_FILLER = ord("x")
_END_BYTES = 9
"""Of the packet that ends a result."""


class LargeValue(NamedTuple):
    """A value that is not part of its row's line."""

    row: int
    column: int
    value: bytes


class Block(NamedTuple):
    """Some rows of a result."""

    lines: memoryview
    """Their CSV; valid until the next block but one is asked for."""
    rows: int
    large: list[LargeValue]
    """The values of the columns before the line that are not NULL."""


class TooLong(Exception):
    """The server could not put a row into one line: it is longer than max_allowed_packet."""


def blocks(
    connection: Connection, sql: str, large_columns: int, max_rows: int, max_bytes: int
) -> Iterator[Block]:
    """Yield the result of a query in blocks of about so many rows or bytes, whichever comes first.

    `large_columns` is the number of columns before the line. A block is valid until the next but
    one is asked for. After an iterator that was not read to its end the connection is of no use.
    Raises TooLong, and pymysql's errors.
    """
    from pymysql import err

    _begin(connection, sql)
    # What pymysql has read ahead; from here on the socket is read past it.
    ahead = connection._rfile.peek()
    ahead = connection._rfile.read(len(ahead))
    source = connection._sock
    reader = None if isinstance(source, ssl.SSLSocket) else SocketReader(source)
    number = Struct("<I").unpack_from
    buffer, other = bytearray(2 * _CHUNK_BYTES), bytearray(2 * _CHUNK_BYTES)
    buffer[: len(ahead)] = ahead
    filled, at = len(ahead), 0
    starts: list[int] = []  # of the packets of rows that are whole
    while True:
        length = 0
        while at + _HEADER_BYTES <= filled and len(starts) < max_rows:
            length = number(buffer, at)[0] & _LONGEST_PACKET
            end = at + _HEADER_BYTES + length
            if length == _LONGEST_PACKET or end > filled:
                break
            starts.append(at)
            at = end
        is_done = False
        if starts:
            last = starts[-1]
            first_byte = buffer[last + _HEADER_BYTES]
            if first_byte == _ERROR:
                err.raise_mysql_exception(bytes(buffer[last + _HEADER_BYTES : at]))
            is_done = first_byte == _EIGHT and at - last < _HEADER_BYTES + _END_BYTES
            if is_done:
                at = starts.pop()
        is_long = length == _LONGEST_PACKET and not is_done
        is_full = len(starts) >= max_rows or at >= max_bytes
        if starts and (is_done or is_long or is_full):
            yield _block(memoryview(buffer)[:at], starts, large_columns)
            # The other buffer goes on with the rest, while the block of this one is in use.
            rest = filled - at
            if len(other) < rest + _CHUNK_BYTES:
                other = bytearray(rest + _CHUNK_BYTES)
            with memoryview(buffer) as old, memoryview(other) as new:
                new[:rest] = old[at:filled]
            buffer, other = other, buffer
            at, filled, starts = 0, rest, []
        elif is_long:
            filled = yield from _long_row(source, buffer, filled, large_columns, reader)
        elif not is_done:
            if len(buffer) - filled < _CHUNK_BYTES:
                buffer = buffer + bytearray(len(buffer))
            with memoryview(buffer) as view, view[filled : filled + _CHUNK_BYTES] as room:
                filled += _receive(source, room, reader)
        if is_done:
            if reader is not None:
                reader.close()
            return


def hang_up(connection: Connection) -> None:
    """Make `blocks`, which another thread may be in, end soon."""
    socket.socket.shutdown(connection._sock, socket.SHUT_RDWR)


def _begin(connection: Connection, sql: str) -> None:
    """Send a query, and read what comes before the rows: the columns' descriptions."""
    from pymysql.constants import COMMAND

    connection._execute_command(COMMAND.COM_QUERY, connection.comment + sql)
    columns = connection._read_packet().read_length_encoded_integer()
    for _ in range(columns + 1):
        connection._read_packet()


def _receive(source: socket.socket, room: memoryview, reader: SocketReader | None = None) -> int:
    """Read some bytes from a socket into `room`; return their number, at least 1."""
    from pymysql import err

    try:
        received = source.recv_into(room) if reader is None else reader.into(room, _is_end)
    except OSError as error:
        raise err.OperationalError(2013, f"Lost connection while rows came: {error}") from error
    if not received:
        raise err.OperationalError(2013, "Lost connection while rows came")
    return received


def _is_end(view: memoryview) -> bool:
    """Whether these bytes may end a result; where they only look so, more is read afterwards."""
    last = bytes(view[-_END_BYTES:])
    return len(last) == _END_BYTES and last[:3] == b"\5\0\0" and last[_HEADER_BYTES] == _EIGHT


def _block(lines: memoryview, starts: Sequence[int], large_columns: int) -> Block:
    """Overwrite what is not CSV in the packets that begin at `starts`."""
    import numpy as np

    data = np.frombuffer(lines, np.uint8)
    packets = np.array(starts, np.int64)
    values = packets + _HEADER_BYTES
    has_no_large = np.ones(len(packets), bool)
    for column in range(large_columns):
        has_no_large &= data[values + column] == _NULL
    large = []
    values = values + large_columns  # where the lines begin, in rows without large values
    for row in np.flatnonzero(~has_no_large).tolist():
        at = starts[row] + _HEADER_BYTES
        for column in range(large_columns):
            value, at = _value(lines, at)
            if value is not None:
                large.append(LargeValue(row, column, bytes(value)))
        values[row] = at
        data[starts[row] : at] = _FILLER
    first_bytes = data[values]
    if (first_bytes == _NULL).any():
        raise TooLong
    for step in range(_HEADER_BYTES + large_columns):
        data[packets + step] = _FILLER
    for first_byte, length_bytes in _LENGTH_BYTES.items():
        of_this_length = values[first_bytes == first_byte]
        for step in range(1, length_bytes + 1):
            data[of_this_length + step] = _FILLER
    data[values] = _FILLER
    return Block(lines, len(starts), large)


def _value(lines: memoryview, at: int) -> tuple[memoryview | None, int]:
    """Return the value at a place, and where the next one begins."""
    first = lines[at]
    if first == _NULL:
        return None, at + 1
    width = _LENGTH_BYTES.get(first, 0)
    length = int.from_bytes(lines[at + 1 : at + 1 + width], "little") if width else first
    begin = at + 1 + width
    return lines[begin : begin + length], begin + length


def _long_row(
    source: socket.socket,
    buffer: bytearray,
    filled: int,
    large_columns: int,
    reader: SocketReader | None,
) -> Generator[Block, None, int]:
    """Yield a row of 16 MiB or more, which comes in several packets, as a block of its own.

    It begins at the start of `buffer`. Returns how many bytes after it are in `buffer` now.
    """
    head = bytes(buffer[:filled])
    at = 0

    def take(count: int) -> bytearray:
        nonlocal at
        part = bytearray(head[at : at + count])
        size = len(part)
        at += size
        part += bytes(count - size)
        with memoryview(part) as view:
            while size < count:
                size += _receive(source, view[size:], reader)
        return part

    row = bytearray(_HEADER_BYTES)
    length = _LONGEST_PACKET
    while length == _LONGEST_PACKET:
        length = int.from_bytes(take(_HEADER_BYTES)[:3], "little")
        row += take(length)
    yield _block(memoryview(row), [0], large_columns)
    rest = head[at:]
    buffer[: len(rest)] = rest
    return len(rest)


def load(connection: Connection, sql: str, chunks: Iterable[bytes | memoryview]) -> int:
    """Run a LOAD DATA LOCAL whose file is `chunks`; return the number of rows that it took.

    An error in `chunks` breaks the connection, so that no row of them can be committed.
    """
    from pymysql import err
    from pymysql.constants import COMMAND

    connection._execute_command(COMMAND.COM_QUERY, connection.comment + sql)
    packet = connection._read_packet()
    if not packet.is_load_local_packet():
        raise err.NotSupportedError(1148, "the server does not ask for the rows")
    is_whole = False
    try:
        for chunk in chunks:
            with memoryview(chunk) as data:
                for start in range(0, len(data), _CHUNK_BYTES):
                    connection.write_packet(bytes(data[start : start + _CHUNK_BYTES]))
        is_whole = True
    finally:
        if not is_whole:
            connection._force_close()
    connection.write_packet(b"")  # the end of the file
    packet = connection._read_packet()
    if not packet.is_ok_packet():
        raise err.InternalError(0, "the server did not say how many rows it took")
    packet.advance(1)
    return int(packet.read_length_encoded_integer())
