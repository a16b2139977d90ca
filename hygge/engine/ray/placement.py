"""Where lanes run: what a lane takes of its node, how many there are, and on which node the next.

A lane is a placement group of one bundle. Left to itself, Ray puts each on the node with the most
free CPUs, so that all lanes of a flow come to the largest node while the others are idle. Here the
node that is filled least is asked for, softly: where it has no room any more, Ray takes another.
A lane for which no node has room waits, and so tells a cluster that can grow to do so.
"""

from __future__ import annotations

import math
import random
import uuid
from collections import Counter
from collections.abc import Iterable
from typing import Any

import ray
from ray.util.placement_group import placement_group, placement_group_table

from hygge.engine.jobs.instructions import told
from hygge.errors import ConfigError
from hygge.model import MIB, Limits
from hygge.report.progress import wanted
from hygge.run.engines import Move

_STORE_SHARE = 0.6
"""Of a node's object store that the lanes on it may charge."""
_EPSILON = 1e-6
_ASKED = 24


def bundle(limits: Limits) -> dict[str, float]:
    """What a lane takes of its node."""
    return {"CPU": limits.cpus_per_lane or 1.0, **limits.resources}


def parts(cpus: float) -> tuple[float, float]:
    """What of a lane's CPUs each of its ends takes, and its Inbox.

    Ray counts in ten-thousandths: together they are never more than the bundle, or the last of them
    would wait for ever. The Inbox only passes references on.
    """
    end = math.floor(cpus * 4500 + _EPSILON) / 10_000
    return end, round(cpus - 2 * end, 4)


def nodes(limits: Limits) -> list[dict[str, Any]]:
    """The living nodes where a lane may run, whether there is room at the moment or not."""
    return [
        node
        for node in ray.nodes()
        if node["Alive"]
        and all(_is_selected(node["Labels"], *each) for each in limits.label_selector.items())
        and all(node["Resources"].get(k, 0) + _EPSILON >= n for k, n in bundle(limits).items())
    ]


def _is_selected(labels: dict[str, str], name: str, selector: str) -> bool:
    words = selector.removeprefix("!").removeprefix("in(").removesuffix(")").split(",")
    return (labels.get(name) in [word.strip() for word in words]) != selector.startswith("!")


class Spread:
    """Gives each new lane its bundle; `there`: (node, limits) of lanes of this process."""

    def __init__(self, limits: Limits, there: Iterable[tuple[str, Limits]]) -> None:
        self.limits, self.needs = limits, bundle(limits)
        self.nodes = {node["NodeID"]: node["Resources"] for node in nodes(limits)}
        self.lanes: Counter[str] = Counter()
        self.charged: Counter[str] = Counter()
        self.used: dict[str, Counter[str]] = {name: Counter() for name in self.nodes}
        for name, theirs in there:
            if name in self.nodes:
                self._note(name, theirs)
        # Others', too; what was asked for just now is not in it yet.
        for name, free in _free_of_each().items():
            if name in self.nodes:
                total, used = self.nodes[name], self.used[name]
                for key in self.needs:
                    used[key] = max(used[key], total.get(key, 0) - free.get(key, 0))

    def _note(self, name: str, limits: Limits) -> None:
        self.used[name].update(bundle(limits))
        self.lanes[name] += 1
        self.charged[name] += limits.memory_per_lane

    def next(self, name: str) -> tuple[Any, str]:
        """A placement group, and the node that it was asked for, or "" if any will do."""
        with_room = [
            each
            for each, total in self.nodes.items()
            if all(
                self.used[each][key] + amount <= total[key] + _EPSILON
                for key, amount in self.needs.items()
            )
        ]
        node = min(with_room, key=self._filled, default="")
        if node:
            self._note(node, self.limits)
        selector = dict(self.limits.label_selector)
        group = placement_group(
            [self.needs],
            strategy="STRICT_PACK",  # of one bundle; the only one that takes a node
            name=f"{name} {uuid.uuid4().hex[:6]}",  # Ray refuses a second of a name
            bundle_label_selector=[selector] if selector else None,
            _soft_target_node_id=node or None,
        )
        return group, node

    def _filled(self, name: str) -> tuple[bool, float, int, float]:
        total = self.nodes[name]
        memory = self.charged[name] + self.limits.memory_per_lane
        most = max(
            (self.used[name][key] + amount) / total[key] for key, amount in self.needs.items()
        )
        return (
            memory > total.get("object_store_memory", memory) * _STORE_SHARE,
            round(most, 6),
            self.lanes[name],
            random.random(),  # flows that are jobs of their own do not all begin with the same
        )


def _free_of_each() -> dict[str, dict[str, float]]:
    """Node → what of it is free; Ray has no public word for it."""
    try:
        from ray._private.state import available_resources_per_node
    except ImportError:
        return {}
    found: dict[str, dict[str, float]] = available_resources_per_node()
    return found


