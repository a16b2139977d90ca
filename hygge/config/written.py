"""Writing a flows.yml: the text of commands that make one, without any secret in it."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import yaml

from hygge.errors import is_secret_name

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


def without_secrets(url: str, name: str) -> tuple[str, dict[str, str]]:
    """Return a URL with `${NAME_PASSWORD}` for each secret in it, and the variables' values.

    `name` is the connection's; the values are written as the URL has them (`%40` for `@`).
    """
    stem = re.sub(r"\W", "_", name).upper()
    variables: dict[str, str] = {}
    parts = urlsplit(url)
    text = with_variables(url)
    if parts.password:
        variable = f"{stem}_PASSWORD"
        variables[variable] = parts.password
        user = parts.username or ""
        text = text.replace(f"{user}:{parts.password}@", f"{user}:${{{variable}}}@", 1)
    for key, _ in parse_qsl(parts.query):
        value = re.search(rf"(?:^|&){re.escape(key)}=([^&]*)", parts.query)
        if is_secret_name(key) and value and value[1]:
            variable = f"{stem}_{re.sub(r'[^A-Za-z0-9]', '_', key).upper()}"
            variables[variable] = value[1]
            text = text.replace(f"{key}={value[1]}", f"{key}=${{{variable}}}", 1)
    return text, variables


def with_variables(text: str) -> str:
    """Return a text of the command line such that flows.yml reads it as it is."""
    return text.replace("${", "$${")


def connection_name(url: str) -> str:
    """Return a name for the connection of a database: that of the database."""
    path = re.sub(r"[?#].*$", "", url.partition("://")[2])
    name = os.path.splitext(path.rpartition("/")[2])[0]
    return re.sub(r"[^A-Za-z0-9_]+", "_", name).strip("_") or "source"


def flow_name(text: str) -> str:
    """Return a name for a flow or a connection, made of a table's or a file's name."""
    name = re.sub(r"[^\w.\-]+", "_", text).strip("_.-")
    return name[:100] or "flow"
