"""What every SQL Home and Store shares: a connection that can travel, names, and errors in words.

A connection travels to actors as its URL, password included; it is never printed. An Engine or a
Connection becomes its URL here, or is refused where it holds something that a URL cannot say.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from typing import Any

from hygge.connectors.sql.errors import in_words
from hygge.errors import (
    ConfigError,
    HyggeError,
    without_password,
)

ENV = "HYGGE_DATABASE_URL"
_SYNC = {"postgresql+asyncpg": "postgresql+psycopg", "sqlite+aiosqlite": "sqlite+pysqlite"}
_PORTS = {"postgresql": 5432, "mysql": 3306, "mariadb": 3306, "mssql": 1433, "oracle": 1521}
_HARMLESS = {"check_same_thread", "timeout", "isolation_level", "detect_types", "cached_statements"}


def connection_url(given: Any, who: str) -> str:
    """The URL that a `connection` setting means; None means the environment's."""
    from sqlalchemy.engine import URL, make_url
    from sqlalchemy.exc import ArgumentError

    if given is None:
        given = os.environ.get(ENV)
        if not given:
            raise ConfigError(
                f"{who} has no connection, and {ENV} is not set",
                f'give connection="postgresql://user@host/db", or set {ENV}',
            )
    if isinstance(given, URL):
        url = given
    elif isinstance(given, str):
        try:
            url = make_url(re.sub(r"^postgres(?=[:+])", "postgresql", given))
        except (ArgumentError, ValueError):
            raise ConfigError(
                f"{who}: connection is not a database URL",
                "write dialect://user:password@host/database, or sqlite:///path/to.db; "
                "characters such as @ and / in a password are written %40 and %2F; it is not "
                "shown here, since it may hold a password",
            ) from None
    else:
        url = _of_engine(given, who)
    name = _SYNC.get(url.drivername, url.drivername)
    url = url.set(drivername={"postgresql": "postgresql+psycopg"}.get(name, name))
    if url.get_backend_name() == "sqlite":
        return _sqlite_url(url, who)
    return url.render_as_string(hide_password=False)


def _of_engine(given: Any, who: str) -> Any:
    engine = getattr(given, "sync_engine", None) or getattr(given, "engine", None)
    if engine is None or not hasattr(engine, "url"):
        raise ConfigError(
            f"{who}: connection is a {type(given).__name__}",
            "give a URL, or a SQLAlchemy Engine or Connection",
        )
    lost = _lost(engine)
    if lost:
        raise ConfigError(
            f"{who}: this Engine cannot travel to other processes: {lost}",
            "give the connection as a URL that says everything",
        )
    return engine.url


def _lost(engine: Any) -> str | None:
    """What an Engine holds that its URL does not say, in words; values are never shown."""
    if type(engine.pool).__name__ == "StaticPool":
        return "it keeps one connection for everybody (StaticPool)"
    creator = engine.pool._creator
    if getattr(creator, "__qualname__", "") != "create_engine.<locals>.connect":
        return "it was made with `creator`, which a URL cannot say"
    if engine.dialect.dispatch.do_connect:
        return "it has a `do_connect` listener, which a URL cannot say"
    kept = dict(zip(creator.__code__.co_freevars, creator.__closure__, strict=True))
    given = dict(kept["cparams"].cell_contents)
    _, plain = engine.dialect.create_connect_args(engine.url)
    harmless = _HARMLESS if engine.dialect.name == "sqlite" else set()
    other = sorted(k for k in given if given[k] != plain.get(k) and k not in harmless)
    return f"it was made with connect_args {', '.join(other)}" if other else None


def _sqlite_url(url: Any, who: str) -> str:
    database, query = url.database or "", dict(url.query)
    if url.get_driver_name() != "pysqlite":
        raise ConfigError(f"{who}: SQLite through {url.drivername} is not built", "use sqlite:///")
    if database.startswith("file:"):
        database, _, inside = database.removeprefix("file:").partition("?")
        query.update(part.partition("=")[::2] for part in inside.split("&") if part)
    if database in ("", ":memory:") or query.get("mode") == "memory":
        raise ConfigError(
            f"{who}: an in-memory SQLite database cannot travel to other processes",
            "use a file: sqlite:///path/to.db",
        )
    unknown = sorted(set(query) - {"uri", "mode", "timeout", "check_same_thread", "cache"})
    if unknown:
        raise ConfigError(f"{who}: SQLite setting '{unknown[0]}' in the URL is not built")
    # Not through a link: SQLite keeps log and journal beside the file itself, and so does hygge.
    path = os.path.realpath(os.path.expanduser(database))
    return str(url.set(database=path, query={}).render_as_string(hide_password=False))


