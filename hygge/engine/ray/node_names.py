"""The names of nodes for people: the address, and a part of the id where two nodes share one."""

from __future__ import annotations

import threading
from collections import Counter

import ray

from hygge.engine.ray import connection

_lock = threading.Lock()
_names: dict[str, str] = {}


def name_node(node: str) -> str:
    """Return the name of the node with this id, also of one that died: `10.0.0.3`."""
    with _lock:
        if node not in _names:
            nodes = ray.nodes()
            nodes_at = Counter(found["NodeManagerAddress"] for found in nodes if found["Alive"])
            for found in nodes:
                address = found["NodeManagerAddress"]
                short = f" ({found['NodeID'][:8]})" if nodes_at[address] > 1 else ""
                _names[found["NodeID"]] = f"{address}{short}"
        return _names.get(node, node[:8]) or "unknown"


def is_one_node() -> bool:
    """Return whether all lanes are on the same node, which then needs no name."""
    return len([node for node in ray.nodes() if node["Alive"]]) < 2


connection.call_before_end(_names.clear)
