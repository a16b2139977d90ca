"""The small frozen records that travel between processes. They hold facts and have no behaviour.

In the order of a run: a `Run` gets its name → the Home gives a `Plan` of `Split`s → each attempt at
a split has a `Ticket`, and gives a `Receipt` → the commit moves the `Head` → there is a `Report`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any, Literal, TypeVar

if TYPE_CHECKING:
    import builtins

    import pyarrow as pa
    from _typeshed import DataclassInstance

Mode = Literal["replace", "append", "merge"]
Contract = Literal["freeze", "evolve"]
"""What becomes of a store's columns where those of the rows are others: see docs/schema.md."""
Guarantee = Literal["exactly once", "at least once"]
Visibility = Literal["atomic", "manifest", "per batch"]
Watermark = int | float | str | None
"""A value of the cursor column in JSON form; dates and timestamps are ISO 8601 text."""

PROTOCOL = 1
"""Version of the two contracts; a connector that was built for another version is refused."""
Record = TypeVar("Record", bound="DataclassInstance")
MIB = 1024 * 1024  # bytes


@dataclass(frozen=True)
class HomeTraits:
    """The properties that a Home class declares."""

    protocol: int = PROTOCOL
    """Version of the contract that the class was built for."""
    max_lanes: int | None = None
    """Number of lanes that may read at the same time; None: any number."""
    cursor: bool = False
    """True if `open(since)` understands a watermark."""
    key: bool = False
    """True if `primary_key` may know by which columns the rows of its source are told apart."""
    changes: bool = False
    """True if its rows are changes, which a column `_op` tells: see `hygge/changes.py`."""
    lossy: tuple[str, ...] = ()
    """Arrow types that this Home never gives, each as its text or a prefix of it."""


@dataclass(frozen=True)
class StoreTraits:
    """The properties that a Store class declares; `hygge plan` prints them."""

    protocol: int = PROTOCOL
    """Version of the contract that the class was built for."""
    modes: tuple[Mode, ...] = ("replace", "append")
    """Modes that a flow may have; `replace` is the default, else the first of them."""
    guarantee: Guarantee = "exactly once"
    """Number of times that each row arrives, also after failures."""
    visibility: Visibility = "atomic"
    """How new rows become visible: at once for all readers or for hygge's Homes, or by batches."""
    sees: str = ""
    """One sentence for people: what a reader that is not hygge sees, and when it sees it."""
    max_lanes: int | None = None
    """Number of lanes that may write at the same time; None: any number."""
    lossy: tuple[str, ...] = ()
    """Arrow types that cannot be kept exactly, each as its text or a prefix of it."""
    metadata: bool = False
    """True if the metadata of schema and fields is kept, and with it extension types."""
    parquet_types: bool = False
    """True if types are kept that Parquet has and Arrow has not, such as INTERVAL."""
    json: bool = False
    """True if it is given nested values as JSON, in text columns that say so in their metadata."""
    changes: bool = False
    """True if its `merge` applies changes: see `hygge/changes.py`."""


@dataclass(frozen=True)
class Column:
    """One column of a plan."""

    name: str
    """Its name in the source and in the store."""
    type: pa.DataType
    """Its Arrow type."""
    native: str | None = None
    """The source's own name for the type, such as `numeric(10,2)`; None: it has none."""
    nullable: bool = True
    """True if it may contain NULL."""
    collation: str | None = None
    """The source's order of its text, by the source's own name; None: not known."""
    metadata: Mapping[bytes, bytes] = field(default_factory=dict)
    """The metadata of its Arrow field, such as the mark of an extension type."""


@dataclass(frozen=True)
class Split:
    """A disjoint part of a Home that can be read again and gives the same rows."""

    index: int
    """Its place in the plan, from 0."""
    version: str
    """The state of the source when it was planned: size and mtime, an ETag, a snapshot id.
    `Home.read` raises SourceChanged when that state is gone. Empty: the state has no name."""
    where: dict[str, Any] = field(default_factory=dict)
    """The rows to read, in terms that only the Home understands; JSON values only."""
    label: str = ""
    """Text for people: a file name, a range of keys."""
    rows: int | None = None
    """Number of rows, exact or estimated; None: not known."""
    bytes: int | None = None
    """Size in bytes at the source; None: not known."""


@dataclass(frozen=True)
class Plan:
    """The rows that a run will read, fixed before the first row."""

    columns: tuple[Column, ...] | None
    """The columns in order. None, for a Home of one split only: its rows will show them."""
    splits: tuple[Split, ...]
    """At least one; disjoint, and together complete."""
    key: tuple[str, ...] = ()
    """Names of the source's primary key columns; empty: none, or not known."""
    snapshot: str | None = None
    """Text for people about the snapshot that all splits are read from; None: there is none."""
    watermark: Watermark = None
    """The highest value of the cursor column that the splits cover; None without a cursor."""
    reason: str = ""
    """The reason for these splits, for `hygge plan`."""
    dead_driver: str = "the run starts anew"
    """The cost of a driver's death, for `hygge plan`."""
    raw: pa.Schema | None = None
    """The passthrough schema that `Home.passing` offers instead of these columns; None: none."""
    found: str = ""
    """How the source is written, where that was found and not stated, for `plan` and report."""
    metadata: Mapping[bytes, bytes] = field(default_factory=dict)
    """The metadata of its Arrow schema, for Stores that keep it."""
    lost: tuple[str, ...] = ()
    """Metadata that no Store gets, each with the reason, for `hygge plan`."""


