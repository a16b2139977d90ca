"""Home: where data lives. This is the contract of everything that can be read.

Write a Home in one of two forms; the base class derives the other form.

**Simple**: `async def read_batches(self)` yields anything Arrow-shaped (pandas or polars DataFrame,
`pa.Table`, `RecordBatch`, `__arrow_c_stream__`). Such a Home has one split. Its schema is that of
its first batches, or `schema = pa.schema([...])` on the class. Keep nothing in `__init__` that
cannot be pickled, because the Home travels to an actor; open connections inside `read_batches`.

**Full**: `open` and `read`, plain synchronous code; the actors take care of concurrency.

open(since)
    Called by the Flow, in the driver, once a run. Returns a context manager of a `Plan`.
    MUST hold until it is closed whatever the plan needs (an exported snapshot, for example). The
    splits MUST be disjoint and together complete up to one watermark; there MUST be at least one,
    and rows whose key is NULL MUST be in one. `since` is the watermark of the last committed run,
    or None. Raises SourceMissing where something does not exist, with the nearest name that does.

read(split)
    Called by the Home actor (or the inline engine), at least once a split; again after a failure,
    and then perhaps in another process. Returns an iterator of `pa.Table`.
    MUST give the same rows each time under the same split version, else raise SourceChanged.
    MUST be lazy, and MUST close what it opened, also when it is not read to its end.
    MUST give batches of the plan's schema. Raises Transient where a retry may help.
    Where `traits.changes` says that the rows are changes, their order counts: `hygge/changes.py`.
    May end with a `hygge.batches.reached_table`: the rows reach to another watermark than the
    plan's. Such a split has no version.

passing(raw)
    Called by the Flow, in the driver, after `open`, where the plan has `raw` set and the Store
    takes it. Returns a Home whose `read` yields `raw_table`s of that schema instead of columns:
    the same rows, in a format that both ends know by name (COPY of one database into another).
"""

from __future__ import annotations

