"""A session of PostgreSQL of our own: psycopg without SQLAlchemy, where bytes are what counts.

Everything that a URL says is passed on: TLS (`sslmode`, `sslrootcert` …), `connect_timeout`,
`options`. Two parameters are ours: `statement_timeout` (a duration as PostgreSQL writes it) and
`application_name`, which is `hygge/<flow>` where the URL does not say otherwise.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from typing import Any

from hygge.connectors.sql.connection import close_lost
from hygge.connectors.sql.errors import driver_error
from hygge.connectors.sql.errors import in_words as connection_words
from hygge.connectors.sql.goal import Goal
from hygge.errors import HyggeError, StoreError

_LONGEST_NAME = 63
_SETTINGS = {
    # What hangs is found by TCP, also behind routers that forget connections.
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "client_encoding": "UTF8",
}


def application(flow: str | None, *more: object) -> str:
    """The name of a session in `pg_stat_activity`: `hygge/<flow>`, and what tells it from others.

    At most 63 bytes, as PostgreSQL cuts longer ones; the flow's name gives way.
    """
    tail = "".join(f"/{each}" for each in more)
    head = re.sub(r"[^ -~]", "?", f"hygge/{flow or '-'}")
    return head[: max(6, _LONGEST_NAME - len(tail))] + tail


@contextmanager
def session(
    url: str, who: str, side: type[HyggeError], name: str, *, read_only: bool = False
) -> Iterator[Any]:
    """A `psycopg.Connection` in autocommit, closed at the end; errors in words.

    `name` is its application_name. A read-only one can change nothing; its transactions are
    REPEATABLE READ.
    """
    with in_words(who, side):
        connection = connect(url, name, read_only)
    try:
        with in_words(who, side):
            yield connection
    finally:
        with suppress(Exception):
            connection.close()


def connect(url: str, name: str, read_only: bool = False) -> Any:
    """See `session`; raises psycopg's own errors."""
    import psycopg
    from sqlalchemy.engine import make_url

    found = make_url(url)
    given: dict[str, Any] = {
        key: value if isinstance(value, str) else ",".join(value)
        for key, value in found.query.items()
    }
    limit = given.pop("statement_timeout", None)
    for key, value in (
        ("host", found.host), ("port", found.port), ("user", found.username),
        ("password", found.password), ("dbname", found.database),
    ):  # fmt: skip
        if value is not None:
            given[key] = str(value)
    given = {**_SETTINGS, "application_name": name, **given}
    connection = psycopg.connect(**given, autocommit=True, prepare_threshold=None)
    try:
        settings = {
            "DateStyle": "ISO, YMD", "IntervalStyle": "postgres", "TimeZone": "UTC",
            "extra_float_digits": "1", "bytea_output": "hex", "xmloption": "content",
            **({"statement_timeout": limit} if limit else {}),
            **({"default_transaction_read_only": "on"} if read_only else {}),
            **({"default_transaction_isolation": "repeatable read"} if read_only else {}),
        }  # fmt: skip
        asked = ", ".join(["set_config(%s, %s, false)"] * len(settings))
        connection.execute(f"SELECT {asked}", [each for pair in settings.items() for each in pair])
    except BaseException:
        connection.close()
        raise
    return connection


@contextmanager
def in_words(who: str, side: type[HyggeError]) -> Iterator[None]:
    """psycopg's errors as ours, by the same rules as those that come through SQLAlchemy."""
    import psycopg

    try:
        yield
    except psycopg.Error as error:
        raise driver_error(error, who, side, lost=is_lost(error)) from error


def is_lost(error: Any) -> bool:
    """Whether the connection is gone, by the error that a statement gave (no SQLSTATE)."""
    import psycopg

    return isinstance(error, psycopg.OperationalError | psycopg.InterfaceError) and not getattr(
        error, "sqlstate", None
    )


def quoted(*names: str | None) -> str:
    """Names as SQL writes them, in quotes and joined by dots; None is left out."""
    return ".".join('"' + name.replace('"', '""') + '"' for name in names if name is not None)


def literal(value: str) -> str:
    """A text as SQL writes it, whatever it holds; NUL cannot be written."""
    escaped = value.replace("'", "''")
    return f"'{escaped}'" if "\\" not in value else " E'" + escaped.replace("\\", "\\\\") + "'"


def end_predecessors(connection: Any, name: str) -> int:
    """End the other sessions of this user and application name; gives how many there were.

    `name` must be of one try's split in one run, so that nobody else's session has it.
    """
    found = connection.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = %s "
        "AND usename = current_user AND pid <> pg_backend_pid()",
        [name],
    )
    return len(found.fetchall())


@contextmanager
def opened(goal: Goal, *name: object) -> Iterator[Any]:
    """A SQLAlchemy Connection over a session of ours; `name` tells it from the flow's others."""
    with goal_words(goal), _engine(goal.url, goal.flow).connect() as connection:
        # Each statement of a commit must see what the commit it waited for has done.
        connection = connection.execution_options(isolation_level="READ COMMITTED")
        if name and "application_name=" not in goal.url:
            told = application(goal.flow, *name)
            with transaction(connection):
                ask(connection, "SELECT set_config('application_name', %s, false)", told)
        yield connection


@contextmanager
def goal_words(goal: Goal) -> Iterator[None]:
    with connection_words(goal.who, StoreError), in_words(goal.who, StoreError):
        yield


@contextmanager
def transaction(connection: Any) -> Iterator[None]:
    """One transaction; of what goes wrong in it, the first error is the one to tell."""
    begun = connection.begin()
    try:
        yield
    except BaseException:
        with suppress(Exception):
            begun.rollback()
        raise
    begun.commit()


@lru_cache(maxsize=16)
def _engine(url: str, flow: str | None) -> Any:
    import sqlalchemy as sa

    def session() -> Any:
        made = connect(url, application(flow))
        made.autocommit = False
        return made

    engine = sa.create_engine("postgresql+psycopg://", creator=session, poolclass=sa.NullPool)
    sa.event.listen(engine, "handle_error", close_lost)
    return engine


def driver(connection: Any) -> Any:
    """The psycopg connection under it: in the same transaction."""
    return connection.connection.dbapi_connection


def ask(connection: Any, sql: str, *values: Any) -> list[Any]:
    """The rows of a statement; `%` is written twice only where there are values."""
    cursor = driver(connection).execute(sql, list(values) or None)
    return cursor.fetchall() if cursor.description else []


def changed(connection: Any, sql: str, *values: Any) -> int:
    """How many rows a statement changed."""
    return int(driver(connection).execute(sql, list(values) or None).rowcount)
