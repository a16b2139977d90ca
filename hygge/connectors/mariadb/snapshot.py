"""One snapshot of MariaDB for all lanes of a run.

MariaDB has no way for one session to take over the snapshot of another. So the sessions of all
lanes begin their transactions together, while nobody can commit: the driver opens the sessions,
holds a lock for the milliseconds in which they begin, and keeps them until the run ends. LOCK
TABLES … READ waits for transactions that have written to the tables. FLUSH TABLES WITH READ LOCK
does the same for the whole server: it is used for a query, whose tables are not known, and where
the right to lock tables is missing or a view among them is broken.

A lane borrows a session for one SELECT, through a port of the driver: it sends a secret and the
statement, and gets the server's packets as they come. The driver follows where packets end. So
when a lane breaks off, its session is read to the end of the result, and lent again.
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
from typing import TYPE_CHECKING, NamedTuple

from hygge.connectors.mariadb.session import connect, execute, in_words, number_of, quoted, session
from hygge.connectors.sql.ask import Ask
from hygge.connectors.sql.connection import split_name
from hygge.errors import HomeError, SourceChanged, Transient

if TYPE_CHECKING:
    from pymysql.connections import Connection

_LOCK_WAIT_S = 5
"""Seconds to wait for the lock: nobody else can write while it waits for an open transaction."""
_CONNECT_S = 20
_CHUNK_BYTES = 1 << 18
_SECRET_BYTES, _SIZE_BYTES = 32, 4
_DENIED, _TIMED_OUT = (1044, 1142, 1143, 1227), (1205, 1969)
_BROKEN_VIEW = (1356, 1449)
"""A view of a table, or of an owner, that is gone."""
_LONGEST_PACKET = 0xFFFFFF
_ERROR, _END = 0xFF, 0xFE
_ISOLATION = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"
_BEGIN = "START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY"
_NO_TIMEOUTS = (
    "SET wait_timeout = 604800, idle_transaction_timeout = 0, idle_readonly_transaction_timeout = 0"
)


class NoSnapshot(Exception):
    """The sessions cannot begin together; its text says why."""


class Address(NamedTuple):
    """Where the sessions of a snapshot are lent."""

    host: str
    port: int
    secret: str
    """32 bytes in hexadecimal digits."""


class Lender:
    """Sessions that see one snapshot, lent to lanes through a port until `close`."""

    def __init__(self, ask: Ask, sessions: Sequence[Connection]) -> None:
        self.ask, self.sessions = ask, sessions
        self._secret = secrets.token_bytes(_SECRET_BYTES)
        self._free: queue.SimpleQueue[Connection | None] = queue.SimpleQueue()
        """Sessions that nobody uses; None, for all who wait, once no session is left."""
        self._left, self._lock = len(sessions), threading.Lock()
        for connection in sessions:
            self._free.put(connection)
        # Listen where this host reaches the server from: the lanes are in that network too.
        server = sessions[0]._sock
        is_inet = server.family in (socket.AF_INET, socket.AF_INET6)
        host = server.getsockname()[0] if is_inet else "127.0.0.1"
        family = server.family if is_inet else socket.AF_INET
        self._listener = socket.create_server((host, 0), family=family, backlog=256)
        self.address = Address(host, self._listener.getsockname()[1], self._secret.hex())
        threading.Thread(target=self._serve, name="hygge-snapshot", daemon=True).start()

    def close(self) -> None:
        """End the sessions, and the snapshot with them."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._free.put(None)
        for connection in self.sessions:
            with suppress(Exception):
                # Closing alone does not wake a thread that waits for the server.
                connection._sock.shutdown(socket.SHUT_RDWR)
            with suppress(Exception):
                connection._force_close()

    def _serve(self) -> None:
        while True:
            try:
                lane, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._lend, args=(lane,), daemon=True).start()

    def _lend(self, lane: socket.socket) -> None:
        """Answer one lane; a session that is lost before a byte of its result is replaced."""
        with lane, suppress(OSError, EOFError):
            lane.settimeout(_CONNECT_S)
            if not hmac.compare_digest(_exactly(lane, _SECRET_BYTES), self._secret):
                return
            sql = _exactly(lane, int.from_bytes(_exactly(lane, _SIZE_BYTES), "little"))
            lane.settimeout(None)
            result = Packets()
            while not result.began and (connection := self._free.get()) is not None:
                if _has_left(lane) or self._answer(connection, lane, sql.decode(), result):
                    self._free.put(connection)
                    return
                with suppress(Exception):
                    connection._force_close()
                with self._lock:
                    self._left -= 1
                    if self._left < 1:
                        self._free.put(None)
            if not result.began:
                self._free.put(None)  # for the next one who waits

    def _answer(
        self, connection: Connection, lane: socket.socket, sql: str, result: Packets
    ) -> bool:
        """Run a statement, and pass its result on; return whether the session can be lent again."""
        from pymysql import err
        from pymysql.constants import COMMAND

        try:
            connection._execute_command(COMMAND.COM_QUERY, connection.comment + sql)
            if not _pass_on(connection._sock, lane, result):
                with session(self.ask.url, self.ask.who, HomeError, self.ask.flow) as other:
                    execute(other, f"KILL QUERY {connection.thread_id()}")
                _read_to_end(connection._sock, result)
        except (OSError, EOFError, err.Error, HomeError, Transient):
            return False
        return result.ended