def sqlite_path(url: str) -> str | None:
    """The file of a SQLite URL, or None for any other database."""
    from sqlalchemy.engine import make_url

    found = make_url(url)
    return found.database if found.get_backend_name() == "sqlite" else None


def shown(url: str) -> str:
    """The URL for people: no password, no driver, nothing behind `?`."""
    from sqlalchemy.engine import make_url

    found = make_url(url)
    plain = found.set(drivername=found.get_backend_name(), query={})
    return without_password(plain.render_as_string(hide_password=True))


def place(url: str, table: str) -> str:
    """Equal for two connectors that mean the same table, whoever they log in as."""
    from sqlalchemy.engine import make_url

    found = make_url(url)
    kind = found.get_backend_name()
    if kind == "sqlite":
        # SQLite's names do not distinguish case.
        return f"sqlite:{os.path.realpath(found.database or '')}#{sqlite_table(table).lower()}"
    host = found.host or found.query.get("host") or "localhost"
    port = found.port or _PORTS.get(kind, 0)
    schema, name = split_name(table)
    if schema is None and kind == "postgresql":
        schema = "public"
    return f"{kind}://{str(host).lower()}:{port}/{found.database}#{schema or ''}.{name}"


def split_name(table: str) -> tuple[str | None, str]:
    """`schema.table` as its two names; a part in double quotes may hold dots."""
    parts = re.findall(r'"((?:[^"]|"")*)"|([^.]+)', table)
    names = [quoted.replace('""', '"') or plain for quoted, plain in parts]
    if len(names) < 2:
        return None, names[0] if names else table
    return ".".join(names[:-1]), names[-1]


def sqlite_table(table: str) -> str:
    """The table's name in SQLite, which has no schemas: dots belong to the name."""
    if table.startswith("main."):
        table = table.removeprefix("main.")
    if len(table) > 2 and table[0] == table[-1] == '"':
        return table[1:-1].replace('""', '"')
    return table


@contextmanager
def connected(url: str, who: str, side: type[HyggeError], **options: Any) -> Iterator[Any]:
    """A SQLAlchemy Connection of its own, closed at the end; errors in words."""
    with in_words(who, side), _engine(url).connect() as connection:
        yield connection.execution_options(**options) if options else connection


@lru_cache(maxsize=16)
def _engine(url: str) -> Any:
    """Holds no connection, so forks and threads may share it; it spares what is asked at first."""
    import sqlalchemy as sa

    engine = sa.create_engine(_for_driver(url), poolclass=sa.NullPool)
    sa.event.listen(engine, "handle_error", close_lost)
    return engine


def _for_driver(url: str) -> Any:
    """The URL with `statement_timeout`, which no driver knows, in words that the driver does."""
    from sqlalchemy.engine import make_url

    found = make_url(url)
    limit = found.query.get("statement_timeout")
    if limit is None:
        return found
    found = found.difference_update_query(["statement_timeout"])
    seconds = seconds_of(str(limit), 0.001 if found.get_backend_name() == "postgresql" else 1.0)
    if found.get_backend_name() == "postgresql":
        kept = found.query.get("options", "")
        words = f"{kept} -c statement_timeout={math.ceil(seconds * 1000)}"
        return found.update_query_dict({"options": words.strip()})
    if found.get_backend_name() in ("mysql", "mariadb"):
        # Comments that MariaDB, or MySQL alone, carries out: their names and units differ.
        words = (
            f"SET @hygge = 1 /*M!100101 , max_statement_time = {seconds} */ "
            f"/*!50708 , max_execution_time = {math.ceil(seconds * 1000)} */"
        )
        return found.update_query_dict({"init_command": words})
    raise ConfigError(
        f"{shown(url)}: 'statement_timeout' is not built for this database",
        "write what its driver knows into the URL",
    )


_UNITS_S = {"ms": 0.001, "s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0}


def seconds_of(limit: str, bare_s: float) -> float:
    """Seconds of a duration: `500ms`, `30s`, `5min`; a bare number counts `bare_s` seconds each."""
    match = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]+)?)\s*(ms|s|min|h|d|)\s*", limit)
    if match is None:
        raise ConfigError(f"statement_timeout is '{limit}', not a duration", "write 30s, or 5min")
    return float(match[1]) * _UNITS_S.get(match[2], bare_s)


def close_lost(context: Any) -> None:
    """Close the cursor of a connection that broke: SQLAlchemy forgets it, and its driver warns."""
    if context.is_disconnect and context.execution_context is not None:
        with suppress(Exception):
            context.execution_context.cursor.close()
