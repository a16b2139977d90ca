"""The staged rows of a run: `.<database>.hygge/<run>/`, one Parquet file for each ticket.

A file gets its name when it is whole and synced, so that a file of that name is sealed; the footer
says how many rows it has, and `.json` beside it the Arrow bytes and the schema, which Parquet keeps
only about. `run.json` says what the run was prepared for. Whoever works on the run touches its
folder, whose modification time shows that the run is alive: the next run removes folders older than
25 h.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa

from hygge.batches import plain, plain_schema
from hygge.connectors.duckdb.session import text
from hygge.connectors.sql.ask import pack, unpack
from hygge.connectors.sql.ledger import OLD_S, beating, ticket_name
from hygge.connectors.sql.target import ORDINAL
from hygge.errors import StoreError
from hygge.formats.parquet import ParquetSettings, ParquetWriter
from hygge.model import MIB, Receipt, Run, Ticket
from hygge.places import durable

_SETTINGS = ParquetSettings("lz4", None, 32 * MIB, background_below=sys.maxsize)
_TRIES = 100
_ROWS_OF_A_SPLIT = 40
"""Bits that number the rows of a split; the split's own number stands above them."""


_NUMBER = pa.field(ORDINAL, pa.int64(), nullable=False)


@dataclass(frozen=True)
class Staged:
    """What is staged of a ticket."""

    path: str
    rows: int
    bytes: int
    schema: pa.Schema


def begin(path: str, run: Run, who: str) -> None:
    """Make the run's folder, or touch the one that is there."""
    folder = folder_of(path, run.id)
    try:
        for turn in range(_TRIES):
            try:
                durable.make_folder(folder)
                durable.write_synced(_about(folder), json.dumps({"mode": run.mode}).encode())
            except FileNotFoundError:  # another run, which ends, removes the folder above
                if turn == _TRIES - 1:
                    raise
            else:
                break
        os.utime(folder)
    except OSError as error:
        raise _no_right(os.path.dirname(path), who, error) from error


def check_rights(path: str, who: str) -> None:
    """Raise StoreError where this user may not write the database, or stage beside it."""
    if os.path.exists(path) and not os.access(path, os.W_OK):
        raise StoreError(f"{who}: the file may not be written", "allow this user to")
    try:
        folder, name = os.path.split(path)
        durable.check_rights(folder, f".{name}.hygge")
    except OSError as error:
        raise _no_right(error.filename, who, error) from error


def mode_of(path: str, run: str, who: str) -> str:
    """Return the mode that a run was prepared for; StoreError if it was not, or was discarded."""
    try:
        with open(_about(folder_of(path, run)), encoding="utf-8") as file:
            return str(json.load(file)["mode"])
    except FileNotFoundError:
        raise _gone(run, who) from None


def write(
    path: str,
    ticket: Ticket,
    schema: pa.Schema | None,
    batches: Iterator[pa.Table],
    numbers_rows: bool,
    who: str,
    batches_stay: bool,
) -> Receipt:
    """Write the rows of a ticket to its file, and seal it.

    `numbers_rows`: a column gives the order of the rows of all splits. `batches_stay`: as in
    `Store.batches_stay`.
    """
    import numpy as np

    folder = folder_of(path, ticket.run)
    final = os.path.join(folder, f"{ticket_name(ticket)}.parquet")
    known = schema
    settings = replace(_SETTINGS, copies=not batches_stay)
    writer = None if known is None else _writer(final, known, numbers_rows, settings)
    alive = beating(lambda: os.utime(folder))
    rows = size = 0
    try:
        for batch in batches:
            batch = plain(batch)
            if known is None or writer is None:
                known = batch.schema
                writer = _writer(final, known, numbers_rows, settings)
            rows += batch.num_rows
            size += batch.nbytes
            if numbers_rows:
                first = (ticket.split << _ROWS_OF_A_SPLIT) + rows - batch.num_rows
                # Without `pa.array`: pyarrow loads pandas for that, which takes half a second.
                numbers = pa.py_buffer(np.arange(first, first + batch.num_rows, dtype=np.int64))
                column = pa.Array.from_buffers(pa.int64(), batch.num_rows, [None, numbers])
                batch = batch.append_column(_NUMBER, column)
            writer.write(batch)
            alive()
            del batch
        if known is None or writer is None:
            return Receipt(ticket, "", 0, 0, parts=0)
        closing, writer = writer, None
        closing.close()
        durable.sync(f"{final}.tmp")
        facts = {"bytes": size, "schema": pack(plain_schema(known))}
        durable.write_synced(_facts_of(final), json.dumps(facts).encode())
        os.rename(f"{final}.tmp", final)
        durable.sync(folder)
    except FileNotFoundError:
        raise _gone(ticket.run, who) from None
    finally:
        if writer is not None:  # after an error, which is the one to report
            with suppress(Exception):
                writer.close()
    return Receipt(ticket, "", rows, size, parts=1)


