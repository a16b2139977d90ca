"""The network connections of calls that may never be answered, so that such a call can be ended.

A call that waits for the network cannot be interrupted. While `watching` is open, the connections
that its thread opens are known; `give_up` shuts them down. The call then gets an error, and the
server does away with what it held for it. What has no connection of its own (obstore) goes through
`interruptible`. Threads that work for the thread of a call say so: `working_for`, `for_this_call`.
"""

from __future__ import annotations

import os
import socket
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

from hygge.errors import Transient

Item = TypeVar("Item")
Result = TypeVar("Result")


class WatchedCall:
    """One call that may be given up, and what it has open."""

    def __init__(self) -> None:
        self.thread = threading.get_ident()
        self.is_given_up = False
        self.connections: weakref.WeakSet[Any] = weakref.WeakSet()
        self.waiting: set[threading.Event] = set()
        self.lock = threading.Lock()

    def give_up(self) -> None:
        """Shut down what the call has open: whoever waits for it gets an error."""
        with self.lock:
            self.is_given_up = True
            connections, waiting = list(self.connections), list(self.waiting)
        for event in waiting:
            event.set()
        for connection in connections:
            with suppress(Exception):  # it may be closed, or have no socket
                _shut_down(connection)
        frame = sys._current_frames().get(self.thread)
        while frame is not None:  # sockets of Python, such as those of a user's own Home
            for value in list(frame.f_locals.values()):
                if isinstance(value, socket.SocketIO):
                    value = getattr(value, "_sock", None)
                if isinstance(value, socket.socket):
                    with suppress(OSError):
                        value.shutdown(socket.SHUT_RDWR)
            frame = frame.f_back


_mine = threading.local()


def current() -> WatchedCall | None:
    """Return the call that this thread is in, or works for; None: it is not watched."""
    call: WatchedCall | None = getattr(_mine, "call", None)
    return call


@contextmanager
def working_for(call: WatchedCall | None) -> Iterator[None]:
    """Let this thread work for a call of another thread, or of its own."""
    before = current()
    _mine.call = call
    try:
        yield
    finally:
        _mine.call = before


def for_this_call(work: Callable[[Item], Result]) -> Callable[[Item], Result]:
    """Return `work` for another thread, which works for the call that this one is in."""
    call = current()

    def work_for_call(item: Item) -> Result:
        with working_for(call):
            return work(item)

    return work_for_call


@contextmanager
def watching() -> Iterator[WatchedCall]:
    """Yield a call of this thread, which another thread may give up."""
    call = WatchedCall()
    with working_for(call):
        yield call


def note_connection(connection: Any) -> None:
    """Note that a driver's connection (psycopg, pymysql, or alike) was opened by this thread."""
    call = current()
    if call is not None:
        with call.lock, suppress(TypeError):  # a driver's own type may allow no weak reference
            call.connections.add(connection)


def opened(connect: Callable[[], Result]) -> Result:
    """Return the connection that a driver's `connect` opens, and note it; see `interruptible`."""
    connection = interruptible(connect, lambda late: late.close())  # type: ignore[attr-defined]  # every driver's has it (PEP 249)
    note_connection(connection)
    return connection


def interruptible(
    work: Callable[[], Result], undo: Callable[[Result], object] = lambda result: None
) -> Result:
    """Return the result of `work`, made in another thread where the call is watched.

    Raises Transient where the call is given up; `work` then ends when it ends, and `undo` gets its
    result.
    """
    call = current()
    if call is None:
        return work()
    done = threading.Event()
    results: list[Result] = []
    errors: list[BaseException] = []

    def make() -> None:
        try:
            result = work()
        except BaseException as error:  # it is raised in the thread that waits
            errors.append(error)
        else:
            with call.lock:
                is_late = call.is_given_up
                if not is_late:
                    results.append(result)
            if is_late:
                with suppress(Exception):
                    undo(result)
        done.set()

    with call.lock:
        is_given_up = call.is_given_up
        call.waiting.add(done)
    try:
        if not is_given_up:
            # A daemon: it does not keep the process from ending.
            threading.Thread(target=make, name="hygge-request", daemon=True).start()
            done.wait()
    finally:
        with call.lock:
            call.waiting.discard(done)
    if errors:
        raise errors.pop()
    if results:
        return results.pop()
    raise Transient("the call was given up", "run it again")


def _shut_down(connection: Any) -> None:
    own = getattr(connection, "_sock", None)  # pymysql
    if own is not None:
        own.shutdown(socket.SHUT_RDWR)
        return
    with socket.socket(fileno=os.dup(connection.fileno())) as copy:
        copy.shutdown(socket.SHUT_RDWR)
