"""The protocol between a flow and its engine: stage these splits, and report each staged one.

`Engine` is the protocol; `hygge/engine` fulfils it. The run knows the engines by name only.
"""

from __future__ import annotations

import importlib
import random
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol

from hygge.errors import ConfigError, one_of
from hygge.home import Home
from hygge.model import Limits, Plan, Receipt, Run, Split
from hygge.run.attempts import SplitAttempts
from hygge.run.watch import Watch
from hygge.store import Store

if TYPE_CHECKING:
    import pyarrow as pa

EngineName = Literal["ray", "inline"]
OnWait = Callable[[str], None]
"""Called with what is waited for, in words for people."""
_NOT_OF_TEXT = re.compile(
    r"(?i)(numeric|decimal|number|u?hugeint|bignum|money|interval|bit|inet|cidr|oid|xid|pg_lsn"
    r"|\w*range|timetz|time|variant|union|(?-i:ENUM))\b"  # enum of MariaDB has that of its texts
)
"""Types of databases whose values have another order than their texts."""
_ENGINES = {"ray": "hygge.engine.ray.engine", "inline": "hygge.engine.inline"}


def _ignore(receipt: Receipt) -> None:
    """Do nothing with a receipt."""


@dataclass(frozen=True)
class MoveRequest:
    """The work that an engine is asked for: stage every split once."""

    flow: str
    """Name of the flow, for a Watch."""
    run: Run
    home: Home
    store: Store
    schema: pa.Schema | None
    """Schema of the batches; None where only the rows show it."""
    splits: tuple[Split, ...]
    limits: Limits = field(default_factory=Limits)
    epoch: int = 0
    """Number of the driver, for the tickets."""
    on_receipt: Callable[[Receipt], None] = _ignore
    """Called in the driver with each receipt as it comes; an error that it raises ends the move."""
    attempts: SplitAttempts = field(default_factory=SplitAttempts)
    """Told in the driver when an attempt at a split begins and ends. The run closes it."""


@dataclass
class MoveResult:
    """The result of a move: one receipt a split, in any order, and some counts."""

    receipts: list[Receipt] = field(default_factory=list)
    rows_read: int = 0
    """Rows that the Home gave in the attempts that the receipts are of."""
    lanes: int = 1
    """Number of lanes that worked."""
    lanes_bound: str = ""
    """What allowed no more lanes, for people; "": the splits, or the flow's `lanes`."""
    retries: int = 0
    """Number of attempts that failed and were repeated."""
    wait_home_s: float = 0.0
    """Seconds that Homes waited for room in their Inboxes, over all lanes."""
    wait_store_s: float = 0.0
    """Seconds that Stores waited for batches, over all lanes."""
    notes: list[str] = field(default_factory=list)
    """Sentences for people about how it went: which nodes were left, and why."""


class Engine(Protocol):
    """Moves splits. All calls block, and are made in a thread without an event loop."""

    name: str

    def get_ready(
        self, home: Home, store: Store, limits: Limits, on_wait: OnWait, stop: threading.Event
    ) -> None:
        """Start, or connect to, what the engine runs on.

        Called before planning, so that no snapshot waits for it. Calls `on_wait` where something
        may take long. Returns soon once `stop` is set. Raises ConfigError for limits that can
        never be met.
        """
        ...

    def starts_long(self) -> bool:
        """Return whether `get_ready` would first start something that takes seconds."""
        ...

    def lanes(self, limits: Limits) -> int:
        """Return how many lanes a move may have at most, by limits and CPUs; for the plan."""
        ...

    def move(self, move: MoveRequest, watch: Watch, stop: threading.Event) -> MoveResult:
        """Stage every split that `move` asks for.

        MUST give one receipt for every split, and retry under new tickets where a retry may help
        (`Transient`, a dead worker). MUST raise the first other error with its cause kept, and end
        soon with `Stopped` once `stop` is set. MUST bound the bytes in flight by
        `limits.memory_per_lane`. MUST tell `move.attempts` when each attempt begins, and how it
        ends.
        """
        ...

    def check_paths(
        self,
        read: Mapping[str, str],
        written: Mapping[str, str],
        shared: Sequence[str],
        limits: Limits,
    ) -> str:
        """Raise ConfigError where a lane may run on a machine that does not see these paths.

        `read` and `written`: what it is, for people → its absolute path. `shared`: folders that
        count as one disk on all machines. Called after `get_ready`, before planning. Returns what
        could not be checked, for people, or "".
        """
        ...

    def record_commit(self, home: Home, store: Store, seconds: float) -> None:
        """Take note of how long the commit took; for metrics."""
        ...

    def release(self) -> None:
        """Give back what `get_ready` took and no move used. Called at the end, in any case."""
        ...


