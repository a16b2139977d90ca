"""The nodes that the next driver of a flow avoids, because earlier drivers of the flow died there.

With `driver:` a flow lets Ray place its job on any node that has what the driver takes. Of two such
nodes Ray may choose the same one for each try, for example one whose disk is full. A node is left
at once where a driver died before hygge said anything, and otherwise where two drivers died. It is
left only while another living node has what the driver takes. A Ray whose jobs API takes no label
selector (2.52) cannot avoid nodes.
"""

from __future__ import annotations

import inspect
from collections import Counter

import ray

from hygge.engine.jobs.client import JobClient
from hygge.engine.jobs.outcome import Outcome
from hygge.engine.ray.left import NODE_ID
from hygge.engine.ray.node_names import name_node
from hygge.engine.ray.patience import list_driver_nodes
from hygge.model import Limits

_MOST_DEATHS = 2
"""Deaths on a node after which it is left."""
_SELECTOR = "entrypoint_label_selector"
"""The argument of Ray's `submit_job` that selects nodes."""


class DriverNodes:
    """Counts the drivers of one flow that died, by node."""

    def __init__(self, client: JobClient, limits: Limits) -> None:
        self.limits = limits
        # Without `driver`, Ray places each driver on the head.
        self._can_avoid = bool(limits.driver) and _takes_selector(client)
        self._deaths: Counter[str] = Counter()

    def note_death(self, outcome: Outcome) -> None:
        """Count the death of a driver on the node where Ray had placed it."""
        if self._can_avoid:
            for node in _find_nodes(outcome.ended.node):
                self._deaths[node] += 1 if outcome.has_begun else _MOST_DEATHS

    def list_left(self) -> list[str]:
        """Return the ids of the nodes that the next driver avoids."""
        left = {node for node, deaths in self._deaths.items() if deaths >= _MOST_DEATHS}
        if not left:
            return []
        able = {node["NodeID"] for node in list_driver_nodes(self.limits)}
        return sorted(left & able) if able - left else []


def make_selector(left: list[str]) -> dict[str, str]:
    """Return the label selector of a job that avoids these nodes; {} for none."""
    return {NODE_ID: f"!in({','.join(left)})"} if left else {}


def describe_left(left: list[str]) -> str:
    """Return the end of a sentence for people on a driver that avoids these nodes; "" for none."""
    names = ", ".join(name_node(node) for node in left)
    return f", not on node {names}" if left else ""


def _takes_selector(client: JobClient) -> bool:
    return _SELECTOR in inspect.signature(client.submit_job).parameters


def _find_nodes(name: str) -> list[str]:
    """Return the ids of the nodes that Ray calls by this id or address."""
    if not name:
        return []
    return [
        node["NodeID"]
        for node in ray.nodes()
        if name in (node["NodeID"], node["NodeManagerAddress"])
    ]
