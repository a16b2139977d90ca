"""A session of MariaDB of our own: pymysql without SQLAlchemy, where bytes are what counts.

Everything that a URL says is passed on, as SQLAlchemy reads it for pymysql: TLS (`ssl_ca`,
`ssl_verify_cert` …), `connect_timeout`, `unix_socket`. One parameter is ours: `statement_timeout`,
in seconds or with a unit (`500ms`, `5min`), which becomes `max_statement_time`. Every statement
begins with `/* hygge/<flow> */`, since MariaDB has no name of a session.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import date, datetime, timedelta
from decimal import Decimal
from functools import lru_cache
from typing import Any

from hygge.connectors.sql.connection import seconds_of
from hygge.connectors.sql.errors import driver_error
from hygge.errors import (
    ConfigError,
    HomeError,
    HyggeError,
    SourceMissing,
    StoreError,
    Transient,
    UnfitValue,
    without_password,
)

_LONG_S = 7 * 24 * 3600
"""How long the server waits for a client that waits for its other end."""
LOCK_WAIT_S = 30
"""How long a statement waits for the locks of others."""
_INSTALL = "pip install 'hygge-data[mysql]' brings pymysql"
_HINTS: dict[tuple[int, ...], tuple[str, str]] = {
    (1044, 1045, 1049, 1251, 1698, 2059): (
        "stop", "check user, password, host and database in the connection",
    ),
    (1142, 1143, 1227, 1370, 1410): ("stop", "grant this user the right to do so"),
    (1054, 1146): ("missing", "check the names in `table`, `columns`, `where` and `query`"),
    (1205, 1213): (
        "again", "another program holds the table or its rows; end its transaction, then run again",
    ),
    (1412,): ("again", "somebody altered the table in this moment; run again"),
    (1040, 1203, 1226): (
        "again", "the server takes no more connections now: fewer lanes need fewer",
    ),
    (1053, 1077, 1079, 1317, 1927, 2003, 2006, 2013, 4031): (
        "again", "is the server up, and reachable from here?",
    ),
    (1969, 3024): (
        "stop", "raise max_statement_time (statement_timeout in the URL), or read smaller parts "
        "with `split_by`",
    ),
    (3, 1021, 1114): ("stop", "make room on the database's disk; nothing became visible"),
    (1290, 1792, 1836): ("stop", "connect to the primary, or let this user write"),
    (1148, 3948, 4166): (
        "stop", "rows are loaded by LOAD DATA LOCAL: SET GLOBAL local_infile = ON on the server",
    ),
    (1153, 1301): ("stop", "raise max_allowed_packet on the server"),
    (1264, 1265, 1292, 1366, 1406, 1048, 1364, 1367, 1411, 4161): (
        "unfit", "widen the column in the database, or leave these rows out with `where`",
    ),
}  # fmt: skip
_BY_NUMBER = {number: said for numbers, said in _HINTS.items() for number in numbers}


@lru_cache(maxsize=64)
def is_mariadb(url: str, who: str, side: type[HyggeError]) -> bool:
    """Whether the server is MariaDB; MySQL itself is read and written through SQLAlchemy."""
    with session(url, who, side, None) as connection:
        return "mariadb" in str(one(connection, "SELECT VERSION()")[0]).lower()


@contextmanager
def session(
    url: str, who: str, side: type[HyggeError], flow: str | None, *, load: bool = False
) -> Iterator[Any]:
    """A `pymysql.Connection` in autocommit, closed at the end; errors in words.

    Its times are in UTC, its texts in utf8mb4. `load` allows LOAD DATA LOCAL, whose rows only ever
    come from `my_wire.load`: a server that asks for a file gets none.
    """
    with in_words(who, side):
        connection = connect(url, who, flow, load)
    try:
        with in_words(who, side):
            yield connection
    finally:
        # Not `close`, which would wait for what is still to be read.
        with suppress(Exception):
            connection._force_close()


@lru_cache(maxsize=1)
def _session_class() -> Any:
    import ssl

    from pymysql.connections import Connection

    class Session(Connection):  # type: ignore[misc]  # pymysql has no types
        def _create_ssl_ctx(self, sslp: Any) -> Any:
            if sslp:
                return super()._create_ssl_ctx(sslp)
            # TLS that nobody asked for, and that checks nothing: pymysql reads all certificates of
            # the system for it, which takes longer than everything else.
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
            return context

    return Session


def connect(url: str, who: str, flow: str | None, load: bool = False) -> Any:
    """What `session` gives, for who closes it; errors are pymysql's."""
    try:
        from pymysql.constants import CLIENT
    except ModuleNotFoundError as error:
        raise ConfigError(f"{who}: the driver of MariaDB is not installed", _INSTALL) from error
    from sqlalchemy.dialects.mysql.pymysql import MySQLDialect_pymysql
    from sqlalchemy.engine import make_url

    found = make_url(url).set(drivername="mysql+pymysql")
    limit = found.query.get("statement_timeout")
    _, given = MySQLDialect_pymysql().create_connect_args(
        found.difference_update_query(["statement_timeout"])
    )
    given.pop("charset", None)
    given.pop("local_infile", None)
    flags = given.pop("client_flag", 0) & ~CLIENT.LOCAL_FILES
    if load:
        flags |= CLIENT.LOCAL_FILES
    try:
        connection = _session_class()(
            **given, charset="utf8mb4", autocommit=True, client_flag=flags, local_infile=False
        )
    except TypeError as error:
        raise ConfigError(
            f"{who}: the connection's URL has a parameter that pymysql does not know: {error}",
            "take it out, or write it as pymysql calls it",
        ) from error
    connection.hygge = f"/* hygge/{re.sub(r'[^ -~]|[*/]', '?', flow or '-')} */ "
    settings = [
        "time_zone = '+00:00'",
        f"net_write_timeout = {_LONG_S}",
        f"net_read_timeout = {_LONG_S}",
        f"lock_wait_timeout = {LOCK_WAIT_S}",
        # What somebody wrote into `where` or `query` is meant in the server's own mode; but '' must
        # not be NULL.
        "sql_mode = REPLACE(@@sql_mode, 'EMPTY_STRING_IS_NULL', '')",
    ]
    if limit is not None:
        settings.append(f"max_statement_time = {seconds_of(str(limit), 1.0)}")
    try:
        execute(connection, "SET " + ", ".join(settings))
    except BaseException:
        connection._force_close()
        raise
    return connection


