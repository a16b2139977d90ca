"""Sessions that read, used again for the next plan or split of the same run.

A session costs the server 5 ms of CPU, and as much again to learn its catalog. So while a plan is
open in this process (or a snapshot, that many tables share), a session that is done waits for the
next one who reads from the same URL. The server forgets first all that it was told (DISCARD ALL).
When the last plan of the URL ends, the sessions that wait are closed. There are never more sessions
than were in use at once.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import psycopg

_lock = threading.Lock()
_plans: dict[tuple[int, str], int] = {}
"""How many plans are open, by process and URL. A process that was forked has none."""
_idle: dict[tuple[int, str], list[psycopg.Connection]] = {}


@contextmanager
def keeping(url: str) -> Iterator[None]:
    """Keep sessions of `url` that are done for the next reader, until the last such plan ends."""
    key = os.getpid(), url
    with _lock:
        _plans[key] = _plans.get(key, 0) + 1
    try:
        yield
    finally:
        left: list[psycopg.Connection] = []
        with _lock:
            _plans[key] -= 1
            if not _plans[key]:
                del _plans[key]
                left = _idle.pop(key, [])
        for connection in left:
            _close(connection)


def take(url: str) -> psycopg.Connection | None:
    """Return a session that waits, as it was when it was opened; None where there is none."""
    with _lock:
        waiting = _idle.get((os.getpid(), url))
        return waiting.pop() if waiting else None


def give_back(url: str, connection: psycopg.Connection) -> None:
    """Let a session wait for the next reader; close it where nobody will come."""
    key = os.getpid(), url
    if key not in _plans or not _forget_all(connection):
        _close(connection)
        return
    with _lock:
        is_kept = key in _plans
        if is_kept:
            _idle.setdefault(key, []).append(connection)
    if not is_kept:
        _close(connection)


def _forget_all(connection: psycopg.Connection) -> bool:
    """Make a session as it was when it was opened; False where that is not possible."""
    import psycopg

    status = psycopg.pq.TransactionStatus
    if connection.info.transaction_status not in (status.IDLE, status.INTRANS, status.INERROR):
        return False  # a COPY that was given up, or a connection that is lost
    try:
        if connection.info.transaction_status != status.IDLE:
            connection.execute("ROLLBACK")
        connection.execute("DISCARD ALL")
    except psycopg.Error:
        return False
    return True


def _close(connection: psycopg.Connection) -> None:
    with suppress(Exception):
        connection.close()
