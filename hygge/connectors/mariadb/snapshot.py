"""One moment of MariaDB for all lanes of a run.

No session joins another's snapshot there. So the sessions of all lanes begin together while nobody
can commit: the driver opens them, holds a lock for the milliseconds that they take to begin, and
keeps them until the run ends. LOCK TABLES … READ waits for whoever has written to the tables and
not committed; where only a query is known, that right is missing or a view among them is broken,
FLUSH TABLES WITH READ LOCK does the same for the whole server.

A lane borrows a session for one SELECT through a port of the driver: it sends a secret and the
statement, and gets the server's packets as they come. The driver follows where packets end, so that
the session of a lane that broke off is read to its end and lent again.
"""

from __future__ import annotations

import hmac
import queue
import secrets
import selectors
import socket
import ssl
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import lru_cache
from typing import Any

from hygge.connectors.mariadb.session import connect, execute, in_words, number_of, quoted, session
from hygge.connectors.sql.ask import Ask
from hygge.connectors.sql.connection import split_name
from hygge.errors import HomeError, SourceChanged, Transient

_LOCK_WAIT_S = 5
"""Nobody else writes while the lock waits for somebody's transaction."""
_CONNECT_S = 20
_CHUNK = 1 << 18
_SECRET_BYTES, _SIZE_BYTES = 32, 4
_DENIED, _TOO_LATE = (1044, 1142, 1143, 1227), (1205, 1969)
_BROKEN = (1356, 1449)
"""A view of what is gone, or of somebody who is."""
_LONGEST = 0xFFFFFF
_ERROR, _END = 0xFF, 0xFE
_BEGIN = "START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY"
_STAYS = (
    "SET wait_timeout = 604800, idle_transaction_timeout = 0, idle_readonly_transaction_timeout = 0"
)


class NoMoment(Exception):
    """Why the sessions cannot begin at one moment, in words."""


class Desk:
    """Sessions of one moment, lent to lanes through a port until `close`."""

    def __init__(self, ask: Ask, sessions: list[Any]) -> None:
        self.ask, self.sessions = ask, sessions
        self.secret = secrets.token_bytes(_SECRET_BYTES)
        self._free: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._left, self._lock = len(sessions), threading.Lock()
        for each in sessions:
            self._free.put(each)
        # The way to the server leads through a network that the lanes have as well.
        mine = sessions[0]._sock
        inet = mine.family in (socket.AF_INET, socket.AF_INET6)
        host = mine.getsockname()[0] if inet else "127.0.0.1"
        family = mine.family if inet else socket.AF_INET
        self._door = socket.create_server((host, 0), family=family, backlog=256)
        self.at = (host, self._door.getsockname()[1])
        threading.Thread(target=self._serve, name="hygge-desk", daemon=True).start()

    def close(self) -> None:
        """Ends the sessions, and the moment with them."""
        with suppress(OSError):
            self._door.shutdown(socket.SHUT_RDWR)
        self._door.close()
        self._free.put(None)
        for each in self.sessions:
            with suppress(Exception):
                each._force_close()

    def _serve(self) -> None:
        while True:
            try:
                lane, _ = self._door.accept()
            except OSError:
                return
            threading.Thread(target=self._lend, args=(lane,), daemon=True).start()

    def _lend(self, lane: socket.socket) -> None:
        with lane, suppress(OSError, EOFError):
            lane.settimeout(_CONNECT_S)
            if not hmac.compare_digest(_exactly(lane, _SECRET_BYTES), self.secret):
                return
            sql = _exactly(lane, int.from_bytes(_exactly(lane, _SIZE_BYTES), "little"))
            lane.settimeout(None)
            result = Packets()
            while not result.began and (mine := self._free.get()) is not None:
                if _has_left(lane) or self._served(mine, lane, sql.decode(), result):
                    self._free.put(mine)
                    return
                with suppress(Exception):
                    mine._force_close()
                with self._lock:
                    self._left -= 1
                    if self._left < 1:
                        self._free.put(None)  # for this one, and for who waits
            if not result.began:
                self._free.put(None)

    def _served(self, mine: Any, lane: socket.socket, sql: str, result: Packets) -> bool:
        """Pass a result on; whether the session is of further use."""
        from pymysql import err
        from pymysql.constants import COMMAND

        try:
            mine._execute_command(COMMAND.COM_QUERY, mine.hygge + sql)
            if not _passed(mine._sock, lane, result):
                with session(self.ask.url, self.ask.who, HomeError, self.ask.flow) as other:
                    execute(other, f"KILL QUERY {mine.thread_id()}")
                _read_on(mine._sock, result)
        except (OSError, EOFError, err.Error, HomeError, Transient):
            return False
        return result.ended


class Packets:
    """Follows the packets of one result, as its bytes come in pieces of any size."""

    def __init__(self) -> None:
        self.began = self.ended = False
        self._skip = 0
        self._part = b""
        self._marks, self._goes_on, self._last = 0, False, False

    def feed(self, data: memoryview) -> None:
        """Some more bytes."""
        self.began = True
        if self._part:
            data = memoryview(self._part + bytes(data))
            self._part = b""
        at, size = self._skip, len(data)
        while not self._last and at + 5 <= size:
            length = data[at] | data[at + 1] << 8 | data[at + 2] << 16
            if not self._goes_on:
                mark = data[at + 4]
                if mark == _END and length < 9:
                    self._marks += 1  # one after the columns, one after the rows
                self._last = mark == _ERROR or self._marks == 2
            self._goes_on = length == _LONGEST
            at += 4 + length
        self.ended = self._last and at <= size
        if at < size:
            self._part = bytes(data[at:])
            at = size
        self._skip = at - size


