"""What runs stage below a table, and what a commit gathers of it: `hygge-<run>/<ticket>/…`."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa

from hygge.connectors.delta import heads
from hygge.connectors.delta.parts import Part, Staged, read_staged
from hygge.connectors.delta.table_files import Disk, Objects
from hygge.connectors.files.heads import schema_text, text_schema
from hygge.connectors.files.parts import RECEIPT, is_ticket, ticket_name
from hygge.connectors.files.target import check_staged_rows
from hygge.errors import Rejected, StoreError
from hygge.model import Receipt, Run, Ticket
from hygge.places.objects import at_once

_PREPARED = "prepared.json"


@dataclass(frozen=True)
class Gathered:
    """The parts of the decided tickets, by key, in the order of the splits."""

    rows: int
    parts: dict[str, Part]
    schema: pa.Schema | None
    version: int | None
    """Of the table when the run was planned; None: nobody knows any more."""

    def check_partitions(self, who: str, partition_by: Sequence[str]) -> None:
        """Raise Rejected where the files were staged for other partitions."""
        if any(list(part.partition) != list(partition_by) for part in self.parts.values()):
            raise Rejected(
                f"{who}: its partition columns were changed by others while this run staged its "
                "rows",
                "run it again",
            )


@dataclass(frozen=True)
class Prepared:
    """How the rows of a run are staged."""

    schema: pa.Schema | None
    """The columns of the files; None: those of the rows."""
    partition_by: list[str]
    """The partition columns of the table."""
    split_by: list[str]
    """The columns by which rows go into files of their own: none for a merge, whose files the
    library writes."""
    version: int | None
    """Of the table when the run was planned; -1: there was none, None: nobody knows."""


class Staging:
    """The staging of a table's runs."""

    def __init__(self, files: Disk | Objects, who: str) -> None:
        self.files, self.who = files, who

    def prepare(
        self, run: Run, schema: pa.Schema | None, partition_by: Sequence[str], version: int
    ) -> None:
        """Open the staging of a run, whose rows are written in `schema`; None: in their own.

        The `version` of the table that the first driver of the run saw is kept.
        """
        key = f"{folder_of(run.id)}/{_PREPARED}"
        version = json.loads(self.files.get(key) or b"{}").get("version", version)
        facts = {
            "schema": schema_text(schema),
            "partition_by": [*partition_by],
            "is_split": run.mode != "merge",
            "version": version,
        }
        self.files.put(key, json.dumps(facts).encode())

    def prepared(self, run: str) -> Prepared:
        """Return what a run was prepared with. Raises StoreError where it was not."""
        content = self.files.get(f"{folder_of(run)}/{_PREPARED}")
        if content is None:
            raise StoreError(
                f"{self.who}: run {run} is not prepared here",
                "on several nodes use an object store (s3://…, gs://…, az://…), or a folder that "
                "every node mounts; if it is one, the run was decided without this attempt: run "
                "again",
            )
        facts = json.loads(content)
        by = facts["partition_by"]
        split_by = by if facts["is_split"] else []
        return Prepared(text_schema(facts["schema"]), by, split_by, facts.get("version"))

    def key(self, ticket: Ticket) -> str:
        """Return the folder of a ticket."""
        return f"{folder_of(ticket.run)}/{ticket_name(ticket)}"

    def gathered(self, run: Run, receipts: Sequence[Receipt]) -> Gathered:
        """Return the parts that a commit shows. Raises Rejected where one is not as it was."""
        sizes = self.files.sizes(folder_of(run.id))
        is_prepared = f"{folder_of(run.id)}/{_PREPARED}" in sizes
        prepared = self.prepared(run.id) if is_prepared else None
        schema = None if prepared is None else prepared.schema
        ordered = sorted(receipts, key=lambda receipt: receipt.ticket.split)
        staged = at_once(self._staged, ordered)
        parts: dict[str, Part] = {}
        rows = 0
        for receipt, found in zip(ordered, staged, strict=True):
            split = receipt.ticket.split
            if found is None:
                raise Rejected(
                    f"split {split} was never sealed in {self.who}, or a vacuum has removed it",
                    "run it again",
                )
            check_staged_rows(split, receipt.rows, found.rows)
            for key, part in self._parts(receipt, found):
                if sizes.get(key) != part.size:
                    where = f"{self.who}/{key}"
                    raise Rejected(f"{where} is gone, or not as it was sealed", "run it again")
                if key in parts:
                    raise Rejected(f"split {split} has two receipts")
                parts[key] = part
            rows += found.rows
            schema = schema or text_schema(found.schema)
        return Gathered(rows, parts, schema, None if prepared is None else prepared.version)

    def resume(self, run: Run, receipts: Sequence[Receipt]) -> list[Receipt]:
        """Return the receipts whose parts are whole; remove what else was staged."""
        sizes = self.files.sizes(folder_of(run.id))
        staged = at_once(self._staged, receipts)
        whole = [
            receipt
            for receipt, found in zip(receipts, staged, strict=True)
            if found is not None
            and (found.rows, len(found.parts)) == (receipt.rows, receipt.parts)
            and all(sizes.get(key) == part.size for key, part in self._parts(receipt, found))
        ]
        kept = {ticket_name(receipt.ticket) for receipt in whole}
        tickets = {key: key.split("/")[1] for key in sizes}
        visible = heads.parts_of_run(self.files, run.flow, run.id) or set()
        self.files.drop(
            [k for k, t in tickets.items() if is_ticket(t) and t not in kept and k not in visible]
        )
        return whole

    def discard(self, run: Run, live: Callable[[], set[str]]) -> None:
        """Remove what a run staged, but for the files that it has, or had, in the table.

        `live` gives the files of the table, for a run of which nothing is known any more.
        """
        staged = self.files.sizes(folder_of(run.id))
        if not staged:
            return
        shown = heads.parts_of_run(self.files, run.flow, run.id)
        if shown is None:
            shown = live()
        self.files.drop([key for key in staged if key not in shown])
        heads.prune(self.files, run.flow)

    def _staged(self, receipt: Receipt) -> Staged | None:
        return read_staged(self.files.get(f"{self.key(receipt.ticket)}/{RECEIPT}"))

    def _parts(self, receipt: Receipt, staged: Staged) -> Iterator[tuple[str, Part]]:
        for part in staged.parts:
            yield f"{self.key(receipt.ticket)}/{part.name}", part


def folder_of(run: str) -> str:
    """Return the folder of a run below its table."""
    return f"hygge-{run}"