@dataclass(frozen=True)
class Run:
    """One run of one flow."""

    id: str
    """Unique for ever; sorts by time."""
    flow: str
    """The identity of the flow, never a path."""
    mode: Mode = "replace"
    """The mode: it decides about the rows that the store holds already."""
    key: tuple[str, ...] = ()
    """Names of the columns by which `merge` finds a row."""
    cursor: str | None = None
    """Name of the column by which only new rows are read; None: all rows are read."""
    ties: Mapping[str, Any] | None = field(default=None, compare=False, repr=False)
    """At a commit: what its head remembers of the rows at the new watermark; see `Head.ties`."""


@dataclass(frozen=True)
class Ticket:
    """The name of one attempt at one split; no other attempt has it, also under a new driver."""

    run: str
    """Id of the run."""
    split: int
    """Index of the split."""
    epoch: int = 0
    """Number of the driver: each driver of a flow has a higher one than those before it."""
    n: int = 0
    """Number of the attempt under this driver, from 0."""


@dataclass(frozen=True)
class Receipt:
    """The result of staging one ticket."""

    ticket: Ticket
    """The attempt."""
    version: str
    """Version of the split that was read."""
    rows: int
    """Rows that are staged."""
    bytes: int
    """Arrow bytes that are staged."""
    parts: int = 1
    """Number of pieces, such as files; their names follow from the ticket."""
    max_cursor: Watermark = None
    """The highest value of the cursor column among the rows; None: not known."""
    set_aside: int = 0
    """Rows that were read and not staged, as the flow asked for."""
    filtered: int = 0
    """Rows that the Home read and the flow's shape left out; negative: it made more of them."""
    reached: Mapping[str, Any] | None = None
    """What `hygge.batches.reached_table` said of the rows that are staged; None: nothing."""
    bad_rows: builtins.bytes | None = field(default=None, compare=False, repr=False)
    """The rows that were set aside, as a Parquet file, on their way to the driver."""


@dataclass(frozen=True)
class Head:
    """The committed state of a flow. It lives in the store, and compare-and-swap moves it."""

    flow: str
    """The identity of the flow."""
    generation: int
    """Number of commits of the flow, from 1."""
    run: str
    """Id of the run that was committed last."""
    rows: int
    """Rows that this run applied."""
    watermark: Watermark = None
    """The highest value of the cursor column that is committed; None: there is none."""
    columns: tuple[tuple[str, str], ...] = ()
    """(name, Arrow type as text) of each column that was committed."""
    cursor: str | None = None
    """The column that the watermark belongs to."""
    ties: Mapping[str, Any] | None = field(default=None, compare=False, repr=False)
    """What it remembers of the rows at the watermark, as JSON: `hygge/connectors/sql/ties.py`."""
    aside: Mapping[str, Any] | None = field(default=None, compare=False, repr=False)
    """`file` and `rows` of what its commit set aside (`hygge/refused_rows.py`); None: nothing."""


@dataclass(frozen=True)
class Commit:
    """The result of a commit: rows staged = applied + superseded + set_aside."""

    head: Head
    """The head after it."""
    applied: int
    """Rows that the store took."""
    superseded: int = 0
    """Rows that gave way to a newer row of the same key."""
    set_aside: int = 0
    """Rows that the store left out, as the flow asked for."""
    note: str = ""
    """One sentence for the report; empty: nothing to say."""
    changes: tuple[str, ...] = ()
    """What the run changed of the store's columns, a sentence each (`schema: evolve`)."""


@dataclass(frozen=True)
class TargetState:
    """What a store's place holds before a run, as `Store.examine` finds it."""

    exists: bool
    """False: nothing is there, and the run makes it."""
    rows: int | None = None
    """Number of rows; None: not known."""
    is_exact: bool = True
    """False: there are more than `rows`."""
    changes: tuple[str, ...] = ()
    """What a run will change of its columns: a sentence each, and the statement where one is."""
    is_adopted: bool = False
    """True if a `replace` takes a table that hygge did not make, which stays."""


Status = Literal["done", "failed", "skipped", "stopped"]


