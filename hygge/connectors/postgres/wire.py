"""COPY … TO STDOUT past psycopg: whole blocks of messages from the socket, and no object a row.

psycopg makes an object of each message, and a message is a row. A passthrough is the messages as
they came, which is how another server takes them. Where nothing encrypts what goes
between us and the server, the socket of an idle session is ours for one statement: we send the
query, and take everything up to ReadyForQuery. libpq holds no bytes then, before and after, and
knows of nothing. Elsewhere `pg_copy.CopyOut` does the same with libpq.
"""

from __future__ import annotations

import os
import select
import socket
from contextlib import suppress
from struct import Struct
from typing import Any

from hygge.connectors.postgres.copy_out import CopyOut
from hygge.connectors.sql.socket_reader import Intake

HEAD = 5  # a letter, and how long the message is without it
_ROOM = 1 << 20
_DATA, _READY = ord("d"), ord("Z")
_END = b"Z\0\0\0\5"
_FILLER, _COMMA = ord("x"), ord(",")
_length = Struct("!I").unpack_from


def lost(error: OSError) -> Any:
    """psycopg's error of a socket's."""
    import psycopg

    return psycopg.OperationalError(f"the connection is lost: {error}")


def open_socket(connection: Any) -> bool:
    """Whether the bytes on the socket of a session are those of the protocol; asks the server."""
    import psycopg

    if os.name != "posix" or connection.pgconn.ssl_in_use or connection.pgconn.used_gssapi:
        return False
    try:
        with connection.transaction():  # which a server without such a list does not break
            found = connection.execute(
                "SELECT encrypted FROM pg_stat_gssapi WHERE pid = pg_backend_pid()"
            ).fetchone()
    except psycopg.Error:  # it is not the PostgreSQL that we know
        return False
    return found is not None and not found[0]


def copy_out(connection: Any, statement: str, form: str, bare: bool) -> CopyOut:
    """A COPY under way; `bare`: what `open_socket` said."""
    if bare:
        return SocketCopy(connection, statement, form)
    return CopyOut(connection, statement, framed=form != "csv")


class SocketCopy(CopyOut):
    """A COPY under way, as its base, over a socket that is open to us."""

    def __init__(self, connection: Any, statement: str, form: str) -> None:
        self.connection, self.lead = connection, form == "csv"
        self.rows: int | None = None
        self.tag, self.error = -1, None
        self.buffer, self.other = bytearray(2 * _ROOM), bytearray(2 * _ROOM)
        self.filled = self.walked = self.given = 0
        self.heads: list[Any] = []
        self.gaps: list[tuple[int, int]] = []
        self.socket = socket.socket(fileno=os.dup(connection.fileno()))
        self.intake = Intake(self.socket)
        try:
            self._ask(statement)
        except OSError as error:
            self.socket.close()
            raise lost(error) from error

    def _ask(self, statement: str) -> None:
        query = statement.encode() + b"\0"
        rest = memoryview(b"Q" + (len(query) + 4).to_bytes(4, "big") + query)
        while rest:
            with suppress(BlockingIOError):  # libpq never waits inside of a call, nor do we
                rest = rest[self.socket.send(rest) :]
                continue
            select.select([], [self.socket], [])

    def chunk(self, rows: int, size: int) -> tuple[Any, int, bytes]:
        """As its base says. CSV has a first cell of ours (`lead`); good until the next but one."""
        import numpy as np

        self._forget(2 * size + 2 * _ROOM)
        while self.rows is None:
            count = sum(map(len, self.heads))
            if count >= rows or (count and self.walked >= size):
                break
            self._receive()
            self._walk()
        heads = np.concatenate(self.heads) if self.heads else np.zeros(0, np.int64)
        end = int(heads[rows]) if rows < len(heads) else self.walked
        self.heads, heads = [heads[rows:]], heads[:rows]
        self.given = end
        if not len(heads):
            return b"", 0, b""
        at = int(heads[-1])
        last = bytes(self.buffer[at + HEAD : at + 1 + _length(self.buffer, at + 1)[0]])
        if self.lead:
            self._lead(heads, end)
        data = memoryview(self.buffer)[:end]
        gaps = [each for each in self.gaps if each[0] < end]
        if gaps:
            bounds = [0, *(at for each in gaps for at in each), end]
            kept = [data[a:b] for a, b in zip(bounds[::2], bounds[1::2], strict=True)]
            data = memoryview(b"".join(kept))
        return data, len(heads), last

    def _lead(self, heads: Any, end: int) -> None:
        """Turn what stands before each row into a cell."""
        import numpy as np

        data = np.frombuffer(self.buffer, np.uint8, end)
        for step in range(HEAD - 1):
            data[heads + step] = _FILLER
        data[heads + HEAD - 1] = _COMMA

    def _forget(self, most: int) -> None:
        """Go on in the other buffer, with what was not given yet; a huge one is given back."""
        rest = self.filled - self.given
        if not rest <= len(self.other) <= max(most, 2 * rest):
            self.other = bytearray(rest + _ROOM)
        with memoryview(self.buffer) as view, memoryview(self.other) as fresh:
            fresh[:rest] = view[self.given : self.filled]
        self.buffer, self.other = self.other, self.buffer
        self.heads = [each - self.given for each in self.heads]
        self.gaps = [(a - self.given, b - self.given) for a, b in self.gaps if a >= self.given]
        self.walked, self.filled, self.given = self.walked - self.given, rest, 0

    def _receive(self) -> None:
        import psycopg

        until = self.filled + _ROOM
        if until > len(self.buffer):
            self.buffer = self.buffer + bytearray(max(_ROOM, len(self.buffer)))
        with memoryview(self.buffer) as view, view[self.filled : until] as room:
            try:
                got = self.intake.into(room, _is_end)
            except OSError as error:
                raise lost(error) from error
        if not got:
            self._walk()
            raise self.error or psycopg.OperationalError(
                "the server closed the connection unexpectedly"
            )
        self.filled += got

    def _walk(self) -> None:
        """Find the messages that came since, and do what those that are no rows say."""
        import numpy as np

        buffer, chained = self.buffer, True
        single: list[int] = []
        while self.walked + HEAD <= self.filled:
            at = self.walked
            if chained:
                heads, at = _chain(buffer, at, self.filled)
                if len(heads):
                    self.heads.append(heads)
                    self.walked = at
                    continue
            end = at + 1 + _length(buffer, at + 1)[0]
            if end > self.filled:
                break
            self.walked = end
            if buffer[at] == _DATA:
                single.append(at)
                chained = False
                continue
            if single:
                self.heads.append(np.array(single, np.int64))
                single = []
            chained = True
            self.gaps.append((at, end))
            self._heed(buffer[at], bytes(buffer[at + HEAD : end]))
        if single:
            self.heads.append(np.array(single, np.int64))

    def _heed(self, kind: int, told: bytes) -> None:
        if kind == ord("E"):
            self.error = self.error or _error(told)
        elif kind == ord("C"):
            self.tag = int(told.rstrip(b"\0").rpartition(b" ")[2])
        elif kind == _READY:
            if self.error is not None:
                self.rows = 0
                raise self.error
            self.rows = self.tag

    def give_up(self) -> None:
        """As its base says."""
        try:
            super().give_up()
        finally:
            self.socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """End it, also in the middle: the server stops reading."""
        if self.rows is None:
            if not self.left:
                with suppress(Exception):
                    self.give_up()
            self.connection.close()
        self.intake.close()
        self.socket.close()


