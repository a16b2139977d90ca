"""Store: where data settles. This is the contract of everything that can be written.

Write a Store in one of two forms; the base class derives the other form.

**Simple**: `async def write(self, df)` takes a pandas DataFrame with Arrow-backed dtypes
(`receives = "arrow"` asks for `pa.Table`). Such a Store has one lane, gets its batches in order,
appends, and delivers at least once: after a failure a batch may come again. Modes `replace` and
`merge` are refused. Keep nothing in `__init__` that cannot be pickled.

**Full**: the verbs below, plain synchronous code; the actors take care of concurrency.

head(flow)
    Called by the Flow, in the driver, any number of times. Returns the `Head` of what is committed
    for that flow, or None. The head lives in the store itself and MUST move together with the rows.
    It keeps the `ties` of the run that `commit` got, which are JSON of up to 150 kB.

takes(run, raw, schema)
    Called by the Flow, in the driver, before `prepare`, where the Home offers passthrough (`raw`,
    see `hygge.batches.raw_schema`) instead of columns of `schema`. Returns the schema that
    `prepare` and `stage` shall get: a passthrough, or `schema` with metadata about its types; or
    None to get columns. MUST not return a passthrough that could change a value. `Receipt.rows`
    counts rows of the source (`rows_in`), not batches.

prepare(run, schema)
    Called by the Flow, in the driver, at least once a run. Makes the invisible place for staging.
    MUST be idempotent, and MUST not touch visible rows. `schema` is None where only the rows show
    it; `hygge.batches.key_of(schema)` is the source's primary key where the plan knows it. Where
    `hygge.changes.has_op(schema)` the rows are changes, which `traits.changes` allows.
    Raises NotOurs where `replace` would drop something that hygge did not write, StoreError where
    there is no permission or no space; both before any row moves.

examine(run, schema)
    Called by `hygge plan`, in the driver. Raises what `prepare` would raise, and returns what the
    place holds now, or None where that is not known. MUST change nothing.

remarks(schema)
    Called by the Flow and by `hygge plan`, in the driver, for the schema that `prepare` gets.
    Returns a sentence for each column that the Store keeps as another type than it has.

stage(ticket, schema, batches)
    Called by the Store actor, at least once a split. Pulls the batches, so that back-pressure, end
    and failure are plain Python. Returns a `Receipt` when they are durable and still invisible.
    Two attempts MUST never touch each other's pieces, not even when both run. May return the
    receipt of an earlier staged attempt of the same split and epoch (same driver, same plan),
    without taking its batches, unless `bad_rows` is set. Raises Transient where a retry may help.
    Where `bad_rows` is set, a row that the Store cannot hold goes there (`BadRows.sift`), and the
    receipt does not count it.

resume(run, receipts)
    Called by the Flow, in the driver, after `prepare`, when it resumes a run that another driver
    began. Returns those of `receipts` whose rows are still staged and complete, and removes
    whatever else was staged for the run. MUST never touch visible rows, and MUST be safe to call
    twice. Without this verb all receipts count as still staged; `commit` checks them.

commit(run, base, receipts, watermark)
    Called by the Flow, in the driver, at least once. It is a compare-and-swap: head is `base` →
    rows and head move together to base + 1; head is this run already → nothing to do; else it
    raises Superseded. Returns a `Commit`, or raises Rejected (nothing became visible, and never
    will: the target was altered, its trigger refuses a row; the run is closed) or Unknown (the head
    can tell). After any other error the run stays decided, and the next run commits it. MUST check
    that the rows and parts that the receipts count are there. Where `refused_rows` is set, it may
    set rows aside that the target refuses (`RefusedRows`, `Commit.set_aside`).

discard(run)
    Called by the Flow, in the driver, any number of times, only after a decision. Removes what the
    run staged. MUST be safe to call twice, and MUST never touch visible rows.
"""

from __future__ import annotations

import functools
import inspect
import sys
import uuid
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from hygge.bad_rows import BadRows
from hygge.batches import notes_of
from hygge.dataframes import as_table
from hygge.errors import ConfigError, StoreError
from hygge.model import (
    Commit,
    Head,
    Mode,
    Receipt,
    Run,
    StoreTraits,
    TargetState,
    Ticket,
    Watermark,
)
from hygge.refused_rows import RefusedRows
from hygge.settings import Connector, is_rebuilt_class

if TYPE_CHECKING:
    import pyarrow as pa

SIMPLE = StoreTraits(
    modes=("append",),
    guarantee="at least once",
    visibility="per batch",
    max_lanes=1,
    sees="each batch as soon as `write` delivers it; after a failed attempt some may come twice",
)
BY_HAND = "by_hand"
"""Identity of the flow that batches written without a Flow belong to."""


