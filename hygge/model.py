"""The small frozen things that travel between processes. They carry facts and no behaviour.

Life of a run: `Run` is named → the Home answers with a `Plan` of `Split`s → every try at a split
is a `Ticket` → a sealed try is a `Receipt` → the store's commit moves its `Head` and answers with
a `Commit` → people read the `Report`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Literal, TypeVar

if TYPE_CHECKING:
    import pyarrow as pa

Mode = Literal["replace", "append", "merge"]
Guarantee = Literal["exactly once", "at least once"]
Visibility = Literal["atomic", "manifest", "per batch"]
Watermark = int | float | str | None
"""A cursor value in JSON form; dates and timestamps as ISO 8601 text."""

PROTOCOL = 1
"""Version of the two contracts; a connector built for another one is refused."""
Made = TypeVar("Made")

MIB = 1024 * 1024


@dataclass(frozen=True)
class HomeTraits:
    """What a Home class declares about itself."""

    protocol: int = PROTOCOL
    max_lanes: int | None = None
    cursor: bool = False
    """Whether `open(since)` understands a watermark."""
    lossy: tuple[str, ...] = ()
    """Arrow types (by their text, or a prefix of it) that this Home never gives."""


@dataclass(frozen=True)
class StoreTraits:
    """What a Store class declares about itself; `hygge plan` prints it."""

    protocol: int = PROTOCOL
    modes: tuple[Mode, ...] = ("replace", "append")
    guarantee: Guarantee = "exactly once"
    visibility: Visibility = "atomic"
    sees: str = ""
    """One sentence: what a reader that is not hygge sees, and when."""
    max_lanes: int | None = None
    understands_op: bool = False
    """Whether a reserved `_op` column (insert, update, delete) is applied."""
    lossy: tuple[str, ...] = ()
    """Arrow types (by their text, or a prefix of it) that cannot be kept exactly."""


@dataclass(frozen=True)
class Column:
    """One field of a plan: Arrow type, and what the source itself calls it."""

    name: str
    type: pa.DataType
    native: str | None = None
    nullable: bool = True
    collation: str | None = None


@dataclass(frozen=True)
class Split:
    """A disjoint part of a Home that can be read again and gives the same rows.

    `version` names the state of the source that was planned (size and mtime, ETag, snapshot id);
    `read` raises SourceChanged when it is gone. `where` is private to the Home that made it and
    holds JSON values only.
    """

    index: int
    version: str
    where: dict[str, Any] = field(default_factory=dict)
    label: str = ""
    rows: int | None = None
    bytes: int | None = None


@dataclass(frozen=True)
class Plan:
    """What a run will read, fixed before the first row.

    `columns` is None only for a Home of one split whose schema is known when its rows come.
    """

    columns: tuple[Column, ...] | None
    splits: tuple[Split, ...]
    key: tuple[str, ...] = ()
    snapshot: str | None = None
    watermark: Watermark = None
    reason: str = ""
    """Why it was split like this, for `hygge plan`."""
    dead_driver: str = "the run starts anew"
    """What a driver's death would cost, for `hygge plan`."""
    raw: pa.Schema | None = None
    """What `Home.passing` would give instead of these columns, for a Store that takes it."""


@dataclass(frozen=True)
class Run:
    """One run of one flow. `id` never repeats; `flow` is the flow's identity, never a path."""

    id: str
    flow: str
    mode: Mode = "replace"
    key: tuple[str, ...] = ()
    cursor: str | None = None


@dataclass(frozen=True)
class Ticket:
    """One try at one split: never used twice, also not by a restarted driver (`epoch`)."""

    run: str
    split: int
    epoch: int = 0
    n: int = 0


@dataclass(frozen=True)
class Receipt:
    """What staging one ticket gave. `parts` counts pieces; their names follow from the ticket."""

    ticket: Ticket
    version: str
    rows: int
    bytes: int
    parts: int = 1
    max_cursor: Watermark = None
    set_aside: int = 0


@dataclass(frozen=True)
class Head:
    """What a store holds committed for a flow; in the store itself, moved by compare-and-swap."""

    flow: str
    generation: int
    run: str
    rows: int
    watermark: Watermark = None
    columns: tuple[tuple[str, str], ...] = ()
    """(name, Arrow type as text) of what was committed."""
    cursor: str | None = None
    """The column that the watermark is of."""


@dataclass(frozen=True)
class Commit:
    """How a commit ended: rows staged = applied + superseded + set aside."""

    head: Head
    applied: int
    superseded: int = 0
    set_aside: int = 0
    note: str = ""


Status = Literal["done", "failed", "skipped", "stopped"]


@dataclass(frozen=True)
class Report:
    """What happened to one flow. Times are seconds; `bytes` are Arrow bytes."""

    flow: str
    status: Status
    rows: int = 0
    bytes: int = 0
    rows_read: int = 0
    """rows_read = rows (staged) + set_aside, and rows = applied + superseded + set_aside."""
    applied: int = 0
    superseded: int = 0
    set_aside: int = 0
    splits: int = 0
    resumed: int = 0
    """Splits that an earlier run had staged already."""
    lanes: int = 0
    retries: int = 0
    seconds: float = 0.0
    wait_home_s: float = 0.0
    """Seconds that Homes waited for room in their Inboxes (a slow Store)."""
    wait_store_s: float = 0.0
    """Seconds that Stores waited for batches (a slow Home)."""
    home: str = ""
    store: str = ""
    mode: str = ""
    guarantee: str = ""
    note: str = ""
    error: str | None = None
    hint: str | None = None
    run: str = ""
    started_at: float = 0.0
    """Epoch seconds when planning began."""
    done_at: float = 0.0
    """Epoch seconds when the commit had returned."""
    of: str = ""
    """The flow of many tables that this one is a table of."""


@dataclass(frozen=True)
class Summary:
    """What happened to all flows of a file, in the order of the file."""

    flows: tuple[Report, ...]
    seconds: float = 0.0

    @property
    def ok(self) -> bool:
        """Whether every flow is done."""
        return all(report.status == "done" for report in self.flows)


def known(kind: type[Made], facts: Mapping[str, Any]) -> Made:
    """A dataclass from its facts, without those that only a newer version has."""
    return kind(**{each.name: facts[each.name] for each in fields(kind) if each.name in facts})  # type: ignore[arg-type]


@dataclass(frozen=True)
class Limits:
    """How much of the machine a flow may use."""

    lanes: int | None = None
    """None: as many as the plan has splits, the machine has CPUs and the Store allows."""
    most_lanes: int | None = None
    """What its share of `max_connections` leaves for lanes, whatever `lanes` says."""
    cpus_per_lane: float | None = None
    """CPUs that a lane takes of its node. None: one, and `lanes: auto` counts two."""
    resources: Mapping[str, float] = field(default_factory=dict)
    """What else a lane takes of its node, by the names that the cluster gives it."""
    label_selector: Mapping[str, str] = field(default_factory=dict)
    """Labels of the nodes where lanes may run: `eu`, `!eu`, `in(eu, uk)`."""
    max_bytes_per_second: int | None = None
    """Arrow bytes that the Home may give, over all lanes of the flow."""
    of: str = ""
    """The flow of many tables that this is one table of: they share that, and their lanes."""
    store_share: float = 1.0
    """The part of the nodes' object stores that it may fill; Ray jobs side by side divide them."""
    memory_per_lane: int = 128 * MIB
    batch_bytes: int = 32 * MIB
    retries: int = 3
    stall_timeout_s: float = 3600.0
    resume_within_s: float = 24 * 3600.0
    """A run that died longer ago is not gone on with."""
