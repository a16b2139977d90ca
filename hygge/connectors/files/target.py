"""Where a file Store writes, and what its two kinds share: a path on a disk, a prefix of objects.

A Store picks its target once: `hygge/connectors/files/directory.py` or
`hygge/connectors/files/prefix.py`. Each verb of the Store is that of its target; `hygge/store.py`
says what each of them must hold.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import pyarrow as pa

from hygge.connectors.files.evolving import apart
from hygge.connectors.files.heads import text_schema
from hygge.errors import Rejected, Superseded
from hygge.model import Commit, Head, Mode, Receipt, Run, TargetState, Ticket, Watermark

SCHEMA = "schema.arrow"
"""The name, in a run's staging, of the schema that the run was prepared with."""


class Target(Protocol):
    """The verbs of a file Store."""

    def describe(self) -> str: ...
    def place(self) -> str: ...
    def sees(self, declared: str) -> str:
        """Return what a reader that is not hygge sees here, by what the Store's class declares."""
        ...

    def head(self, flow: str) -> Head | None: ...
    def prepare(self, run: Run, schema: pa.Schema | None) -> None: ...
    def check_here(self, mode: Mode) -> None:
        """Raise what this machine alone can tell of the place, before a run of `mode`."""
        ...

    def examine(self, run: Run, schema: pa.Schema | None) -> TargetState: ...
    def stage(
        self, ticket: Ticket, schema: pa.Schema | None, batches: Iterator[pa.Table]
    ) -> Receipt: ...
    def resume(self, run: Run, receipts: Sequence[Receipt]) -> list[Receipt]: ...
    def commit(
        self, run: Run, base: Head | None, receipts: Sequence[Receipt], watermark: Watermark
    ) -> Commit: ...
    def discard(self, run: Run) -> None: ...


def committed_already(
    where: str, head: Head | None, run: Run, base: Head | None, receipts: Sequence[Receipt]
) -> Commit | None:
    """Return the commit of `run` where `head` is its head; None where `head` is still `base`.

    Raises Superseded where another run moved the head.
    """
    if head is not None and head.run == run.id:
        rows = sum(receipt.rows for receipt in receipts)
        return Commit(head, applied=rows, note="it was committed already")
    if head != base:
        raise Superseded(
            f"{where} was changed by run {head.run if head else '(none)'} while this one ran",
            "run it again",
        )
    return None


def next_commit(
    run: Run,
    base: Head | None,
    rows: int,
    watermark: Watermark,
    schema: pa.Schema | None,
    schema_before: Callable[[], str | None],
) -> tuple[Commit, pa.Schema | None]:
    """Return the commit that follows `base`, and the schema to write; None: there is nothing to.

    `schema_before` gives the schema of what is visible, which a replace by nothing keeps.
    """
    schema, changes, came = apart(schema)
    before = base if run.mode == "append" else None
    if before and not rows and (before.watermark, before.cursor) == (watermark, run.cursor):
        return Commit(before, applied=0, note="nothing new"), None
    note = ""
    if schema is None and run.mode != "append":
        schema = text_schema(schema_before())
        note = "nothing came: emptied, with the schema it had"
    generation = base.generation + 1 if base else 1
    columns = tuple(
        (field.name, str(field.type))
        for field in schema or ()
        if came is None or field.name in came
    )
    head = Head(run.flow, generation, run.id, rows, watermark, columns, run.cursor, run.ties)
    if schema is None:
        return Commit(head, applied=0, note="nothing came, so nothing was written"), None
    note = "; ".join(filter(None, [note, *changes]))
    return Commit(head, applied=rows, note=note, changes=changes), schema


def check_staged_rows(split: int, received: int, staged: int) -> None:
    """Raise Rejected where the files of a split hold other than the rows of its receipt."""
    if staged != received:
        raise Rejected(
            f"split {split}: {received:,} rows were received, {staged:,} are in its files"
        )
