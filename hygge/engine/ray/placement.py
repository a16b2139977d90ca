"""Where lanes run: what a lane takes of its node, how many lanes there are, and on which nodes.

A lane is a placement group of one bundle. Ray by itself puts each on the node with the most free
CPUs, so all lanes of a flow would run on the largest node while the others are idle. `Spread` asks
for the node that is filled least instead, softly: where that has no room any more, Ray takes
another. A lane for which no node has room waits, and a cluster with an autoscaler then grows.
"""

from __future__ import annotations

import math
import random
import uuid
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, TypedDict

import ray
from ray.util.placement_group import PlacementGroup, placement_group, placement_group_table

from hygge.engine.ray import alive, connection, left
from hygge.errors import ConfigError
from hygge.model import MIB, Limits
from hygge.report.progress import resources_text
from hygge.run.engines import MoveRequest

_STORE_SHARE = 0.6
"""The part of a node's object store that the lanes on it may fill."""
_EPSILON = 1e-6
_MOST_ASKED = 24
"""Placement groups whose state is asked for at a time."""


class Bound(NamedTuple):
    """A number of lanes, and what allows no more, for people; "": the splits, or `lanes`."""

    lanes: int
    by: str = ""


class Node(TypedDict):
    """The part of `ray.nodes()` that is used here."""

    NodeID: str
    NodeManagerAddress: str
    Alive: bool
    Resources: dict[str, float]
    Labels: dict[str, str]


def lane_resources(limits: Limits) -> dict[str, float]:
    """Return what a lane takes of its node: CPUs, and the resources that the flow names."""
    return {"CPU": limits.cpus_per_lane or 1.0, **limits.resources}


def divide_cpus(cpus: float) -> tuple[float, float]:
    """Return the CPUs of each end of a lane, and of its Inbox, which only passes references on.

    Ray counts in ten-thousandths. Together they never exceed the bundle; otherwise the last actor
    would wait for ever.
    """
    end = math.floor(cpus * 4500 + _EPSILON) / 10_000
    return end, round(cpus - 2 * end, 4)


def list_nodes(limits: Limits) -> list[Node]:
    """Return the living nodes where a lane may run, whether they have room now or not."""
    return [node for node in _living_nodes() if _is_suitable(node, limits)]


def describe_left(limits: Limits) -> list[str]:
    """Return a sentence for people on each node where a lane might run and which is left."""
    return [
        left.describe(node["NodeID"])
        for node in _nodes()
        if left.is_left(node["NodeID"]) and _is_suitable(node, limits)
    ]


_own: list[Node] = []
"""The node of a private Ray, once it was asked for: 200 small tables would ask 2,000 times."""
connection.call_before_end(_own.clear)


def _nodes() -> list[Node]:
    if not connection.is_private():
        nodes: list[Node] = ray.nodes()
        return nodes
    if not _own:
        _own[:] = ray.nodes()
    return _own


def _living_nodes() -> list[Node]:
    return [node for node in _nodes() if node["Alive"] and not left.is_left(node["NodeID"])]


def _is_suitable(node: Node, limits: Limits) -> bool:
    return all(
        _is_selected(node["Labels"], name, selector)
        for name, selector in limits.label_selector.items()
    ) and all(
        node["Resources"].get(name, 0) + _EPSILON >= amount
        for name, amount in lane_resources(limits).items()
    )


def _is_selected(labels: Mapping[str, str], name: str, selector: str) -> bool:
    values = selector.removeprefix("!").removeprefix("in(").removesuffix(")").split(",")
    is_listed = labels.get(name) in [value.strip() for value in values]
    return is_listed != selector.startswith("!")


