"""`consistency` and `on_value` of a flow: they are options of those of its ends that have them.

Said beside `home:`, they count for every end that heeds them, and nobody may say otherwise under
`options`. Said in `defaults:`, they lie under everything else, and ends that do not heed them are
left alone. Which databases heed them is asked of the databases.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from hygge.config.document import Node, merge
from hygge.config.ends import End, Surroundings, takes
from hygge.config.problems import Problems, Wrong, meant
from hygge.config.specs import CHOICES, Side
from hygge.connectors.databases.known import database_of, that_heed


def decided(
    ends: Mapping[Side, End],
    own: Node,
    defaults: Node,
    around: Surroundings,
    problems: Problems,
    flow: str,
) -> dict[Side, End]:
    """The ends of a flow with what the flow says for them among their options."""
    made = dict(ends)
    for key in CHOICES:
        node = own.value.get(key)
        if node is None or node.is_broken():
            continue
        with problems.collect(flow):
            check(key, node)
            takers = [
                side
                for side, end in made.items()
                if _heeds(end, key, defaults.value.get(side), around)
            ]
            if len(made) == 2 and not takers:
                raise Wrong(
                    node.line,
                    f"'{key}' is for tables of {that_heed(key)}, and no end of this flow heeds it",
                    f"take '{key}' out",
                )
            for side in takers:
                made[side] = _with(made[side], key, node)
    return made


def beneath(end: End, default: Node, defaults: Node, around: Surroundings) -> Node:
    """The default of a side, with the defaults of `consistency` and `on_value` under it."""
    found = {
        key: defaults.value[key]
        for key in CHOICES
        if key in defaults.value and _heeds(end, key, default, around)
    }
    if not found:
        return default
    return merge(Node({"options": Node(found, defaults.line)}, defaults.line), default)


def check(key: str, node: Node) -> None:
    """Raise Wrong unless it is one of the words, or for `on_value` a mapping of columns to them."""
    each = node.value.values() if node.is_mapping and key == "on_value" else [node]
    for one in each:
        if one.value not in CHOICES[key] and not one.is_broken():
            hint = meant(f"{key} is one of", str(one.text), CHOICES[key])
            raise Wrong(one.line, f"'{key}' is {one.shown()}", hint)


def _heeds(end: End, key: str, default: Node | None, around: Surroundings) -> bool:
    """Whether an end has such an option, and does what it says."""
    if not takes(end, "options", key) or end.kind != "sql":
        return takes(end, "options", key)
    node = end.own.value.get("connection") or (default and default.value.get("connection"))
    given = node.value if node else around.environ.get("HYGGE_DATABASE_URL")
    url = around.connections.get(given, given) if isinstance(given, str) else None
    if url is None:  # which is wrong, and said elsewhere
        return True
    return key in database_of(url).heeds


def _with(end: End, key: str, node: Node) -> End:
    options = end.own.value.get("options")
    if options is not None and not options.is_mapping:
        return end  # which is wrong, and said elsewhere
    given = options.value.get(key) if options is not None else None
    if given is not None:
        if not given.is_broken() and given.plain() != node.plain():
            raise Wrong(
                given.line,
                f"'options.{key}' of the {end.side} is {given.shown()}, and '{key}' of the flow "
                f"(line {node.line}) is {node.shown()}",
                "say it once",
            )
        return end
    line = options.line if options is not None else node.line
    chosen = Node({"options": Node({key: node}, line)}, line)
    return replace(end, own=replace(merge(end.own, chosen), line=end.own.line))