def _chain(buffer: bytearray, at: int, filled: int) -> tuple[Any, int]:
    """The messages of data that follow each other from `at`, and where the last whole one ends.

    Looked for all at once: a `d` before a zero (of a length below 16 MiB) where another one ends.
    Whatever it does not find is left to be walked one by one.
    """
    import numpy as np

    part = np.frombuffer(buffer, np.uint8, filled - at, at)
    none = np.zeros(0, np.int64)
    if part[0] != _DATA:
        return none, at
    heads = np.flatnonzero((part[: -HEAD + 1] == _DATA) & (part[1 : 2 - HEAD or None] == 0))
    sizes = np.zeros(len(heads), np.int64)
    for step in range(2, HEAD):
        sizes = sizes << 8 | part[heads + step]
    ends = heads + 1 + sizes
    for _ in range(3):
        begins = np.zeros(len(part) + 1, bool)
        begins[0] = True
        begins[ends[ends <= len(part)]] = True
        kept = begins[heads]
        if kept.all():
            break
        heads, ends = heads[kept], ends[kept]
    if not len(heads) or heads[0] != 0:
        return none, at
    broken = np.flatnonzero(ends[:-1] != heads[1:])
    count = int(broken[0]) + 1 if len(broken) else len(heads)
    while count and ends[count - 1] > len(part):
        count -= 1
    return heads[:count] + at, at + int(ends[count - 1]) if count else at


def _is_end(view: memoryview) -> bool:
    return view[-len(_END) - 1 : -1] == _END


def _error(told: bytes) -> Any:
    """What psycopg would raise for an ErrorResponse."""
    import psycopg

    fields: dict[int, bytes | None] = {each[0]: each[1:] for each in told.split(b"\0") if each}

    def said(letter: str) -> str:
        return (fields.get(ord(letter)) or b"").decode(errors="replace")

    state, text = said("C"), said("M")
    for letter, title in (("D", "DETAIL"), ("H", "HINT"), ("W", "CONTEXT")):
        if more := said(letter):
            text += f"\n{title}:  {more}"
    try:
        kind = psycopg.errors.lookup(state)
    except KeyError:
        kind = psycopg.errors.get_base_exception(state)
    return kind(text, info=fields)
