"""What one attempt at a split leaves in its staging folder: parts, then `receipt.json`.

An attempt is whole when its receipt is there, which is its last file: parts, receipt and every
folder above them are synced before `stage` returns, in that order; on an object store their puts
have returned. What has no receipt was never whole.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass

import pyarrow as pa

from hygge.connectors.files.heads import schema_text
from hygge.formats.format import Format, Writer, check_rows
from hygge.model import Ticket
from hygge.places import durable

RECEIPT = "receipt.json"
_TICKET = re.compile(r"\d{5,}-\d+-\d+")

Part = tuple[str, int, int]
"""Name, rows and bytes of a part."""
ClosePart = Callable[[Writer, str, int], Part]
"""Called with a writer, the path of its part, and the rows given to it; makes the part durable."""


@dataclass(frozen=True)
class StagedParts:
    """The content of a receipt: the parts of an attempt, and the schema of their rows as text."""

    rows: int
    files: tuple[Part, ...]
    schema: str | None

    def to_json(self) -> bytes:
        return json.dumps(asdict(self)).encode()


def ticket_name(ticket: Ticket) -> str:
    """Return the name of a ticket's folder in the staging of its run."""
    return f"{ticket.split:05d}-{ticket.epoch}-{ticket.n}"


def is_ticket(name: str) -> bool:
    """Whether an entry of a run's staging is the folder of a ticket."""
    return bool(_TICKET.fullmatch(name))


def stage_parts(
    folder: str,
    schema: pa.Schema | None,
    batches: Iterator[pa.Table],
    file_format: Format,
    file_bytes: int,
) -> tuple[StagedParts, int]:
    """Write the batches as durable parts of about `file_bytes` in a new folder, then the receipt.

    Returns what was staged, and its Arrow bytes.
    """
    os.mkdir(folder)
    staged, arrow_bytes = write_parts(folder, schema, batches, file_format, file_bytes, close_part)
    durable.write_synced(os.path.join(folder, RECEIPT), staged.to_json())
    # The process that made the folders above may have died before it synced them.
    for _ in range(3):
        folder = os.path.dirname(folder)
        durable.sync(folder)
    return staged, arrow_bytes


def write_parts(
    folder: str,
    schema: pa.Schema | None,
    batches: Iterator[pa.Table],
    file_format: Format,
    file_bytes: int,
    close: ClosePart,
) -> tuple[StagedParts, int]:
    """Write the batches as parts in `folder`. Returns what was staged, and its Arrow bytes."""
    parts: list[Part] = []
    rows = arrow_bytes = rows_in_part = 0
    writer: Writer | None = None
    path = ""
    try:
        for batch in batches:
            if writer is None:
                path = os.path.join(folder, f"{len(parts):05d}{file_format.suffix()}")
                schema = batch.schema if schema is None else schema
                writer = file_format.open_writer(path, schema)
                rows_in_part = 0
            writer.write(batch)
            rows += batch.num_rows
            rows_in_part += batch.num_rows
            arrow_bytes += batch.nbytes
            del batch
            if writer.size() >= file_bytes:
                parts.append(close(writer, path, rows_in_part))
                writer = None
        if writer is not None:
            parts.append(close(writer, path, rows_in_part))
            writer = None
    finally:
        if writer is not None:  # after an error, which is the one to report
            with suppress(Exception):
                writer.close()
    return StagedParts(rows, tuple(parts), schema_text(schema)), arrow_bytes


def close_part(writer: Writer, path: str, rows: int) -> Part:
    """Close a part and sync it. Raises Rejected where it does not hold the rows given to it."""
    statistics = writer.close()
    check_rows(path, statistics.rows, rows)
    durable.sync(path)
    return os.path.basename(path), rows, os.path.getsize(path)


def read_receipt(folder: str) -> StagedParts | None:
    """Return what is staged in a ticket's folder; None without a receipt, or with a damaged one."""
    try:
        with open(os.path.join(folder, RECEIPT), "rb") as file:
            return parse_receipt(file.read())
    except FileNotFoundError:
        return None


def parse_receipt(content: bytes) -> StagedParts | None:
    """Return what a receipt says; None where it is damaged."""
    try:
        fields = json.loads(content)
        parts = tuple((name, rows, size) for name, rows, size in fields.pop("files"))
        staged = StagedParts(files=parts, **fields)
    except (ValueError, TypeError, KeyError, AttributeError):
        return None
    return staged if sum(rows for _, rows, _ in parts) == staged.rows else None
