"""A Home and a Store for the tests of engines: small, picklable, and able to fail on demand.

Both write all that they do into one log in their folder: workers append lines, the test reads them.
A `Trouble` happens as often as it was asked to, in whichever process: each time a file is created
in that folder.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import pyarrow as pa

from hygge.errors import Transient, UnfitValue
from hygge.home import Home
from hygge.model import Column, Commit, Head, Plan, Receipt, Run, Split, Ticket, Watermark
from hygge.settings import Settings
from hygge.store import Store

SCHEMA = pa.schema(
    [
        pa.field("n", pa.int64()),
        pa.field("split", pa.int64()),
        pa.field("seq", pa.int64()),
        pa.field("padding", pa.large_binary()),
    ]
)
SAID = "the trouble that was asked for"
REMEDY = "do not ask for trouble"


class Trouble(Settings):
    """A failure before batch `after` of split `split`, the first `times` times."""

    kind: Literal["transient", "unfit", "foreign", "kill"]
    split: int = 0
    after: int = 2
    times: int = 1


class Scene(Settings):
    """The settings that both connectors share."""

    folder: str
    """Where the log is written."""
    driver: int = 0
    """The id of the process that must not be killed."""
    trouble: Trouble | None = None
    wait_s: float = 0.0
    """Seconds that each batch takes."""


class Numbers(Home):
    """`splits` splits of `batches` batches of `rows` rows; the column `n` counts all rows."""

    class Settings(Scene):
        splits: int = 1
        batches: int = 4
        rows: int = 10
        padding_bytes: int = 0
        declared: bool = True
        """False: the plan does not know the schema, and the engine must look at the first batch."""

    @contextmanager
    def open(self, since: Watermark = None) -> Iterator[Plan]:
        columns = tuple(Column(field.name, field.type) for field in SCHEMA)
        splits = tuple(Split(at, version="1") for at in range(self.settings.splits))
        yield Plan(columns if self.settings.declared else None, splits)

    def read(self, split: Split) -> Iterator[pa.Table]:
        scene = self.settings
        append_fact(scene.folder, read=split.index)
        for seq in range(scene.batches):
            _cause_trouble(scene, split.index, seq)
            time.sleep(scene.wait_s)
            table = _batch(split.index, seq, scene.rows, scene.batches, scene.padding_bytes)
            append_fact(scene.folder, made=table.nbytes)
            yield table
            del table


class Shelf(Store):
    """A folder with one file a ticket, which gets its final name when it is sealed."""

    class Settings(Scene):
        pass

    def stage(
        self, ticket: Ticket, schema: pa.Schema | None, batches: Iterator[pa.Table]
    ) -> Receipt:
        scene = self.settings
        names = None if schema is None else schema.names
        append_fact(scene.folder, stage=_name(ticket), run=ticket.run, schema=names)
        rows = size = seq = 0
        tables = []
        for table in batches:
            _cause_trouble(scene, ticket.split, seq)
            time.sleep(scene.wait_s)
            # Keep only the columns that tests read: the Store itself must not need memory.
            tables.append(table.select(["n", "seq"]).combine_chunks())
            rows, size, seq = rows + table.num_rows, size + table.nbytes, seq + 1
            append_fact(scene.folder, taken=table.nbytes)
            del table
        whole = pa.concat_tables(tables) if tables else SCHEMA.empty_table().select(["n", "seq"])
        path = os.path.join(scene.folder, _name(ticket))
        with pa.OSFile(f"{path}.tmp", "wb") as file, pa.ipc.new_file(file, whole.schema) as writer:
            writer.write_table(whole)
        os.rename(f"{path}.tmp", f"{path}.arrow")
        return Receipt(ticket, "", rows, size)

    def commit(
        self, run: Run, base: Head | None, receipts: Sequence[Receipt], watermark: Watermark
    ) -> Commit:
        append_fact(self.settings.folder, commit=run.id)
        return Commit(Head(run.flow, 1, run.id, 0), applied=0)

    def discard(self, run: Run) -> None:
        append_fact(self.settings.folder, discard=run.id)


def read_sealed(folder: str, ticket: Ticket) -> pa.Table | None:
    """Return the rows that a ticket sealed, in their order; None if it sealed none."""
    path = os.path.join(folder, f"{_name(ticket)}.arrow")
    if not os.path.exists(path):
        return None
    with pa.OSFile(path, "rb") as file:
        return pa.ipc.open_file(file).read_all()


def append_fact(folder: str, **fact: object) -> None:
    """Append one line to the log; short appends of several processes do not mix."""
    handle = os.open(os.path.join(folder, "log"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    try:
        os.write(handle, f"{json.dumps(fact)}\n".encode())
    finally:
        os.close(handle)


def logged_values(folder: str, key: str) -> list[Any]:
    """Return the log's values under `key`, in the order in which they were written."""
    return [fact[key] for fact in read_log(folder) if key in fact]


def read_log(folder: str) -> list[dict[str, Any]]:
    """Return all lines of the log; [] where nothing was written."""
    path = os.path.join(folder, "log")
    if not os.path.exists(path):
        return []
    with open(path, encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def _name(ticket: Ticket) -> str:
    return f"{ticket.split}-{ticket.epoch}-{ticket.n}"


def _batch(split: int, seq: int, rows: int, batches: int, padding_bytes: int) -> pa.Table:
    first = (split * batches + seq) * rows
    padding = pa.repeat(pa.scalar(b"x" * padding_bytes, pa.large_binary()), rows)
    numbers = pa.array(range(first, first + rows), pa.int64())
    constants = [pa.repeat(pa.scalar(value, pa.int64()), rows) for value in (split, seq)]
    return pa.Table.from_arrays([numbers, *constants, padding], schema=SCHEMA)


def _cause_trouble(scene: Scene, split: int, seq: int) -> None:
    trouble = scene.trouble
    if trouble is None or (trouble.split, trouble.after) != (split, seq):
        return
    for number in range(trouble.times):
        path = os.path.join(scene.folder, f"trouble-{number}")
        try:
            os.close(os.open(path, os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            continue
        _fail(scene, trouble)
        return


def _fail(scene: Scene, trouble: Trouble) -> None:
    if trouble.kind == "transient":
        raise Transient(SAID, REMEDY)
    if trouble.kind == "unfit":
        raise UnfitValue(SAID, REMEDY)
    if trouble.kind == "foreign":
        raise ZeroDivisionError(SAID)
    if os.getpid() == scene.driver:
        append_fact(scene.folder, spared=os.getpid())
        return
    os.kill(os.getpid(), signal.SIGKILL)