def _writer(
    final: str, schema: pa.Schema, numbers_rows: bool, settings: ParquetSettings
) -> ParquetWriter:
    schema = plain_schema(schema)
    if numbers_rows:
        schema = schema.append(_NUMBER)
    return ParquetWriter(f"{final}.tmp", schema, settings)


def sealed_before(path: str, ticket: Ticket) -> Receipt | None:
    """Return the receipt of an earlier attempt at this split and epoch, if one was sealed."""
    prefix = ticket_name(ticket).rpartition("_")[0] + "_"
    for name in sorted(_names(folder_of(path, ticket.run))):
        number, ending = os.path.splitext(name.removeprefix(prefix))
        if name.startswith(prefix) and ending == ".parquet":
            earlier = Ticket(ticket.run, ticket.split, ticket.epoch, int(number))
            staged = found(path, earlier)
            if staged is not None:
                return Receipt(earlier, "", staged.rows, staged.bytes, parts=1)
    return None


def found(path: str, ticket: Ticket) -> Staged | None:
    """Return what is staged of a ticket; None where its file is missing or damaged."""
    import pyarrow.parquet as pq

    file = os.path.join(folder_of(path, ticket.run), f"{ticket_name(ticket)}.parquet")
    try:
        rows = pq.read_metadata(file).num_rows
        with open(_facts_of(file), encoding="utf-8") as said:
            facts = json.load(said)
    except (OSError, pa.ArrowException):
        return None
    return Staged(file, rows, facts["bytes"], unpack(facts["schema"]))


def keep_only(path: str, run: str, tickets: Collection[Ticket]) -> None:
    """Remove the files of all tickets of a run but these."""
    files = [f"{ticket_name(ticket)}.parquet" for ticket in tickets]
    kept = {"run.json", *files, *map(_facts_of, files)}
    folder = folder_of(path, run)
    for name in _names(folder):
        if name not in kept:
            with suppress(FileNotFoundError):
                os.unlink(os.path.join(folder, name))


def remove(path: str, run: str) -> None:
    """Remove the run's folder, and the folder above if it was the last one."""
    shutil.rmtree(folder_of(path, run), ignore_errors=True)
    with suppress(OSError):
        os.rmdir(os.path.dirname(folder_of(path, run)))  # fails while other runs are in it


def sweep(path: str) -> None:
    """Remove the folders of runs that show no sign of life."""
    above = os.path.dirname(folder_of(path, "any"))
    for name in _names(above):
        with suppress(FileNotFoundError):
            if time.time() - os.stat(os.path.join(above, name)).st_mtime > OLD_S:
                remove(path, name)


def source(files: Sequence[str]) -> str:
    """Return SQL of the rows of all these files, in their order."""
    listed = ", ".join(text(_escaped(file)) for file in files)
    return f"read_parquet([{listed}], hive_partitioning = false)"


def folder_of(path: str, run: str) -> str:
    """Return the folder in which a run is staged."""
    folder, name = os.path.split(path)
    return os.path.join(folder, f".{name}.hygge", run)


def _escaped(path: str) -> str:
    """Return a path of which DuckDB makes no pattern."""
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in path)


def _names(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except FileNotFoundError:
        return []


def _about(folder: str) -> str:
    return os.path.join(folder, "run.json")


def _facts_of(file: str) -> str:
    """Return the path of what is known of a Parquet file: its Arrow bytes, and its schema."""
    return f"{file}.json"


def _gone(run: str, who: str) -> StoreError:
    return StoreError(
        f"{who}: run {run} is not prepared on this disk, or was discarded",
        "it was decided without this attempt; if it was not, run again, where every node of "
        "the cluster sees the folder of the database",
    )


def _no_right(folder: Any, who: str, error: OSError) -> StoreError:
    return StoreError(
        f"{who}: cannot stage in {folder}: {error.strerror}",
        "the run is staged beside the database; allow this user to write there",
    )
