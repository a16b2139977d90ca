"""The shape of a flow's rows: keys of its home that choose columns, and keys of the flow itself.

    home: {path: data/users.csv, columns: [id, {name: e_mail, as: email}]}

A class keeps the keys that it knows itself, such as a plain list of `columns`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from hygge.config import connectors
from hygge.config.document import Node
from hygge.config.ends import End
from hygge.config.environment import Environment
from hygge.config.problems import Problem, Problems
from hygge.errors import ConfigError
from hygge.shape.settings import KEY_VARIABLE, Shape

COLUMNS_OF_ONE_TABLE = "exclude columns"
"""`exclude` of a table of `tables:`; that of their home leaves out tables."""
_HOME_KEYS = {
    "columns": "columns",
    "exclude": "exclude",
    "where": "where",
    COLUMNS_OF_ONE_TABLE: "exclude",
}
_FLOW_KEYS = ("mask", "add", "names", "flatten", "transform")


def take_shape(home: End) -> tuple[End, dict[str, Node]]:
    """Return a home without the keys that make a shape, and those keys."""
    known = connectors.keys_of(home.cls)
    if known is None:
        return home, {}  # a class that takes any key
    taken = {}
    for key, name in _HOME_KEYS.items():
        node = home.node.mapping.get(key)
        if node is None or (key in known and not _has_more_than_names(home, key, node)):
            continue
        taken[name] = node
    if taken and "columns" in home.node.mapping and home.cls.__module__.startswith("hygge."):
        taken["columns"] = home.node.mapping["columns"]
    if not taken:
        return home, {}
    gone = {key for key, name in _HOME_KEYS.items() if name in taken}
    rest = {key: node for key, node in home.node.mapping.items() if key not in gone}
    return replace(home, node=Node(rest, home.node.line)), taken


def _has_more_than_names(home: End, key: str, node: Node) -> bool:
    """Return whether `columns` of a class of hygge renames a column, or states its type."""
    is_ours = home.cls.__module__.startswith("hygge.")
    return is_ours and key == "columns" and any(item.is_mapping for item in node.elements)


def read_shape(
    taken: Mapping[str, Node],
    full: Mapping[str, Node],
    is_of_many: bool,
    required: tuple[str, ...],
    environment: Environment,
    problems: Problems,
    flow: str,
    folder: str,
) -> Shape | None:
    """Return the shape of a flow; None where no key of it is given, or one is wrong.

    `full` is the flow with its defaults; `required` are columns that one table of many must have;
    in `folder` the module of a `transform` is looked for.
    """
    nodes = {**taken, **{key: full[key] for key in _FLOW_KEYS if key in full}}
    if not nodes or any(node.is_broken() for node in nodes.values()):
        return None
    given: dict[str, Any] = {key: node.plain() for key, node in nodes.items()}
    if "mask" in given and KEY_VARIABLE in environment.values:
        # A Ray job of the flow must have the same key: it is compared as that of any ${VAR}.
        given["mask_key"] = environment.used[KEY_VARIABLE] = environment.values[KEY_VARIABLE]
    if "transform" in given:
        connectors.look_in(folder)
    with problems.collect(flow):
        try:
            return Shape.read(
                f"flow '{flow}'", {**given, "is_of_many": is_of_many, "required": required}
            )
        except ConfigError as error:
            line = next((n.line for key, n in nodes.items() if f"'{key}" in error.message), 0)
            line = line or next(iter(nodes.values())).line
            raise Problem(
                line, error.message.removeprefix(f"flow '{flow}': "), error.hint
            ) from None
    return None
