"""`consistency`, `on_value`, `schema` and `adopt` of a flow: options of its ends by that name.

Written beside `home:`, they count for every end that supports them, and an option of the end may
not contradict them. Written in `defaults:`, they are overridden by everything else, and ends that
do not support them are left alone. The objects of the databases tell which support them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from hygge.config.document import Node, merge
from hygge.config.ends import Context, End, accepts
from hygge.config.problems import Problem, Problems, suggest
from hygge.config.specs import END_OPTIONS, OF_EVERY_STORE, Side
from hygge.connectors.databases.known import database_of, databases_with, unsupported
from hygge.connectors.sql.database import Database


def set_from_flow(
    ends: Mapping[Side, End],
    node: Node,
    defaults: Node,
    context: Context,
    problems: Problems,
    flow: str,
) -> dict[Side, End]:
    """Return the ends of a flow with the flow's `consistency` and `on_value` in their options.

    `node` is the flow, without the defaults.
    """
    result = dict(ends)
    for key in END_OPTIONS:
        value = node.mapping.get(key)
        if value is None or value.is_broken():
            continue
        with problems.collect(flow):
            check(key, value)
            sides = [
                side
                for side, end in result.items()
                if _supports(end, key, defaults.mapping.get(side), context)
            ]
            if len(result) == 2 and not sides:
                raise _unsupported(key, value, ends, defaults, context)
            for side in sides:
                result[side] = _with_option(result[side], key, value)
    return result


def merge_defaults(end: End, side_default: Node, defaults: Node, context: Context) -> Node:
    """Return the default of a side, over the default `consistency` and `on_value` of all flows."""
    options = {
        key: defaults.mapping[key]
        for key in END_OPTIONS
        if key in defaults.mapping and _supports(end, key, side_default, context)
    }
    if not options:
        return side_default
    line = defaults.line
    return merge(Node({"options": Node(options, line)}, line), side_default)


def check(key: str, node: Node) -> None:
    """Raise Problem for an unknown value; `on_value` may also map columns to values."""
    nodes = list(node.children()) if node.is_mapping and key == "on_value" else [node]
    for value in nodes:
        if value.value not in END_OPTIONS[key] and not value.is_broken():
            words = [str(each).lower() for each in END_OPTIONS[key]]
            hint = suggest(f"{key} is one of", str(value.text), words)
            raise Problem(value.line, f"'{key}' is {value.describe()}", hint)


def _supports(end: End, key: str, side_default: Node | None, context: Context) -> bool:
    """Return whether an end has the option, and its database does what the option says."""
    if not accepts(end, "options", key):
        return False
    database = _database(end, side_default, context)
    return database is None or key in database.heeds or key in OF_EVERY_STORE


def _database(end: End, side_default: Node | None, context: Context) -> Database | None:
    """Return the database of an end; None for other ends, and for a wrong connection."""
    if end.kind != "sql":
        return None
    node = end.node.mapping.get("connection")
    if node is None and side_default is not None:
        node = side_default.mapping.get("connection")
    connection = node.value if node else context.environ.get("HYGGE_DATABASE_URL")
    if not isinstance(connection, str):
        return None
    url = context.connections.get(connection, connection)
    return None if url is None else database_of(url)


def _unsupported(
    key: str, node: Node, ends: Mapping[Side, End], defaults: Node, context: Context
) -> Problem:
    """Return the problem of a key that no end supports; a database among them is the reason."""
    for side, end in ends.items():
        database = _database(end, defaults.mapping.get(side), context)
        if database is not None and accepts(end, "options", key):
            message, hints = unsupported(database, key)
            return Problem(node.line, message, ", or ".join(hints))
    if key == "adopt":
        return Problem(
            node.line,
            "'adopt' is for tables of databases, which the store of this flow is not",
            "take `adopt` out; files that hygge did not write: move them away, or `mode: append`",
        )
    if key in OF_EVERY_STORE:
        return Problem(node.line, f"the store of this flow knows no '{key}'", f"take `{key}` out")
    return Problem(
        node.line,
        f"'{key}' is for tables of {databases_with(key)}, and no end of this flow supports it",
        f"take `{key}` out",
    )


def _with_option(end: End, key: str, node: Node) -> End:
    options = end.node.mapping.get("options")
    if options is not None and not options.is_mapping:
        return end  # which is wrong, and reported elsewhere
    option = options.mapping.get(key) if options is not None else None
    if option is not None:
        if not option.is_broken() and option.plain() != node.plain():
            raise Problem(
                option.line,
                f"'options.{key}' of the {end.side} is {option.describe()}, "
                f"and '{key}' of the flow (line {node.line}) is {node.describe()}",
                "keep one of them",
            )
        return end
    line = options.line if options is not None else node.line
    added = Node({"options": Node({key: node}, line)}, line)
    return replace(end, node=replace(merge(end.node, added), line=end.node.line))
