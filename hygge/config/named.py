"""The connections of a flows.yml by name, for commands that need no flow of it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field

from hygge.config import connections, lakes, paths
from hygge.config.document import Node, parse
from hygge.config.environment import Environment
from hygge.config.problems import Problems
from hygge.config.text import read_text
from hygge.places.access import ObjectUrl


@dataclass(frozen=True)
class Named:
    """A connection of a file."""

    name: str
    url: str = field(repr=False)
    """The URL of a database, or of a bucket with its access; variables are filled in."""
    node: Node = field(repr=False)
    """The connection as the file has it, with its variables."""
    root: str
    """The folder at which relative paths of the file begin."""
    environment: Environment = field(repr=False)
    catalog: Mapping[str, str] | None = field(default=None, repr=False)
    """The settings of a catalog of Iceberg, with absolute paths; None for any other connection."""

    @property
    def folder(self) -> str:
        """Return the folder of the file."""
        return self.environment.folder

    @property
    def values(self) -> Mapping[str, str]:
        """Return the variables of the file, whether it names them or not."""
        return self.environment.values

    def fill(self, text: str) -> str:
        """Return a text of the connection with every variable replaced by its value."""
        return self.environment.fill_text(text, self.node.line)


def connections_of(path: str, environ: Mapping[str, str] | None = None) -> dict[str, Named]:
    """Return the connections of the file at `path`.

    Raises ConfigError with all that is wrong in this part of it; other parts are not looked at.
    """
    environ = os.environ if environ is None else environ
    problems = Problems(path)
    folder = paths.folder_of(path)
    environment = Environment(folder, environ, problems)
    nodes = parse(read_text(path, environ), problems).mapping
    root = folder
    with problems.collect():
        if node := nodes.get("root"):
            filled = environment.fill(node, problems)
            root = folder if filled.broken else paths.read_root(filled, folder)
    written = nodes.get("connections") or Node({}, 1)
    named = connections.read(environment.fill(written, problems), root, problems)
    problems.raise_any()
    found = {}
    for name, each in named.items():
        url = each.url or ""
        if each.bucket is not None:
            url = ObjectUrl(each.bucket.url, each.bucket.access)
        catalog = None
        if each.lake is not None:
            who = f"connection '{name}'"
            catalog = lakes.absolute(each.lake.plain(), root, each.lake.line, who)
        found[name] = Named(name, url, written.mapping[name], root, environment, catalog)
    return found
