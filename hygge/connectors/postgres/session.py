"""Sessions of PostgreSQL: how they are opened, how a statement is run, and how SQL quotes.

A Home uses a psycopg connection without SQLAlchemy, since rows pass as bytes. A Store uses a
SQLAlchemy connection over a psycopg one, in the same transaction. `execute`, `fetch_all` and
`fetch_one` take both kinds.

Every parameter of the URL is passed on to libpq: TLS (`sslmode`, `sslrootcert` …),
`connect_timeout`, `options`. hygge treats two of them itself: `statement_timeout` (a duration as
PostgreSQL writes it) and `application_name`, which is `hygge/<flow>` unless the URL names another.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import lru_cache
from typing import TYPE_CHECKING, Any, cast

from hygge.connectors.postgres import idle
from hygge.connectors.sql import pins
from hygge.connectors.sql.connection import close_lost
from hygge.connectors.sql.errors import driver_error, in_words
from hygge.connectors.sql.goal import Goal
from hygge.errors import HyggeError, StoreError
from hygge.open_connections import note_connection
from hygge.open_connections import opened as opened_connection

if TYPE_CHECKING:
    import psycopg
    import sqlalchemy as sa

    AnyConnection = psycopg.Connection | sa.Connection

_LONGEST_NAME_BYTES = 63
_OWN_PARAMETERS = ("application_name", "statement_timeout")
"""Parameters of a URL that hygge treats itself."""
_SETTINGS = {
    # TCP finds a connection that hangs, also behind a router that forgot it.
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "client_encoding": "UTF8",
    # A network may take a connection and answer nothing.
    "connect_timeout": 30,
}


def application_name(flow: str | None, *suffixes: object) -> str:
    """Return a session's name for `pg_stat_activity`: `hygge/<flow>`, then `/<suffix>` for each.

    PostgreSQL cuts names after 63 bytes, so the flow's name is cut here, and no suffix is lost.
    """
    tail = "".join(f"/{suffix}" for suffix in suffixes)
    head = re.sub(r"[^ -~]", "?", f"hygge/{flow or '-'}")
    return head[: max(6, _LONGEST_NAME_BYTES - len(tail))] + tail


@contextmanager
def connected(
    url: str,
    who: str,
    side: type[HyggeError],
    name: str,
    *,
    read_only: bool = False,
    is_last: bool = False,
) -> Iterator[psycopg.Connection]:
    """Give a psycopg connection in autocommit, and close it at the end.

    `name` is its application_name. With `read_only` it can change nothing, and its transactions are
    REPEATABLE READ; it may be one that was used before (`idle`), and is kept for others afterwards,
    unless `is_last`: then the server is asked for nothing at the end.
    psycopg's errors become `side` (HomeError or StoreError), Transient or UnfitValue.
    """
    with translated_errors(who, side):
        connection = (_used_before(url, name) if read_only else None) or connect(
            url, name, read_only
        )
    is_done = False
    try:
        with translated_errors(who, side):
            yield connection
        is_done = read_only and not is_last
    finally:
        if is_done:
            idle.give_back(url, connection)
        else:
            with suppress(Exception):
                connection.close()


def connect(url: str, name: str, read_only: bool = False) -> psycopg.Connection:
    """Open a connection as `connected` does; raises psycopg's own errors."""
    import psycopg
    from sqlalchemy.engine import make_url

    parsed = make_url(url)
    parameters: dict[str, Any] = {
        key: value if isinstance(value, str) else ",".join(value)
        for key, value in parsed.query.items()
    }
    statement_timeout = parameters.pop("statement_timeout", None)
    for key, value in (
        ("host", parsed.host), ("port", parsed.port), ("user", parsed.username),
        ("password", parsed.password), ("dbname", parsed.database),
    ):  # fmt: skip
        if value is not None:
            parameters[key] = str(value)
    parameters = {**_SETTINGS, "application_name": name, **parameters}
    connection = opened_connection(
        lambda: psycopg.connect(**parameters, autocommit=True, prepare_threshold=None)
    )
    settings = {} if statement_timeout is None else {"statement_timeout": str(statement_timeout)}
    try:
        _set_up(connection, url, read_only, settings)
    except BaseException:
        connection.close()
        raise
    return connection


def _set_up(
    connection: psycopg.Connection, url: str, read_only: bool, settings: Mapping[str, str]
) -> None:
    own = pins.POSTGRES_READING if read_only else pins.postgres_writing(url)
    execute(connection, pins.in_postgres({**pins.POSTGRES, **own, **settings}))


def _used_before(url: str, name: str) -> psycopg.Connection | None:
    """Return a session that reads and waits, set up as `connect` does; None where there is none."""
    import psycopg
    from sqlalchemy.engine import make_url

    while (connection := idle.take(url)) is not None:
        note_connection(connection)
        given = {"application_name": name, **make_url(url).query}
        settings = {key: str(given[key]) for key in _OWN_PARAMETERS if key in given}
        try:
            _set_up(connection, url, True, settings)
            return connection
        except psycopg.Error:  # the server has closed it meanwhile
            with suppress(Exception):
                connection.close()
    return None


