"""`max_connections` of a named connection, divided before anything begins.

What a flow takes of a connection: its driver one for each end that is on it (the home's to hold
its snapshot and to plan, the store's for its statements), and each lane one for each end. A flow of
many tables takes one more for as long as it runs, to hold the snapshot of all. The flows that may
run side by side get equal shares; where those would be too small for one lane each, fewer run side
by side. A Ray job is handed the share of its flow.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from hygge.config.specs import EndSpec, FlowSpec
from hygge.errors import ConfigError


@dataclass(frozen=True)
class Shares:
    """What each flow may take."""

    side_by_side: Mapping[str, int] = field(default_factory=dict)
    """Bounded connection → how many flows on it may run at once."""
    each: Mapping[str, int] = field(default_factory=dict)
    """Bounded connection → how many connections one of them may take."""

    def lanes(self, flow: FlowSpec) -> int | None:
        """How many lanes the connections of a flow allow; None where none is bounded."""
        found = [
            (most - ends) // ends for name, most in self.each.items() if (ends := _ends(flow, name))
        ]
        return min(found, default=None)

    def of(self, flow: FlowSpec) -> dict[str, int]:
        """What a job of this flow may take: by connection."""
        return {
            name: most + (flow.tables is not None and flow.home.connection == name)
            for name, most in self.each.items()
            if _ends(flow, name)
        }

    def blocked(self, flow: FlowSpec, running: Sequence[FlowSpec]) -> bool:
        """Whether a flow has to wait for others on one of its connections."""
        return any(
            sum(_ends(other, name) > 0 for other in running) >= most
            for name, most in self.side_by_side.items()
            if _ends(flow, name)
        )


def divided(
    flows: Sequence[FlowSpec], bounds: Mapping[str, int], parallel: int, alone: bool = False
) -> Shares:
    """Shares of the connections in `bounds` among `flows`, of which `parallel` run side by side.

    `alone`: each flow is a job of its own, also one of many tables.
    Raises ConfigError where a connection has not enough for one lane of one flow.
    """
    side_by_side, each = {}, {}
    for name, most in bounds.items():
        users = [flow for flow in flows if _ends(flow, name)]
        if not users:
            continue
        families = [f for f in users if f.tables is not None]
        holders = sum(flow.home.connection == name for flow in families)
        many = parallel if families and not alone else min(parallel, len(users))
        greedy = max(users, key=lambda flow: _ends(flow, name))
        least = 2 * _ends(greedy, name)
        count = min(many, (most - holders) // least)
        if count < 1:
            needs = least + holders
            held = f", {holders} to hold the snapshots of many tables" if holders else ""
            raise ConfigError(
                f"connection '{name}' may have {most} connection{'s'[: most != 1]}, and flow "
                f"'{greedy.name}' needs {needs}: {least // 2} for its driver, {least // 2} for one "
                f"lane{held}",
                f"max_connections: {needs}, or more for more lanes",
            )
        side_by_side[name], each[name] = count, (most - holders) // count
    return Shares(side_by_side, each)


def side_by_side(flows: Sequence[FlowSpec], parallel: int) -> int:
    """How many flows may run at once, at most: of those that wait for each other, one does."""
    depth: dict[str, int] = {}
    for flow in flows:  # in an order that respects `depends_on`
        depth[flow.name] = 1 + max((depth.get(each, 0) for each in flow.depends_on), default=0)
    return max(1, min(parallel, len(flows) - max(depth.values(), default=1) + 1))


def tables_at_once(flows: Sequence[FlowSpec], parallel: int) -> int:
    """How many tables the job of a flow of many may run at once, beside the other such jobs."""
    return parallel // side_by_side([flow for flow in flows if flow.tables is not None], parallel)


def _ends(flow: FlowSpec, name: str) -> int:
    ends: tuple[EndSpec, EndSpec] = (flow.home, flow.store)
    return sum(end.connection == name for end in ends)