class Spread:
    """Chooses the node of each new lane; `existing`: (node, limits) of this process's lanes."""

    def __init__(self, limits: Limits, existing: Iterable[tuple[str, Limits]]) -> None:
        self.limits, self.needs = limits, lane_resources(limits)
        self.nodes = {node["NodeID"]: node["Resources"] for node in list_nodes(limits)}
        self.lanes: Counter[str] = Counter()
        self.charged: Counter[str] = Counter()
        self.used: dict[str, dict[str, float]] = {
            node: dict.fromkeys(self.needs, 0.0) for node in self.nodes
        }
        for node, lane_limits in existing:
            if node in self.nodes:
                self._count_lane(node, lane_limits)
        # What other processes use; what was asked for just now is not counted there yet.
        for node, free in _read_free_resources().items():
            if node in self.nodes:
                total, used = self.nodes[node], self.used[node]
                for key in self.needs:
                    used[key] = max(used[key], total.get(key, 0) - free.get(key, 0))

    def _count_lane(self, node: str, limits: Limits) -> None:
        for key, amount in lane_resources(limits).items():
            self.used[node][key] = self.used[node].get(key, 0.0) + amount
        self.lanes[node] += 1
        self.charged[node] += limits.memory_per_lane

    def place_next(self, label: str) -> tuple[PlacementGroup, str]:
        """Return a new placement group and the node it was asked for, "" if any node will do."""
        with_room = [
            node
            for node, total in self.nodes.items()
            if all(
                self.used[node][key] + amount <= total[key] + _EPSILON
                for key, amount in self.needs.items()
            )
        ]
        node = min(with_room, key=self._rank, default="")
        if node:
            self._count_lane(node, self.limits)
        wanted = self.limits.label_selector.items()
        # Ray takes a blank behind a comma for a part of the value.
        selector = left.avoid_left({name: text.replace(" ", "") for name, text in wanted})
        group = placement_group(
            [self.needs],
            strategy="STRICT_PACK",  # for one bundle it changes nothing; only it takes a node
            name=f"{label} {uuid.uuid4().hex[:6]}",  # Ray refuses a name that exists
            bundle_label_selector=[selector] if selector else None,
            _soft_target_node_id=node or None,
        )
        return group, node

    def _rank(self, node: str) -> tuple[bool, float, int, float]:
        """Return how full a node would be with one lane more; the lowest is chosen."""
        total = self.nodes[node]
        memory = self.charged[node] + self.limits.memory_per_lane
        most = max(
            (self.used[node][key] + amount) / total[key] for key, amount in self.needs.items()
        )
        return (
            memory > total.get("object_store_memory", memory) * _STORE_SHARE,
            round(most, 6),
            self.lanes[node],
            random.random(),  # otherwise flows that are separate jobs all begin with one node
        )


def _read_free_resources() -> dict[str, dict[str, float]]:
    """Return node → what is free of it; Ray has no public function for that."""
    try:
        from ray._private.state import available_resources_per_node
    except ImportError:
        return {}
    free: dict[str, dict[str, float]] = available_resources_per_node()
    return free


def has_room(limits: Limits, existing: Iterable[Limits]) -> bool:
    """Return whether the cluster has room for one lane more than this process has already."""
    total, taken = Counter[str](), Counter[str]()
    for node in _living_nodes():
        total.update(node["Resources"])
    for lane_limits in existing:
        taken.update(lane_resources(lane_limits))
    return not taken or all(
        taken[key] + amount <= total.get(key, 0) + _EPSILON
        for key, amount in lane_resources(limits).items()
    )


