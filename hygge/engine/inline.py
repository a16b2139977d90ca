"""The engine without Ray and without other processes: it reads and stages one split at a time.

It is used by `hygge --inline`, by the conformance suites, and for debugging. It shows what "move"
means: `store.stage(ticket, home.read(split))` for each split.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import replace

import pyarrow as pa

from hygge.batches import rows_in
from hygge.engine.reading import read_split, stage_split
from hygge.errors import Stopped, Transient
from hygge.home import Home
from hygge.model import Limits, Receipt, Split, Ticket
from hygge.run.engines import MoveRequest, MoveResult, OnWait, backoff_s, rows_expected
from hygge.run.said import speaker_for
from hygge.run.stall import StallGuard
from hygge.run.watch import Progress, Watch
from hygge.store import Store


def engine() -> InlineEngine:
    """Return the engine of `--inline`."""
    return InlineEngine()


class InlineEngine:
    """One lane in the caller's own thread; the Store takes each batch directly from the Home."""

    name = "inline"

    def get_ready(
        self, home: Home, store: Store, limits: Limits, on_wait: OnWait, stop: threading.Event
    ) -> None:
        """Do nothing: there is nothing to start."""

    def starts_long(self) -> bool:
        """Return False: there is nothing to start."""
        return False

    def check_paths(
        self,
        read: Mapping[str, str],
        written: Mapping[str, str],
        shared: Sequence[str],
        limits: Limits,
    ) -> str:
        """Return "": the engine works where the driver does, which sees every path."""
        return ""

    def record_commit(self, home: Home, store: Store, seconds: float) -> None:
        """Do nothing: there are no metrics."""

    def release(self) -> None:
        """Do nothing: nothing was taken."""

    def lanes(self, limits: Limits) -> int:
        """Return 1: the caller's own thread."""
        return 1

    def move(self, move: MoveRequest, watch: Watch, stop: threading.Event) -> MoveResult:
        """See `hygge.run.engines.Engine`. A stall is found as in every call of an end."""
        guard = StallGuard(move.limits, lambda text: watch.said(move.flow, text))
        return guard.call(_reading(move), lambda: self._move(move, watch, stop, guard))

    def _move(
        self, move: MoveRequest, watch: Watch, stop: threading.Event, guard: StallGuard
    ) -> MoveResult:
        moved = MoveResult()
        rows = size = 0
        for split in move.splits:
            receipt = self._move_split(move, split, moved, watch, stop, rows, size, guard)
            guard.note_progress()
            moved.receipts.append(receipt)
            move.on_receipt(receipt)
            rows, size = rows + receipt.rows, size + receipt.bytes
            watch.moved(move.flow, _progress(move, moved, rows, size))
        return moved

    def _move_split(
        self,
        move: MoveRequest,
        split: Split,
        moved: MoveResult,
        watch: Watch,
        stop: threading.Event,
        rows: int,
        size: int,
        guard: StallGuard,
    ) -> Receipt:
        """Move one split, with retries. `rows` and `size` have been moved before it."""
        for n in range(move.limits.retries + 1):
            ticket = Ticket(move.run.id, split.index, move.epoch, n)
            speaker = speaker_for(watch, move.flow)
            move.attempts.began(0, ticket)
            tables = read_split(move.home, split, move.schema, move.limits, speaker)
            home_errors: list[Exception] = []
            row_counts: list[int] = []
            observed = _report_progress(
                _record(_watched(tables, move, guard), home_errors, row_counts),
                move,
                watch,
                stop,
                _progress(move, moved, rows, size),
            )
            try:
                stay = _batches_stay(move.home)
                receipt = stage_split(move.store, ticket, move.schema, observed, speaker, stay)
                moved.rows_read += sum(row_counts)
                move.attempts.ended(ticket, "staged", receipt.rows)
                return receipt
            except Exception as raised:
                # The Store may have replaced an error of its batches by one of its own.
                error = home_errors[0] if home_errors else raised
                is_stop = isinstance(error, Stopped)
                move.attempts.ended(ticket, "given_up" if is_stop else "failed")
                if not isinstance(error, Transient) or n == move.limits.retries:
                    raise error from error.__cause__
                if guard.stalled is not None:
                    raise error from error.__cause__
                moved.retries += 1
                guard.note_progress()  # the wait for the next try is none for an end
                watch.said(move.flow, f"split {split.index} is tried again: {error.message}")
                stop.wait(backoff_s(n))
            finally:
                observed.close()
                tables.close()
        raise AssertionError("unreachable")


def _batches_stay(home: Home) -> bool:
    """Return whether nobody changes a batch later: no Home, and no function of the user's."""
    return home.batches_stay and (home.bound is None or not home.bound.calls)


def _progress(move: MoveRequest, moved: MoveResult, rows: int, size: int) -> Progress:
    """Return how far a move has come; `rows` and `size` (bytes) have been moved."""
    return Progress(
        rows,
        size,
        len(moved.receipts),
        len(move.splits),
        lanes=1,
        retries=moved.retries,
        rows_expected=rows_expected(move.splits),
    )


def _reading(move: MoveRequest) -> str:
    return f"the home {move.home.describe()} (the rows)"


def _watched(
    tables: Iterator[pa.Table], move: MoveRequest, guard: StallGuard
) -> Generator[pa.Table]:
    """Yield the tables; tell the guard that something moves, and which end is waited for."""
    try:
        guard.waited_for = _reading(move)
        for table in tables:
            if guard.stalled is not None:
                raise guard.stalled
            guard.note_progress()
            guard.waited_for = f"the store {move.store.describe()} (the rows)"
            yield table
            del table
            guard.note_progress()
            guard.waited_for = _reading(move)
    finally:
        guard.waited_for = f"the store {move.store.describe()} (the rows)"


def _report_progress(
    tables: Iterator[pa.Table],
    move: MoveRequest,
    watch: Watch,
    stop: threading.Event,
    before: Progress,
) -> Generator[pa.Table]:
    """Yield the tables, tell the watch five times a second, and raise Stopped after a stop."""
    rows, size, reported_at = before.rows, before.bytes, time.monotonic()
    for table in tables:
        if stop.is_set():
            raise Stopped("stopped")
        rows, size = rows + rows_in(table), size + table.nbytes
        yield table
        del table
        if time.monotonic() - reported_at > 0.2:
            reported_at = time.monotonic()
            watch.moved(move.flow, replace(before, rows=rows, bytes=size))


def _record(
    tables: Iterator[pa.Table], errors: list[Exception], row_counts: list[int]
) -> Generator[pa.Table]:
    """Yield the tables; append the rows of each, and the error that ends them, to the lists."""
    try:
        for table in tables:
            row_counts.append(rows_in(table))
            yield table
            del table
    except Exception as error:
        errors.append(error)
        raise