@contextmanager
def opened(goal: Goal, *suffixes: object) -> Iterator[sa.Connection]:
    """Open a SQLAlchemy connection for a Store; raises StoreError, Transient or UnfitValue.

    `suffixes` go into its application_name, and tell it from other sessions of the flow.
    """
    with store_errors(goal), _engine(goal.url, goal.flow).connect() as connection:
        # Each statement of a commit must see what the commit it waited for has done.
        connection = connection.execution_options(isolation_level="READ COMMITTED")
        if suffixes and "application_name=" not in goal.url:
            name = application_name(goal.flow, *suffixes)
            with transaction(connection):
                fetch_all(connection, "SELECT set_config('application_name', %s, false)", name)
        yield connection


@lru_cache(maxsize=16)
def _engine(url: str, flow: str | None) -> sa.Engine:
    import sqlalchemy as sa

    def connect_for_sqlalchemy() -> psycopg.Connection:
        connection = connect(url, application_name(flow))
        connection.autocommit = False
        return connection

    engine = sa.create_engine(
        "postgresql+psycopg://", creator=connect_for_sqlalchemy, poolclass=sa.NullPool
    )
    sa.event.listen(engine, "handle_error", close_lost)
    return engine


@contextmanager
def transaction(connection: sa.Connection) -> Iterator[None]:
    """Run one transaction; where it fails, raise the first error and not that of the rollback."""
    begun = connection.begin()
    try:
        yield
    except BaseException:
        with suppress(Exception):
            begun.rollback()
        raise
    begun.commit()


def driver_connection(connection: AnyConnection) -> psycopg.Connection:
    """Return the psycopg connection under a SQLAlchemy one, which is in the same transaction."""
    import psycopg

    if isinstance(connection, psycopg.Connection):
        return connection
    return cast("psycopg.Connection", connection.connection.dbapi_connection)


def execute(connection: AnyConnection, sql: str, *values: object) -> int:
    """Run a statement; return how many rows it changed.

    In `sql` a percent sign is written `%%` where there are values, and `%` where there are none.
    """
    return driver_connection(connection).execute(sql, list(values) or None).rowcount


def fetch_all(connection: AnyConnection, sql: str, *values: object) -> list[tuple[Any, ...]]:
    """Run a statement as `execute` does; return its rows, none where it has no result."""
    cursor = driver_connection(connection).execute(sql, list(values) or None)
    return cursor.fetchall() if cursor.description else []


def fetch_one(connection: AnyConnection, sql: str, *values: object) -> tuple[Any, ...]:
    """Run a statement that gives exactly one row; return it."""
    (only,) = fetch_all(connection, sql, *values)
    return only


def end_predecessors(connection: psycopg.Connection, name: str) -> None:
    """End the other sessions of this user and application name: earlier tries at this split.

    `name` must belong to one split of one run, so that no other session has it.
    """
    fetch_all(
        connection,
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = %s "
        "AND usename = current_user AND pid <> pg_backend_pid()",
        name,
    )


@contextmanager
def store_errors(goal: Goal, side: type[StoreError] = StoreError) -> Iterator[None]:
    """Raise errors of psycopg and of SQLAlchemy as `side`, Transient or UnfitValue."""
    with in_words(goal.who, side), translated_errors(goal.who, side):
        yield


@contextmanager
def translated_errors(who: str, side: type[HyggeError]) -> Iterator[None]:
    """Raise psycopg's errors as hygge's, by the same rules as those that SQLAlchemy wraps."""
    import psycopg

    try:
        yield
    except psycopg.Error as error:
        raise driver_error(error, who, side, lost=is_lost(error)) from error


def is_lost(error: BaseException) -> bool:
    """True if this error of a statement means that the connection is gone (it has no SQLSTATE)."""
    import psycopg

    return isinstance(error, psycopg.OperationalError | psycopg.InterfaceError) and not getattr(
        error, "sqlstate", None
    )


def quoted(*names: str | None) -> str:
    """Return names as SQL writes them, in double quotes and joined by dots; None is left out."""
    return ".".join('"' + name.replace('"', '""') + '"' for name in names if name is not None)


def quoted_list(names: Iterable[str]) -> str:
    """Return names as SQL lists them, in double quotes and joined by commas."""
    return ", ".join(map(quoted, names))


def literal(value: str) -> str:
    """Return a text as a literal of SQL; NUL cannot be written."""
    escaped = value.replace("'", "''")
    if "\\" not in value:
        return f"'{escaped}'"
    return " E'" + escaped.replace("\\", "\\\\") + "'"
