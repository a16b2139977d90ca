"""What one try at a split leaves in its staging folder: parts, and `receipt.json` as its last file.

A ticket is sealed when its receipt stands there: parts, receipt and every folder above them are
synced before `stage` returns, in that order; on an object store their puts have returned. What has
no receipt was never whole.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Protocol

import pyarrow as pa

from hygge.connectors.files import publish
from hygge.connectors.files.heads import schema_text
from hygge.errors import Rejected, StoreError
from hygge.model import Ticket

RECEIPT = "receipt.json"
_TICKET = re.compile(r"\d{5,}-\d+-\d+")


class Writer(Protocol):
    """An open file of one format. `size` is about the bytes written so far."""

    def write(self, table: pa.Table) -> None: ...
    def size(self) -> int: ...
    def close(self) -> None: ...


class Format:
    """What a format gives to a Store of files, wherever they lie."""

    suffixes: ClassVar[tuple[str, ...]] = ()

    def suffix(self) -> str:
        """The ending of a part's file name."""
        return self.suffixes[0]

    def open_writer(self, path: str, schema: pa.Schema) -> Writer:
        """A writer for a new file at `path`."""
        raise StoreError(f"{type(self).__name__} does not write")

    def join(self, parts: Sequence[str], target: str, schema: pa.Schema) -> None:
        """Several parts, in order, as one file at `target`."""
        raise StoreError(f"{type(self).__name__} does not join")

    def check_schema(self, schema: pa.Schema) -> None:
        """Raise UnfitValue for a column whose type the format cannot hold exactly."""

    def count(self, path: str) -> int | None:
        """Rows of a part by its own footer, or None where the format has none."""
        return None

    def check_count(self, path: str, rows: int) -> None:
        """Raise Rejected where a part does not hold the rows that were written."""
        by_footer = self.count(path)
        if by_footer is not None and by_footer != rows:
            raise Rejected(f"{path} holds {by_footer:,} rows, {rows:,} were written")


@dataclass(frozen=True)
class Sealed:
    """What stands in a receipt: (name, rows, bytes) of the parts, and the schema of their rows."""

    rows: int
    files: list[list[Any]]
    schema: str | None

    def to_json(self) -> bytes:
        return json.dumps(asdict(self)).encode()


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
    form: Format,
    file_bytes: int,
) -> tuple[Sealed, int]:
    """Write the batches as parts of about `file_bytes`, and the receipt; gives Arrow bytes too."""
    os.mkdir(place)
    sealed, size = write_parts(place, schema, batches, form, file_bytes, closed)
    publish.write_synced(os.path.join(place, RECEIPT), sealed.to_json())
    # Whoever made the folders above may have died before they were synced.
    for _ in range(3):
        place = os.path.dirname(place)
        publish.sync(place)
    return sealed, size


def write_parts(
    place: str,
    schema: pa.Schema | None,
    batches: Iterator[pa.Table],
    form: Format,
    file_bytes: int,
    close: Callable[[Writer, str, int], list[Any]],
) -> tuple[Sealed, int]:
    """Write the batches as parts; `close` ends one, makes it durable, and gives its entry."""
    files: list[list[Any]] = []
    rows = size = in_file = 0
    writer: Writer | None = None
    path = ""
    try:
        for batch in batches:
            if writer is None:
                path = os.path.join(place, f"{len(files):05d}{form.suffix()}")
                schema = batch.schema if schema is None else schema
                writer = form.open_writer(path, schema)
                in_file = 0
            writer.write(batch)
            rows += batch.num_rows
            in_file += batch.num_rows
            size += batch.nbytes
            del batch
            if writer.size() >= file_bytes:
                files.append(close(writer, path, in_file))
                writer = None
        if writer is not None:
            files.append(close(writer, path, in_file))
            writer = None
    finally:
        if writer is not None:
            writer.close()
    return Sealed(rows, files, schema_text(schema)), size


def sealed_in(place: str) -> Sealed | None:
    """What the ticket in `place` sealed; None where it never did, or its receipt is damaged."""
    try:
        with open(os.path.join(place, RECEIPT), "rb") as file:
            return sealed_from(file.read())
    except FileNotFoundError:
        return None


def sealed_from(content: bytes) -> Sealed | None:
    """What a receipt says; None where it is damaged."""
    try:
        found = Sealed(**json.loads(content))
        whole = sum(rows for _, rows, _ in found.files) == found.rows
    except (ValueError, TypeError):
        return None
    return found if whole else None


def closed(writer: Writer, path: str, rows: int) -> list[Any]:
    """Close and sync a part; gives its entry in the receipt."""
    writer.close()
    publish.sync(path)
    return [os.path.basename(path), rows, os.path.getsize(path)]
