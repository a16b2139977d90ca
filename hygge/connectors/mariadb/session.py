"""Sessions of MariaDB: connections of pymysql, without SQLAlchemy, because rows pass as bytes.

The parameters of a URL are passed on to pymysql as SQLAlchemy reads them: TLS (`ssl_ca`,
`ssl_verify_cert` …), `connect_timeout`, `unix_socket`. One parameter is ours: `statement_timeout`,
in seconds or with a unit (`500ms`, `5min`), which becomes `max_statement_time`. Every statement
begins with the comment `/* hygge/<flow> */`, since a session of MariaDB has no name.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import date, datetime, timedelta
from decimal import Decimal
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from hygge.arrow_errors import is_noted
from hygge.connectors.sql import pins
from hygge.connectors.sql.connection import seconds_of
from hygge.connectors.sql.errors import READ_ONLY_HINT, WIDE_ROW_HINT, driver_error
from hygge.errors import (
    ConfigError,
    HomeError,
    HyggeError,
    Rejected,
    SourceMissing,
    StoreError,
    Transient,
    UnfitValue,
    without_password,
)
from hygge.open_connections import note_connection

if TYPE_CHECKING:
    from pymysql.connections import Connection

_NETWORK_WAIT_S = 7 * 24 * 3600
"""Seconds that the server waits for hygge, which itself may wait for the other end of its flow."""
LOCK_WAIT_S = 30
"""Seconds that a statement waits for a lock of another session."""
_INSTALL = "pip install 'pymysql>=1.1,<2'"
_LOST = 2013
REFERRED_TO = (1217, 1451)
"""The server's answers where a foreign key of another table forbids to drop or change a table."""
_HINTS: dict[tuple[int, ...], tuple[str, str]] = {
    # Numbers of errors: what kind of error it is to hygge, and its hint. What is mendable keeps a
    # server from its work, and the same commit may be done later.
    (1045, 1049, 1251, 1698, 2059): (
        "mendable", "check user, password, host and database in the connection",
    ),
    (1044, 1142, 1143, 1227, 1370, 1410): ("fatal", "grant this user the right to do so"),
    (1054, 1146): ("missing", "check the names in `table`, `columns`, `where` and `query`"),
    (1205, 1213): (
        "retry", "another program holds the table or its rows; end its transaction, then run again",
    ),
    (1412,): ("retry", "somebody altered the table in this moment; run again"),
    (1040, 1203, 1226): (
        "retry", "the server takes no more connections now: fewer lanes need fewer",
    ),
    (1053, 1077, 1079, 1317, 1927, 2003, 2006, 2013, 4031): (
        "retry", "is the server up, and reachable from here?",
    ),
    (1969, 3024): (
        "mendable", "raise max_statement_time (statement_timeout in the URL), or read smaller "
        "parts with `split_by`",
    ),
    (3, 1021, 1114): ("mendable", "make room on the database's disk; nothing became visible"),
    (1290, 1792, 1836): ("mendable", "connect to the primary, or let this user write"),
    (1118,): ("fatal", WIDE_ROW_HINT),
    (1148, 3948, 4166): (
        "fatal", "rows are loaded by LOAD DATA LOCAL: SET GLOBAL local_infile = ON on the server",
    ),
    (1153, 1301): ("mendable", "raise max_allowed_packet on the server"),
    (1264, 1265, 1292, 1366, 1406, 1048, 1364, 1367, 1411, 4161): (
        "unfit", "widen the column in the database, or leave these rows out with `where`",
    ),
}  # fmt: skip
_BY_NUMBER = {number: hint for numbers, hint in _HINTS.items() for number in numbers}
_READ_ONLY = 1792
"""What a statement that writes gets in a transaction that only reads."""
_WRONG_STATEMENT = (1064, 1136, 1305)
"""Syntax, numbers of columns, a function that is not there: no row is at fault."""


def is_of_rows(error: Exception) -> bool:
    """Whether an error of a statement may be about its rows: a trigger gives it any number."""
    from pymysql.err import MySQLError

    if not isinstance(error, MySQLError) or is_lost(error):
        return False
    number = number_of(error)
    return number not in _WRONG_STATEMENT and _BY_NUMBER.get(number, ("unfit",))[0] == "unfit"


@lru_cache(maxsize=64)
def is_mariadb(url: str, who: str, side: type[HyggeError]) -> bool:
    """Whether the server is MariaDB; MySQL itself is read and written through SQLAlchemy."""
    with session(url, who, side, None) as connection:
        return "mariadb" in str(fetch_one(connection, "SELECT VERSION()")[0]).lower()


