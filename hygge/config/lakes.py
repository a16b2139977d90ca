"""Catalogs of Iceberg among the `connections:` of a file, and the ends that are on them.

    connections:
      lake: {type: iceberg, catalog: {uri: "http://catalog:8181", warehouse: "s3://warehouse/"}}
    flows:
      a: {home: data/lines, store: lake#sales.lines}

The keys of `catalog` are those of pyiceberg. Paths among them are relative to the root of the file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from hygge.config import paths
from hygge.config.document import Node
from hygge.config.problems import Problem, Problems, suggest
from hygge.config.specs import Side
from hygge.connectors.iceberg.lake import checked_catalog
from hygge.errors import ConfigError

KIND = "iceberg"
_KEYS = ("type", "catalog")
_EXAMPLE = '{type: iceberg, catalog: {uri: "http://catalog:8181", warehouse: "s3://warehouse/"}}'


def is_lake(node: Node) -> bool:
    """Return whether a connection is a catalog: it has `type` or `catalog`, as no other has."""
    return any(key in node.mapping for key in _KEYS)


def read(name: str, node: Node, root: str, problems: Problems) -> Node:
    """Return the node of the catalog of a connection."""
    keys = node.mapping
    for key, value in keys.items():
        if key not in _KEYS:
            message = f"connection '{name}' does not know '{key}'"
            problems.add(value.line, message, suggest("of a catalog it knows", key, _KEYS))
    kind = keys.get("type")
    if kind is None or kind.value != KIND:
        said = "no 'type'" if kind is None else f"'type' {kind.describe()}"
        raise Problem(node.line, f"connection '{name}' has {said}", f"{name}: {_EXAMPLE}")
    catalog = keys.get("catalog")
    if catalog is None or not catalog.is_mapping:
        raise Problem(node.line, f"connection '{name}' needs 'catalog'", f"{name}: {_EXAMPLE}")
    if not catalog.is_broken():
        absolute(catalog.plain(), root, catalog.line, f"connection '{name}'")
    return catalog


def absolute(catalog: Any, root: str, line: int, who: str) -> dict[str, str]:
    """Return the settings of a catalog with absolute paths; raise Problem for wrong ones."""
    try:
        return checked_catalog(catalog, who, root)
    except ConfigError as error:
        raise Problem(line, error.message, error.hint) from error


def set_places(settings: dict[str, Any], nodes: Mapping[str, Node], root: str, side: Side) -> None:
    """Make the places among the settings of an end absolute: its catalog's, its folder.

    Raises Problem for a store that would be deleted with a Ray job.
    """
    if isinstance(settings.get("catalog"), dict):
        node = nodes["catalog"]
        settings["catalog"] = absolute(settings["catalog"], root, node.line, side)
        for key in ("uri", "warehouse"):
            paths.refuse_shipped_store(side, node, settings["catalog"].get(key, ""))
    if isinstance(settings.get("path"), str):
        settings["path"] = paths.absolute(settings["path"], root, nodes["path"].line)


def with_catalog(side: Side, end: Node, lakes: Mapping[str, Node | None]) -> Node:
    """Return an end with the catalog that its `connection` names, where that is one."""
    keys = end.mapping
    node = keys.get("connection")
    name = node.value if node is not None else None
    if node is None or not isinstance(name, str) or name not in lakes:
        return end
    kind = keys.get("type")
    if kind is not None and kind.value != KIND:
        message = f"'{name}' is a catalog of Iceberg, and 'type' is {kind.describe()}"
        raise Problem(kind.line, message, f"take `type` out, or write `type: {KIND}`")
    for key in ("path", "query", "tables"):
        if key in keys and (key, side) != ("tables", "home"):
            message = f"'{name}' is a catalog of Iceberg, and '{side}' names a '{key}' of it"
            raise Problem(keys[key].line, message, f"{side}: {name}#namespace.table")
    catalog = lakes[name] or Node({}, node.line, broken=True)
    rest = {key: value for key, value in keys.items() if key != "connection"}
    return replace(end, value={"type": Node(KIND, node.line, KIND), **rest, "catalog": catalog})
