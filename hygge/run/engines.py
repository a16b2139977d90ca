"""What a flow asks of an engine: stage these splits, and tell of each one that is sealed.

Engines fulfil `Engine`; the flow knows them by name only.
"""

from __future__ import annotations

import importlib
import random
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from hygge.errors import ConfigError, one_of
from hygge.home import Home
from hygge.model import Limits, Plan, Receipt, Run, Split
from hygge.run.watch import Watch
from hygge.store import Store

if TYPE_CHECKING:
    import pyarrow as pa

Waits = Callable[[str], None]
_ENGINES = {"ray": "hygge.engine.ray.engine", "inline": "hygge.engine.inline"}


def _unheard(receipt: Receipt) -> None:
    """Nobody waits for receipts one by one."""


@dataclass(frozen=True)
class Move:
    """What an engine is asked to do: stage every split once."""

    flow: str
    run: Run
    home: Home
    store: Store
    schema: pa.Schema | None
    splits: tuple[Split, ...]
    limits: Limits = field(default_factory=Limits)
    epoch: int = 0
    sealed: Callable[[Receipt], None] = _unheard
    """Called in the driver with each receipt as it comes; what it raises ends the move."""


@dataclass
class Moved:
    """What a move gave: one receipt a split, in any order, and how it went."""

    receipts: list[Receipt] = field(default_factory=list)
    rows_read: int = 0
    """Rows that the Home gave in the attempts that were sealed."""
    lanes: int = 1
    retries: int = 0
    wait_home_s: float = 0.0
    wait_store_s: float = 0.0


class Engine(Protocol):
    """Moves splits. Blocking; called in a thread without an event loop.

    MUST give one receipt for every split, retry under new tickets what a retry may mend
    (`Transient`, a dead worker), raise the first other error with its cause kept, and end soon
    with `Stopped` once `stop` is set. MUST bound the bytes in flight by `limits.memory_per_lane`.
    """

    name: str

    def get_ready(
        self, home: Home, store: Store, limits: Limits, waits: Waits, stop: threading.Event
    ) -> None:
        """Come to where it runs. Called before planning, so that no snapshot waits for it.

        `waits` is told what it waits for, where that may take long. Returns soon once `stop` is
        set. Raises ConfigError for limits that can never be met.
        """
        ...

    def lanes(self, limits: Limits) -> int:
        """How many lanes a move may have at most, as limits and CPUs go; for the plan."""
        ...

    def move(self, move: Move, watch: Watch, stop: threading.Event) -> Moved: ...

    def reaches(
        self,
        read: Mapping[str, str],
        written: Mapping[str, str],
        shared: Sequence[str],
        limits: Limits,
    ) -> str:
        """Raise ConfigError where it may work on a machine that does not see these paths.

        `read` and `written`: what it is, in words → its absolute path. `shared`: folders that are
        taken for one disk everywhere. Called after `get_ready`, before planning. Gives what could
        not be found out, in words, or "".
        """
        ...

    def committed(self, home: Home, store: Store, seconds: float) -> None:
        """Be told how long the commit of what was moved took; for whoever counts such things."""
        ...

    def release(self) -> None:
        """Give back what `get_ready` took and no move used. Called at the end, in any case."""
        ...


def find_engine(name: str) -> Engine:
    """An engine by its name: `ray` (the default) or `inline`."""
    if name not in _ENGINES:
        raise ConfigError(f"there is no engine '{name}'", one_of("engines", name, _ENGINES))
    engine: Engine = importlib.import_module(_ENGINES[name]).engine()
    return engine


def backoff_s(n: int) -> float:
    """Seconds to wait before try n + 1: 0.2, 0.4, 0.8 … at most 20, with jitter."""
    return min(20.0, 0.2 * 2.0**n) * random.uniform(0.5, 1.5)


def schema_of(plan: Plan) -> pa.Schema | None:
    """The Arrow schema of a plan, or None where only the rows know."""
    import pyarrow as pa

    if plan.columns is None:
        return None
    return pa.schema([pa.field(c.name, c.type, c.nullable) for c in plan.columns])


def passthrough(store: Store, run: Run, plan: Plan) -> pa.Schema | None:
    """What travels instead of columns, where the Home offers it and `store` takes it, or None."""
    schema = schema_of(plan)
    if plan.raw is None or schema is None:
        return None
    return store.takes(run, plan.raw, schema)
