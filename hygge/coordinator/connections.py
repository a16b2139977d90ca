"""Divides the `max_connections` of a named connection among flows, before anything begins.

A flow takes one connection for each of its ends that is on the named connection: so many for its
driver (the home's to plan and to hold its snapshot, the store's for its statements), and so many
for each lane. A flow of many tables takes one more while it runs, to hold the snapshot of all of
them. Flows that run at the same time get equal shares; where a share would be too small for one
lane, fewer flows run at the same time. A Ray job gets the share of its flow.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from hygge.config.specs import EndSpec, FlowSpec
from hygge.errors import ConfigError


@dataclass(frozen=True)
class ConnectionShares:
    """The number of connections that a flow may take, and of flows that may run at once."""

    flows_at_once: Mapping[str, int] = field(default_factory=dict)
    """Name of a limited connection → number of flows that may use it at the same time."""
    per_flow: Mapping[str, int] = field(default_factory=dict)
    """Name of a limited connection → number of connections that one flow may take."""

    def max_lanes(self, flow: FlowSpec) -> int | None:
        """Return how many lanes the connections of a flow allow; None: any number."""
        lanes = []
        for name, most in self.per_flow.items():
            if ends := _count_ends(flow, name):
                lanes.append((most - ends) // ends)
        return min(lanes, default=None)

    def of_job(self, flow: FlowSpec) -> dict[str, int]:
        """Return how many of each connection a job of this flow may take."""
        share = {}
        for name, most in self.per_flow.items():
            if _count_ends(flow, name):
                holds_snapshot = flow.tables is not None and flow.home.connection == name
                share[name] = most + holds_snapshot
        return share

    def must_wait(self, flow: FlowSpec, running: Sequence[FlowSpec]) -> bool:
        """Return whether a flow has to wait until others leave one of its connections."""
        return any(
            sum(_count_ends(other, name) > 0 for other in running) >= most
            for name, most in self.flows_at_once.items()
            if _count_ends(flow, name)
        )


def divide(
    flows: Sequence[FlowSpec],
    max_connections: Mapping[str, int],
    parallel: int,
    one_job_a_flow: bool = False,
) -> ConnectionShares:
    """Divide `max_connections` among `flows`, of which `parallel` run at the same time.

    `one_job_a_flow`: each flow is a Ray job of its own, also one of many tables.
    Raises ConfigError where a connection has not enough for one lane of one flow.
    """
    flows_at_once, per_flow = {}, {}
    for name, most in max_connections.items():
        users = [flow for flow in flows if _count_ends(flow, name)]
        if not users:
            continue
        flows_of_tables = [flow for flow in users if flow.tables is not None]
        held = sum(flow.home.connection == name for flow in flows_of_tables)
        wanted = parallel if flows_of_tables and not one_job_a_flow else min(parallel, len(users))
        neediest = max(users, key=lambda flow: _count_ends(flow, name))
        ends = _count_ends(neediest, name)  # its driver needs so many, and one lane the same again
        count = min(wanted, (most - held) // (2 * ends))
        if count < 1:
            needed = 2 * ends + held
            snapshots = f", {held} to hold the snapshots of many tables" if held else ""
            raise ConfigError(
                f"connection '{name}' may have {most} connection{'s'[: most != 1]}, and flow "
                f"'{neediest.name}' needs {needed}: {ends} for its driver, {ends} for one "
                f"lane{snapshots}",
                f"max_connections: {needed}, or more for more lanes",
            )
        flows_at_once[name], per_flow[name] = count, (most - held) // count
    return ConnectionShares(flows_at_once, per_flow)


def count_at_once(flows: Sequence[FlowSpec], parallel: int) -> int:
    """Return how many flows may run at once: of those that wait for each other, only one."""
    depth: dict[str, int] = {}
    for flow in flows:  # in an order that respects `depends_on`
        before = max((depth.get(name, 0) for name in flow.depends_on), default=0)
        depth[flow.name] = 1 + before
    return max(1, min(parallel, len(flows) - max(depth.values(), default=1) + 1))


def tables_at_once(flows: Sequence[FlowSpec], parallel: int) -> int:
    """Return how many tables one job of a flow of many may run, beside the other such jobs."""
    return parallel // count_at_once([flow for flow in flows if flow.tables is not None], parallel)


def _count_ends(flow: FlowSpec, name: str) -> int:
    """Return how many ends of a flow, 0 to 2, are on the connection of this name."""
    ends: tuple[EndSpec, EndSpec] = (flow.home, flow.store)
    return sum(end.connection == name for end in ends)
