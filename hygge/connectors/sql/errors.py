"""Errors of database drivers (PEP 249, SQLAlchemy) as errors of hygge.

A driver's error becomes `HomeError` or `StoreError`, by the side that it happened on; `Transient`
where running again may help; `UnfitValue` where a value does not fit its column; `SourceMissing`
where a table or a column is not there. The side of a commit is `Rejected`: what the target refuses
ends the run. A full disk and the like, which somebody can mend so that the same run is committed
later, is a StoreError there too.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from hygge.connectors.sql.drivers import missing_driver
from hygge.errors import (
    HomeError,
    HyggeError,
    Rejected,
    SourceMissing,
    StoreError,
    Transient,
    UnfitValue,
    Unknown,
    one_of,
    without_password,
)


@contextmanager
def in_words(who: str, side: type[HyggeError]) -> Iterator[None]:
    """Raise a driver's errors as `side` (HomeError or StoreError), Transient or UnfitValue."""
    from sqlalchemy.exc import DBAPIError, InterfaceError, NoSuchModuleError, SQLAlchemyError

    try:
        yield
    except HyggeError:
        raise
    except DBAPIError as error:
        lost = error.connection_invalidated or isinstance(error, InterfaceError)
        raise driver_error(error.orig, who, side, lost) from error
    except (NoSuchModuleError, ModuleNotFoundError) as error:
        raise missing_driver(who, error) from error
    except SQLAlchemyError as error:
        raise sqlalchemy_error(error, who, side) from error


def sqlalchemy_error(error: Exception, who: str, side: type[HyggeError]) -> HyggeError:
    """Return an error that SQLAlchemy itself raised, without its advertisements."""
    text = without_password(error).partition("\n(Background on this error")[0].strip()
    text = re.sub(r"^\([\w.]+\) ", "", text.splitlines()[0] if text else "no message")
    return side(f"{who}: {text}", "check the table, the columns and the types that it names")


# libpq gives no SQLSTATE where a connection is not made, so its words must do.
_FATAL = re.compile(
    r"(?i)password|authenticat|access denied|does not exist|unknown database|unknown column|"
    r"pg_hba|not permitted|permission denied|ssl.*required|certificate|server does not support ssl"
)


_DENIED = re.compile(r"\w+ command denied to user|Access denied for user .* to database")
"""How MySQL and MariaDB refuse for want of a right, whatever their drivers tell beside it."""
_RETRY = ("08", "40", "25P03", "25P04", "53300", "55P03", "57P01", "57P02", "57P03", "57P05")


_ADVICE = {
    "25P0": "the server ends transactions that wait or last so long: raise the timeout that it "
    "names for this user",
    "40P01": "somebody else held what this needed, and waited for what this held; run again",
    "53300": "the server takes no more connections now: fewer lanes need fewer",
    "55P03": "another program holds the table; end its transaction, then run again",
    "57P": "the server was stopped or restarted; is it up again?",
    "08": "is the server up, and reachable from here?",
}


_STOPS = {
    "42501": "grant this user the right to do so",
    "25006": "connect to the primary, or let this user write: SET default_transaction_read_only",
    "28": "check user, password, host and database in the connection",
    "3D": "check the database in the connection",
    "53100": "make room on the database's disk; nothing became visible",
    "57014": "raise statement_timeout for this user, or read smaller parts with `split_by`",
}


READ_ONLY_HINT = "a home only reads: take out of `query` what writes, such as nextval()"
NULL_OF_DOMAIN_HINT = (
    "a view over an outer join has NULL where the domain of its column takes none: read it with "
    "`query: SELECT * FROM …`, which has the type that the domain is made of; a NULL for a domain "
    "of the store's own table is left out with `where`"
)
WIDE_ROW_HINT = (
    "a row must fit into a page of the database, and each long text takes some bytes of it: choose "
    "fewer `columns`, or move them in several flows to tables of their own"
)
_CANNOT_COMPUTE = ("22012", "22003", "2201E", "2201F", "2201B", "22P02")
"""Division by zero and the like: in a view, in a query, or in `where`."""
COMPUTE_HINT = (
    "the database cannot compute a value of `query`, of `where` or of the view: mend it, or leave "
    "these rows out with `where`"
)
ROW_SECURITY_SAID = "affected by row-level security"
ROW_SECURITY = (
    "policies of the table hide rows from this user: ALTER ROLE … BYPASSRLS, or use the owner of "
    "the table (without FORCE ROW LEVEL SECURITY); where only these rows are meant, read a view of "
    "them that the owner of the table made"
)


_MENDABLE = ("25006", "28", "3D", "53", "57014", "58")
"""What keeps a server from its work, and can be mended: the same commit may be done later."""
_PASSING = (
    *(1040, 1053, 1077, 1079, 1129, 1158, 1159, 1160, 1161, 1180, 1184, 1203, 1205, 1213, 1226),
    *(1317, 1412, 1927, 3, 1021, 1045, 1114, 1153, 1251, 1290, 1301, 1698, 1792, 1836, 1969, 3024),
    4031,
)
"""The same by MySQL's numbers, and what passes by itself; its drivers tell no SQLSTATE."""


SQLITE_MENDABLE = (5, 6, 7, 10, 13)
"""The same by SQLite's codes: BUSY, LOCKED, NOMEM, IOERR, FULL."""