def has_room(limits: Limits, there: Iterable[Limits]) -> bool:
    """Whether the cluster has, beside lanes of this process, what one more takes."""
    total, taken = ray.cluster_resources(), Counter[str]()
    for each in there:
        taken.update(bundle(each))
    return not taken or all(
        taken[key] + amount <= total.get(key, 0) + _EPSILON
        for key, amount in bundle(limits).items()
    )


def how_many_lanes(move: Move, reserved: int = 0, grows: bool = False) -> int:
    """As many as there are splits, CPUs, and as the connectors and the object stores allow.

    `reserved`: bytes that the lanes of other flows of this process may charge. One lane is given in
    any case: flows that wait for each other's memory would be slower than Ray's own spilling.
    `grows`: lanes beyond the CPUs of today will have nodes of their own, and object stores.
    """
    limits = move.limits
    if limits.batch_bytes > limits.memory_per_lane:
        raise ConfigError(
            f"batch_bytes ({limits.batch_bytes // MIB} MiB) is more than memory_per_lane "
            f"({limits.memory_per_lane // MIB} MiB)",
            "lower batch_bytes or raise memory_per_lane",
        )
    there = nodes(limits)
    stores = [node["Resources"].get("object_store_memory", 0) for node in there]
    rooms = [int(size * _STORE_SHARE) for size in stores if size]
    if rooms and limits.memory_per_lane > max(rooms):
        raise ConfigError(
            f"memory_per_lane is {limits.memory_per_lane // MIB} MiB, but 60 % of Ray's object "
            f"store is {max(rooms) // MIB} MiB",
            "lower memory_per_lane, or give Ray a larger object store",
        )
    most = [*wanted_lanes(limits, grows), len(move.splits)]
    most += [each for each in (move.home.traits.max_lanes, move.store.traits.max_lanes) if each]
    if rooms:
        fit = int(sum(room // limits.memory_per_lane for room in rooms) * told().store_share)
        later = max(0, (limits.lanes or 0) - _places(limits, there)) if grows else 0
        most.append(fit - -(-reserved // limits.memory_per_lane) + later)
    return max(1, min(most))


def wanted_lanes(limits: Limits, grows: bool) -> list[int]:
    """Bounds that are known before the splits are.

    Raises ConfigError where no node is what a lane needs, and no other one will come.
    """
    there = nodes(limits)
    if not there and not grows:
        raise _never(limits)
    places = _places(limits, there)
    if limits.lanes is not None:
        lanes = limits.lanes if grows else min(limits.lanes, places)
    elif limits.cpus_per_lane is not None:
        lanes = places
    else:  # a lane keeps two processes busy, its Home and its Store
        cpus = sum(node["Resources"].get("CPU", 0) for node in there)
        lanes = min(int(cpus // 2), places)
    most = [max(1, lanes)]
    return most if limits.most_lanes is None else [*most, max(1, limits.most_lanes)]


def _never(limits: Limits) -> ConfigError:
    has = "; ".join(sorted(_has(node) for node in ray.nodes() if node["Alive"]))
    return ConfigError(
        f"a lane needs {wanted(limits)}, and hygge's own Ray on this machine has {has}",
        "ask less with `cpus_per_lane`, `resources` and `label_selector`, or run it on a cluster "
        "whose nodes have that",
    )


def _has(node: dict[str, Any]) -> str:
    """What a lane may ask of a node, in words."""
    there = {k: n for k, n in node["Resources"].items() if not k.startswith(("node:", "object_"))}
    labels = {k: text for k, text in node["Labels"].items() if not k.startswith("ray.io/")}
    cpus = there.pop("CPU", 0.0) or 1e-9  # `None` would mean one
    said = wanted(Limits(cpus_per_lane=cpus, resources=there, label_selector=labels))
    return said.replace(" on nodes with ", " and the labels ")


def _places(limits: Limits, there: list[dict[str, Any]]) -> int:
    """How many lanes these nodes have room for, were they empty."""
    return sum(
        min(int(node["Resources"][k] / n + _EPSILON) for k, n in bundle(limits).items())
        for node in there
    )


def waiting_for(limits: Limits, groups: list[Any]) -> str:
    """What these bundles wait for, in words; empty where each has its place."""
    # Those behind were asked for later; and a table of all would be of the whole cluster.
    missing = sum(placement_group_table(each).get("state") != "CREATED" for each in groups[:_ASKED])
    missing += max(0, len(groups) - _ASKED) if missing else 0
    if not missing:
        return ""
    if nodes(limits):
        return wanted(limits, missing)
    return nowhere(limits)


def nowhere(limits: Limits) -> str:
    """What lanes wait for that no node of today has, in words."""
    return f"{wanted(limits)} for each lane, and this cluster has no such node"
