"""The nodes that are left: no lane of this process is made there any more.

The faults of a move (`faults`) and the check of the nodes before it (`nodes`) decide which. All
flows of the process avoid such a node; a flow that begins ten minutes later tries it again.
"""

from __future__ import annotations

import time

from hygge.engine.ray import connection
from hygge.engine.ray.node_names import name_node

NODE_ID = "ray.io/node-id"
"""The label with which Ray itself marks each node."""
_LEFT_S = 600.0
_left: dict[str, tuple[str, float]] = {}
"""Node → why it is left, and since when."""

connection.call_before_end(_left.clear)


def leave(node: str, why: str) -> None:
    """Make no lane on this node from now on."""
    _left[node] = (why, time.monotonic())


def is_left(node: str) -> bool:
    """Return whether no lane is made on this node any more."""
    return node in _left


def forget_old() -> None:
    """Try nodes again that were left more than ten minutes ago; before a flow begins."""
    for node, (_, since) in list(_left.items()):
        if time.monotonic() - since > _LEFT_S:
            _left.pop(node, None)


def avoid_left(selector: dict[str, str]) -> dict[str, str]:
    """Return a label selector that selects no node that is left."""
    if not _left or NODE_ID in selector:
        return selector
    return {**selector, NODE_ID: f"!in({','.join(sorted(_left))})"}


def describe(node: str) -> str:
    """Return a sentence for people on a node that is left."""
    return f"node {name_node(node)} was left, and its splits went elsewhere: {_left[node][0]}"


def take_back(node: str) -> None:
    """Let lanes run on this node again."""
    _left.pop(node, None)