import inspect
import itertools
import sys
from collections.abc import (
    AsyncIterable,
    AsyncIterator,
    Generator,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any, ClassVar

from hygge.errors import ConfigError, HomeError
from hygge.model import MIB, Column, HomeTraits, Mode, Plan, Split, Watermark
from hygge.settings import Connector, is_rebuilt_class

if TYPE_CHECKING:
    import pyarrow as pa

    from hygge.shape.bound import Bound
    from hygge.shape.settings import Shape
    from hygge.shape.step import Reading


_QUICK_FILES, _QUICK_BYTES = 100, 64 * MIB


class Home(Connector):
    """One data set that can be read. The module's docstring describes the two forms."""

    traits: HomeTraits = HomeTraits()
    lanes: int | None = None
    """Highest number of lanes that will read it, where that is known when `open` is called."""
    flow_mode: Mode | None = None
    """The mode of the flow that reads it."""
    flow_key: tuple[str, ...] = ()
    """The key of the flow that reads it."""
    ties: Mapping[str, Any] | None = None
    """What the head of the store remembers of the rows at the watermark: see `Head.ties`."""
    most_bad_rows: int | None = None
    """The most rows that may be set aside, where the flow asks for that. None: a row that cannot be
    read is an error; else `read` yields it in a `hygge.bad_rows.bad_table`."""
    shape: Shape | None = None
    """What the flow makes of its columns; a Home may leave unread what is not needed."""
    bound: Bound | None = None
    """The same for the columns of the plan; `read` still gives those of the source."""
    reading: Reading | None = None
    """What the shape may know of the run; None: there is none yet."""
    gives_dictionaries: bool | None = None
    """Whether `read` may give columns of text as dictionaries; None: it never does. See
    `hygge/formats/parquet_dictionaries.py`."""
    to_json: bool = False
    """Whether nested values become JSON, since the Store keeps them so."""
    batches_stay: ClassVar[bool] = False
    """True if a batch that `read` gave is never changed, so that a Store need not copy it."""
    schema: ClassVar[pa.Schema | None] = None
    """Simple form: the Arrow schema, where the first batches do not show it."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if is_rebuilt_class(sys._getframe(1)):
            return
        simple = cls.read_batches is not Home.read_batches
        full = (cls.open is not Home.open, cls.read is not Home.read)
        if not simple and not all(full):
            raise ConfigError(
                f"{cls.__name__} is a Home that cannot be read: it defines neither read_batches "
                "nor both of open and read",
                "write `async def read_batches(self)` and yield DataFrames",
            )

    def open(self, since: Watermark = None) -> AbstractContextManager[Plan]:
        """Plan a run (full form). The simple form has one split, and its schema from the class."""
        return _one_split(self.schema, self.describe())

    def read(self, split: Split) -> Iterator[pa.Table]:
        """Read one split (full form). The simple form reads `read_batches`."""
        return _as_tables(self.read_batches(), type(self).__name__)

    def locks(self) -> str | None:
        """Return the path that nobody can write while a plan is open; None: there is none."""
        return None

    def primary_key(self) -> tuple[str, ...]:
        """Return the columns of the source's primary key; none where it has none, or none is known.

        A flow of mode `merge` that names no `key` asks for it, before anything is planned.
        """
        return ()

    def glance(self) -> AbstractContextManager[Plan] | None:
        """Return a plan as `open(None)` makes it where that is quick; None: it may take long.

        Called before the engine is started, to find mistakes; its splits are never read.
        """
        return None

    def passing(self, raw: pa.Schema) -> Home:
        """Return this Home such that `read` gives the passthrough `raw` that a Store chose."""
        raise NotImplementedError(f"{type(self).__name__} offers nothing beyond Arrow")

    def reshaped(self, raw: pa.Schema, bound: Bound) -> pa.Schema | None:
        """Return the passthrough of a plan for the columns that `bound` makes; None: there is none.

        A Home that offers `raw` may have the source do what `bound` does.
        """
        return None

    def read_bad(self, rows: pa.Table) -> Iterator[pa.Table]:
        """Yield rows that this Home gave as bad rows, read anew after the mend, as `read` does.

        `rows` has the columns of `hygge.bad_rows.SCHEMA`. Raises what is still wrong with one of
        them. Called by `hygge bad --replay`.
        """
        raise HomeError(f"{self.describe()} does not read rows again that were set aside")

    async def read_batches(self) -> AsyncIterator[Any]:
        """Yield batches (simple form). The full form yields each split in order, as `pa.Table`s.

        The full form reads in a thread, so the event loop stays free.
        """
        import asyncio  # slow to load, and not needed by the full form

        loop = asyncio.get_running_loop()
        with ThreadPoolExecutor(1, thread_name_prefix="hygge-home") as thread:
            tables = _all_splits(self)
            try:
                while True:
                    table = await loop.run_in_executor(thread, next, tables, None)
                    if table is None:
                        return
                    yield table
            finally:
                await loop.run_in_executor(thread, tables.close)


def is_quick(sizes: Sequence[int]) -> bool:
    """Return whether files of these sizes, in bytes, are planned in next to no time."""
    return len(sizes) <= _QUICK_FILES and sum(sizes) <= _QUICK_BYTES


@contextmanager
def _one_split(schema: pa.Schema | None, label: str) -> Iterator[Plan]:
    columns = None
    if schema is not None:
        columns = tuple(Column(f.name, f.type, nullable=f.nullable) for f in schema)
    yield Plan(columns, (Split(0, version="", label=label),), reason="one split: a simple Home")


def _all_splits(home: Home) -> Generator[pa.Table]:
    with home.open(None) as plan:
        for split in plan.splits:
            yield from home.read(split)


def _as_tables(batches: object, who: str) -> Iterator[pa.Table]:
    """The batches that `read_batches` of the class `who` yields, as Tables; it may be sync."""
    from hygge.dataframes import as_table  # loads pyarrow: a Home can be defined without it

    if inspect.isawaitable(batches):
        if inspect.iscoroutine(batches):
            batches.close()
        raise HomeError(
            f"{who}.read_batches returns instead of yielding",
            "write `yield df` for each batch; `return [df]` gives nothing to read lazily",
        )
    items: Iterator[object]
    if isinstance(batches, AsyncIterable):
        items = _from_async(batches)
    elif isinstance(batches, Iterable):
        items = iter(batches)
    else:
        raise HomeError(
            f"{who}.read_batches gives a {type(batches).__name__} instead of batches",
            "write `yield df` for each batch",
        )
    numbers = itertools.count(1)
    for item in items:  # no name here may keep a batch in memory while the next one is made
        table = as_table(item, f"{who}: batch {next(numbers)}")
        del item
        yield table
        del table


def _from_async(batches: AsyncIterable[object]) -> Iterator[object]:
    """Iterate over `batches` with a private event loop in the calling thread."""
    import asyncio

    loop = asyncio.new_event_loop()
    iterator = batches.__aiter__()
    try:
        while True:
            try:
                item = loop.run_until_complete(iterator.__anext__())
            except StopAsyncIteration:
                return
            yield item
            del item
    finally:
        if hasattr(iterator, "aclose"):
            loop.run_until_complete(iterator.aclose())
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()