def opened(ask: Ask, count: int, tables: Sequence[str]) -> Desk:
    """`count` sessions of one moment of these tables; of a query's, if none is named.

    Raises NoMoment.
    """
    sessions: list[Any] = []
    with ExitStack() as undo:
        with in_words(ask.who, HomeError):
            for _ in range(count):
                sessions.append(connect(ask.url, ask.who, ask.flow))
                undo.callback(sessions[-1]._force_close)
                execute(sessions[-1], _STAYS)
                execute(sessions[-1], "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        with session(ask.url, ask.who, HomeError, ask.flow) as still:
            execute(still, f"SET lock_wait_timeout = {_LOCK_WAIT_S}")
            _make_still(still, tables)
            for each in sessions:
                execute(each, _BEGIN)
            execute(still, "UNLOCK TABLES")
        desk = Desk(ask, sessions)
        undo.pop_all()
    return desk


def _make_still(connection: Any, tables: Sequence[str]) -> None:
    """Nobody commits a change of what is read until UNLOCK TABLES."""
    from pymysql import err

    ways = ["FLUSH TABLES WITH READ LOCK"]
    if tables:
        locks = ", ".join(f"{quoted(*split_name(each))} READ" for each in tables)
        ways.insert(0, f"LOCK TABLES {locks}")
    denied: list[int] = []
    for way in ways:
        try:
            execute(connection, way)
            return
        except err.MySQLError as error:
            if number_of(error) in _TOO_LATE:
                raise NoMoment(
                    f"a transaction that wrote was open for {_LOCK_WAIT_S} s, and kept "
                    f"{way.partition(' `')[0]} waiting"
                ) from error
            if number_of(error) not in (*_DENIED, *(_BROKEN if way.startswith("LOCK") else ())):
                raise
            denied += [number_of(error)]
    rights = "LOCK TABLES" if tables and denied[0] in _DENIED else "RELOAD"
    raise NoMoment(f"without the right {rights} its sessions cannot begin at one moment")


@contextmanager
def lent(ask: Ask, at: tuple[str, int], secret: str) -> Iterator[Any]:
    """In a lane: a session of the run's moment, for one SELECT."""
    where = f"the driver of the run, which holds its moment at {at[0]} port {at[1]}"
    with in_words(ask.who, HomeError):
        try:
            door = socket.create_connection(at, timeout=_CONNECT_S)
        except OSError as error:
            raise Transient(
                f"{ask.who}: cannot reach {where}: {error}",
                "does the driver live, and do the nodes let each other through? "
                "`consistency: split` needs no such port",
            ) from error
        with door, door.makefile("rb") as came:
            door.settimeout(None)
            door.sendall(bytes.fromhex(secret))
            connection = _borrowed()(defer_connect=True)
            connection._sock, connection._rfile = door, came
            connection._current_timeout = None
            connection.hygge, connection.who = "", ask.who
            yield connection


@lru_cache(maxsize=1)
def _borrowed() -> Any:
    from pymysql.connections import Connection

    class Borrowed(Connection):  # type: ignore[misc]  # pymysql has no types
        def _execute_command(self, command: int, sql: str | bytes) -> None:
            """Asks the driver for a session that runs `sql`, and waits for its first bytes."""
            told = sql.encode() if isinstance(sql, str) else sql
            self._sock.sendall(len(told).to_bytes(_SIZE_BYTES, "little") + told)
            self._next_seq_id = 1
            if not self._rfile.peek(1):
                raise SourceChanged(
                    f"{self.who}: the moment of this run is gone: the sessions of the driver that "
                    "held it have ended",
                    "was the server restarted, or the driver's connection cut? run again: it "
                    "starts anew; `consistency: split` needs none",
                )

    return Borrowed


def _passed(server: Any, lane: socket.socket, result: Packets) -> bool:
    """Pass the server's bytes on until the result ends; False where the lane has left."""
    room = memoryview(bytearray(_CHUNK))
    with selectors.DefaultSelector() as ready:
        ready.register(server, selectors.EVENT_READ)
        ready.register(lane, selectors.EVENT_READ)  # which says no more: it has left
        while not result.ended:
            if not (isinstance(server, ssl.SSLSocket) and server.pending()):
                keys = [key.fileobj for key, _ in ready.select()]
                if lane in keys:
                    return False
            got = server.recv_into(room)
            if not got:
                raise EOFError
            result.feed(room[:got])
            try:
                lane.sendall(room[:got])
            except OSError:
                return False
    return True


def _read_on(server: Any, result: Packets) -> None:
    """Take what still comes of a result that nobody wants."""
    room = memoryview(bytearray(_CHUNK))
    while not result.ended:
        got = server.recv_into(room)
        if not got:
            raise EOFError
        result.feed(room[:got])


def _has_left(lane: socket.socket) -> bool:
    try:
        return not lane.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except BlockingIOError:
        return False


def _exactly(source: socket.socket, count: int) -> bytes:
    found = b""
    while len(found) < count:
        more = source.recv(count - len(found))
        if not more:
            raise EOFError
        found += more
    return found
