"""The receipts of a run on their way into the journal, several at once.

A receipt is kept after the rows that it counts are durable: those that the Store staged, and those
that were set aside, which are written here.
"""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import Protocol

from hygge.bad_rows import first_of, from_parquet, too_many
from hygge.model import Receipt, Run
from hygge.run.driver import Driver

_RECEIPTS_AT_ONCE = 8
"""Receipts that are written at one time, at least; an object store takes more, for its latency."""


class StagingRun(Protocol):
    """A run whose splits are being staged."""

    driver: Driver
    run: Run
    versions: dict[int, str]
    """Index of a split → its version."""
    digests: dict[int, str]
    """Index of a split → `digest_of` it."""
    reused: list[Receipt]
    """The receipts of splits that an earlier driver staged."""


class ReceiptLog:
    """Writes receipts into the journal, several at once."""

    def __init__(self, active: StagingRun) -> None:
        self.active, self.journal = active, active.driver.journal
        at_once = max(_RECEIPTS_AT_ONCE, self.journal.place.at_once)
        self.pool = ThreadPoolExecutor(at_once, thread_name_prefix="hygge-seal")
        self.writing: deque[tuple[Receipt, Future[None]]] = deque()
        self.written: list[Receipt] = []
        self.set_aside = 0

    def add(self, receipt: Receipt) -> None:
        """Begin to write one. Raises what went wrong with an earlier one.

        Raises TooManyBadRows as soon as the run has set aside more than its flow allows.
        """
        while self.writing and self.writing[0][1].done():
            self._finish_first()
        if receipt.set_aside:
            self._check_set_aside(receipt)
        version = self.active.versions[receipt.ticket.split]
        bare = replace(receipt, version=version, bad_rows=None)
        self.writing.append((bare, self.pool.submit(self._keep, receipt, bare)))

    def wait(self) -> list[Receipt]:
        """Return all receipts when all are written. Raises what went wrong with one."""
        while self.writing:
            self._finish_first()
        return self.written

    def kept(self) -> list[Receipt]:
        """Return the receipts that are written by now."""
        done = [receipt for receipt, write in self.writing if _succeeded(write)]
        return [*self.written, *done]

    def close(self) -> None:
        """Wait for what is being written."""
        self.pool.shutdown(wait=True)

    def _check_set_aside(self, receipt: Receipt) -> None:
        self.set_aside += receipt.set_aside
        bad = self.set_aside + sum(reused.set_aside for reused in self.active.reused)
        limits = self.active.driver.flow.limits
        if bad > limits.max_bad_rows:
            content = receipt.bad_rows
            first = "" if content is None else first_of([from_parquet(content)])
            raise too_many(bad, None, first, limits.max_bad_rows)

    def _keep(self, receipt: Receipt, bare: Receipt) -> None:
        self.active.driver.bad_files.stage(receipt)
        digest = self.active.digests[receipt.ticket.split]
        self.journal.seal(self.active.run, bare, digest)

    def _finish_first(self) -> None:
        self.writing[0][1].result()
        self.written.append(self.writing.popleft()[0])


def _succeeded(write: Future[None]) -> bool:
    return write.done() and write.exception() is None
