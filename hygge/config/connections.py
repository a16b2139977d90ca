"""`connections:` of a file: a URL by name, how many connections there may be, how long to wait.

    connections:
      shop: "postgresql://app@db/shop?sslmode=verify-full"
      lake: {url: "mariadb://…", max_connections: 10, connect_timeout: 5s, statement_timeout: 10m}

The timeouts travel in the URL's query, as TLS parameters do: `connect_timeout` in seconds,
`statement_timeout` as a duration, which hygge takes out of the query before a driver sees it.
Those of object stores are told in `hygge/config/buckets.py`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from hygge.config import amounts, buckets, ends
from hygge.config.document import Node
from hygge.config.paths import on_objects
from hygge.config.problems import Problems, Wrong, meant
from hygge.connectors.databases.known import DATABASES, SERVER, database_of

_URL = SERVER.example.replace("user@", "user:${SHOP_PASSWORD}@")
_EXAMPLE = f'connections: {{shop: "{_URL}"}}'
_TIMEOUTS = ("connect_timeout", "statement_timeout")
_KEYS = ("url", "max_connections", *_TIMEOUTS)


@dataclass(frozen=True)
class Named:
    """One of them; `url` is None where it is wrong, which was said."""

    url: str | None = None
    max_connections: int | None = None
    reach: buckets.Reach | None = None
    """What it is instead, where it is of an object store."""
    on_objects: bool = False


def read(node: Node | None, root: str, problems: Problems) -> dict[str, Named]:
    """Every named connection."""
    found: dict[str, Named] = {}
    if node is None or node.value is None:
        return found
    if not node.is_mapping:
        problems.add(node.line, f"'connections' is {node.shown()}", _EXAMPLE)
        return found
    for name, each in node.value.items():
        found[name] = Named()
        with problems.collect():
            found[name] = _one(name, each, root, problems)
    return found


def _one(name: str, node: Node, root: str, problems: Problems) -> Named:
    where = node.value.get("url") if node.is_mapping else node
    if where is not None and isinstance(where.value, str) and on_objects(where.value):
        if where.is_broken():
            return Named(on_objects=True)
        return Named(reach=buckets.read(name, node, root, problems), on_objects=True)
    if not node.is_mapping:
        return Named(None if node.is_broken() else ends.database_url(node, root))
    given: Mapping[str, Node] = node.value
    for key, inner in given.items():
        if key not in _KEYS:
            text = f"connection '{name}' does not know '{key}'"
            problems.add(inner.line, text, meant("it knows", key, _KEYS))
    if "url" not in given:
        raise Wrong(node.line, f"connection '{name}' needs 'url'", _EXAMPLE)
    most: int | None = None
    seconds: dict[str, float] = {}
    with problems.collect():
        if (each := given.get("max_connections")) and not each.is_broken():
            most = amounts.count(each, "max_connections", 1)
    for key in _TIMEOUTS:
        with problems.collect():
            if (each := given.get(key)) and not each.is_broken():
                seconds[key] = amounts.seconds(each, key)
    if given["url"].is_broken():
        return Named(None, most)
    url = ends.database_url(given["url"], root)
    kind, _, driver = url.partition(":")[0].lower().partition("+")
    database = database_of(url)
    for key in ("max_connections", *_TIMEOUTS):
        if key in given and database.is_file:
            raise Wrong(
                given[key].line,
                f"'{key}' of connection '{name}': {kind} is a file, and takes no connections",
                f"take '{key}' out",
            )
        is_known = driver in database.timeout_drivers or (database.timeout_drivers and not driver)
        if key in seconds and not is_known:
            raise Wrong(
                given[key].line,
                f"'{key}' is not built for {kind}{driver and '+'}{driver}",
                f"it is built for {', '.join(_with_timeout_drivers())}; write what the driver "
                "knows into the URL",
            )
    return Named(_with_timeouts(url, seconds, given), most)


def _with_timeout_drivers() -> list[str]:
    return [name for each in DATABASES if each.timeout_drivers for name in each.backends]


def _with_timeouts(url: str, seconds: Mapping[str, float], given: Mapping[str, Node]) -> str:
    if not seconds:
        return url
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        found = make_url(url)
    except (ArgumentError, ValueError):
        return url  # said where it is used
    query = dict(found.query)
    for key, wait in seconds.items():
        if key in query:
            raise Wrong(
                given[key].line, f"'{key}' stands here and in the URL as well", "keep one of them"
            )
        whole = max(1, math.ceil(wait))
        if key == "connect_timeout":
            query[key] = str(whole)
        else:
            query[key] = f"{whole}s" if whole == wait else f"{max(1, round(wait * 1000))}ms"
    return found.set(query=query).render_as_string(hide_password=False)
