"""Home: where data lives. The contract of everything that can be read.

Write it in one of two forms; either is enough, the base class derives the other.

**Simple**: `async def read_batches(self)` yields anything Arrow-shaped (pandas or polars DataFrame,
`pa.Table`, `RecordBatch`, `__arrow_c_stream__`). Such a Home has one split. Its schema is that of
its first batches, or `schema = pa.schema([...])` on the class. Put nothing into `__init__` that
cannot be pickled: the Home travels to an actor; open connections inside `read_batches`.

**Full**: `open` and `read`, plain synchronous code; actors own the concurrency.

open(since)
    Called by the Flow, in the driver, once a run; gives a context manager of a `Plan`.
    MUST hold until it is closed whatever the plan needs (an exported snapshot, say). The splits
    MUST be disjoint and together complete up to one watermark; there is at least one; none misses
    rows whose key is NULL. `since` is the watermark of the last committed run, or None.
    Raises SourceMissing for what is not there, with the nearest name that is.

read(split)
    Called by the Home actor (or the inline engine), at least once a split, perhaps again after a
    failure, perhaps in another process. Gives an iterator of `pa.Table`.
    MUST give the same rows each time under the same split version, else raise SourceChanged.
    MUST be lazy, and close what it opened, also when it is not read to its end.
    MUST give batches of the plan's schema. Raises Transient where a retry may help.

passing(raw)
    Called by the Flow, in the driver, after `open`, by a Home whose plan has `raw` set, if the
    Store takes it. Gives a Home whose `read` yields `raw_table`s of that schema instead of columns:
    the same rows, in a format that both ends know by name (COPY of one database into another).
"""

from __future__ import annotations

import asyncio
import inspect
import itertools
import sys
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any, ClassVar

from hygge.errors import ConfigError, HomeError
from hygge.model import Column, HomeTraits, Plan, Split, Watermark
from hygge.settings import Connector, built_in_two_steps

if TYPE_CHECKING:
    import pyarrow as pa


class Home(Connector):
    """Where one data set lives. See the module's docstring for the two forms."""

    traits: ClassVar[HomeTraits] = HomeTraits()
    lanes: int | None = None
    """How many lanes will read it at most, where that is known when `open` is called."""
    schema: ClassVar[pa.Schema | None] = None
    """Simple form: the Arrow schema, for a Home whose first batches do not show it."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if built_in_two_steps(sys._getframe(1)):
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
        """Plan a run (full form); derived for the simple form: one split, schema from the class."""
        return _one_split(self.schema, self.describe())

    def read(self, split: Split) -> Iterator[pa.Table]:
        """Read one split (full form); derived for the simple form from `read_batches`."""
        return _drain(self.read_batches(), type(self).__name__)

    def passing(self, raw: pa.Schema) -> Home:
        """This Home, giving the passthrough `raw` of its plan (as a Store chose it) from `read`."""
        raise NotImplementedError(f"{type(self).__name__} offers nothing beyond Arrow")

    async def read_batches(self) -> AsyncIterator[Any]:
        """Yield batches (simple form); derived for the full form: every split in order.

        Yields `pa.Table`s. Reading happens in a thread, so the event loop stays free.
        """
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


@contextmanager
def _one_split(schema: pa.Schema | None, label: str) -> Iterator[Plan]:
    columns = None
    if schema is not None:
        columns = tuple(Column(f.name, f.type, nullable=f.nullable) for f in schema)
    yield Plan(columns, (Split(0, version="", label=label),), reason="one split: a simple Home")


def _all_splits(home: Home) -> Any:
    with home.open(None) as plan:
        for split in plan.splits:
            yield from home.read(split)


def _drain(batches: Any, who: str) -> Iterator[pa.Table]:
    from hygge.batches import as_table

    if inspect.isawaitable(batches):
        if inspect.iscoroutine(batches):
            batches.close()
        raise HomeError(
            f"{who}.read_batches returns instead of yielding",
            "write `yield df` for each batch; `return [df]` gives nothing to read lazily",
        )
    if hasattr(batches, "__aiter__"):
        items: Iterator[Any] = _from_async(batches)
    elif hasattr(batches, "__iter__"):
        items = iter(batches)
    else:
        raise HomeError(
            f"{who}.read_batches gives a {type(batches).__name__} instead of batches",
            "write `yield df` for each batch",
        )
    numbers = itertools.count(1)
    for item in items:  # nothing here may hold a batch while the next one is made
        table = as_table(item, f"{who}: batch {next(numbers)}")
        del item
        yield table
        del table


def _from_async(batches: Any) -> Iterator[Any]:
    """An async iterator, driven by a private event loop in the calling thread."""
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
