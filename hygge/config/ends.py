"""A `home:` or `store:` as it is written → its class and its settings.

The text form becomes a mapping first (`shop#orders` → connection and table). Then the type is
inferred, from the flow's own keys before the defaults, so that a default never changes the meaning
of a flow. Last, the defaults that the class knows are merged in, and paths are made absolute.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from hygge.config import buckets, connectors, lakes
from hygge.config.buckets import BucketConnection
from hygge.config.document import Node, merge
from hygge.config.environment import shorten
from hygge.config.infer import infer_kind, kind_of_new
from hygge.config.paths import (
    URL,
    absolute,
    absolute_url,
    folder_of,
    is_bucket_url,
    refuse_scheme,
    refuse_shipped_store,
    text_of,
)
from hygge.config.problems import AlreadyReported, Problem, suggest
from hygge.config.specs import EndSpec, Side
from hygge.connectors.databases.known import (
    DATABASES,
    FILE,
    SERVER,
    backends,
    database_by_suffix,
    service_url,
)
from hygge.errors import nearest
from hygge.places.access import ObjectUrl
from hygge.registry import by_suffix
from hygge.settings import Connector

_NAMED_TABLE = re.compile(r"""([A-Za-z_][\w\-]*)#([\w.$"`\[\]{}* ]+)""")
_TEXT_KEYS = ("type", "name", "path", "connection", "table", "query")


@dataclass(frozen=True)
class Context:
    """The parts of the file, and of its environment, that the ends of all flows refer to."""

    file: str
    root: str
    connections: Mapping[str, str | None]
    """Names of databases → their URLs; None where one is wrong, which is reported already."""
    buckets: Mapping[str, BucketConnection | None]
    """Names of object stores → their connections, or None as above."""
    lakes: Mapping[str, Node | None]
    """Names of lakes → the nodes of their catalogs, or None as above."""
    environ: Mapping[str, str]
    hidden: Mapping[str, str]
    """Values that came from variables → the variables, for messages."""


@dataclass(frozen=True)
class End:
    """An end whose class is known, without the defaults."""

    side: Side
    kind: str
    cls: type[Connector]
    node: Node
    """The mapping of the end, as the flow writes it."""


def find_end(
    side: Side,
    node: Node,
    defaults: Node,
    context: Context,
    written: Mapping[str, str],
    several: bool = False,
) -> End:
    """Return the end as a mapping, and its class; raise Problem where that is not known.

    `written`: the paths that this file's stores write → their kinds. `several`: its files may be of
    several types, and the class is that of the first.
    """
    if node.is_broken():
        raise AlreadyReported(node.line, "a variable of it is missing")
    node = buckets.with_whole_path(side, _as_mapping(side, node, context), context.buckets)
    node = lakes.with_catalog(side, node, context.lakes)
    kind = _find_kind(side, node, defaults, context, written, several)
    line = node.mapping.get("type", node).line
    return End(side, kind, connectors.find_class(side, kind, line, folder_of(context.file)), node)


def accepts(end: End, key: str, option: str | None = None) -> bool:
    """Return whether the class of an end takes a key, or takes an option under `options`."""
    if option is not None:
        return option in (connectors.options_of(end.cls) or ())
    return key == "type" or key in (connectors.keys_of(end.cls) or ())


def make_spec(end: End, defaults: Node, context: Context) -> EndSpec:
    """Return the end with the defaults that it accepts, and with absolute paths and URLs."""
    full = merge(_accepted(end, defaults, context), end.node)
    if full.is_broken():
        raise AlreadyReported(end.node.line, "a variable of it is missing")
    nodes = full.mapping
    is_own_class = ":" in end.kind  # which gives keys a meaning of its own
    text_keys = ("name",) if is_own_class else _TEXT_KEYS
    settings: dict[str, Any] = {
        key: _text(full, key) if key in text_keys else node.plain()
        for key, node in nodes.items()
        if key != "type"
    }
    name = settings.pop("name", None)
    if end.kind == lakes.KIND:
        lakes.set_places(settings, nodes, context.root, end.side)
    connection = settings.get("connection")
    if is_own_class or not isinstance(connection, str) or connection not in context.connections:
        connection = None
    if connectors.is_of_files(end.cls):
        path = settings.get("path")
        if not path and name:
            path = f"data/{name}" if end.side == "store" else name
        if isinstance(path, str):
            _set_path(settings, path, end, full, context)
    elif "connection" in settings:
        settings["connection"] = _url(end, nodes["connection"], settings["connection"], context)
    elif end.kind == "sql" and context.environ.get("HYGGE_DATABASE_URL"):
        url = context.environ["HYGGE_DATABASE_URL"]
        settings["connection"] = absolute_url(url, context.root, end.node.line)
    lines = dict(_lines(full))
    return EndSpec(
        end.side, end.kind, name, settings, end.node.line, lines, context.hidden, connection
    )


