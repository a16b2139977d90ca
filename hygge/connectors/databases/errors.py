"""The errors of every library that reads or writes a database, as errors of hygge.

Each connector translates where it calls its driver. Here is the outer frame around all verbs of
SQLHome and SQLStore: whatever passes the inner ones has one more translator for each library.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from hygge import arrow_errors
from hygge.connectors.duckdb import errors as duckdb
from hygge.connectors.mariadb import session as mariadb
from hygge.connectors.sql import errors as sql
from hygge.connectors.sqlite import errors as sqlite
from hygge.errors import HyggeError, UnfitValue


@contextmanager
def in_words(
    who: str, side: type[HyggeError], unfit: type[HyggeError] = UnfitValue
) -> Iterator[None]:
    """Raise errors of drivers, of SQLAlchemy and of Arrow as hygge's; all others stay as they are.

    `side` is HomeError or StoreError; Arrow's errors become `unfit`. An error of the user's own
    class, whose rows only pass through, stays as it is, too.
    """
    try:
        yield
    except HyggeError:
        raise
    except Exception as error:
        if arrow_errors.is_noted(error):
            raise
        translated = _translated(error, who, side, unfit)
        if translated is None:
            raise
        raise translated from error


def _translated(
    error: Exception, who: str, side: type[HyggeError], unfit: type[HyggeError]
) -> HyggeError | None:
    library = type(error).__module__.partition(".")[0]
    kinds = {cls.__name__ for cls in type(error).__mro__}
    if library == "sqlite3":
        return sqlite.translated(error, who, side)  # type: ignore[arg-type]  # a sqlite3.Error
    if duckdb.is_of_duckdb(error):
        return duckdb.translated(error, who, side)
    if library == "pymysql":
        return mariadb.translated(error, who, side)
    if library == "sqlalchemy":
        orig = getattr(error, "orig", None)
        if orig is None:
            return sql.sqlalchemy_error(error, who, side)
        return _translated(orig, who, side, unfit) or sql.driver_error(orig, who, side, lost=False)
    if {"DatabaseError", "InterfaceError"} & kinds:  # PEP 249: of any driver
        lost = not sql.state_of(error) and bool({"OperationalError", "InterfaceError"} & kinds)
        return sql.driver_error(error, who, side, lost)
    return arrow_errors.explained(error, who, side, unfit)
