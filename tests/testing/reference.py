"""A simple Home, Store and engine that pass every test of the suites.

The twins in `broken_twins.py` and `broken_stores.py` are subclasses that each break one promise, by
overriding one of the small methods below.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import shutil
import time
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import asdict

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from hygge.changes import OP, has_op
from hygge.errors import (
    HomeError,
    NotOurs,
    Rejected,
    SourceChanged,
    Stopped,
    StoreError,
    Superseded,
    Transient,
)
from hygge.home import Home
from hygge.model import Column, Commit, Head, HomeTraits, Plan, Receipt, Split, StoreTraits, Ticket
from hygge.run.engines import MoveResult
from hygge.settings import Settings
from hygge.store import Store
from hygge.testing.probes import in_worker


def write_arrow(table, path, batch_rows=500):
    """Write one Arrow file, which gets its name when it is complete."""
    begun = f"{path}.{secrets.token_hex(4)}.tmp"  # a new name: some twins let two write at once
    with pa.OSFile(begun, "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table, max_chunksize=batch_rows)
    os.replace(begun, path)


def read_arrow(path):
    with pa.OSFile(path) as file:
        return pa.ipc.open_file(file).read_all()


class FolderHome(Home):
    """Arrow files in a folder; each file is a split."""

    traits = HomeTraits(cursor=True)

    class Settings(Settings):
        path: str
        cursor: str | None = None
        password: str = Field("", repr=False)

    @contextmanager
    def open(self, since=None):
        if self.settings.password:
            raise HomeError("the folder does not let us in", "check the password")
        files = self.files()
        with pa.OSFile(files[0]) as file:
            schema = pa.ipc.open_file(file).schema
        splits = tuple(self.make_split(at, path, since) for at, path in enumerate(files))
        yield Plan(self.columns(schema), splits, watermark=self.watermark(files))

    def files(self):
        folder = self.settings.path
        return sorted(os.path.join(folder, name) for name in os.listdir(folder))

    def columns(self, schema):
        return tuple(Column(field.name, field.type) for field in schema)

    def make_split(self, at, path, since):
        return Split(at, self.version(path), {"path": path, "since": since})

    def version(self, path):
        stat = os.stat(path)
        return f"{stat.st_size} {stat.st_mtime_ns} {stat.st_ino}"

    def watermark(self, files):
        if self.settings.cursor is None:
            return None
        newest = [pc.max(read_arrow(path).column(self.settings.cursor)).as_py() for path in files]
        return max((each for each in newest if each is not None), default=None)

    def read(self, split):
        self.check_unchanged(split)
        for table in self.tables(split.where["path"]):
            if split.where["since"] is not None:
                table = table.filter(self.is_fresh(table, split.where["since"]))
            yield table
            del table
        self.check_unchanged(split)

    def is_fresh(self, table, since):
        if self.flow_mode == "merge":
            return pc.greater_equal(table.column(self.settings.cursor), since)
        return pc.greater(table.column(self.settings.cursor), since)

    def tables(self, path):
        with pa.OSFile(path) as file:
            reader = pa.ipc.open_file(file)
            for at in range(reader.num_record_batches):
                yield pa.Table.from_batches([reader.get_batch(at)])

    def check_unchanged(self, split):
        if self.version(split.where["path"]) != split.version:
            raise SourceChanged(f"{split.where['path']} was rewritten", "run it again")


class FolderStore(Store):
    """One Arrow file whose metadata holds the head, so that one rename changes both."""

    traits = StoreTraits(
        modes=("replace", "append", "merge"), sees="the old file or the new one", changes=True
    )

    class Settings(Settings):
        path: str
        password: str = Field("", repr=False)

    @property
    def target(self):
        return os.path.join(self.settings.path, "rows.arrow")

    def head(self, flow):
        if self.settings.password:
            raise StoreError("the folder does not let us in", "check the password")
        if not os.path.exists(self.target):
            return None
        text = (read_arrow(self.target).schema.metadata or {}).get(b"head")
        head = self.parse_head(text) if text else None
        return head if head is not None and head.flow == flow else None

    def parse_head(self, text):
        facts = json.loads(text)
        return Head(**{**facts, "columns": tuple(map(tuple, facts["columns"]))})

    def prepare(self, run, schema):
        if run.mode == "replace":
            self.refuse_foreign()
        os.makedirs(self.run_folder(run.id), exist_ok=True)
        if schema is not None:
            write_arrow(schema.empty_table(), os.path.join(self.run_folder(run.id), "schema"))

    def refuse_foreign(self):
        there = os.path.exists(self.target)
        if there and b"head" not in (read_arrow(self.target).schema.metadata or {}):
            raise NotOurs(f"{self.target} was not written by hygge", "choose another path")

    def run_folder(self, run):
        return os.path.join(self.settings.path, ".staging", run)

    def staged_path(self, ticket):
        return os.path.join(
            self.run_folder(ticket.run), f"{ticket.split}-{ticket.epoch}-{ticket.n}"
        )

    def stage(self, ticket, schema, batches):
        rows = size = 0
        writer = None
        path = self.staged_path(ticket)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with pa.OSFile(f"{path}.tmp", "wb") as file:
            if schema is not None:
                writer = pa.ipc.new_file(file, schema)
            for table in batches:
                writer = writer or pa.ipc.new_file(file, table.schema)
                writer.write_table(table)
                rows, size = rows + table.num_rows, size + table.nbytes
                del table
            if writer is not None:
                writer.close()
        if writer is not None:
            os.rename(f"{path}.tmp", path)
        return Receipt(ticket, "", rows, size, parts=int(writer is not None))

    def resume(self, run, receipts):
        kept = [receipt for receipt in receipts if os.path.exists(self.staged_path(receipt.ticket))]
        names = {os.path.basename(self.staged_path(receipt.ticket)) for receipt in kept}
        for name in os.listdir(self.run_folder(run.id)):
            if name not in names | {"schema"}:
                os.unlink(os.path.join(self.run_folder(run.id), name))
        return kept

    def commit(self, run, base, receipts, watermark):
        rows = sum(receipt.rows for receipt in receipts)
        with self.lock():
            now = self.head(run.flow)
            if self.is_done(now, run):
                return Commit(now, applied=rows)
            self.compare(now, base)
            tables = self.gather(run, receipts)
            left = tables
            if tables and has_op(tables[0].schema):
                left, applied = self.last_changes(run, pa.concat_tables(tables))
            head = Head(
                run.flow,
                self.next_generation(base),
                run.id,
                rows,
                watermark,
                self.describe_columns(left),
                ties=run.ties,
            )
            self.make_visible(run, tables, head)
        if left is not tables:
            return Commit(head, applied=applied, superseded=rows - applied)
        return Commit(head, applied=rows)

    def last_changes(self, run, changes):
        """The rows that changes leave, and the number of keys that they are about."""
        key = changes.column(run.key[0]).to_pylist()
        last = sorted({value: at for at, value in enumerate(key)}.values())
        kept = changes.take(last)
        rows = kept.filter(pc.not_equal(kept.column(OP), "delete")).drop_columns(OP)
        return [rows.replace_schema_metadata(None)], len(last)

    @contextmanager
    def lock(self):
        with open(os.path.join(self.settings.path, ".lock"), "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def is_done(self, now, run):
        return now is not None and now.run == run.id

    def compare(self, now, base):
        if now != base:
            raise Superseded("another run committed first", "run it again")

    def next_generation(self, base):
        return base.generation + 1 if base else 1

    def describe_columns(self, tables):
        schema = tables[0].schema if tables else pa.schema([])
        return tuple((field.name, str(field.type)) for field in schema)

    def gather(self, run, receipts):
        prepared = os.path.join(self.run_folder(run.id), "schema")
        tables = [read_arrow(prepared)] if os.path.exists(prepared) else []
        for receipt in receipts:
            if receipt.parts:
                self.check(receipt)
                tables.append(read_arrow(self.staged_path(receipt.ticket)))
        return tables

    def check(self, receipt):
        path = self.staged_path(receipt.ticket)
        if not os.path.exists(path) or read_arrow(path).num_rows != receipt.rows:
            raise Rejected(f"{path} does not hold what its receipt promises")

    def make_visible(self, run, tables, head):
        if not tables:
            if not os.path.exists(self.target):
                return
            tables = [read_arrow(self.target).slice(0, 0)]
        self.publish(self.combine(run, pa.concat_tables(tables)), head)

    def combine(self, run, new):
        left = new
        if has_op(new.schema):
            (left,), _ = self.last_changes(run, new)
        if run.mode == "replace" or not os.path.exists(self.target):
            return left
        old = read_arrow(self.target).replace_schema_metadata(None)
        if run.mode == "merge":
            key = run.key[0]
            old = old.filter(pc.invert(pc.is_in(old.column(key), new.column(key).combine_chunks())))
        return pa.concat_tables([old, left])

    def publish(self, table, head):
        write_arrow(table.replace_schema_metadata({"head": json.dumps(asdict(head))}), self.target)

    def discard(self, run):
        shutil.rmtree(self.run_folder(run.id), ignore_errors=True)


class PlainEngine:
    """Moves one split after the other in the caller's thread."""

    name = "plain"

    def move(self, move, watch, stop):
        moved = MoveResult()
        for split in move.splits:
            receipts = self.move_split(move, split, stop, moved)
            moved.receipts += receipts
            moved.rows_read += sum(receipt.rows for receipt in receipts)
            self.report(move, receipts)
        return moved

    def report(self, move, receipts):
        for receipt in receipts:
            move.on_receipt(receipt)

    def move_split(self, move, split, stop, moved):
        n = 0
        while True:
            ticket = self.make_ticket(move, split, n)
            move.attempts.began(0, ticket)
            try:
                receipt = self.attempt(move, ticket, split, stop)
                move.attempts.ended(ticket, "staged", receipt.rows)
                return [receipt]
            except Exception as error:
                move.attempts.ended(ticket, self.how_it_failed())
                if not self.may_retry(error, n, move.limits.retries):
                    raise
                n += 1
                moved.retries += self.counted_retries()

    def make_ticket(self, move, split, n):
        return Ticket(move.run.id, split.index, move.epoch, n)

    def may_retry(self, error, n, retries):
        return isinstance(error, Transient) and n < retries

    def counted_retries(self):
        return 1

    def how_it_failed(self):
        return "failed"

    def attempt(self, move, ticket, split, stop):
        batches = self.check_stop(self.batches(move, split), stop)
        schema = move.schema
        if schema is None:
            first = next(batches, None)
            schema = None if first is None else first.schema
            batches = iter([*([] if first is None else [first]), *batches])
        return move.store.stage(ticket, self.choose_schema(schema, move), batches)

    def batches(self, move, split):
        return iter(move.home.read(split))

    def choose_schema(self, schema, move):
        return schema

    def check_stop(self, batches, stop):
        for table in batches:
            if stop.is_set():
                raise Stopped("stopped; nothing became visible")
            yield table


class ProcessEngine(PlainEngine):
    """Makes every attempt in a process of its own, which may die."""

    name = "processes"

    def attempt(self, move, ticket, split, stop):
        try:
            return in_worker(stage_in_worker, move.store, move.home, move.schema, ticket, split)
        except BrokenProcessPool as error:
            raise Transient(f"the worker of split {split.index} died") from error


def stage_in_worker(store, home, schema, ticket, split):
    return store.stage(ticket, schema, iter(home.read(split)))


def pause():
    """Give another thread the time to see a state that lasts only a moment."""
    time.sleep(0.05)
