"""One flow from the command line: `hygge move SOURCE TARGET`. No file is needed.

The words become the text of a flows.yml, which is read as any other. So a mistake in them is found
as there, and `--save` writes exactly what was run. Passwords are variables in that text.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from hygge.config.flows import read_written
from hygge.config.hidden import Hidden
from hygge.config.named import Named, connections_of
from hygge.config.paths import is_bucket_url
from hygge.config.specs import FlowsFile
from hygge.config.written import (
    as_yaml,
    connection_name,
    flow_name,
    with_variables,
)
from hygge.connectors.databases.known import database_of
from hygge.connectors.sql.connection import shown
from hygge.errors import ConfigError, UsageError
from hygge.registry import by_suffix, suffixes

COMMAND = "hygge move"
"""The name of the text in messages, in the place of a file's."""
_URL = re.compile(r"[A-Za-z][\w+.\-]*://")


@dataclass(frozen=True)
class Move:
    """A flow of the command line."""

    file: FlowsFile
    text: str
    """The flows.yml that it is; it holds no secret."""
    variables: dict[str, str] = field(repr=False)
    """The variables that it needs, which stand for its secrets → their values."""


@dataclass
class _Written:
    """The connections of the text, their URLs, and the variables that they need."""

    named: dict[str, Named]
    connections: dict[str, object] = field(default_factory=dict)
    urls: dict[str, str] = field(default_factory=dict, repr=False)
    hidden: Hidden = field(default_factory=Hidden, repr=False)


def flow_of(
    source: str,
    target: str,
    *,
    file: str = "flows.yml",
    name: str | None = None,
    mode: str | None = None,
    key: Sequence[str] = (),
    cursor: str | None = None,
    kind: str | None = None,
) -> Move:
    """Return the flow from `source` to `target`, each a path, a URL or `connection#table`.

    `file` has the connections that they may name; `kind` is the `type:` of a target that is a
    folder. Raises ConfigError for what flows.yml could not say either, and UsageError for a cursor
    of files and a type of tables.
    """
    written = _Written(connections_of(file) if os.path.exists(file) else {})
    home: object = _end(source, "source", written)
    store: object = _end(target, "target", written)
    url, table = _parts(source)
    if table and re.search(r"[*?\[]", table) and isinstance(home, str):
        home = {"connection": home.rpartition("#")[0], "tables": [table]}
        if isinstance(store, str) and "{table}" not in store and "#" not in store:
            store = f"{store.rstrip('/')}/{{table}}"
    if kind is not None:
        store = _with_type(store, target, kind)
    if cursor is not None:
        home = _with_cursor(home, source, cursor)
    flow: dict[str, object] = {"home": home, "store": store}
    if mode is not None:
        flow["mode"] = mode
    if key:
        names = [with_variables(name) for name in key]
        flow["key"] = names[0] if len(names) == 1 else names
    content: dict[str, object] = {}
    if written.connections:
        content["connections"] = written.connections
    content["flows"] = {name or _name(url, table, target): flow}
    text = as_yaml(content)
    environ = {**os.environ, **written.hidden.variables}
    try:
        read = read_written(text, COMMAND, environ)
    except ConfigError as error:  # nobody sees the lines of this text
        message = re.sub(rf"(?m)^{COMMAND}:\d+: ", f"{COMMAND}: ", error.message)
        hint = re.sub(r"(?m)^(key|mode): \[?([\w,]+)\]?$", r"--\1 \2", error.hint or "")
        raise ConfigError(message, hint or None) from error
    return Move(read, text, written.hidden.variables)


def saved_text(move: Move, path: str) -> str:
    """Return the text for a file at `path`: its paths begin where the command ran."""
    root = os.path.relpath(os.getcwd(), os.path.dirname(os.path.abspath(path)))
    text = "# Written by `hygge move --save`; `hygge connectors` lists what else may stand here.\n"
    return text + ("" if root == "." else f"root: {root}\n") + move.text


def _parts(word: str) -> tuple[str, str]:
    """Return a URL or a connection, and the table behind its #; no table for paths."""
    url, hash_, table = word.rpartition("#")
    # A # may be a letter of a password, or of a file's name.
    if not hash_ or not table or "@" in table or "/" in table or os.path.exists(word):
        return word, ""
    return (word, "") if is_bucket_url(word) else (url, table)


def _end(word: str, side: str, written: _Written) -> str:
    """Return an end as flows.yml has it; a server of its own gets a name under `connections`."""
    url, table = _parts(word)
    if url in written.named and table:
        if url not in written.urls:
            written.urls[url] = written.named[url].url
            written.connections[url] = written.hidden.connection(written.named[url])
        return f"{url}#{with_variables(table)}"
    is_url = _URL.match(url) and not is_bucket_url(url) and not url.lower().startswith("file:")
    if not table or not is_url or database_of(url).is_file:
        return written.hidden.url(word, side)
    name = connection_name(url)
    while written.urls.get(name, url) != url:
        name += f"_{side}"
    if name not in written.urls:
        written.urls[name] = url
        written.connections[name] = written.hidden.url(url, name)
    return f"{name}#{with_variables(table)}"


def _with_type(store: object, target: str, kind: str) -> object:
    url, table = _parts(target)
    if table or (_URL.match(url) and not is_bucket_url(url) and not url.startswith("file:")):
        raise UsageError(
            f"--type is for files and folders, and {shown(target)} is a table", "leave --type out"
        )
    return {"type": kind, "path": store}


def _with_cursor(home: object, source: str, cursor: str) -> object:
    if isinstance(home, dict):
        return {**home, "cursor": with_variables(cursor)}
    connection, _, table = str(home).rpartition("#")
    if not connection or not _parts(source)[1]:
        raise UsageError(
            f"--cursor is for tables, and {source} is none: files are read whole",
            "leave --cursor out",
        )
    return {"connection": connection, "table": table, "cursor": with_variables(cursor)}


def _name(url: str, table: str, target: str) -> str:
    """Return the name of the flow: the source's, and the target's where that is another."""
    names = [_stem(table or url), _stem(_parts(target)[1] or target)]
    return flow_name("_to_".join(dict.fromkeys(names)))


def _stem(text: str) -> str:
    """Return the last part of a path or of a table's name, without its ending."""
    if _URL.match(text):  # neither a password nor a query is a part of the name
        text = re.sub(r"^[^:/]+://([^/]*@|[^:/]*:.*@)?", "", text, flags=re.DOTALL)
        text = text.partition("?")[0]
    last = re.split(r"[/\\]", re.sub(r"\{\w+\}|[*?\[\]\"]", "", text).rstrip("/\\."))[-1]
    if by_suffix("home", last):
        ending = max((each for each in suffixes("home") if last.lower().endswith(each)), key=len)
        return last[: -len(ending)]
    return last.rpartition(".")[2] or last or "all"
