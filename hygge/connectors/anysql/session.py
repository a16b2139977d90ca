"""Connections through SQLAlchemy, one for each use."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

from hygge.connectors.sql.connection import close_lost, seconds_of, shown
from hygge.connectors.sql.errors import in_words
from hygge.errors import ConfigError, HyggeError


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
