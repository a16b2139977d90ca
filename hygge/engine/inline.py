"""The loop that says what "move" means: `store.stage(ticket, home.read(split))` for each split.

No Ray, no other process: for debugging, for the conformance suites, and for `hygge --inline`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Generator, Iterator, Mapping, Sequence

import pyarrow as pa

from hygge.batches import rows_in
from hygge.engine.reading import batches, staged
from hygge.errors import Stopped, Transient
from hygge.home import Home
from hygge.model import Limits, Receipt, Split, Ticket
from hygge.run.engines import Move, Moved, Waits, backoff_s
from hygge.run.watch import Seen, Watch
from hygge.store import Store


def engine() -> InlineEngine:
    """The engine that `--inline` means."""
    return InlineEngine()


class InlineEngine:
    """One lane in the caller's own thread; a batch is handed from hand to hand."""

    name = "inline"

    def get_ready(
        self, home: Home, store: Store, limits: Limits, waits: Waits, stop: threading.Event
    ) -> None:
        """Nothing to come to."""

    def reaches(
        self,
        read: Mapping[str, str],
        written: Mapping[str, str],
        shared: Sequence[str],
        limits: Limits,
    ) -> str:
        """It is where the driver is."""
        return ""

    def committed(self, home: Home, store: Store, seconds: float) -> None:
        """Nobody counts."""

    def release(self) -> None:
        """Nothing was taken."""

    def lanes(self, limits: Limits) -> int:
        """The caller's own thread."""
        return 1

    def move(self, move: Move, watch: Watch, stop: threading.Event) -> Moved:
        """See `hygge.run.engines.Engine`."""
        moved = Moved()
        rows = size = 0
        for split in move.splits:
            receipt = self._split(move, split, moved, watch, stop, rows, size)
            moved.receipts.append(receipt)
            move.sealed(receipt)
            rows, size = rows + receipt.rows, size + receipt.bytes
            watch.moved(move.flow, Seen(rows, size, len(moved.receipts), len(move.splits), 1))
        return moved

    def _split(
        self,
        move: Move,
        split: Split,
        moved: Moved,
        watch: Watch,
        stop: threading.Event,
        rows: int,
        size: int,
    ) -> Receipt:
        for n in range(move.limits.retries + 1):
            ticket = Ticket(move.run.id, split.index, move.epoch, n)
            tables = batches(move.home, split, move.schema, move.limits)
            of_home: list[Exception] = []
            counted: list[int] = []
            watched = _watched(
                _noting(tables, of_home, counted),
                move,
                watch,
                stop,
                Seen(rows, size, len(moved.receipts)),
            )
            try:
                receipt = staged(move.store, ticket, move.schema, watched)
                moved.rows_read += sum(counted)
                return receipt
            except Exception as raised:
                # A Store may have taken an error of its batches for one of its own.
                error = of_home[0] if of_home else raised
                if not isinstance(error, Transient) or n == move.limits.retries:
                    raise error from error.__cause__
                moved.retries += 1
                watch.said(move.flow, f"split {split.index} is tried again: {error.message}")
                stop.wait(backoff_s(n))
            finally:
                watched.close()
                tables.close()
        raise AssertionError("unreachable")


def _watched(
    tables: Iterator[pa.Table],
    move: Move,
    watch: Watch,
    stop: threading.Event,
    before: Seen,
) -> Generator[pa.Table]:
    rows, size, last = before.rows, before.bytes, time.monotonic()
    for table in tables:
        if stop.is_set():
            raise Stopped("stopped")
        rows, size = rows + rows_in(table), size + table.nbytes
        yield table
        del table
        if time.monotonic() - last > 0.2:
            last = time.monotonic()
            watch.moved(move.flow, Seen(rows, size, before.splits_done, len(move.splits), lanes=1))


def _noting(
    tables: Iterator[pa.Table], failed: list[Exception], counted: list[int]
) -> Generator[pa.Table]:
    try:
        for table in tables:
            counted.append(rows_in(table))
            yield table
            del table
    except Exception as error:
        failed.append(error)
        raise