class Packets:
    """Follows the packets of one result, whose bytes come in pieces of any size."""

    def __init__(self) -> None:
        self.began = self.ended = False
        self._skip = 0  # bytes to come of a packet whose header was seen
        self._part = b""  # of a header that has not come as a whole
        self._marks = 0  # that end a part of the result
        self._goes_on = False  # the packet goes on in the next one
        self._is_last = False  # no packet follows the one that was seen

    def feed(self, data: memoryview) -> None:
        """Take some more bytes."""
        self.began = True
        if self._part:
            data = memoryview(self._part + bytes(data))
            self._part = b""
        at, size = self._skip, len(data)
        while not self._is_last and at + 5 <= size:
            length = data[at] | data[at + 1] << 8 | data[at + 2] << 16
            if not self._goes_on:
                mark = data[at + 4]
                if mark == _END and length < 9:
                    self._marks += 1  # one after the columns, one after the rows
                self._is_last = mark == _ERROR or self._marks == 2
            self._goes_on = length == _LONGEST_PACKET
            at += 4 + length
        self.ended = self._is_last and at <= size
        if at < size:
            self._part = bytes(data[at:])
            at = size
        self._skip = at - size


def begin_together(ask: Ask, count: int, tables: Sequence[str]) -> Lender:
    """Open `count` sessions that see one snapshot of these tables; of all, if none is named.

    Raises NoSnapshot if the tables cannot be locked.
    """
    sessions: list[Connection] = []
    with ExitStack() as undo:
        with in_words(ask.who, HomeError):
            for _ in range(count):
                sessions.append(connect(ask.url, ask.who, ask.flow))
                undo.callback(sessions[-1]._force_close)
                execute(sessions[-1], _NO_TIMEOUTS)
                execute(sessions[-1], _ISOLATION)
        with session(ask.url, ask.who, HomeError, ask.flow) as locking:
            execute(locking, f"SET lock_wait_timeout = {_LOCK_WAIT_S}")
            _lock(locking, tables)
            for connection in sessions:
                execute(connection, _BEGIN)
            execute(locking, "UNLOCK TABLES")
        lender = Lender(ask, sessions)
        undo.pop_all()
    return lender


def _lock(connection: Connection, tables: Sequence[str]) -> None:
    """Let nobody commit a change of the tables until UNLOCK TABLES; raise NoSnapshot."""
    from pymysql import err

    statements = ["FLUSH TABLES WITH READ LOCK"]
    if tables:
        locks = ", ".join(f"{quoted(*split_name(table))} READ" for table in tables)
        statements.insert(0, f"LOCK TABLES {locks}")
    denied: list[int] = []
    for statement in statements:
        try:
            execute(connection, statement)
            return
        except err.MySQLError as error:
            number = number_of(error)
            if number in _TIMED_OUT:
                raise NoSnapshot(
                    f"a transaction that wrote was open for {_LOCK_WAIT_S} s, and kept "
                    f"{statement.partition(' `')[0]} waiting"
                ) from error
            if number not in (*_DENIED, *(_BROKEN_VIEW if statement.startswith("LOCK") else ())):
                raise
            denied.append(number)
    right = "LOCK TABLES" if tables and denied[0] in _DENIED else "RELOAD"
    raise NoSnapshot(f"without the right {right} its sessions cannot begin at one moment")


