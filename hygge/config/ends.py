"""A `home:` or `store:` as people write it → its type and its settings, spelled out.

First the text form becomes a mapping (`shop#orders` → connection and table), then the type is
inferred from the flow's own words, so that defaults never change what a flow says; then defaults
lie under it, as far as the class knows them; last, relative paths get the root in front.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from hygge.config import buckets, connectors
from hygge.config.buckets import Reach
from hygge.config.document import Node, merge
from hygge.config.environment import node_text
from hygge.config.infer import kind_of_contents
from hygge.config.paths import (
    URL,
    absolute,
    absolute_url,
    folder_of,
    kept,
    on_objects,
    refuse_scheme,
    text_of,
)
from hygge.config.problems import AlreadySaid, Wrong, meant
from hygge.config.specs import EndSpec, Side
from hygge.connectors.databases.known import DATABASES, FILE, SERVER, backends
from hygge.errors import nearest
from hygge.places.access import ObjectUrl
from hygge.registry import by_suffix, suffixes
from hygge.settings import Connector

_NAMED_TABLE = re.compile(r"""([A-Za-z_][\w\-]*)#([\w.$"`\[\]{}* ]+)""")
_TEXTS = ("type", "name", "path", "connection", "table", "query")


@dataclass(frozen=True)
class Surroundings:
    """What an end's words are read against."""

    file: str
    root: str
    connections: Mapping[str, str | None]
    """Name → URL of a database, or None where it is wrong, which was said."""
    reaches: Mapping[str, Reach | None]
    """Name → how an object store is reached, or None as above."""
    environ: Mapping[str, str]
    hidden: Mapping[str, str]


@dataclass(frozen=True)
class End:
    """An end whose class is known, before the defaults."""

    side: Side
    kind: str
    cls: type[Connector]
    own: Node


def begin(
    side: Side, node: Node, defaults: Node, around: Surroundings, made: Mapping[str, str]
) -> End:
    """`node` spelled out, and its class. `made`: what this file's stores write, path → kind."""
    if node.is_broken():
        raise AlreadySaid(node.line, "a variable of it is missing")
    own = buckets.below(side, _spelled_out(side, node, around), around.reaches)
    kind = _kind(side, own, defaults, around, made)
    line = own.value["type"].line if "type" in own.value else own.line
    return End(side, kind, connectors.find(side, kind, line, folder_of(around.file)), own)


def takes(end: End, key: str, option: str | None = None) -> bool:
    """Whether a default of this name can lie under this end."""
    if option is not None:
        return option in (connectors.options_of(end.cls) or ())
    return key == "type" or key in (connectors.keys_of(end.cls) or ())


def finish(end: End, defaults: Node, around: Surroundings) -> EndSpec:
    """The end with the defaults that it takes under it, and every path absolute."""
    full = merge(_fitting(end, defaults, around), end.own)
    if full.is_broken():
        raise AlreadySaid(end.own.line, "a variable of it is missing")
    texts = ("name",) if ":" in end.kind else _TEXTS  # a class of one's own has its own meanings
    settings: dict[str, Any] = {
        key: _text(full, key) if key in texts else node.plain()
        for key, node in full.value.items()
        if key != "type"
    }
    name = settings.pop("name", None)
    named = settings.get("connection")
    if not isinstance(named, str) or named not in around.connections or ":" in end.kind:
        named = None
    if connectors.is_of_files(end.cls):
        path = settings.get("path") or (name and (f"data/{name}" if end.side == "store" else name))
        if isinstance(path, str):
            at = full.value.get("path", full)
            settings["path"] = kept(end.side, at, absolute(path, around.root, at.line))
            asked, line = settings.pop("connection", None), full.value.get("connection", at).line
            access = buckets.access(asked, settings["path"], around.reaches, line)
            if access is not None:
                settings["connection"] = access
    elif "connection" in settings:
        settings["connection"] = _url(end, full.value["connection"], settings, around)
    elif end.kind == "sql" and around.environ.get("HYGGE_DATABASE_URL"):
        url = around.environ["HYGGE_DATABASE_URL"]
        settings["connection"] = absolute_url(url, around.root, end.own.line)
    lines = dict(_lines(full))
    return EndSpec(end.side, end.kind, name, settings, end.own.line, lines, around.hidden, named)


