"""`connections:` of a file: named URLs, limits on how many may be open, timeouts.

    connections:
      shop: "postgresql://app@db/shop?sslmode=verify-full"
      lake: {url: "mariadb://…", max_connections: 10, connect_timeout: 5s, statement_timeout: 10m}

The timeouts travel in the query of the URL, as TLS parameters do: `connect_timeout` in seconds,
`statement_timeout` as a duration, which hygge removes before a driver sees the URL. Connections of
object stores are read by `hygge/config/buckets.py`, those of lakes by `hygge/config/lakes.py`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from hygge.config import buckets, ends, lakes, values
from hygge.config.document import Node
from hygge.config.paths import is_bucket_url
from hygge.config.problems import Problem, Problems, suggest
from hygge.connectors.databases.known import DATABASES, SERVER, database_of

_URL = SERVER.example.replace("user@", "user:${SHOP_PASSWORD}@")
_EXAMPLE = f'connections: {{shop: "{_URL}"}}'
_TIMEOUTS = ("connect_timeout", "statement_timeout")
_KEYS = ("url", "max_connections", *_TIMEOUTS)


@dataclass(frozen=True)
class NamedConnection:
    """A connection of a database, of an object store, or of a catalog of tables."""

    url: str | None = None
    """The URL of the database; None where it is wrong, which is reported already."""
    max_connections: int | None = None
    is_bucket: bool = False
    bucket: buckets.BucketConnection | None = None
    """Of an object store; None where it is wrong, which is reported already."""
    is_lake: bool = False
    lake: Node | None = None
    """The catalog of a lake; None where it is wrong, which is reported already."""

    @property
    def is_database(self) -> bool:
        """Whether it is a connection of a database, also of one with a wrong URL."""
        return not (self.is_bucket or self.is_lake)


def read(node: Node | None, root: str, problems: Problems) -> dict[str, NamedConnection]:
    """Return every named connection; one with a problem is returned empty."""
    connections: dict[str, NamedConnection] = {}
    if node is None or node.value is None:
        return connections
    if not node.is_mapping:
        problems.add(node.line, f"'connections' is {node.describe()}", _EXAMPLE)
        return connections
    for name, value in node.mapping.items():
        connections[name] = NamedConnection()
        with problems.collect():
            connections[name] = _read_one(name, value, root, problems)
    return connections


def _read_one(name: str, node: Node, root: str, problems: Problems) -> NamedConnection:
    if lakes.is_lake(node):
        with problems.collect():
            return NamedConnection(is_lake=True, lake=lakes.read(name, node, root, problems))
        return NamedConnection(is_lake=True)
    url_node = node.mapping.get("url") if node.is_mapping else node
    if url_node is not None and isinstance(url_node.value, str) and is_bucket_url(url_node.value):
        if url_node.is_broken():
            return NamedConnection(is_bucket=True)
        bucket = buckets.read(name, node, root, problems)
        return NamedConnection(is_bucket=True, bucket=bucket)
    if not node.is_mapping:
        return NamedConnection(None if node.is_broken() else ends.database_url(node, root))
    keys = node.mapping
    for key, value in keys.items():
        if key not in _KEYS:
            message = f"connection '{name}' does not know '{key}'"
            problems.add(value.line, message, suggest("it knows", key, _KEYS))
    if url_node is None:
        raise Problem(node.line, f"connection '{name}' needs 'url'", _EXAMPLE)
    max_connections: int | None = None
    timeouts_s: dict[str, float] = {}
    with problems.collect():
        if limit := values.get(keys, "max_connections"):
            max_connections = values.read_count(limit, "max_connections", 1)
    for key in _TIMEOUTS:
        with problems.collect():
            if timeout := values.get(keys, key):
                timeouts_s[key] = values.read_seconds(timeout, key)
    if url_node.is_broken():
        return NamedConnection(None, max_connections)
    url = ends.database_url(url_node, root)
    _check_keys(name, url, keys, timeouts_s)
    return NamedConnection(_with_timeouts(url, timeouts_s, keys), max_connections)


def _check_keys(
    name: str, url: str, keys: Mapping[str, Node], timeouts_s: Mapping[str, float]
) -> None:
    """Raise Problem for a limit or a timeout that the database or its driver does not have."""
    backend, _, driver = url.partition(":")[0].lower().partition("+")
    database = database_of(url)
    for key in ("max_connections", *_TIMEOUTS):
        if key in keys and database.is_file:
            raise Problem(
                keys[key].line,
                f"'{key}' of connection '{name}': {backend} is a file, and takes no connections",
                f"take '{key}' out",
            )
        if not driver:
            is_built = bool(database.timeout_drivers)
        else:
            is_built = driver in database.timeout_drivers
        if key in timeouts_s and not is_built:
            raise Problem(
                keys[key].line,
                f"'{key}' is not built for {backend}{driver and '+'}{driver}",
                f"it is built for {', '.join(_backends_with_timeouts())}; write what the driver "
                "knows into the URL",
            )


def _backends_with_timeouts() -> list[str]:
    return [
        name for database in DATABASES if database.timeout_drivers for name in database.backends
    ]


def _with_timeouts(url: str, timeouts_s: Mapping[str, float], keys: Mapping[str, Node]) -> str:
    if not timeouts_s:
        return url
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        return url  # it is reported where the connection is used
    query = dict(parsed.query)
    for key, timeout_s in timeouts_s.items():
        if key in query:
            message = f"'{key}' stands here and in the URL as well"
            raise Problem(keys[key].line, message, "keep one of them")
        whole_s = max(1, math.ceil(timeout_s))
        if key == "connect_timeout":
            query[key] = str(whole_s)
        elif whole_s == timeout_s:
            query[key] = f"{whole_s}s"
        else:
            query[key] = f"{max(1, round(timeout_s * 1000))}ms"
    return parsed.set(query=query).render_as_string(hide_password=False)