def _set_path(settings: dict[str, Any], path: str, end: End, full: Node, context: Context) -> None:
    """Set the absolute path of an end of files, and the access of an object store."""
    node = full.mapping.get("path", full)
    place = absolute(path, context.root, node.line)
    refuse_shipped_store(end.side, node, place)
    settings["path"] = place
    line = full.mapping.get("connection", node).line
    access = buckets.access_of(settings.pop("connection", None), place, context.buckets, line)
    if access is not None:
        settings["connection"] = access


def database_url(node: Node, root: str) -> str:
    """Return the URL of a database as it is written, but with an absolute path of a file."""
    url = text_of(node)
    scheme = URL.match(url)
    if scheme is None:
        file = database_by_suffix(url) or FILE
        example = f"{file.backends[0]}:///{shorten(node.text)}" if _is_file(url) else SERVER.example
        message = f"{node.describe()} is not a database URL"
        raise Problem(node.line, message, f"for example {example}")
    refuse_scheme(node, scheme[1])
    backend = scheme[1].lower().partition("+")[0]
    if similar := _similar_backend(backend):
        message = f"no database is called '{backend}'"
        raise Problem(node.line, message, f"did you mean {similar}://…?")
    return absolute_url(url, root, node.line)


def _similar_backend(backend: str) -> str | None:
    """Return the backend that a wrong one was meant to be; None for a right or a foreign one."""
    for database in DATABASES:
        if backend in database.aliases:
            return database.backends[0]
    known = backends()
    if backend in known:
        return None
    close = nearest(backend, known)
    if close is None:
        return None
    is_near = abs(len(backend) - len(close)) <= 2 and backend[:3] == close[:3]
    return close if is_near else None


def _as_mapping(side: Side, node: Node, context: Context) -> Node:
    if node.is_mapping:
        if not node.mapping:
            raise Problem(node.line, f"'{side}' is empty", f"{side}: data/users.parquet")
        return node
    if not isinstance(node.value, str):
        raise Problem(
            node.line,
            f"'{side}' is {node.describe()}, not a path, a URL or a mapping",
            f"{side}: data/users.parquet",
        )
    text = node.value

    def mapping(**values: str) -> Node:
        nodes = {key: Node(value, node.line, node.text) for key, value in values.items()}
        return Node(nodes, node.line)

    scheme = URL.match(text)
    if is_bucket_url(text):
        return mapping(path=text)
    if scheme and scheme[1].lower() != "file":
        refuse_scheme(node, scheme[1])
        url, hash_, table = text.rpartition("#")
        if not hash_ or not table or "@" in table or "/" in table:  # a # of the password
            raise Problem(
                node.line,
                f"'{side}' is a database URL without a table: {shorten(node.text)}",
                f"{side}: url#table, or a mapping with `connection` and `table`",
            )
        return mapping(connection=url, table=table)
    name, hash_, table = text.partition("#")
    database = database_by_suffix(name)
    if database is not None and (hash_ or database_by_suffix(text)):
        if not table:
            raise Problem(
                node.line,
                f"'{side}' is a {database.name} database without a table: {shorten(node.text)}",
                f"{side}: {shorten(node.text.rstrip('#'))}#table",
            )
        return mapping(connection=f"{database.backends[0]}:///{name}", table=table)
    if os.path.exists(absolute(text, context.root, node.line)):
        return mapping(path=text)
    if hash_ and (name in context.connections or name in context.lakes):
        return mapping(connection=name, table=table)
    if of_service := service_url(name):  # which its connector refuses, in words
        return mapping(connection=of_service, table=table or "t")
    _refuse_connection(side, node, text, context)
    return mapping(path=text)


def _refuse_connection(side: Side, node: Node, text: str, context: Context) -> None:
    """Raise Problem for a text that is no path, but a connection with a part missing."""
    name, _, table = text.partition("#")
    bucket = context.buckets.get(name)
    if bucket is not None and text in (name, f"{name}#{table}"):
        raise Problem(
            node.line,
            f"'{name}' is an object store, and '{side}' needs a path in it",
            f"{side}: {{connection: {name}, path: users}}, or {side}: {bucket.url}/users",
        )
    if text in context.connections or text in context.lakes:
        raise Problem(
            node.line,
            f"'{text}' is a connection, and '{side}' needs a table of it",
            f"{side}: {text}#table, or ./{text} for a path",
        )
    if _NAMED_TABLE.fullmatch(text) and by_suffix(side, text) is None:
        written = node.text.partition("#")[0]
        raise Problem(
            node.line,
            f"there is no connection '{written}' for {node.describe()}",
            _connections_hint(name, context) + "; or ./ in front if it is a path",
        )