def database_url(node: Node, root: str) -> str:
    """The URL of a connection; its own text, but for a relative file in it."""
    url = text_of(node)
    scheme = URL.match(url)
    if scheme is None:
        file = f"{FILE.backends[0]}:///{node_text(node.text)}"
        hint = file if _is_file(url) else SERVER.example
        raise Wrong(node.line, f"{node.shown()} is not a database URL", f"for example {hint}")
    refuse_scheme(node, scheme[1])
    database = scheme[1].lower().partition("+")[0]
    known = backends()
    close = nearest(database, known) if database not in known else None
    alias = next((each.backends[0] for each in DATABASES if database in each.aliases), None)
    if alias or (close and _near(database, close)):
        raise Wrong(
            node.line, f"no database is called '{database}'", f"did you mean {alias or close}://…?"
        )
    return absolute_url(url, root, node.line)


def _spelled_out(side: Side, node: Node, around: Surroundings) -> Node:
    if node.is_mapping:
        if not node.value:
            raise Wrong(node.line, f"'{side}' is empty", f"{side}: data/users.parquet")
        return node
    if node.is_list or node.value is None or isinstance(node.value, bool | int | float):
        raise Wrong(
            node.line,
            f"'{side}' is {node.shown()}, not a path, a URL or a mapping",
            f"{side}: data/users.parquet",
        )
    text = node.value

    def parts(**words: str) -> Node:
        return Node({k: Node(v, node.line, node.text) for k, v in words.items()}, node.line)

    scheme = URL.match(text)
    if on_objects(text):
        return parts(path=text)
    if scheme and scheme[1].lower() != "file":
        refuse_scheme(node, scheme[1])
        url, hash_, table = text.rpartition("#")
        if not hash_ or not table or "@" in table or "/" in table:  # a # of the password
            raise Wrong(
                node.line,
                f"'{side}' is a database URL without a table: {node_text(node.text)}",
                f"{side}: url#table, or a mapping with `connection` and `table`",
            )
        return parts(connection=url, table=table)
    name, hash_, table = text.partition("#")
    written = node.text.partition("#")[0]
    there = os.path.exists(absolute(text, around.root, node.line))
    if hash_ and name in around.connections and not there:
        return parts(connection=name, table=table)
    reach = around.reaches.get(name)
    if not there and reach is not None and text in (name, f"{name}#{table}"):
        raise Wrong(
            node.line,
            f"'{name}' is an object store, and '{side}' needs a path in it",
            f"{side}: {{connection: {name}, path: users}}, or {side}: {reach.url}/users",
        )
    if not there and text in around.connections:
        raise Wrong(
            node.line,
            f"'{text}' is a connection, and '{side}' needs a table of it",
            f"{side}: {text}#table, or ./{text} for a path",
        )
    if not there and _NAMED_TABLE.fullmatch(text) and by_suffix(side, text) is None:
        raise Wrong(
            node.line,
            f"there is no connection '{written}' for {node.shown()}",
            _connections_hint(name, around) + "; or ./ in front if it is a path",
        )
    return parts(path=text)


def _kind(
    side: Side, own: Node, defaults: Node, around: Surroundings, made: Mapping[str, str]
) -> str:
    """The type by the flow's own words first, then by the defaults, then by what is there."""
    if "type" in own.value:
        return _text(own, "type")
    if any(key in own.value for key in ("table", "query")):
        return "sql"
    if any(key in own.value for key in ("connection", "tables")) and "path" not in own.value:
        return "sql"
    if "path" in own.value:
        node = own.value["path"]
        path = text_of(node)
        scheme = URL.match(path)
        if scheme and scheme[1].lower() != "file" and not on_objects(path):
            refuse_scheme(node, scheme[1])
            raise Wrong(
                node.line,
                f"'path' is a database URL: {node_text(node.text)}",
                "write it as `connection`, with `table` or `query` beside it",
            )
        if kind := by_suffix(side, path):
            return kind
    if "type" in defaults.value:
        return _text(defaults, "type")
    if "path" in own.value:
        full = absolute(path, around.root, node.line)
        if side == "store":
            return _kind_of_new(node, full)
        if on_objects(full):
            named = own.value["connection"].value if "connection" in own.value else None
            full = ObjectUrl(full, buckets.access(named, full, around.reaches, node.line))
        name = os.path.basename(around.file)
        return kind_of_contents(node, full, name, around.environ, made, around.hidden)
    if any(key in defaults.value for key in ("connection", "table", "query")):
        return "sql"
    if side == "store" and "name" in own.value and len(own.value) == 1:
        return "parquet"
    known = ("type", "path", "connection", "table", "query", "name", "options")
    strange = [key for key in own.value if key not in known]
    hint = meant("it knows", strange[0], known) if strange else f"{side}: {{path: data/users}}"
    raise Wrong(own.line, f"'{side}' needs `path`, `connection` or `type`", hint)