@lru_cache(maxsize=64)
def ignores_case(url: str, who: str, side: type[HyggeError]) -> bool:
    """Whether the server takes `Users` and `users` for one table."""
    with session(url, who, side, None) as connection:
        return table_names_fold(connection)


def table_names_fold(connection: Connection) -> bool:
    """Whether the server ignores the case of names of tables and databases."""
    return bool(int(fetch_one(connection, "SELECT @@lower_case_table_names")[0]))


@contextmanager
def session(
    url: str, who: str, side: type[HyggeError], flow: str | None, *, load: bool = False
) -> Iterator[Connection]:
    """Open a session in autocommit, and close it at the end; its errors become hygge's.

    Times are in UTC, texts in utf8mb4. `load` allows LOAD DATA LOCAL, whose rows only ever come
    from `wire.load`: a server that asks for a file of this machine gets none.
    """
    with in_words(who, side):
        connection = connect(url, who, flow, load)
    try:
        with in_words(who, side):
            yield connection
    finally:
        # `close` would wait for what is still to be read.
        with suppress(Exception):
            connection._force_close()


@lru_cache(maxsize=1)
def _session_class() -> type[Connection]:
    """Return pymysql's Connection with cheaper TLS; made here, since pymysql is loaded late."""
    import ssl

    from pymysql.connections import Connection

    class Session(Connection):  # type: ignore[misc]  # pymysql has no types
        comment: str
        """Stands before every statement."""

        def _create_ssl_ctx(self, sslp: Any) -> ssl.SSLContext:
            if sslp:
                context: ssl.SSLContext = super()._create_ssl_ctx(sslp)
                return context
            # Nobody asked for TLS, so nothing is verified. pymysql would still load all
            # certificates of the system, which takes longer than the rest of a connection.
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
            return context

    return Session


def connect(url: str, who: str, flow: str | None, load: bool = False) -> Connection:
    """Open a session that the caller closes; see `session`. Raises pymysql's own errors."""
    try:
        from pymysql.constants import CLIENT
    except ModuleNotFoundError as error:
        raise ConfigError(f"{who}: the driver of MariaDB is not installed", _INSTALL) from error
    from sqlalchemy.dialects.mysql.pymysql import MySQLDialect_pymysql
    from sqlalchemy.engine import make_url

    parsed = make_url(url).set(drivername="mysql+pymysql")
    limit = parsed.query.get("statement_timeout")
    _, arguments = MySQLDialect_pymysql().create_connect_args(
        parsed.difference_update_query(["statement_timeout"])
    )
    arguments.pop("charset", None)
    arguments.pop("local_infile", None)
    flags = arguments.pop("client_flag", 0) & ~CLIENT.LOCAL_FILES
    if load:
        flags |= CLIENT.LOCAL_FILES
    try:
        connection = _session_class()(
            **arguments, charset="utf8mb4", autocommit=True, client_flag=flags, local_infile=False
        )
    except TypeError as error:
        raise ConfigError(
            f"{who}: the connection's URL has a parameter that pymysql does not know: {error}",
            "take it out, or write it as pymysql calls it",
        ) from error
    note_connection(connection)
    connection.comment = f"/* hygge/{re.sub(r'[^ -~]|[*/]', '?', flow or '-')} */ "
    settings = [
        f"net_write_timeout = {_NETWORK_WAIT_S}",
        f"net_read_timeout = {_NETWORK_WAIT_S}",
        f"lock_wait_timeout = {LOCK_WAIT_S}",
    ]
    if limit is not None:
        settings.append(f"max_statement_time = {seconds_of(str(limit), 1.0)}")
    try:
        execute(connection, pins.in_mariadb(settings))
    except BaseException:
        connection._force_close()
        raise
    return connection


def execute(connection: Connection, sql: str) -> int:
    """Run a statement; return the number of rows that it changed."""
    cursor = connection.cursor()
    changed: int = cursor.execute(connection.comment + sql)
    cursor.close()
    return changed


def fetch_all(connection: Connection, sql: str) -> list[tuple[Any, ...]]:
    """Run a query; return all its rows, of which there are few."""
    cursor = connection.cursor()
    cursor.execute(connection.comment + sql)
    rows = [tuple(row) for row in cursor.fetchall()]
    cursor.close()
    return rows