class Store(Connector):
    """One data set that can be written. The module's docstring describes the two forms."""

    traits: StoreTraits = StoreTraits()
    most_bad_rows: int | None = None
    """The most rows that may be set aside, where the flow asks for that; None: none may."""
    flow_mode: Mode | None = None
    """The mode of the flow that writes it."""
    bad_rows: BadRows | None = None
    """While `stage` runs: what takes the rows that the Store cannot hold; None: they are errors."""
    batches_stay: bool = False
    """While `stage` runs: whether a batch may be used after the next one was asked for."""
    refused_rows: RefusedRows | None = None
    """While `commit` runs: what takes the rows that the target refuses; None: they are errors."""
    takes_dictionaries: ClassVar[bool] = False
    """True if columns of text may come as dictionaries, as `Home.gives_dictionaries` says."""
    receives: ClassVar[Literal["pandas", "arrow"]] = "pandas"
    """Simple form: the kind of batch that `write` gets."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if is_rebuilt_class(sys._getframe(1)):
            return
        simple = cls.write is not Store.write
        full = [getattr(cls, verb) is not getattr(Store, verb) for verb in ("stage", "commit")]
        if not simple and not all(full):
            raise ConfigError(
                f"{cls.__name__} is a Store that cannot be written: it defines neither write "
                "nor both of stage and commit",
                "write `async def write(self, df)`",
            )
        if simple and not any(full):
            if "traits" not in cls.__dict__ and cls.traits is Store.traits:
                cls.traits = SIMPLE
            if "write" in cls.__dict__:
                cls.write = _converting(cls.__dict__["write"])  # type: ignore[method-assign]  # on purpose

    def sees(self) -> str:
        """Return what a reader that is not hygge sees, and when; `hygge plan` prints it.

        A Store overrides it where that depends on the place that it writes to.
        """
        return self.traits.sees

    def is_also(self, place: str) -> bool:
        """Return whether a place that differs from this one in case or form alone is the same one.

        Called for places that are equal after `str.casefold` and Unicode's NFC. A Store overrides
        it where names of that kind mean one table or one folder.
        """
        return False

    def head(self, flow: str) -> Head | None:
        """Return the head of `flow`, or None. A simple Store keeps no head."""
        return None

    def takes(self, run: Run, raw: pa.Schema, schema: pa.Schema) -> pa.Schema | None:
        """Return the passthrough that this Store prefers to columns of `schema`, or None."""
        return None

    def prepare(self, run: Run, schema: pa.Schema | None) -> None:
        """Make the invisible place for staging; a simple Store has none."""

    def examine(self, run: Run, schema: pa.Schema | None) -> TargetState | None:
        """Raise what `prepare` would raise; return what the place holds now, None: not known."""
        return None

    def reader(self, schema: pa.Schema) -> Connector | None:
        """Return a Home that reads what is committed here, for `hygge verify`; None: there is none.

        `schema` is that of the rows that flows write here, for what keeps no types.
        """
        return None

    def remarks(self, schema: pa.Schema | None) -> list[str]:
        """Return what there is to say of columns that become others."""
        return notes_of(schema)

    def stage(
        self, ticket: Ticket, schema: pa.Schema | None, batches: Iterator[pa.Table]
    ) -> Receipt:
        """Take the batches of a split (full form). The simple form awaits `write` for each."""
        import asyncio  # slow to load, and not needed by the full form

        rows = size = 0
        loop = asyncio.new_event_loop()
        try:
            for batch in batches:
                loop.run_until_complete(self.write(batch))
                rows += batch.num_rows
                size += batch.nbytes
                del batch
        finally:
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.close()
        return Receipt(ticket, version="", rows=rows, bytes=size)

    def resume(self, run: Run, receipts: Sequence[Receipt]) -> list[Receipt]:
        """Return the receipts whose rows are still staged; all of them where that is not known."""
        return list(receipts)

    def commit(
        self, run: Run, base: Head | None, receipts: Sequence[Receipt], watermark: Watermark
    ) -> Commit:
        """Move rows and head together. In the simple form the rows are visible already."""
        rows = sum(receipt.rows for receipt in receipts)
        generation = base.generation + 1 if base else 1
        return Commit(Head(run.flow, generation, run.id, rows, watermark), applied=rows)

    def discard(self, run: Run) -> None:
        """Remove what a run staged; a simple Store staged nothing."""

    async def write(self, df: Any) -> None:
        """Append one batch (simple form). The full form makes it one small committed run.

        `df` is anything Arrow-shaped. When the full form returns, its rows are durable and visible.
        """
        import asyncio

        await asyncio.to_thread(_append, self, as_table(df, f"{type(self).__name__}.write"))


def new_run_id() -> str:
    """Return an id that sorts by time and never repeats: `20261123T150155-3f9ac1d2`."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{uuid.uuid4().hex[:8]}"


def _append(store: Store, table: pa.Table) -> None:
    if "append" not in store.traits.modes:
        raise StoreError(
            f"{store.describe()} cannot be appended to", "write it with a Flow in mode 'replace'"
        )
    run = Run(new_run_id(), BY_HAND, "append")
    base = store.head(run.flow)
    store.prepare(run, table.schema)
    try:
        receipt = store.stage(Ticket(run.id, 0), table.schema, iter([table]))
        store.commit(run, base, [receipt], None)
    finally:
        store.discard(run)


def _converting(write: Callable[[Any, Any], object]) -> Any:
    """Wrap the `write` of a simple Store so that it gets the kind of batch that it `receives`.

    It may be called with anything Arrow-shaped, and it may be synchronous.
    """

    @functools.wraps(write)
    async def converting(self: Store, df: Any) -> None:
        table = as_table(df, f"{type(self).__name__}.write")
        if self.receives == "pandas":
            import pandas as pd  # slow to load, and not needed by a Store that receives Arrow

            result = write(self, table.to_pandas(types_mapper=pd.ArrowDtype))
        else:
            result = write(self, table)
        if inspect.isawaitable(result):
            await result

    return converting
