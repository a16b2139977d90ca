"""DuckDB's errors as errors of hygge."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from hygge.arrow_errors import is_noted
from hygge.connectors.sql.errors import READ_ONLY_HINT
from hygge.errors import (
    HomeError,
    HyggeError,
    Rejected,
    SourceMissing,
    StoreError,
    Transient,
    UnfitValue,
)

_HELD = re.compile(r"held in (.+?)\s*\(PID (\d+)\)")
_HERE = ("different configuration than existing connections", "Unique file handle conflict")
_MENDABLE = ("IOException", "OutOfMemoryException", "FatalException", "InternalException")
"""A commit that ended with one of these may succeed later."""


def is_locked(error: Exception) -> bool:
    """Whether somebody has the file open in a way that keeps us out."""
    return "Could not set lock on file" in str(error) or is_locked_here(error)


def is_locked_here(error: Exception) -> bool:
    """Whether this very process has the file open in the other way."""
    return any(words in str(error) for words in _HERE)


@contextmanager
def in_words(who: str, side: type[HyggeError]) -> Iterator[None]:
    """Raise DuckDB's errors as `side` (HomeError or StoreError), or as a more exact one.

    The side of a commit is Rejected, but for a full disk and the like, which can be mended.
    """
    try:
        yield
    except HyggeError:
        raise
    except Exception as error:
        if is_noted(error) or not is_of_duckdb(error):
            raise
        raise translated(error, who, side) from error


def is_of_duckdb(error: Exception) -> bool:
    """Whether an error is one of DuckDB; it need not be installed."""
    return type(error).__module__.partition(".")[0] in ("duckdb", "_duckdb")


def translated(error: Exception, who: str, side: type[HyggeError]) -> HyggeError:
    """Return an error of DuckDB as one of hygge."""
    kinds = {cls.__name__ for cls in type(error).__mro__}
    said = said_by(error)
    if is_locked(error):
        return _locked(error, who)
    if side is Rejected and kinds.intersection(_MENDABLE):
        side = StoreError
    said_of = f"{who}: {said}"
    if "not a valid DuckDB database file" in said or "version number" in said:
        return side(
            said_of,
            "is it a DuckDB database, and not of a newer DuckDB than the one installed here? "
            "`pip install -U duckdb`",
        )
    if re.search(r"(?i)no space left|could not write", said):
        return side(said_of, "make room on the disk; nothing became visible")
    if re.search(r"(?i)permission denied|read-only file system", said):
        return side(said_of, "allow this user to write the file and its directory")
    if "OutOfMemoryException" in kinds:
        return side(said_of, "make room on the disk of the database, to which it writes the rest")
    if "TransactionException" in kinds:
        return Transient(said_of, "another connection changed the same; run again")
    if re.search(r"an index depends|entries that depend on it", said):
        return side(
            said_of,
            "drop the indexes of the table, and tables whose foreign keys refer to it; run again, "
            "and make them anew",
        )
    if "Ambiguous reference to catalog or schema" in said:
        return side(said_of, "give the file another name than the schema: DuckDB mixes them up")
    if side is HomeError:
        if kinds & {"CatalogException", "BinderException"}:
            return SourceMissing(
                said_of, "check the names in `table`, `columns`, `where` and `query`"
            )
        if "attached in read-only mode" in said:
            return HomeError(said_of, READ_ONLY_HINT)
        if kinds & {"ConversionException", "OutOfRangeException", "InvalidInputException"}:
            return UnfitValue(
                said_of, "read the column as text, by its name: options: {types: {…: string}}"
            )
    return side(said_of, "see what DuckDB says about it")


def said_by(error: Exception) -> str:
    """Return what DuckDB says, in one line, without the part of the query that it shows."""
    return re.sub(r"\s+", " ", str(error).partition("\n\nLINE ")[0]).strip()


def _locked(error: Exception, who: str) -> Transient:
    held = _HELD.search(str(error))
    if held is not None:
        return Transient(
            f"{who} is locked by another program: PID {held[2]} ({held[1]})",
            "DuckDB lets one process write, or several read; end that program, then run again",
        )
    return Transient(
        f"{who} is open in this process already, in another way",
        "close that connection to the file, then run again",
    )
