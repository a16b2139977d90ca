"""Writing a flows.yml: the text of commands that make one, and the names in it."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from typing import Any

import yaml

SCHEMA = "flows.schema.json"
"""The file of the JSON Schema that `hygge init` writes beside flows.yml."""


class _Dumper(yaml.SafeDumper):
    """Writes keys in their order, and lists within a line."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)


def _list(dumper: yaml.SafeDumper, items: list[Any]) -> yaml.Node:
    return dumper.represent_sequence("tag:yaml.org,2002:seq", items, flow_style=True)


_Dumper.add_representer(list, _list)


def as_yaml(content: Mapping[str, object]) -> str:
    """Return `content` as YAML, in the order of its keys."""
    return yaml.dump(dict(content), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)


def as_yaml_word(text: str) -> str:
    """Return a text as YAML within a line, whatever letters and line ends it has."""
    if re.fullmatch(r"[A-Za-z_][\w.]*", text) and yaml.safe_load(text) == text:
        return text
    word: str = yaml.safe_dump(text, default_style='"', allow_unicode=True, width=sys.maxsize)
    return word.rstrip("\n")


def with_variables(text: str) -> str:
    """Return a text of the command line such that flows.yml reads it as it is."""
    return text.replace("${", "$${")


def connection_name(url: str) -> str:
    """Return a name for the connection of a database: that of the database."""
    after = re.sub(r"^([^:/]*:.*@|[^/]*@)", "", url.partition("://")[2], flags=re.DOTALL)
    path = re.sub(r"[?#].*$", "", after, flags=re.DOTALL).partition("/")[2]
    name = os.path.splitext(path.rpartition("/")[2])[0]
    name = re.sub(r"[^A-Za-z0-9_]+", "_", name).strip("_") or "source"
    return f"db_{name}" if name[0].isdigit() else name


def flow_name(text: str) -> str:
    """Return a name for a flow or a connection, made of a table's or a file's name."""
    name = re.sub(r"[^\w.\-]+", "_", text).strip("_.-")
    return name[:100] or "flow"