def fetch_one(connection: Connection, sql: str) -> tuple[Any, ...]:
    """Run a query; return its only row."""
    (row,) = fetch_all(connection, sql)
    return row


@contextmanager
def transaction(connection: Connection, *, serial: bool = False) -> Iterator[None]:
    """Run what is inside in one transaction; roll back after an error, and raise that error.

    `serial`: the rows that it has read, and their absence, stay as they are until its end.
    """
    if serial:
        execute(connection, "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE")
    execute(connection, "START TRANSACTION")
    try:
        yield
    except BaseException:
        with suppress(Exception):
            execute(connection, "ROLLBACK")
        raise
    execute(connection, "COMMIT")


@contextmanager
def in_words(who: str, side: type[HyggeError]) -> Iterator[None]:
    """Raise pymysql's errors as hygge's: `side`, SourceMissing, UnfitValue or Transient.

    The side of a commit is Rejected, but for a full disk and the like, which can be mended.
    """
    try:
        yield
    except HyggeError:
        raise
    except Exception as error:
        if is_noted(error):  # of the home, whose rows only pass through
            raise
        if isinstance(error, OSError):
            text = f"{who}: {without_password(error)}"
            raise Transient(text, _BY_NUMBER[_LOST][1]) from error
        if not _is_of_pymysql(error):
            raise
        raise translated(error, who, side) from error


def _is_of_pymysql(error: BaseException) -> bool:
    return type(error).__module__.partition(".")[0] == "pymysql"


def number_of(error: BaseException) -> int:
    """Return MariaDB's number of an error; 0 if it has none."""
    return error.args[0] if error.args and isinstance(error.args[0], int) else 0


def is_lost(error: BaseException) -> bool:
    """Whether the error ended the connection, so that the statement may have been carried out."""
    if not _is_of_pymysql(error):
        return isinstance(error, OSError)
    return number_of(error) in (0, 1053, 1317, 1927, 2006, _LOST, 4031)


def translated(error: BaseException, who: str, side: type[HyggeError]) -> HyggeError:
    """Return an error of pymysql as one of hygge."""
    known = _BY_NUMBER.get(number_of(error))
    if "CERTIFICATE_VERIFY_FAILED" in str(error):
        known = ("fatal", "check the certificates that the connection names: ssl_ca, ssl_cert …")
    message = str(error.args[1]) if len(error.args) > 1 else str(error)
    text = f"{who}: {without_password(message).strip()}"
    if known is None:
        return driver_error(error, who, side, lost=is_lost(error))
    kind, hint = known
    if side is HomeError and number_of(error) == _READ_ONLY:
        return HomeError(text, READ_ONLY_HINT)
    if kind == "retry":
        return Transient(text, hint)
    if kind == "missing":
        if side is HomeError:
            return SourceMissing(text, hint)
        return side(text, "was it altered or dropped while the run went on? run again")
    if kind == "unfit":
        return UnfitValue(text, hint)
    if kind == "mendable" and side is Rejected:
        side = StoreError
    return side(text, hint)


def quoted(*names: str | None) -> str:
    """Return names in backticks, joined by dots; None is left out.

    Raises StoreError for an empty name and for one with a NUL.
    """
    for name in names:
        if name is not None and ("\0" in name or not name):
            raise StoreError(f"{name!r} cannot be a name in MariaDB", "choose another name")
    return ".".join("`" + name.replace("`", "``") + "`" for name in names if name is not None)


def quoted_list(names: Sequence[str]) -> str:
    """Return names in backticks, separated by commas."""
    return ", ".join(quoted(name) for name in names)


def literal(value: object) -> str:
    """Return a value as SQL that means the same in every `sql_mode`.

    A text compares in the collation of the column that it is compared with.
    """
    if value is None:
        return "NULL"
    if isinstance(value, bool | int):
        return str(int(value))
    if isinstance(value, float):
        return f"{value!r}e0" if "e" not in repr(value) else repr(value)
    if isinstance(value, Decimal):
        return f"{value:f}"
    if isinstance(value, datetime):
        return f"'{value.replace(tzinfo=None).isoformat(' ', 'microseconds')}'"
    if isinstance(value, date):
        return f"'{value.isoformat()}'"
    if isinstance(value, timedelta):
        return f"SEC_TO_TIME({value.days * 86400 + value.seconds}.{value.microseconds:06})"
    if isinstance(value, bytes):
        return f"X'{value.hex()}'"
    return f"_utf8mb4 X'{str(value).encode().hex()}'"