def _kind_of_new(node: Node, path: str) -> str:
    ending = re.search(r"\.[A-Za-z]\w{0,7}$", os.path.basename(path))
    if ending is None or os.path.isdir(path):
        return "parquet"
    raise Wrong(
        node.line,
        f"what type is {node.shown()}? No store ends in '{os.path.splitext(node.text)[1]}'",
        f"{meant('endings', ending[0], suffixes('store'))}; "
        f"or write store: {{type: parquet, path: {node_text(node.text)}}}",
    )


def _fitting(end: End, defaults: Node, around: Surroundings) -> Node:
    """The defaults that this end's class knows."""
    fitting: dict[str, Node] = {}
    files = connectors.is_of_files(end.cls)
    for key, node in defaults.value.items():
        if key == "connection" and files != (node.value in around.reaches):
            continue  # a default for ends of databases, or for those of files
        if key == "options" and node.is_mapping:
            known = {k: v for k, v in node.value.items() if takes(end, key, k)}
            if known:
                fitting[key] = Node(known, node.line)
        elif key != "type" and takes(end, key):
            fitting[key] = node
    if "table" in end.own.value or "query" in end.own.value:  # one of the two says what to move
        fitting.pop("table", None)
        fitting.pop("query", None)
    return Node(fitting, defaults.line)


def _url(end: End, node: Node, settings: Mapping[str, Any], around: Surroundings) -> Any:
    given = settings["connection"]
    if isinstance(given, str) and given in around.connections:
        named = around.connections[given]
        if named is None:
            raise AlreadySaid(node.line, "its connection is wrong")
        return kept(end.side, node, named)
    if ":" in end.kind:  # the user's own class: its own meaning
        return given
    if isinstance(given, str) and not URL.match(given) and not _is_file(given):
        name = given.partition("#")[0]
        if name in around.connections:
            raise Wrong(
                node.line,
                f"'connection' is {node.shown()}, which names a table as well",
                f"connection: {name}, and the table beside it as `table`",
            )
        raise Wrong(
            node.line, f"there is no connection {node.shown()}", _connections_hint(given, around)
        )
    return kept(end.side, node, database_url(node, around.root))


def _connections_hint(name: str, around: Surroundings) -> str:
    if around.connections or around.reaches:
        return meant("connections", name, (*around.connections, *around.reaches))
    return f'name it:  connections: {{{name}: "{SERVER.backends[0]}://…"}}'


def _text(mapping: Node, key: str) -> str:
    node = mapping.value[key]
    if node.is_mapping or node.is_list or isinstance(node.value, bool) or node.value in (None, ""):
        raise Wrong(node.line, f"'{key}' is {node.shown()}, not text", f"{key}: text")
    return text_of(node)


def _is_file(text: str) -> bool:
    return "/" in text or "." in text


def _near(word: str, close: str) -> bool:
    return (
        nearest(word, [close]) is not None
        and abs(len(word) - len(close)) <= 2
        and (word[:3] == close[:3])
    )


def _lines(node: Node, prefix: str = "") -> Iterable[tuple[str, int]]:
    if node.is_mapping:
        for key, each in node.value.items():
            yield prefix + key, each.line
            yield from _lines(each, f"{prefix}{key}.")
