"""SQLite's errors as errors of hygge."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from hygge.arrow_errors import is_noted
from hygge.connectors.sql.errors import SQLITE_MENDABLE
from hygge.errors import (
    HomeError,
    HyggeError,
    Rejected,
    SourceMissing,
    StoreError,
    Transient,
    UnfitValue,
)


@contextmanager
def in_words(who: str, side: type[HyggeError]) -> Iterator[None]:
    """Raise SQLite's errors as `side` (HomeError or StoreError), or as a more exact one.

    The side of a commit is Rejected, but for a full disk and the like, which can be mended.
    """
    try:
        yield
    except sqlite3.Error as error:
        if is_noted(error):  # of the home, whose rows only pass through
            raise
        raise translated(error, who, side) from error


def translated(error: sqlite3.Error, who: str, side: type[HyggeError]) -> HyggeError:
    """Return an error of SQLite as one of hygge."""
    code = (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF
    text = f"{who}: {error}"
    if side is Rejected and code in SQLITE_MENDABLE:
        side = StoreError
    if code in (5, 6):  # BUSY, LOCKED
        return Transient(
            text, "another program holds the database; end its transaction, then run again"
        )
    if code == 13:  # FULL
        return side(text, "make room on the disk; nothing became visible")
    if code == 10:  # IOERR
        return side(text, "look at the disk, and at the limit on the size of files (`ulimit -f`)")
    if code in (3, 8):  # PERM, READONLY
        return side(text, "allow this user to write the file and its directory")
    if code == 14:  # CANTOPEN
        return side(text, "check that the file and its directory can be opened by this user")
    if code in (11, 26):  # CORRUPT, NOTADB
        return side(text, "is it a SQLite database? `PRAGMA integrity_check` says what is wrong")
    if "no such column" in str(error) or "no such table" in str(error):
        return (SourceMissing if side is HomeError else side)(text)
    if "Could not decode to UTF-8" in str(error):
        return UnfitValue(text, "it is no text: read it with CAST(… AS BLOB) in a query")
    return side(text, "see what SQLite says about it")
