"""Connections through SQLAlchemy, one for each use."""

from __future__ import annotations

import importlib
import math
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from hygge.connectors.anysql.values import Infinity
from hygge.connectors.sql import pins
from hygge.connectors.sql.connection import close_lost, seconds_of, shown
from hygge.connectors.sql.errors import in_words
from hygge.errors import ConfigError, HyggeError, StoreError
from hygge.open_connections import opened

if TYPE_CHECKING:
    import sqlalchemy as sa
    from sqlalchemy.engine import URL


@contextmanager
def connected(
    url: str, who: str, side: type[HyggeError], **options: Any
) -> Iterator[sa.Connection]:
    """Open a SQLAlchemy connection and close it at the end; raises errors of hygge."""
    with in_words(who, side), _engine(url, side is StoreError).connect() as connection:
        yield connection.execution_options(**options) if options else connection


@lru_cache(maxsize=16)
def _engine(url: str, writes: bool) -> sa.Engine:
    """An Engine without connections, so that forks and threads may share it.

    Its sessions have the settings that hygge's own connector of the same server pins.

    It is kept because a new Engine asks the server about itself first.
    """
    import sqlalchemy as sa

    engine = sa.create_engine(_for_driver(url), poolclass=sa.NullPool)
    statements = _pins(engine.dialect.name, url, writes)

    def connect(dialect: Any, _: object, values: Any, named: Any) -> Any:
        return opened(lambda: dialect.connect(*values, **named))

    def pin(connection: Any, _: object) -> None:
        cursor = connection.cursor()
        for statement in statements:
            cursor.execute(statement)
        cursor.close()
        connection.commit()

    if engine.dialect.name != "sqlite":  # whose connection belongs to its thread
        sa.event.listen(engine, "do_connect", connect)
    if statements:
        sa.event.listen(engine, "connect", pin)
    if engine.dialect.driver == "psycopg2":
        sa.event.listen(engine, "connect", _mark_infinity)
    sa.event.listen(engine, "handle_error", close_lost)
    return engine


def _pins(dialect: str, url: str, writes: bool) -> list[str]:
    """The statements that pin a session; none for a server that has no connector of its own."""
    if dialect == "postgresql":
        return [
            pins.in_postgres({**pins.POSTGRES, **(pins.postgres_writing(url) if writes else {})})
        ]
    if dialect in ("mysql", "mariadb"):
        strict = [f"SET sql_mode = '{pins.MARIADB_STRICT_MODE}'"] if writes else []
        return [pins.in_mariadb(), *strict]
    if dialect == "sqlite":
        return pins.in_sqlite()
    return []


def _for_driver(url: str) -> URL:
    """The URL with `statement_timeout` written in the way of the driver."""
    from sqlalchemy.engine import make_url

    parsed = make_url(url)
    limit = parsed.query.get("statement_timeout")
    if limit is None:
        return parsed
    parsed = parsed.difference_update_query(["statement_timeout"])
    backend = parsed.get_backend_name()
    seconds = seconds_of(str(limit), 0.001 if backend == "postgresql" else 1.0)
    if backend == "postgresql":
        options = parsed.query.get("options", "")
        options = f"{options} -c statement_timeout={math.ceil(seconds * 1000)}".strip()
        return parsed.update_query_dict({"options": options})
    if backend in ("mysql", "mariadb"):
        # Comments that only MariaDB, or only MySQL, carries out: their names and units differ.
        command = (
            f"SET @hygge = 1 /*M!100101 , max_statement_time = {seconds} */ "
            f"/*!50708 , max_execution_time = {math.ceil(seconds * 1000)} */"
        )
        return parsed.update_query_dict({"init_command": command})
    raise ConfigError(
        f"{shown(url)}: 'statement_timeout' is not built for this database",
        "write what its driver knows into the URL",
    )


def _mark_infinity(connection: Any, _: object) -> None:
    """Let psycopg2 give `infinity` as what it is: it gives the last day that Python has."""
    extensions = importlib.import_module("psycopg2.extensions")
    for number, name in ((1082, "PYDATE"), (1114, "PYDATETIME"), (1184, "PYDATETIMETZ")):
        cast = getattr(extensions, name)

        def read(text: str | None, cursor: Any, cast: Any = cast) -> Any:
            if text is not None and text.lstrip("-") == "infinity":
                return Infinity(text)
            return cast(text, cursor)

        extensions.register_type(extensions.new_type((number,), name, read), connection)