def _find_kind(
    side: Side,
    end: Node,
    defaults: Node,
    context: Context,
    written: Mapping[str, str],
    several: bool,
) -> str:
    """Return the type: by the flow's own keys, then by the defaults, then by the files there."""
    keys = end.mapping
    if "type" in keys:
        return _text(end, "type")
    if "table" in keys or "query" in keys:
        return "sql"
    if ("connection" in keys or "tables" in keys) and "path" not in keys:
        return "sql"
    if "path" in keys and (kind := _kind_by_suffix(side, keys["path"])):
        return kind
    if "type" in defaults.mapping:
        return _text(defaults, "type")
    if "path" in keys:
        node = keys["path"]
        path = absolute(text_of(node), context.root, node.line)
        if side == "store":
            return kind_of_new(node, path)
        if is_bucket_url(path):
            connection = keys["connection"].value if "connection" in keys else None
            access = buckets.access_of(connection, path, context.buckets, node.line)
            path = ObjectUrl(path, access)
        name = os.path.basename(context.file)
        return infer_kind(node, path, name, context.environ, written, context.hidden, several)
    if any(key in defaults.mapping for key in ("connection", "table", "query")):
        return "sql"
    if side == "store" and "name" in keys and len(keys) == 1:
        return "parquet"
    known = ("type", "path", "connection", "table", "query", "name", "options")
    unknown = [key for key in keys if key not in known]
    hint = suggest("it knows", unknown[0], known) if unknown else f"{side}: {{path: data/users}}"
    raise Problem(end.line, f"'{side}' needs `path`, `connection` or `type`", hint)


def _kind_by_suffix(side: Side, node: Node) -> str | None:
    path = text_of(node)
    scheme = URL.match(path)
    if scheme and scheme[1].lower() != "file" and not is_bucket_url(path):
        refuse_scheme(node, scheme[1])
        raise Problem(
            node.line,
            f"'path' is a database URL: {shorten(node.text)}",
            "write it as `connection`, with `table` or `query` beside it",
        )
    return by_suffix(side, path)


def _accepted(end: End, defaults: Node, context: Context) -> Node:
    """Return the defaults that the class of an end knows."""
    accepted: dict[str, Node] = {}
    is_of_files = connectors.is_of_files(end.cls)
    for key, node in defaults.mapping.items():
        if key == "connection":
            is_bucket = isinstance(node.value, str) and node.value in context.buckets
            if is_bucket != is_of_files:
                continue  # a database takes no object store, and files take no database
        if key == "options" and node.is_mapping:
            known = {name: n for name, n in node.mapping.items() if accepts(end, key, name)}
            if known:
                accepted[key] = Node(known, node.line)
        elif key != "type" and accepts(end, key):
            accepted[key] = node
    if "table" in end.node.mapping or "query" in end.node.mapping:
        # Only one of the two may be given, and the flow has it.
        accepted.pop("table", None)
        accepted.pop("query", None)
    return Node(accepted, defaults.line)


def _url(end: End, node: Node, connection: object, context: Context) -> object:
    """Return the URL that `connection` is or names; a class of the user may take any value."""
    if isinstance(connection, str) and connection in context.connections:
        url = context.connections[connection]
        if url is None:
            raise AlreadyReported(node.line, "its connection is wrong")
    elif ":" in end.kind:
        return connection
    else:
        if isinstance(connection, str) and not URL.match(connection) and not _is_file(connection):
            _refuse_unknown_connection(node, connection, context)
        url = database_url(node, context.root)
    refuse_shipped_store(end.side, node, url)
    return url


def _refuse_unknown_connection(node: Node, connection: str, context: Context) -> None:
    name = connection.partition("#")[0]
    if name in context.connections:
        raise Problem(
            node.line,
            f"'connection' is {node.describe()}, which names a table as well",
            f"connection: {name}, and the table beside it as `table`",
        )
    message = f"there is no connection {node.describe()}"
    raise Problem(node.line, message, _connections_hint(connection, context))


def _connections_hint(name: str, context: Context) -> str:
    names = (*context.connections, *context.buckets, *context.lakes)
    if names:
        return suggest("connections", name, names)
    return f'name it:  connections: {{{name}: "{SERVER.backends[0]}://…"}}'


def _text(parent: Node, key: str) -> str:
    node = parent.mapping[key]
    if node.is_mapping or node.is_list or isinstance(node.value, bool) or node.value in (None, ""):
        raise Problem(node.line, f"'{key}' is {node.describe()}, not text", f"{key}: text")
    return text_of(node)


def _is_file(text: str) -> bool:
    return "/" in text or "." in text


def _lines(node: Node, prefix: str = "") -> Iterable[tuple[str, int]]:
    """Yield every key of a mapping, as `options.compression`, and its line."""
    for key, child in node.mapping.items():
        yield prefix + key, child.line
        yield from _lines(child, f"{prefix}{key}.")
