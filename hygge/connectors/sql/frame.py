"""The frame of every commit to a database: the order on which exactly-once rests.

1. The head is compared: a run that is committed already ends here, a run that is late is refused.
2. `gather` ends other sessions of the run, and removes what was not decided.
3. `lock` begins the transaction and waits for other commits to the table, so that nobody else can
   commit from now on; the head is compared again.
4. `staged` finds all rows that were decided, `check` refuses what the target does not take.
5. `publish` moves the rows, `finish` the head, and both become visible in one moment.

Before `finish` nothing is visible: what the database refuses ends the run (Rejected). Where
`finish` fails, the database's `is_committed` tells, or the outcome is Unknown.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any, Generic, NamedTuple, TypeVar

import pyarrow as pa

from hygge.connectors.sql.errors import unknown_commit
from hygge.connectors.sql.evolving import NOTHING
from hygge.connectors.sql.goal import Goal
from hygge.connectors.sql.heads import compared, head_of, head_values, note_aside
from hygge.errors import HyggeError, refusing
from hygge.model import Commit, Head, Receipt, Run, Watermark
from hygge.refused_rows import settled

C = TypeVar("C")
"""The connection of a database."""


class Published(NamedTuple):
    """Rows that are published, and not visible yet."""

    rows: int
    """Rows that are applied or refused: a merge leaves out those that later ones supersede."""
    target: str
    """The target's name in the table of heads."""
    made: str | None
    """The identity of the target if hygge made it."""
    notes: list[str]
    columns: Sequence[tuple[str, str]] | None = None
    """Names and types of the rows for the head; None: they are those of Arrow."""


class Publisher(ABC, Generic[C]):
    """The steps of one commit to one database, in the order in which `commit` takes them."""

    has_let_go = False
    """True if `staged` let go of what `lock` locked: the head is compared once more."""

    def __init__(
        self, connection: C, goal: Goal, run: Run, base: Head | None, receipts: Sequence[Receipt]
    ) -> None:
        self.connection, self.goal, self.run, self.base = connection, goal, run, base
        self.receipts = sorted(receipts, key=lambda receipt: receipt.ticket.split)
        self.staged_rows = sum(receipt.rows for receipt in receipts)
        self.evolution = NOTHING
        """What was done to the target's columns, for the report."""

    @abstractmethod
    def head(self, lock: bool) -> Head | None:
        """Return the committed head; with `lock`, nobody changes it before `end`."""

    @abstractmethod
    def rejecting(self) -> AbstractContextManager[None]:
        """Raise errors of the database as Rejected, those that can be mended as StoreError."""

    def gather(self) -> None:
        """Prepare what is staged, as far as that needs no lock of the target."""

    @abstractmethod
    def lock(self) -> None:
        """Begin a transaction, and wait for other commits to the target."""

    @abstractmethod
    def staged(self) -> pa.Schema | None:
        """Return the schema of the staged rows; Rejected unless all of them are there."""

    @abstractmethod
    def check(self, schema: pa.Schema | None) -> bool:
        """Raise what `prepare` would; return whether the target exists."""

    @abstractmethod
    def publish(self, schema: pa.Schema | None, exists: bool) -> Published:
        """Move the rows."""

    @abstractmethod
    def finish(self, row: dict[str, Any]) -> None:
        """Write the row of the head, and commit."""

    @abstractmethod
    def is_committed(self, error: Exception) -> bool | None:
        """Return whether `finish`, which raised `error`, committed; None if nobody can tell."""

    @abstractmethod
    def end(self) -> None:
        """Undo what is not committed, and release what is locked."""

    def note_refused(self, row: dict[str, Any]) -> None:
        """Keep the rows that the target refused, and let the row of the head name them."""
        refused = self.goal.refused
        if refused is not None and refused.rows:
            row["rows"] -= refused.rows
            note_aside(row, refused.keep())

    def compare(self, lock: bool) -> Commit | None:
        """Return the commit of this run if it was made before; Superseded if `base` is past."""
        return compared(self.head(lock), self.run, self.base, self.receipts, self.goal.who)


def commit(publisher: Publisher[Any], watermark: Watermark) -> Commit:
    """Move the rows of the receipts and the head, if the head is `base`.

    Raises Superseded where it is another one, Unknown where nobody can tell how it ended.
    """
    done = publisher.compare(lock=False)
    if done is not None:
        return done
    with publisher.rejecting(), refusing():
        publisher.gather()
        try:
            publisher.lock()
            return publisher.compare(lock=True) or _publish(publisher, watermark)
        finally:
            publisher.end()


def _publish(publisher: Publisher[Any], watermark: Watermark) -> Commit:
    """Do what is left when the target is locked."""
    run, base, who = publisher.run, publisher.base, publisher.goal.who
    schema = publisher.staged()
    if publisher.has_let_go:
        done = publisher.compare(lock=True)
        if done is not None:
            return done
    exists = publisher.check(schema)
    rows, target, made, notes, columns = publisher.publish(schema, exists)
    if columns is None:
        columns = [(field.name, str(field.type)) for field in schema or ()]
    row = head_values(run, target, base, rows, watermark, columns, made)
    publisher.note_refused(row)
    try:
        publisher.finish(row)
    except HyggeError:
        raise
    except Exception as error:
        is_committed = publisher.is_committed(error)
        if is_committed is None:
            raise unknown_commit(who, error) from error
        if not is_committed:
            raise
    staged = publisher.staged_rows
    evolved = publisher.evolution
    notes = [_nothing(run, schema, staged, exists), *evolved.texts, *notes]
    note = "; ".join(filter(None, notes))
    head = head_of(row, who)
    return Commit(head, *settled(head, publisher.receipts), note=note, changes=evolved.shown)


def _nothing(run: Run, schema: pa.Schema | None, rows: int, exists: bool) -> str:
    """Return what there is to say of a commit without rows; else nothing."""
    if rows:
        return ""
    if schema is None and not exists:
        return "nothing to move, and no schema: no table was made"
    if exists and run.mode != "replace":
        return "nothing to move"
    if schema is None:
        return "nothing to move: the table is now empty and keeps its columns"
    return "nothing to move: the table is empty"