@dataclass(frozen=True)
class Report:
    """The result of one flow.

    rows_read = rows (staged) + set_aside + filtered, and rows = applied + superseded + set_aside.
    """

    flow: str
    """Name of the flow."""
    status: Status
    """The way it ended."""
    rows: int = 0
    """Rows that were staged."""
    bytes: int = 0
    """Arrow bytes that were staged."""
    rows_read: int = 0
    """Rows that the Home gave."""
    applied: int = 0
    """Rows that the store took."""
    superseded: int = 0
    """Rows that gave way to a newer row of the same key."""
    set_aside: int = 0
    """Rows that were left out, as the flow asked for."""
    filtered: int = 0
    """Rows that the flow's shape left out after they were read; negative: it made more of them."""
    splits: int = 0
    """Number of splits."""
    resumed: int = 0
    """Number of splits that an earlier run had staged already."""
    lanes: int = 0
    """Number of lanes that worked."""
    lanes_bound: str = ""
    """What allowed no more lanes: CPUs, max_connections …; empty: the splits, or `lanes`."""
    retries: int = 0
    """Number of attempts that failed and were repeated."""
    seconds: float = 0.0
    """Time from planning to the end, in seconds."""
    wait_home_s: float = 0.0
    """Seconds that Homes waited for room in their Inboxes (a slow Store), over all lanes."""
    wait_store_s: float = 0.0
    """Seconds that Stores waited for batches (a slow Home), over all lanes."""
    home: str = ""
    """The source, as `Home.describe` gives it."""
    store: str = ""
    """The target, as `Store.describe` gives it."""
    mode: str = ""
    """The flow's mode."""
    guarantee: str = ""
    """The store's guarantee."""
    note: str = ""
    """Sentences for people, separated by `; `."""
    changes: tuple[str, ...] = ()
    """What the run changed of the store's columns, a sentence each."""
    error: str | None = None
    """The error message; None: it did not fail."""
    hint: str | None = None
    """The hint of the error; None: it has none."""
    run: str = ""
    """Id of the run."""
    started_at: float = 0.0
    """Time when planning began, in seconds since 1970."""
    done_at: float = 0.0
    """Time when the commit had returned, in seconds since 1970."""
    of: str = ""
    """Name of the flow of many tables that this is one table of; empty: a flow of its own."""


@dataclass(frozen=True)
class Summary:
    """The results of all flows of a file."""

    flows: tuple[Report, ...]
    """One report each, in the order of the file."""
    seconds: float = 0.0
    """Time from the first to the last, in seconds."""

    @property
    def ok(self) -> bool:
        """Return whether every flow is done."""
        return all(report.status == "done" for report in self.flows)


@dataclass(frozen=True)
class Limits:
    """Limits of what a flow may use of its machines."""

    lanes: int | None = None
    """Number of lanes. None: as many as the splits, the machine's CPUs and the Store allow."""
    most_lanes: int | None = None
    """Number of lanes that `max_connections` allows, whatever `lanes` says; None: any number."""
    cpus_per_lane: float | None = None
    """CPUs that a lane takes of its node. None: one, and `lanes: auto` counts two."""
    resources: Mapping[str, float] = field(default_factory=dict)
    """Amounts of other resources that a lane takes of its node, by the cluster's names for them."""
    label_selector: Mapping[str, str] = field(default_factory=dict)
    """Labels of the nodes where lanes may run: `eu`, `!eu`, `in(eu, uk)`."""
    max_bytes_per_second: int | None = None
    """Arrow bytes that the Home may give in a second, over all lanes; None: any number."""
    of: str = ""
    """Name of the flow of many tables that this is one of: they share that rate, and lanes."""
    store_share: float = 1.0
    """Part of the nodes' object stores that it may fill; Ray jobs that run at once divide them."""
    memory_per_lane: int = 128 * MIB
    """Bytes of batches that a lane may hold at one time."""
    batch_bytes: int = 32 * MIB
    """Bytes of one batch, about."""
    driver: Mapping[str, float] = field(default_factory=dict)
    """What its Ray job takes of a node, by Ray's names (`CPU`, …); empty: it is on the head."""
    retries: int = 3
    """Number of times that one split, or one step of the driver, is tried again."""
    stall_timeout_s: float = 3600.0
    """Seconds without any progress after which a flow fails, also in planning and in the commit."""
    wait_at_most_s: float | None = None
    """Seconds to wait for a node for a lane. None: 1,800 on a cluster that may grow, or else 60."""
    resume_within_s: float = 24 * 3600.0
    """Seconds after which a run that died is abandoned instead of resumed."""
    on_bad_row: Literal["fail", "set_aside"] = "fail"
    """What is done with a row that cannot be moved: the run fails, or the row is set aside."""
    max_bad_rows: int = 100
    """The most rows that a run may set aside; above it the run fails."""
    max_bad_share: float = 0.001
    """The most rows that a run may set aside, as a part of those that were read."""


def facts_of_head(head: Head) -> dict[str, Any]:
    """Return a head as JSON, without what is None and unknown to older versions."""
    new = ("ties", "aside")
    return {key: fact for key, fact in asdict(head).items() if key not in new or fact is not None}


def from_facts(record: type[Record], facts: Mapping[str, Any]) -> Record:
    """Build a dataclass from its facts; fields that only a newer version has are dropped."""
    known = [each for each in fields(record) if each.name in facts]
    values = {each.name: facts[each.name] for each in known}
    for each in known:
        if each.default == ():
            values[each.name] = tuple(values[each.name])  # JSON has lists alone
    return record(**values)
