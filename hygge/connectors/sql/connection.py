"""Connections and names of tables, as every database needs them."""

from __future__ import annotations

import re
from contextlib import suppress
from typing import Any

from hygge.errors import ConfigError, without_password


def shown(url: str) -> str:
    """The URL for people: without password, driver and query."""
    from sqlalchemy.engine import make_url

    parsed = make_url(url)
    plain = parsed.set(drivername=parsed.get_backend_name(), query={})
    return without_password(plain.render_as_string(hide_password=True))


def split_name(table: str) -> tuple[str | None, str]:
    """`schema.table` as its two names; a part in double quotes may hold dots."""
    parts = re.findall(r'"((?:[^"]|"")*)"|([^.]+)', table)
    names = [quoted.replace('""', '"') or plain for quoted, plain in parts]
    if len(names) < 2:
        return None, names[0] if names else table
    return ".".join(names[:-1]), names[-1]


_UNITS_S = {"ms": 0.001, "s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0}


def seconds_of(limit: str, bare_s: float) -> float:
    """The seconds of a duration: `500ms`, `30s`, `5min`; a bare number is in units of `bare_s`."""
    match = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]+)?)\s*(ms|s|min|h|d|)\s*", limit)
    if match is None:
        raise ConfigError(f"statement_timeout is '{limit}', not a duration", "write 30s, or 5min")
    return float(match[1]) * _UNITS_S.get(match[2], bare_s)


def close_lost(context: Any) -> None:
    """Close the cursor of a broken connection, which SQLAlchemy forgets and its driver warns of."""
    if context.is_disconnect and context.execution_context is not None:
        with suppress(Exception):
            context.execution_context.cursor.close()
