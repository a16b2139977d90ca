"""Connections to DuckDB files, and the lock that goes with them.

A process that writes a DuckDB file locks out every other process; processes that read lock out the
one that would write. Within one process all connections to a file share one instance, which either
reads or writes. So whoever finds the file locked waits for a while, and then raises Transient.

DuckDB alone opens the database file. POSIX drops all locks of a process on a file as soon as the
process closes any file descriptor of that file, so hygge never opens it by itself while it is
connected.
"""

from __future__ import annotations

import os
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from hygge.connectors.duckdb.errors import in_words, is_locked
from hygge.connectors.sql import pins
from hygge.connectors.sql.drivers import missing_driver
from hygge.errors import HomeError, HyggeError, SourceMissing, Transient
from hygge.places.names import hint_for_missing
from hygge.places.shipped import version_of

if TYPE_CHECKING:
    import duckdb

LOCK_WAIT_S = 30.0
"""How long the lock of another process is waited for."""
_PAUSE_S = 0.1
_MEMORY = "1GB"
"""Memory of a commit; what needs more goes to a folder beside the database."""
_CLOCK_TICK_NS = 20_000_000
"""The coarsest step of a file system's clock that we expect."""

_writers: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)
"""By path: threads of one process share an instance, which does not lock them out."""


def path_of(url: str) -> str:
    """Return the path of the file that a DuckDB URL names."""
    from sqlalchemy.engine import make_url

    return str(make_url(url).database)


def quoted(name: str) -> str:
    """Return an identifier in quotes."""
    return '"' + name.replace('"', '""') + '"'


def text(value: str) -> str:
    """Return a text as a literal of SQL."""
    return "'" + value.replace("'", "''") + "'"


@contextmanager
def reading(
    path: str, who: str, side: type[HyggeError] = HomeError
) -> Iterator[duckdb.DuckDBPyConnection]:
    """Open a file that is there to read it, which locks out whoever would write it.

    Raises SourceMissing if there is no file, Transient if another process writes it for long.
    """
    if not os.path.isfile(path):
        raise SourceMissing(f"there is no DuckDB database {path}", hint_for_missing(path))
    with in_words(who, side):
        connection = _connect(path, who, read_only=True)
        try:
            yield connection
        finally:
            connection.close()


@contextmanager
def writing(path: str, who: str, side: type[HyggeError]) -> Iterator[duckdb.DuckDBPyConnection]:
    """Open a file to write it, or make it; nobody else has it open meanwhile.

    Raises Transient if another process, or another connection of this one, has it open for long.
    """
    if not _writers[path].acquire(timeout=LOCK_WAIT_S):
        raise Transient(f"{who}: another flow is writing the file", "run again")
    try:
        with in_words(who, side):
            connection = _connect(path, who, read_only=False, config={"memory_limit": _MEMORY})
            if _takes_zeros_for_one():
                connection.execute("SET disabled_compression_methods = 'rle'")
            try:
                yield connection
            finally:
                connection.close()
    finally:
        _writers[path].release()


def _takes_zeros_for_one() -> bool:
    """Whether the run-length encoding of this DuckDB takes -0.0 and 0.0 for one value."""
    import duckdb

    return duckdb.__version__.startswith("1.")


def _connect(path: str, who: str, **settings: Any) -> duckdb.DuckDBPyConnection:
    """Connect; wait while the file is locked."""
    try:
        import duckdb
    except ImportError as error:
        raise missing_driver(who, error) from error
    until = time.monotonic() + LOCK_WAIT_S
    while True:
        try:
            connection = duckdb.connect(path, **settings)
        except duckdb.Error as error:
            if not is_locked(error) or time.monotonic() > until:
                raise
            time.sleep(_PAUSE_S)
        else:
            _pin(connection)
            return connection


def _pin(connection: duckdb.DuckDBPyConnection) -> None:
    """Give a session the settings that results depend on."""
    import duckdb

    for name, value in pins.DUCKDB.items():
        with suppress(duckdb.CatalogException):  # this version does not know it
            connection.execute(f"SET SESSION {name} = {text(value)}")


def fetch_value(connection: duckdb.DuckDBPyConnection, sql: str, *values: Any) -> Any:
    """Run a query; return the first value of its first row, or None if it has no rows."""
    rows = connection.execute(sql, list(values)).fetchall()
    return rows[0][0] if rows else None


def version(path: str) -> str:
    """Return sizes and times of the file and of its log: equal ones mean that nobody wrote.

    A file that changed within the last clock tick could change again without a new time, so the
    function waits for the tick to pass.
    """
    facts = []
    for name in (path, f"{path}.wal"):
        try:
            stat = os.stat(name)
            age = time.time_ns() - stat.st_mtime_ns
            if 0 <= age < _CLOCK_TICK_NS:
                time.sleep((_CLOCK_TICK_NS - age) / 1e9)
                stat = os.stat(name)
        except FileNotFoundError:
            continue
        facts.append(f"{stat.st_size}:{version_of(name, stat)}")
    return "+".join(facts)
