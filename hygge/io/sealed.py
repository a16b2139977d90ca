"""What one try at a split leaves in its staging folder: parts, and `receipt.json` as its last file.

A ticket is sealed when its receipt stands there: parts, receipt and every folder above them are
synced before `stage` returns, in that order. What has no receipt was never whole.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import pyarrow as pa

from hygge.io import publish
from hygge.io.heads import schema_text
from hygge.model import Ticket

RECEIPT = "receipt.json"
_TICKET = re.compile(r"\d{5,}-\d+-\d+")


class Writer(Protocol):
    """An open file of one format. `size` is about the bytes written so far."""

    def write(self, table: pa.Table) -> None: ...
    def size(self) -> int: ...
    def close(self) -> None: ...


@dataclass(frozen=True)
class Sealed:
    """What stands in a receipt: (name, rows, bytes) of the parts, and the schema of their rows."""

    rows: int
    files: list[list[Any]]
    schema: str | None


def ticket_name(ticket: Ticket) -> str:
    """The folder of a ticket in the staging of its run."""
    return f"{ticket.split:05d}-{ticket.epoch}-{ticket.n}"


def is_ticket(name: str) -> bool:
    """Whether an entry of a run's staging is the folder of a ticket."""
    return bool(_TICKET.fullmatch(name))


def seal(
    place: str,
    schema: pa.Schema | None,
    batches: Iterator[pa.Table],
    open_file: Callable[[str, pa.Schema], Writer],
    suffix: str,
    file_bytes: int,
) -> tuple[Sealed, int]:
    """Write the batches as parts of about `file_bytes`, and the receipt; gives Arrow bytes too."""
    publish.make_folder(os.path.dirname(place))
    os.mkdir(place)
    files: list[list[Any]] = []
    rows = size = in_file = 0
    writer: Writer | None = None
    path = ""
    try:
        for batch in batches:
            if writer is None:
                path = os.path.join(place, f"{len(files):05d}{suffix}")
                schema = batch.schema if schema is None else schema
                writer = open_file(path, schema)
                in_file = 0
            writer.write(batch)
            rows += batch.num_rows
            in_file += batch.num_rows
            size += batch.nbytes
            del batch
            if writer.size() >= file_bytes:
                files.append(closed(writer, path, in_file))
                writer = None
        if writer is not None:
            files.append(closed(writer, path, in_file))
            writer = None
    finally:
        if writer is not None:
            writer.close()
    sealed = Sealed(rows, files, schema_text(schema))
    publish.write_synced(os.path.join(place, RECEIPT), json.dumps(asdict(sealed)).encode())
    # Whoever made the folders above may have died before they were synced.
    for _ in range(3):
        place = os.path.dirname(place)
        publish.sync(place)
    return sealed, size


def sealed_in(place: str) -> Sealed | None:
    """What the ticket in `place` sealed; None where it never did, or its receipt is damaged."""
    try:
        with open(os.path.join(place, RECEIPT), "rb") as file:
            found = Sealed(**json.load(file))
        whole = sum(rows for _, rows, _ in found.files) == found.rows
    except (FileNotFoundError, ValueError, TypeError):
        return None
    return found if whole else None


def closed(writer: Writer, path: str, rows: int) -> list[Any]:
    """Close and sync a part; gives its entry in the receipt."""
    writer.close()
    publish.sync(path)
    return [os.path.basename(path), rows, os.path.getsize(path)]
