"""The two actors of a lane. Plain synchronous code: one call at a time, each in its own process.

The Home reads a split and puts its batches; the Store pulls them and stages the split. Both get
their connector as bytes that are unpickled only when the user's folders are on `sys.path`, so that
a class from a script, a notebook or a module beside flows.yml is found in any process.
"""

from __future__ import annotations

import contextlib
import gc
import os
import pickle
import sys
from collections.abc import Generator, Iterator
from typing import Any

import pyarrow as pa
import ray
from ray import cloudpickle

from hygge.batches import rows_in
from hygge.engine.ray.inbox import Batch, End, Inbox
from hygge.engine.reading import batches, staged
from hygge.errors import ConfigError, HyggeError, Transient, in_words
from hygge.model import Limits, Receipt, Split, Ticket
from hygge.settings import import_all


def packed(connector: Any) -> bytes:
    """A connector as it travels; unpacked by the actors."""
    blob: bytes = cloudpickle.dumps(connector)
    return blob


def _unpacked(blob: bytes, paths: list[str]) -> Any:
    for path in reversed(paths):
        if path not in sys.path and os.path.isdir(path):
            sys.path.insert(0, path)
    pa.set_cpu_count(1)  # lanes are the parallelism; threads of one would take from the others
    try:
        return cloudpickle.loads(blob)
    except Exception as error:
        raise ConfigError(
            f"a connector cannot be unpacked in a worker: {type(error).__name__}: {error}",
            "modules beside flows.yml are found by themselves; install others where Ray runs",
        ) from error


@contextlib.contextmanager
def _portable() -> Iterator[None]:
    """An error that could not be unpickled by the driver goes there in words."""
    try:
        yield
    except (HyggeError, ray.exceptions.RayError):
        raise
    except Exception as error:
        try:
            pickle.loads(cloudpickle.dumps(error))
        except Exception:
            raise in_words(error) from None
        raise


class _End:
    """What both actors have."""

    def __init__(self, inbox: Inbox, label: str) -> None:
        self.inbox, self.label = inbox, label

    def node(self) -> str:
        """The id of its node: the process stands."""
        node: str = ray.get_runtime_context().get_node_id()
        return node

    def warm(self, modules: tuple[str, ...]) -> None:
        """Import them, which takes as long as moving many rows."""
        gc.disable()
        import_all(modules)
        gc.enable()
        gc.collect()


class HomeActor(_End):
    """Reads splits into an Inbox."""

    def warm(self, modules: tuple[str, ...]) -> None:
        """As `_End` says; Ray puts an Arrow table by way of pyarrow.compute, which asks pandas."""
        super().warm(("pyarrow.compute", "pandas", *modules))

    def load(self, blob: bytes, paths: list[str]) -> None:
        """Unpack the connector; not in __init__, where an error would lose its cause."""
        self.home = _unpacked(blob, paths)

    def read(self, ticket: Ticket, split: Split, schema: pa.Schema | None, limits: Limits) -> int:
        """Put every batch of the split; gives the rows when the last one is in the Inbox."""
        seq = rows = 0
        tables = batches(self.home, split, schema, limits)
        with _portable(), contextlib.closing(tables):
            for table in tables:
                nbytes, count = max(1, table.nbytes), rows_in(table)
                # What is above a batch's size (one huge row) lies in both ends' memory besides.
                weight = nbytes + 2 * max(0, nbytes - limits.batch_bytes)
                self.inbox.charge(weight, nbytes)
                self.inbox.put(Batch(ticket, seq, count, nbytes, weight, [ray.put(table)]))
                del table
                pa.default_memory_pool().release_unused()  # 70 to 100 MB, which it would keep
                seq, rows = seq + 1, rows + count
        pa.default_memory_pool().release_unused()
        self.inbox.put(End(ticket, seq, rows))
        return rows

    def __repr__(self) -> str:
        return f"Home({self.label})"


class StoreActor(_End):
    """Stages splits from an Inbox."""

    def load(self, blob: bytes, paths: list[str]) -> None:
        """Unpack the connector; not in __init__, where an error would lose its cause."""
        self.store = _unpacked(blob, paths)

    def stage(self, ticket: Ticket, schema: pa.Schema | None) -> Receipt:
        """Stage one split from the batches that the Home sends under this ticket."""
        tables = _received(self.inbox, ticket)
        try:
            with _portable(), contextlib.closing(tables):
                return staged(self.store, ticket, schema, tables)
        finally:
            pa.default_memory_pool().release_unused()  # the next split may be of another flow

    def __repr__(self) -> str:
        return f"Store({self.label})"


def _received(inbox: Inbox, ticket: Ticket) -> Generator[pa.Table]:
    """The batches of one ticket, in order and complete, or Transient."""
    seq = rows = freed = 0
    while True:
        message = inbox.take(freed)
        freed = message.weight if isinstance(message, Batch) else 0
        if message.ticket != ticket:
            continue  # of an attempt that was given up
        if isinstance(message, End):
            if (message.batches, message.rows) != (seq, rows):
                raise Transient(
                    f"split {ticket.split}: {message.batches} batches with {message.rows:,} rows "
                    f"were sent, {seq} with {rows:,} came"
                )
            return
        if message.seq != seq:
            raise Transient(f"split {ticket.split}: batch {seq} is missing")
        table = ray.get(message.refs[0])
        del message
        seq, rows = seq + 1, rows + rows_in(table)
        yield table
        # The consumer has asked for more: it is done with this one. Drop it before the next wait,
        # or the shared memory stays pinned while its credit is given back.
        del table
        pa.default_memory_pool().release_unused()