def find_engine(name: str) -> Engine:
    """Return an engine by its name, `ray` or `inline`. Raises ConfigError for any other name."""
    if name not in _ENGINES:
        raise ConfigError(f"there is no engine '{name}'", one_of("engines", name, _ENGINES))
    engine: Engine = importlib.import_module(_ENGINES[name]).engine()
    return engine


def rows_expected(splits: Sequence[Split]) -> int | None:
    """Return how many rows the splits have, as far as the plan tells; None: it does not."""
    rows = [split.rows for split in splits if split.rows is not None]
    return sum(rows) if rows and len(rows) == len(splits) else None


def backoff_s(n: int) -> float:
    """Return the seconds to wait before attempt n + 1: 0.2, 0.4, 0.8 … up to 20, with jitter."""
    return min(20.0, 0.2 * 2.0**n) * random.uniform(0.5, 1.5)


def schema_of(plan: Plan) -> pa.Schema | None:
    """Return the Arrow schema of a plan, or None where only the rows show it."""
    import pyarrow as pa  # slow to load, and not needed to check a file

    if plan.columns is None:
        return None
    fields = [
        pa.field(column.name, column.type, column.nullable, dict(column.metadata) or None)
        for column in plan.columns
    ]
    return pa.schema(fields, metadata=dict(plan.metadata) or None)


def schema_for(plan: Plan, store: Store) -> pa.Schema | None:
    """Return the Arrow schema of a plan as `store` gets it: without metadata unless it keeps it."""
    from hygge.extension_types import bare

    schema = schema_of(plan)
    return schema if schema is None or store.traits.metadata else bare(schema)


def passthrough(store: Store, run: Run, plan: Plan) -> pa.Schema | None:
    """Return the schema that `store` takes instead of a plan's columns; None: it takes those.

    Raises ConfigError where it takes those, and would compare the cursor in another order.
    """
    schema = schema_for(plan, store)
    taken = None
    # A row cannot be taken out of bytes, so bad rows come as columns.
    if plan.raw is not None and schema is not None and store.most_bad_rows is None:
        taken = store.takes(run, plan.raw, schema)
    if taken is None:
        _check_cursor(run, plan)
    return taken


def _check_cursor(run: Run, plan: Plan) -> None:
    """Raise ConfigError for a merge whose cursor is no text at the source, and arrives as one.

    Of rows that share a key the Store keeps the one with the highest cursor, and `9` is above `10`.
    """
    import pyarrow as pa

    if run.mode != "merge" or run.cursor is None:
        return
    for column in plan.columns or ():
        is_text = pa.types.is_string(column.type) or pa.types.is_large_string(column.type)
        if column.name == run.cursor and is_text and _NOT_OF_TEXT.match(column.native or ""):
            raise ConfigError(
                f"cursor '{run.cursor}' is {column.native}, which arrives as text, and '10' is "
                "below '9' there: a merge could keep the older row of a key",
                f"if it is a number, read it as one: options: {{types: {{{run.cursor}: "
                "'decimal(38, 10)'}}; if not, take another cursor",
            )