def begin_alone(ask: Ask) -> Lender:
    """Open one session with a snapshot of its own, to be planned and read in."""
    with in_words(ask.who, HomeError):
        connection = connect(ask.url, ask.who, ask.flow)
        try:
            for statement in (_NO_TIMEOUTS, _ISOLATION, _BEGIN):
                execute(connection, statement)
            return Lender(ask, [connection])
        except BaseException:
            connection._force_close()
            raise


@contextmanager
def own(ask: Ask) -> Iterator[Connection]:
    """Open a session in a READ ONLY transaction with a snapshot of its own."""
    with session(ask.url, ask.who, HomeError, ask.flow) as connection:
        execute(connection, _ISOLATION)
        execute(connection, _BEGIN)
        yield connection


@contextmanager
def lent(ask: Ask, address: Address) -> Iterator[Connection]:
    """Borrow, in a lane, a session of the run's snapshot for one SELECT.

    Raises Transient if the driver cannot be reached, SourceChanged if its sessions have ended.
    """
    where = f"the driver of the run, which holds its moment at {address.host} port {address.port}"
    with in_words(ask.who, HomeError):
        try:
            driver = socket.create_connection(address[:2], timeout=_CONNECT_S)
        except OSError as error:
            raise Transient(
                f"{ask.who}: cannot reach {where}: {error}",
                "does the driver live, and do the nodes let each other through? "
                "`consistency: split` needs no such port",
            ) from error
        with driver, driver.makefile("rb") as received:
            driver.settimeout(None)
            driver.sendall(bytes.fromhex(address.secret))
            connection = _borrowed_class()(defer_connect=True)
            connection._sock, connection._rfile = driver, received
            connection._current_timeout = None
            connection.who = ask.who
            yield connection


@lru_cache(maxsize=1)
def _borrowed_class() -> type[Connection]:
    from pymysql.connections import Connection

    class Borrowed(Connection):  # type: ignore[misc]  # pymysql has no types
        comment = ""  # the driver's session writes its own
        who: str

        def _execute_command(self, command: int, sql: str | bytes) -> None:
            """Ask the driver for a session that runs `sql`, and wait for the first bytes."""
            statement = sql.encode() if isinstance(sql, str) else sql
            self._sock.sendall(len(statement).to_bytes(_SIZE_BYTES, "little") + statement)
            self._next_seq_id = 1
            if not self._rfile.peek(1):
                raise SourceChanged(
                    f"{self.who}: the moment of this run is gone: the sessions of the driver that "
                    "held it have ended",
                    "was the server restarted, or the driver's connection cut? run again: it "
                    "starts anew; `consistency: split` needs none",
                )

    return Borrowed


def _pass_on(server: socket.socket, lane: socket.socket, result: Packets) -> bool:
    """Pass the server's bytes on until the result ends; return False if the lane has left."""
    room = memoryview(bytearray(_CHUNK_BYTES))
    with selectors.DefaultSelector() as ready:
        ready.register(server, selectors.EVENT_READ)
        ready.register(lane, selectors.EVENT_READ)  # it sends nothing more, so it has left
        while not result.ended:
            # TLS may hold bytes that it has decrypted already: no event will tell of them.
            if not (isinstance(server, ssl.SSLSocket) and server.pending()):
                readable = [key.fileobj for key, _ in ready.select()]
                if lane in readable:
                    return False
            size = server.recv_into(room)
            if not size:
                raise EOFError
            result.feed(room[:size])
            try:
                lane.sendall(room[:size])
            except OSError:
                return False
    return True


def _read_to_end(server: socket.socket, result: Packets) -> None:
    """Read what still comes of a result that nobody wants."""
    room = memoryview(bytearray(_CHUNK_BYTES))
    while not result.ended:
        size = server.recv_into(room)
        if not size:
            raise EOFError
        result.feed(room[:size])


def _has_left(lane: socket.socket) -> bool:
    try:
        return not lane.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except BlockingIOError:
        return False


def _exactly(source: socket.socket, count: int) -> bytes:
    """Read so many bytes; raise EOFError if fewer come."""
    data = b""
    while len(data) < count:
        more = source.recv(count - len(data))
        if not more:
            raise EOFError
        data += more
    return data