def execute(connection: Any, sql: str) -> int:
    """Run a statement; gives how many rows it changed."""
    cursor = connection.cursor()
    changed: int = cursor.execute(connection.hygge + sql)
    cursor.close()
    return changed


def rows(connection: Any, sql: str) -> list[tuple[Any, ...]]:
    """All rows of a small result."""
    cursor = connection.cursor()
    cursor.execute(connection.hygge + sql)
    found = [tuple(row) for row in cursor.fetchall()]
    cursor.close()
    return found


def one(connection: Any, sql: str) -> tuple[Any, ...]:
    """The one row of a result."""
    (found,) = rows(connection, sql)
    return found


@contextmanager
def in_words(who: str, side: type[HyggeError]) -> Iterator[None]:
    """pymysql's errors as ours."""
    try:
        yield
    except HyggeError:
        raise
    except OSError as error:
        raise Transient(f"{who}: {without_password(error)}", _BY_NUMBER[2013][1]) from error
    except Exception as error:
        if type(error).__module__.partition(".")[0] != "pymysql":
            raise
        raise _said(error, who, side) from error


def number_of(error: BaseException) -> int:
    """MariaDB's number of an error; 0 for what has none."""
    return error.args[0] if error.args and isinstance(error.args[0], int) else 0


def is_lost(error: BaseException) -> bool:
    """Whether the connection went with the error, so that nobody heard how a statement ended."""
    if type(error).__module__.partition(".")[0] != "pymysql":
        return isinstance(error, OSError)
    return number_of(error) in (0, 1053, 1317, 1927, 2006, 2013, 4031)


def _said(error: Any, who: str, side: type[HyggeError]) -> HyggeError:
    found = _BY_NUMBER.get(number_of(error))
    if "CERTIFICATE_VERIFY_FAILED" in str(error):
        found = ("stop", "check the certificates that the connection names: ssl_ca, ssl_cert …")
    said = str(error.args[1]) if len(error.args) > 1 else str(error)
    text = f"{who}: {without_password(said).strip()}"
    if found is None:
        return driver_error(error, who, side, lost=is_lost(error))
    kind, hint = found
    if kind == "again":
        return Transient(text, hint)
    if kind == "missing":
        if side is HomeError:
            return SourceMissing(text, hint)
        return side(text, "was it altered or dropped while the run went on? run again")
    if kind == "unfit":
        return UnfitValue(text, hint)
    return side(text, hint)


def quoted(*names: str | None) -> str:
    """Names as MariaDB writes them, in backticks and joined by dots; None is left out."""
    for name in names:
        if name is not None and ("\0" in name or not name):
            raise StoreError(f"{name!r} cannot be a name in MariaDB", "choose another name")
    return ".".join("`" + name.replace("`", "``") + "`" for name in names if name is not None)


def literal(value: Any) -> str:
    """A value as SQL writes it, in every `sql_mode`; a text compares in its column's collation."""
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


def listed(names: Sequence[str]) -> str:
    """Names in quotes, with commas."""
    return ", ".join(quoted(name) for name in names)