def state_of(error: object) -> str:
    """Return the SQLSTATE of a driver's error; "" where it has none."""
    state = getattr(error, "sqlstate", None) or getattr(error, "pgcode", None)  # psycopg, psycopg2
    arguments = getattr(error, "args", ())
    if state is None and arguments and isinstance(arguments[0], dict):  # pg8000
        state = arguments[0].get("C")
    return str(state or "")


def said_by(error: object) -> str:
    """Return what a driver's error says, without passwords; MySQL's drivers put a number before."""
    text: object = error
    match getattr(error, "args", ()):
        case (int(), str(said)):
            text = said
    return re.sub(r"\s*\n\t", " ", without_password(str(text)).strip())


def _is_refusal(orig: Any) -> bool:
    """True if a database without SQLSTATE refused a statement, by its number: SIGNAL, RAISE."""
    code = getattr(orig, "sqlite_errorcode", None)
    if code is not None:
        return code & 0xFF not in SQLITE_MENDABLE
    number = orig.args[0] if getattr(orig, "args", ()) else None
    is_of_server = isinstance(number, int) and (1000 <= number < 2000 or number >= 3000)
    return is_of_server and number not in _PASSING


def foreign_key_error(said: str, who: str, side: type[HyggeError]) -> HyggeError | None:
    """Return the error for what a database `said` of a foreign key; None if it is about another."""
    if re.search(r"(?i)foreign key constraint", said) is None:
        return None
    if re.search(r"(?i)parent row|update or delete on table", said):
        return side(
            f"{who}: rows of another table refer to rows that would be removed or changed: {said}",
            "delete those rows before, or drop that key; `mode: merge` removes no rows",
        )
    if re.search(r"(?i)child row|insert or update on table|exist in the referenced", said):
        return side(
            f"{who}: the rows refer to rows that another table lacks: {said}",
            "move the rows of that table before, or leave these rows out with `where`",
        )
    return None


def driver_error(orig: Any, who: str, side: type[HyggeError], lost: bool) -> HyggeError:
    """A driver's error (PEP 249) as an error of hygge; `lost`: the connection was lost."""
    kinds = {each.__name__ for each in type(orig).__mro__}
    said = said_by(orig)
    text = f"{who}: {said}"
    state = state_of(orig)
    if side is Rejected and state.startswith(_MENDABLE):
        side = StoreError
    if state in ("42P01", "42703", "3F000"):
        if side is HomeError:
            return SourceMissing(text, "check the names in `table`, `columns`, `where` and `query`")
        return side(text, "was it altered or dropped while the run went on? run again")
    if ROW_SECURITY_SAID in said:
        return side(text, ROW_SECURITY)
    if state == "25006" and side is HomeError:
        return HomeError(text, READ_ONLY_HINT)
    if state == "23502" and "domain" in said:
        return side(text, NULL_OF_DOMAIN_HINT)
    if state == "54011":  # a merge, which stages one or two columns more
        return side(text, "choose fewer `columns`: hygge needs up to two of its own for a merge")
    if state == "54000" and "row is too big" in said:
        return side(text, WIDE_ROW_HINT)
    for start, hint in _STOPS.items():
        if state.startswith(start):
            return side(text, hint)
    if _DENIED.search(said):
        return side(text, _STOPS["42501"])
    if state.startswith(_RETRY):
        found = (hint for start, hint in _ADVICE.items() if state.startswith(start))
        return Transient(text, next(found, "run again"))
    if side is not HomeError and (broken := foreign_key_error(said, who, side)) is not None:
        return broken
    if side is Rejected and not lost and not state and _is_refusal(orig):
        return side(text, "see what the database says about it")
    if not state and _FATAL.search(said):
        return side(text, _STOPS["28"])
    if lost or (not state and "OperationalError" in kinds):
        return Transient(text, _ADVICE["08"])
    if state in _CANNOT_COMPUTE and side is HomeError:
        return HomeError(text, COMPUTE_HINT)
    if "DataError" in kinds or state.startswith("22"):
        if side is HomeError:
            return UnfitValue(
                text, "read the column as text, by its name: options: {types: {…: string}}"
            )
        return UnfitValue(
            text, "widen the column in the database, or leave these rows out with `where`"
        )
    return side(text, "see what the database says about it")


def is_unknown(error: Any) -> bool:
    """True if a COMMIT that gave this error may have been done all the same."""
    state = state_of(error.orig)
    return bool(error.connection_invalidated) or state in ("08007", "40003")


def unknown_commit(who: str, error: BaseException) -> HyggeError:
    """The error for a commit whose answer was lost: only the head tells whether it was done."""
    return Unknown(
        f"{who}: the connection was lost while committing: {without_password(error)}",
        "run again: the head in the database says whether it was done",
    )


def missing_table(who: str, table: str, known: list[str]) -> SourceMissing:
    """The error for a missing table, with the nearest name."""
    return SourceMissing(f"{who}: there is no table '{table}'", one_of("tables", table, known))


def missing_column(who: str, column: str, known: list[str]) -> SourceMissing:
    """The error for a missing column, with the nearest name."""
    return SourceMissing(f"{who} has no column '{column}'", one_of("columns", column, known))
