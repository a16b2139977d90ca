"""The `connection` of SQLHome and SQLStore as a URL that every process understands.

The URL travels to actors with its password; it is never printed. A SQLAlchemy Engine or Connection
is replaced by its URL, or refused where it holds something that a URL cannot express.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from pydantic import Field

from hygge.connectors.databases.known import FILE, SERVER, database_of, with_driver
from hygge.connectors.sql.connection import shown, split_name
from hygge.errors import ConfigError
from hygge.settings import Settings

if TYPE_CHECKING:
    from sqlalchemy.engine import URL, Connection, Engine
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

    Connectable: TypeAlias = str | URL | Engine | Connection | AsyncEngine | AsyncConnection

ENV = "HYGGE_DATABASE_URL"


class DatabaseSettings(Settings):
    """The setting that SQLHome and SQLStore share."""

    connection: str = Field(repr=False)
    """A SQLAlchemy URL, Engine or Connection. Default: the environment's HYGGE_DATABASE_URL."""

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        yield "connection", shown(self.connection)
        yield from super().__repr_args__()


def connection_url(connection: object, who: str) -> str:
    """Return the URL of a `connection` setting; None means that of the environment.

    Raises ConfigError, which begins with `who`.
    """
    from sqlalchemy.engine import URL, make_url
    from sqlalchemy.exc import ArgumentError

    if connection is None:
        connection = os.environ.get(ENV)
        if not connection:
            raise ConfigError(
                f"{who} has no connection, and {ENV} is not set",
                f'give connection="{SERVER.example}", or set {ENV}',
            )
    if isinstance(connection, URL):
        url = connection
    elif isinstance(connection, str):
        try:
            url = make_url(with_driver(connection))
        except (ArgumentError, ValueError):
            raise ConfigError(
                f"{who}: connection is not a database URL",
                f"write dialect://user:password@host/database, or {FILE.example}; characters such "
                "as @ and / in a password are written %40 and %2F; it is not shown here, since it "
                "may hold a password",
            ) from None
    else:
        url = _url_of_engine(connection, who)
    url = make_url(with_driver(url.render_as_string(hide_password=False)))
    normalized = database_of(url.drivername + ":").normalized
    if normalized is not None:
        url = normalized(url, who)
    return str(url.render_as_string(hide_password=False))


def place(url: str, table: str) -> str:
    """Return a text that is equal for two connectors of the same table, whatever their user."""
    from sqlalchemy.engine import make_url

    database, parsed = database_of(url), make_url(url)
    backend = parsed.get_backend_name()
    if database.is_file:
        name = database.place_name(table) if database.place_name else table
        return f"{backend}:{os.path.realpath(parsed.database or '')}#{name}"
    host = parsed.host or parsed.query.get("host") or "localhost"
    schema, name = split_name(table)
    schema = schema or database.default_schema
    port = parsed.port or database.port
    return f"{backend}://{str(host).lower()}:{port}/{parsed.database}#{schema}.{name}"


def file_of(url: str) -> str | None:
    """Return the absolute path of a database that is a file, or None for a server."""
    from sqlalchemy.engine import make_url

    path = make_url(url).database if database_of(url).is_file else None
    return path if path and os.path.isabs(path) else None


def _url_of_engine(connection: object, who: str) -> URL:
    engine = getattr(connection, "sync_engine", None) or getattr(connection, "engine", None)
    if engine is None or not hasattr(engine, "url"):
        raise ConfigError(
            f"{who}: connection is a {type(connection).__name__}",
            "give a URL, or a SQLAlchemy Engine or Connection",
        )
    lost = _lost_with_url(engine)
    if lost:
        raise ConfigError(
            f"{who}: this Engine cannot travel to other processes: {lost}",
            "give the connection as a URL that says everything",
        )
    return cast("URL", engine.url)


def _lost_with_url(engine: Any) -> str | None:
    """Return what an Engine holds that its URL does not, in words; values are never shown."""
    if type(engine.pool).__name__ == "StaticPool":
        return "it keeps one connection for everybody (StaticPool)"
    creator = engine.pool._creator
    if getattr(creator, "__qualname__", "") != "create_engine.<locals>.connect":
        return "it was made with `creator`, which a URL cannot say"
    if engine.dialect.dispatch.do_connect:
        return "it has a `do_connect` listener, which a URL cannot say"
    variables = dict(zip(creator.__code__.co_freevars, creator.__closure__, strict=True))
    connect_args = dict(variables["cparams"].cell_contents)
    _, from_url = engine.dialect.create_connect_args(engine.url)
    harmless = database_of(engine.dialect.name + ":").harmless_connect_args
    lost = sorted(
        key
        for key, value in connect_args.items()
        if value != from_url.get(key) and key not in harmless
    )
    return f"it was made with connect_args {', '.join(lost)}" if lost else None
