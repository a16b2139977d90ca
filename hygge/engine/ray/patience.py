"""How long a flow waits for a node that has what its lanes need: `wait_at_most`.

Nodes that fit and are busy are waited for as long as it takes. Where no node fits, only an
autoscaler can bring one, so that a cluster without one is waited for only shortly.
"""

from __future__ import annotations

import json
import re
import time
from collections import Counter
from collections.abc import Collection

import ray

from hygge.engine.ray.node_names import name_node
from hygge.engine.ray.placement import Node, describe_node, list_nodes
from hygge.errors import ConfigError
from hygge.model import Limits
from hygge.report.progress import amounts_text, resources_text

GROWING_S, FIXED_S = 1800.0, 60.0
"""The default of `wait_at_most` in seconds: on a cluster that may grow, and on one that cannot."""
_SHOWN = 6
"""Kinds of nodes that an error shows."""


class Patience:
    """Waits for a node that fits; `check` is called again and again while a flow waits."""

    what = "a lane"
    hint = (
        "ask less with `cpus_per_lane`, `resources` and `label_selector`, add a node that has "
        "it, or wait longer: `wait_at_most: 2h`"
    )

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.since: float | None = None

    def check(self) -> None:
        """Raise ConfigError where no node has fitted for longer than `wait_at_most`."""
        now = time.monotonic()
        if self._fits_a_node():
            self.since = None
            return
        if self.since is None:
            self.since = now
        most_s = self.limits.wait_at_most_s
        if most_s is None:
            most_s = GROWING_S if may_grow() else FIXED_S
        if now - self.since < most_s:
            return
        alive = [node for node in ray.nodes() if node["Alive"]]
        kinds = Counter(describe_node(node) for node in alive if node["Resources"].get("CPU"))
        has = [f"{count} × {kind}" for kind, count in kinds.most_common(_SHOWN)]
        has += [f"{len(kinds) - _SHOWN} other kinds"] if len(kinds) > _SHOWN else []
        raise ConfigError(
            f"no node came that has what {self.what} needs, {self._wanted()}, within "
            f"{most_s:.0f} s; the nodes have {'; '.join(has) or 'no CPUs'}{self._left_text()}",
            self.hint,
        )

    def _fits_a_node(self) -> bool:
        return bool(list_nodes(self.limits))

    def _wanted(self) -> str:
        return resources_text(self.limits)

    def _left_text(self) -> str:
        return ""


class DriverPatience(Patience):
    """Waits likewise for a node that has what the Ray job of a flow takes.

    `left`: ids of nodes that are avoided, since drivers of the flow died there.
    """

    what = "the driver of the flow"
    hint = (
        "ask less with `driver`, add a node that has it, or wait longer: `wait_at_most: 2h`; "
        "without `driver` it is placed on the head"
    )

    def __init__(self, limits: Limits, left: Collection[str] = ()) -> None:
        super().__init__(limits)
        self.left = left

    def _fits_a_node(self) -> bool:
        return any(node["NodeID"] not in self.left for node in list_driver_nodes(self.limits))

    def _wanted(self) -> str:
        return amounts_text(self.limits.driver)

    def _left_text(self) -> str:
        names = ", ".join(name_node(node) for node in self.left)
        return f"; node {names} was left, as the driver died there" if names else ""


def list_driver_nodes(limits: Limits) -> list[Node]:
    """Return the living nodes that have what the driver of a flow takes, free or not."""
    return [
        node
        for node in ray.nodes()
        if node["Alive"]
        and all(node["Resources"].get(name, 0) >= n for name, n in limits.driver.items())
    ]


def may_grow() -> bool:
    """Return whether an autoscaler may bring nodes; it leaves its configuration with Ray."""
    from ray._private.state import state

    try:
        if state.get_cluster_config() is not None:
            return True
        told = ray.experimental.internal_kv._internal_kv_get("__autoscaling_status")
        kinds = json.loads(told or "{}").get("autoscaler_report", {}).get("active_nodes", {})
    except (AttributeError, ImportError, ValueError):
        return True  # another version of Ray: wait longer rather than too shortly
    # Without a configuration, Ray's monitor names a kind for each node.
    return any(not re.fullmatch(r"node_[0-9a-f]+", kind) for kind in kinds)
