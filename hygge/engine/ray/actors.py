"""The two actors of a lane: each a process of its own that runs one call at a time.

The Home reads a split and puts its batches into the Inbox; the Store takes them and stages the
split. A split of one batch is read by the Store's process itself: the two would take turns.
`load` hands a connector to its actor as bytes, and unpickles it after the user's folders were put
on `sys.path`. So a class of a script, a notebook or a module beside flows.yml is found.
"""

from __future__ import annotations

import contextlib
import gc
import os
import pickle
import sys
from collections.abc import Generator, Iterator
from typing import cast

import pyarrow as pa
import ray
from ray import cloudpickle

from hygge.batches import rows_in
from hygge.engine.ray import shared
from hygge.engine.ray.inbox import Batch, End, Inbox
from hygge.engine.reading import read_split, stage_split
from hygge.errors import ConfigError, HyggeError, Transient, as_hygge_error
from hygge.home import Home
from hygge.model import Limits, Receipt, Split, Ticket
from hygge.run.said import Speaker
from hygge.settings import import_all
from hygge.store import Store


def pickle_connector(connector: Home | Store) -> bytes:
    """Return a connector as the bytes that `load` takes."""
    blob: bytes = cloudpickle.dumps(connector)
    return blob


def _unpickle(blob: bytes, paths: list[str]) -> object:
    for path in reversed(paths):
        if path not in sys.path and os.path.isdir(path):
            sys.path.insert(0, path)
    pa.set_cpu_count(1)  # lanes run in parallel: more threads in one take CPU from the others
    try:
        connector: object = cloudpickle.loads(blob)
    except Exception as error:
        raise ConfigError(
            f"a connector cannot be unpacked in a worker: {type(error).__name__}: {error}",
            "modules beside flows.yml are found by themselves; install others where Ray runs",
        ) from error
    return connector


@contextlib.contextmanager
def _with_picklable_errors() -> Iterator[None]:
    """Replace an error that the driver could not unpickle by a HyggeError with its text."""
    try:
        yield
    except (HyggeError, ray.exceptions.RayError):
        raise
    except Exception as error:
        try:
            pickle.loads(cloudpickle.dumps(error))
        except Exception:
            raise as_hygge_error(error) from None
        raise


class _EndActor:
    """The code that the actors of both ends of a lane share."""

    def __init__(self, inbox: Inbox, label: str) -> None:
        self.inbox, self.label = inbox, label

    def node(self) -> str:
        """Return the id of the actor's node. An answer also means that the process has started."""
        node: str = ray.get_runtime_context().get_node_id()
        return node

    def warm(self, modules: tuple[str, ...]) -> None:
        """Import modules ahead of time: imports take as long as moving many rows."""
        gc.disable()
        import_all(modules)
        gc.enable()
        gc.collect()


class HomeActor(_EndActor):
    """Reads splits into an Inbox."""

    home: Home

    def load(self, blob: bytes, paths: list[str]) -> None:
        """Unpickle the connector. Not in __init__, where Ray would lose the cause of an error."""
        self.home = cast("Home", _unpickle(blob, paths))

    def read(self, ticket: Ticket, split: Split, schema: pa.Schema | None, limits: Limits) -> int:
        """Put every batch of the split into the Inbox, and return the number of rows."""
        seq = rows = 0
        tables = read_split(self.home, split, schema, limits, Speaker(self.inbox.say))
        with _with_picklable_errors(), contextlib.closing(tables):
            for table in tables:
                nbytes, count = max(1, table.nbytes), rows_in(table)
                # Home and Store each hold a copy of what exceeds a batch's size (one huge row).
                weight = nbytes + 2 * max(0, nbytes - limits.batch_bytes)
                self.inbox.charge(weight, nbytes)
                ref = shared.put(table, limits.batch_bytes)
                del table
                self.inbox.put(Batch(ticket, seq, count, nbytes, weight, [ref]))
                del ref
                pa.default_memory_pool().release_unused()  # otherwise it keeps 70 to 100 MB
                seq, rows = seq + 1, rows + count
        pa.default_memory_pool().release_unused()
        self.inbox.put(End(ticket, seq, rows))
        return rows

    def __repr__(self) -> str:
        return f"Home({self.label})"


