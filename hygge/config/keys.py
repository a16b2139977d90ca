"""Unknown and misplaced keys of a file, with the place where they belong."""

from __future__ import annotations

from collections.abc import Mapping

from hygge.config.document import Node
from hygge.config.problems import Problems, suggest
from hygge.config.specs import FLOW_KEYS, TOP_KEYS


def check_top_keys(nodes: Mapping[str, Node], problems: Problems) -> None:
    """Report unknown keys at the top of the file."""
    for key, node in nodes.items():
        if key not in TOP_KEYS:
            hint = suggest("top-level keys", key, TOP_KEYS)
            if {"home", "store"} & set(node.mapping):
                hint = f"a flow stands under `flows:`, as `flows: {{{key}: …}}`"
            elif key in FLOW_KEYS:
                hint = f"'{key}' belongs to a flow, or under `defaults:`"
            problems.add(node.line, f"'{key}' is not a key of this file", hint)


def check_misplaced_keys(flows: Node, problems: Problems) -> set[str]:
    """Report keys of a flow that are not indented under its name; return what was reported.

    The flow itself is then empty, and stands before them.
    """
    misplaced: list[str] = []
    owner, before = "", ""
    for name, node in flows.mapping.items():
        if name in FLOW_KEYS and not set(FLOW_KEYS) & set(node.mapping):
            if not misplaced and before and flows.mapping[before].value is None:
                owner = before
            misplaced.append(name)
        before = name
    if misplaced:
        message = f"'{misplaced[0]}' is a key of a flow, and stands in the place of a flow's name"
        if len(misplaced) > 1:
            names = ", ".join(f"'{name}'" for name in misplaced)
            message = f"{names} are keys of a flow, and stand in the place of a flow's name"
        example = f"{owner or 'users'}: {{home: …, store: …}}"
        hint = f"the keys of a flow stand indented under its name:  {example}"
        problems.add(flows.mapping[misplaced[0]].line, message, hint)
    return {name for name in (owner, *misplaced) if name}
