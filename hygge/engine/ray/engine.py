"""The default engine: it connects to Ray and moves splits over lanes of processes.

Life of an engine: `get_ready` connects and starts the first lane, `reaches` checks the nodes,
`move` has a `Supervision` move the splits, `release` gives back what was not used. Ray, and the
modules of this package that import it at their top, are imported only after `connection.connect`,
which sets what Ray reads when it is imported.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from hygge.engine.ray import alive, connection
from hygge.home import Home
from hygge.model import Limits
from hygge.run.engines import MoveRequest, MoveResult, OnWait
from hygge.run.watch import Watch
from hygge.settings import import_all
from hygge.store import Store

if TYPE_CHECKING:
    from hygge.engine.ray.lane import Lane

_FIRST_LANE_S = 5.0
_LOOK_S = 0.5


def engine() -> RayEngine:
    """Return the engine that is used unless another is named."""
    return RayEngine()


class RayEngine:
    """Moves splits over lanes; see `hygge.run.engines.Engine` for what each verb promises."""

    name = "ray"

    def __init__(self) -> None:
        self.first_lane: Lane | None = None
        self.of = ""
        """Name of the flow of many tables of which this engine moves one; empty: of none."""

    def get_ready(
        self, home: Home, store: Store, limits: Limits, on_wait: OnWait, stop: threading.Event
    ) -> None:
        """Attach to a running Ray, or start a private one (seconds, once a process).

        Also start the processes of the first lane, which every flow needs, unless lanes of this
        process have every CPU: then `move` waits for one of them. On a cluster without a suitable
        node, `lanes: auto` waits for the first one, to plan for what there is.
        """
        self.of = limits.of
        home_modules, store_modules = home.needs(), store.needs()
        # In parallel with the start of Ray, which is to wait for it.
        importing = threading.Thread(
            target=import_all, args=(home_modules + store_modules,), daemon=True
        )
        importing.start()
        grows = connection.connect().outlives
        alive.check_alive()
        modules = (home_modules, store_modules)
        alive.attended(
            lambda: self._start_first_lane(home, modules, limits, grows, on_wait, stop), stop
        )
        importing.join()

    def _start_first_lane(
        self,
        home: Home,
        modules: tuple[tuple[str, ...], tuple[str, ...]],
        limits: Limits,
        grows: bool,
        on_wait: OnWait,
        stop: threading.Event,
    ) -> None:
        from hygge.engine.ray import left
        from hygge.engine.ray.lanes import start_first_lane
        from hygge.engine.ray.patience import Patience
        from hygge.engine.ray.placement import describe_missing_node, lane_bounds, list_nodes

        left.forget_old()
        lane_bounds(limits, grows)
        self.first_lane = start_first_lane(limits.of or home.flow or "flow", limits)
        if self.first_lane is not None:
            self.first_lane.warm(*modules)
            if list_nodes(limits):
                self.first_lane.wait(_FIRST_LANE_S)
        alive.check_alive()
        if limits.lanes is None and not list_nodes(limits):
            on_wait(describe_missing_node(limits))
            patience = Patience(limits)
            while not stop.wait(_LOOK_S) and not list_nodes(limits):
                alive.check_alive()
                patience.check()

    def starts_long(self) -> bool:
        """Return whether a private Ray is to be started, which this process does not have yet."""
        return not connection.is_connected() and connection.find_running() is None

    def lanes(self, limits: Limits) -> int:
        """Return how many lanes a move may have at most, by limits and CPUs."""
        grows = connection.connect().outlives
        from hygge.engine.ray.placement import lane_bounds

        return alive.attended(lambda: min(bound.lanes for bound in lane_bounds(limits, grows)))

    def check_paths(
        self,
        read: Mapping[str, str],
        written: Mapping[str, str],
        shared: Sequence[str],
        limits: Limits,
    ) -> str:
        """Raise ConfigError where a lane may run on a node that does not see these paths."""
        from hygge.engine.ray.nodes import check_nodes

        return alive.attended(lambda: check_nodes(read, written, shared, limits))

    def move(self, move: MoveRequest, watch: Watch, stop: threading.Event) -> MoveResult:
        """Move every split over lanes, and keep the lanes for the next flow where it went well."""
        connection.connect()
        return alive.attended(lambda: self._move(move, watch, stop), stop)

    def _move(self, move: MoveRequest, watch: Watch, stop: threading.Event) -> MoveResult:
        from hygge.engine.ray.supervision import Supervision

        supervision = Supervision(move, watch, stop, self.first_lane)
        self.first_lane = None
        try:
            moved = supervision.run()
        except BaseException:
            supervision.close(keep_lanes=False)
            raise
        supervision.close(keep_lanes=True)
        return moved

    def record_commit(self, home: Home, store: Store, seconds: float) -> None:
        """Record how long the commit took, for Prometheus."""
        import ray

        if ray.is_initialized():  # no Ray is started only to count
            from hygge.engine.ray.metrics import Meter

            Meter("", home, store, self.of).observe_commit(seconds)

    def release(self) -> None:
        """Shut down the first lane where no move took it."""
        if self.first_lane is not None:
            from hygge.engine.ray.lanes import shut_down_lane

            lane, self.first_lane = self.first_lane, None
            alive.attended(lambda: shut_down_lane(lane))