def count_lanes(move: MoveRequest, reserved: int = 0, grows: bool = False) -> Bound:
    """Return how many lanes a move gets, by its splits, CPUs, connectors and object stores.

    `reserved`: bytes that the lanes of other flows of this process may charge. One lane is given in
    any case: flows that wait for each other's memory would be slower than Ray's own spilling.
    `grows`: an autoscaler brings nodes, with object stores, for lanes beyond today's CPUs.
    Raises ConfigError for limits that contradict each other or that no node meets.
    """
    limits = move.limits
    if limits.batch_bytes > limits.memory_per_lane:
        raise ConfigError(
            f"batch_bytes ({limits.batch_bytes // MIB} MiB) is more than memory_per_lane "
            f"({limits.memory_per_lane // MIB} MiB)",
            "lower batch_bytes or raise memory_per_lane",
        )
    nodes = list_nodes(limits)
    stores = [node["Resources"].get("object_store_memory", 0) for node in nodes]
    rooms = [int(size * _STORE_SHARE) for size in stores if size]
    if rooms and limits.memory_per_lane > max(rooms):
        raise ConfigError(
            f"memory_per_lane is {limits.memory_per_lane // MIB} MiB, but 60 % of Ray's object "
            f"store is {max(rooms) // MIB} MiB",
            "lower memory_per_lane, or give Ray a larger object store",
        )
    bounds = [Bound(len(move.splits)), *lane_bounds(limits, grows)]
    for end, most in (
        ("home", move.home.traits.max_lanes),
        ("store", move.store.traits.max_lanes),
    ):
        if most:
            bounds.append(Bound(most, f"the {end}"))
    if rooms:
        fitting = int(sum(room // limits.memory_per_lane for room in rooms) * limits.store_share)
        later = max(0, (limits.lanes or 0) - _count_places(limits, nodes).lanes) if grows else 0
        others = -(-reserved // limits.memory_per_lane)
        bounds.append(Bound(max(1, fitting - others + later), "Ray's object store"))
    return min(bounds, key=lambda bound: bound.lanes)  # of equal ones the first


def lane_bounds(limits: Limits, grows: bool) -> list[Bound]:
    """Return the upper bounds of a flow's lanes that are known before its splits are.

    Raises ConfigError where no node is what a lane needs, and no other one will come.
    """
    nodes = list_nodes(limits)
    if not nodes and not grows:
        alive.check_alive()
        raise _no_such_node(limits)
    places = _count_places(limits, nodes)
    if limits.lanes is not None:
        bounds = [Bound(limits.lanes)] if grows else [Bound(limits.lanes), places]
    elif limits.cpus_per_lane is not None:
        bounds = [places]
    else:  # a lane keeps two processes busy, its Home and its Store
        cpus = sum(node["Resources"].get("CPU", 0) for node in nodes)
        bounds = [Bound(int(cpus // 2), "CPUs"), places]
    if limits.most_lanes is not None:
        bounds.append(Bound(limits.most_lanes, "max_connections"))
    return [bound._replace(lanes=max(1, bound.lanes)) for bound in bounds]


def bound_by_nodes(limits: Limits, lanes: int) -> str:
    """Return what today's nodes have only for so many lanes, for people; "" where it is more."""
    places = _count_places(limits, list_nodes(limits))
    return places.by if places.lanes <= lanes else ""


def _no_such_node(limits: Limits) -> ConfigError:
    has = "; ".join(sorted(describe_node(node) for node in ray.nodes() if node["Alive"]))
    return ConfigError(
        f"a lane needs {resources_text(limits)}, and hygge's own Ray on this machine has {has}",
        "ask less with `cpus_per_lane`, `resources` and `label_selector`, or run it on a cluster "
        "whose nodes have that",
    )


def describe_node(node: Node) -> str:
    """Return what a lane may ask of a node, in words."""
    resources = {
        name: amount
        for name, amount in node["Resources"].items()
        if not name.startswith(("node:", "object_"))
    }
    labels = {name: text for name, text in node["Labels"].items() if not name.startswith("ray.io/")}
    cpus = resources.pop("CPU", 0.0) or 1e-9  # `None` would mean one
    text = resources_text(Limits(cpus_per_lane=cpus, resources=resources, label_selector=labels))
    return text.replace(" on nodes with ", " and the labels ")


def _count_places(limits: Limits, nodes: Iterable[Node]) -> Bound:
    """Return how many lanes these nodes would have room for if they were empty."""
    needs, places, short = lane_resources(limits), 0, Counter[str]()
    for node in nodes:
        room = {
            name: int(node["Resources"][name] / amount + _EPSILON) for name, amount in needs.items()
        }
        scarce = min(room, key=lambda name: room[name])
        places += room[scarce]
        short[scarce] += 1
    name = max(short, key=lambda name: short[name], default="CPU")
    return Bound(places, "CPUs" if name == "CPU" else name)


def describe_pending(limits: Limits, groups: Sequence[PlacementGroup]) -> str:
    """Return what these placement groups wait for, in words; "" where each has its node."""
    alive.check_alive()  # otherwise the call below may wait for ever
    # The groups behind were asked for later. Asking for all at once would list the whole cluster.
    missing = sum(
        placement_group_table(group).get("state") != "CREATED" for group in groups[:_MOST_ASKED]
    )
    if not missing:
        return ""
    missing += max(0, len(groups) - _MOST_ASKED)
    if list_nodes(limits):
        return resources_text(limits, missing)
    return describe_missing_node(limits)


def describe_missing_node(limits: Limits) -> str:
    """Return what a lane needs and no node of today has, in words."""
    return f"{resources_text(limits)} for each lane, and this cluster has no such node"
