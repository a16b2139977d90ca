"""A table log: read the newest entry; create the next one, or lose.

Three Stores show a run by one entry of a log that has the rows and the head of the flow: a prefix
of a bucket (a manifest), a Delta table (a version), and an Iceberg table (what its catalog names).
How an entry is read and created differs; what a commit makes of it is written here, once:

    the head is this run       it was committed already, by another driver, or without an answer
    the head is not `base`     Superseded: another run of the flow was quicker
    else                       create the entry after the newest one
    somebody else created it   look anew, at the head first

`tests/connectors/test_table_logs.py` tries the same races, deaths and lost answers on all three.
"""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol, TypeVar

from hygge.connectors.files.target import committed_already
from hygge.errors import Rejected, Transient
from hygge.model import Commit, Head, Receipt, Run, Watermark

Entry = TypeVar("Entry")
Parts = TypeVar("Parts")
_TRIES = 30


class TableLog(Protocol[Entry, Parts]):
    """The log of a table, as a commit asks it."""

    def describe(self) -> str: ...

    def newest(self) -> Entry:
        """Return the newest entry, as it is now; called once a try."""
        ...

    def head_of(self, entry: Entry, flow: str) -> Head | None:
        """Return the head that an entry has of a flow."""
        ...

    def gathered(self, run: Run, receipts: Sequence[Receipt]) -> Parts:
        """Return what the run staged; called until it has returned once.

        Raises Rejected where something is not as it was staged.
        """
        ...

    def create_next(
        self, entry: Entry, parts: Parts, run: Run, base: Head | None, watermark: Watermark
    ) -> Commit | None:
        """Create the entry that follows `entry`, with the rows and the head of the run.

        It MUST be a compare-and-swap: where another entry follows `entry` already, nothing of this
        run becomes visible. Returns None then, and after a step before it (new columns): the commit
        is tried again on top of what is the newest then. Raises Unknown where nobody knows whether
        the entry was created, and Rejected where the table has become one that it may not write to.
        """
        ...


def commit(
    log: TableLog[Entry, Parts],
    run: Run,
    base: Head | None,
    receipts: Sequence[Receipt],
    watermark: Watermark,
) -> Commit:
    """Do what `Store.commit` says."""

    def done(entry: Entry) -> Commit | None:
        head = log.head_of(entry, run.flow)
        made = committed_already(log.describe(), head, run, base, receipts)
        if made is None or run.mode != "merge":
            return made
        return replace(made, applied=made.head.rows, superseded=made.applied - made.head.rows)

    parts: Parts | None = None
    for attempt in range(_TRIES):
        time.sleep(random.uniform(0, 0.05) * attempt)  # where many commit at once
        entry = log.newest()
        if made := done(entry):
            return made
        try:
            parts = log.gathered(run, receipts) if parts is None else parts
        except Rejected:
            # Another driver of this run may have committed it in this moment, and cleared up.
            if made := done(log.newest()):
                return made
            raise
        if result := log.create_next(entry, parts, run, base, watermark):
            return result
    raise Transient(
        f"{log.describe()} was committed to by others, {_TRIES} times in a row", "run it again"
    )