class StoreActor(_EndActor):
    """Stages splits from an Inbox."""

    store: Store
    home: Home

    def load(self, blob: bytes, paths: list[str], home: bytes | None = None) -> None:
        """Unpickle the connector. Not in __init__, where Ray would lose the cause of an error.

        `home`: the Home for `move`, as bytes.
        """
        self.store = cast("Store", _unpickle(blob, paths))
        if home is not None:
            self.home = cast("Home", _unpickle(home, paths))

    def move(
        self, ticket: Ticket, split: Split, schema: pa.Schema | None, limits: Limits
    ) -> tuple[int, Receipt]:
        """Read a split and stage it, both here; return the number of rows read, and the receipt."""
        speaker = Speaker(self.inbox.say)
        batches = read_split(self.home, split, schema, limits, speaker)
        tables = _Passing(batches, self.inbox)
        try:
            with _with_picklable_errors(), contextlib.closing(batches):
                receipt = stage_split(self.store, ticket, schema, tables, speaker)
        except Exception:
            if tables.error is not None:  # the Store may have replaced it by one of its own
                with _with_picklable_errors():
                    raise tables.error from tables.error.__cause__
            raise
        finally:
            pa.default_memory_pool().release_unused()
        return tables.rows, receipt

    def stage(self, ticket: Ticket, schema: pa.Schema | None) -> Receipt:
        """Stage one split from the batches that the Home sends under this ticket."""
        tables = _receive(self.inbox, ticket)
        try:
            with _with_picklable_errors(), contextlib.closing(tables):
                return stage_split(self.store, ticket, schema, tables, Speaker(self.inbox.say))
        finally:
            pa.default_memory_pool().release_unused()  # the next split may be of another flow

    def __repr__(self) -> str:
        return f"Store({self.label})"


class _Passing(Iterator[pa.Table]):
    """The batches of a split that one process reads and stages; the Inbox counts each of them."""

    def __init__(self, tables: Iterator[pa.Table], inbox: Inbox) -> None:
        self.tables, self.inbox = tables, inbox
        self.batches = self.rows = 0
        self.error: Exception | None = None
        """What the Home raised."""

    def __next__(self) -> pa.Table:
        if self.batches > 1:  # there are more than was thought, and the next one may take long
            self.inbox.note_asked(self.batches + 1)
        try:
            table = next(self.tables)
        except StopIteration:
            raise
        except Exception as error:
            self.error = error
            raise
        self.batches, self.rows = self.batches + 1, self.rows + rows_in(table)
        self.inbox.note_passed(rows_in(table), max(1, table.nbytes))
        return table


def _receive(inbox: Inbox, ticket: Ticket) -> Generator[pa.Table]:
    """Yield the batches of one ticket in order; raise Transient where one is missing."""
    seq = rows = freed = 0
    while True:
        message = inbox.take(freed)
        freed = message.weight if isinstance(message, Batch) else 0
        if message.ticket != ticket:
            continue  # it belongs to an attempt that was given up
        if isinstance(message, End):
            if (message.batches, message.rows) != (seq, rows):
                raise Transient(
                    f"split {ticket.split}: {message.batches} batches with {message.rows:,} rows "
                    f"were sent, {seq} with {rows:,} came"
                )
            return
        if message.seq != seq:
            raise Transient(f"split {ticket.split}: batch {seq} is missing")
        table = shared.get(message.refs[0])
        del message
        seq, rows = seq + 1, rows + rows_in(table)
        yield table
        # The Store asks for more, so it is done with this table. Drop it before the next wait;
        # otherwise its shared memory stays in use although its bytes are given back.
        del table
        pa.default_memory_pool().release_unused()
