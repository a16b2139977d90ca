"""Twins of the reference Home and engine. Each breaks one promise, so a test of its suite fails."""

from __future__ import annotations

import threading
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import pyarrow as pa
import pyarrow.compute as pc

from hygge.errors import HomeError, HyggeError, Stopped, Transient, UnfitValue
from hygge.model import Column, HomeTraits, Receipt
from tests.testing.reference import FolderHome, PlainEngine, ProcessEngine, read_arrow

# Homes


class DropsNullKeys(FolderHome):
    def tables(self, path):
        for table in super().tables(path):
            kept = (
                table.filter(pc.is_valid(table.column("k"))) if "k" in table.column_names else table
            )
            yield kept


class Overlaps(FolderHome):
    def tables(self, path):
        yield from super().tables(self.files()[0])
        if path != self.files()[0]:
            yield from super().tables(path)


class NoSplitWhenEmpty(FolderHome):
    def files(self):
        return [path for path in super().files() if read_arrow(path).num_rows]

    @contextmanager
    def open(self, since=None):
        if self.files():
            with super().open(since) as plan:
                yield plan
        else:
            from hygge.model import Plan

            yield Plan((), ())


class AllSplitsAreFirst(FolderHome):
    def make_split(self, at, path, since):
        return super().make_split(0, path, since)


class OtherRowsTheSecondTime(FolderHome):
    def read(self, split):
        times = self.__dict__.setdefault("times", 0)
        self.times = times + 1
        for table in super().read(split):
            yield table.slice(min(1, times))


class OnlyOnwards(FolderHome):
    def read(self, split):
        if split.index < self.__dict__.setdefault("at", -1):
            return
        self.at = split.index
        yield from super().read(split)


class OtherTypesThanPlanned(FolderHome):
    def columns(self, schema):
        return tuple(Column(field.name, pa.string()) for field in schema)


class NoSchemaWhenEmpty(FolderHome):
    def columns(self, schema):
        empty = not any(read_arrow(path).num_rows for path in self.files())
        return () if empty else super().columns(schema)


class RoundsDecimals(FolderHome):
    def tables(self, path):
        for table in super().tables(path):
            for at, field in enumerate(table.schema):
                if field.type == pa.decimal128(38, 10):
                    rounded = table.column(at).cast(pa.float64()).cast(pa.decimal256(60, 10))
                    table = table.set_column(at, field, rounded.cast(field.type, safe=False))
            yield table


class DeclaresWhatItKeeps(FolderHome):
    traits = HomeTraits(lossy=("int64",))


class HalfByHand(FolderHome):
    async def read_batches(self):
        with self.open() as plan:
            for table in self.read(plan.splits[0]):
                yield table


class ReadsAllFirst(FolderHome):
    def tables(self, path):
        yield from list(super().tables(path))


class KeepsWhatItRead(FolderHome):
    kept: ClassVar[list] = []

    def tables(self, path):
        for table in super().tables(path):
            self.kept.append(table)
            yield table


class LeavesFilesOpen(FolderHome):
    opened: ClassVar[list] = []

    def tables(self, path):
        self.opened.append(open(path, "rb"))  # noqa: SIM115  # the broken promise
        yield from super().tables(path)


class PlansWithObjects(FolderHome):
    def make_split(self, at, path, since):
        split = super().make_split(at, path, since)
        return replace(split, where={**split.where, "path": Path(path)})


class HoldsALock(FolderHome):
    def __init__(self, *args, **settings):
        super().__init__(*args, **settings)
        self.lock = threading.Lock()


class NeverLooksAgain(FolderHome):
    def check_unchanged(self, split):
        pass

    def tables(self, path):
        with pa.OSFile(path) as file:
            count = pa.ipc.open_file(file).num_record_batches
        for at in range(count):
            yield read_arrow(path).slice(500 * at, 500)


class IgnoresTheWatermark(FolderHome):
    def is_fresh(self, table, since):
        return pc.is_valid(table.column("n"))


class TakesTheWatermarkAgain(FolderHome):
    def is_fresh(self, table, since):
        return pc.greater_equal(table.column("n"), since)


class LosesTies(FolderHome):
    def is_fresh(self, table, since):
        return pc.greater(table.column("n"), since)


class PrintsItsPassword(FolderHome):
    @contextmanager
    def open(self, since=None):
        raise HomeError(f"cannot log in with {self.settings.password}")
        yield


# Engines


class DropsTheLastBatch(PlainEngine):
    def batches(self, move, split):
        return iter(list(move.home.read(split))[:-1])


class SealsASplitTwice(PlainEngine):
    def move_split(self, move, split, stop, moved):
        twice = replace(move, epoch=move.epoch + 1)
        first = super().move_split(move, split, stop, moved)
        return [*first, *super().move_split(twice, split, stop, moved)]


class ForgetsTheEpoch(PlainEngine):
    def make_ticket(self, move, split, n):
        return replace(super().make_ticket(move, split, n), epoch=0)


class LastBatchFirst(PlainEngine):
    def batches(self, move, split):
        return iter(list(move.home.read(split))[::-1])


class CommitsByItself(PlainEngine):
    def move(self, move, watch, stop):
        moved = super().move(move, watch, stop)
        move.store.commit(move.run, None, moved.receipts, None)
        return moved


class GoesOnWhereItBroke(PlainEngine):
    def batches(self, move, split):
        tables = self.__dict__.setdefault("left", {})
        return tables.setdefault(split.index, super().batches(move, split))


class UsesATicketTwice(PlainEngine):
    def make_ticket(self, move, split, n):
        return super().make_ticket(move, split, 0)


class CountsNoRetry(PlainEngine):
    def counted_retries(self):
        return 0


class NeverGivesUp(PlainEngine):
    def may_retry(self, error, n, retries):
        return isinstance(error, Transient) and n < retries + 5


class CallsAFailureGivenUp(PlainEngine):
    def how_it_failed(self):
        return "given_up"


class RetriesAll(PlainEngine):
    def may_retry(self, error, n, retries):
        return n < retries


class LosesTheCause(PlainEngine):
    def move(self, move, watch, stop):
        failed = False
        try:
            return super().move(move, watch, stop)
        except Exception:
            failed = True
        if failed:
            raise HyggeError("the flow failed")


class EndsWhereTheHomeBroke(PlainEngine):
    def attempt(self, move, ticket, split, stop):
        broke = []

        def until_it_breaks(tables):
            try:
                yield from tables
            except UnfitValue as error:
                broke.append(error)

        tables = until_it_breaks(self.batches(move, split))
        receipt = move.store.stage(ticket, move.schema, tables)
        if broke:
            raise broke[0]
        return receipt


class SkipsTheDead(ProcessEngine):
    def move_split(self, move, split, stop, moved):
        try:
            return [self.attempt(move, self.make_ticket(move, split, 0), split, stop)]
        except Transient:
            return []


class FailsForGood(PlainEngine):
    broken = False

    def move(self, move, watch, stop):
        if self.broken:
            raise HyggeError("this engine is broken")
        self.broken = True
        return super().move(move, watch, stop)


class IgnoresTheStop(PlainEngine):
    def check_stop(self, batches, stop):
        return batches


class StopsQuietly(PlainEngine):
    def attempt(self, move, ticket, split, stop):
        try:
            return super().attempt(move, ticket, split, stop)
        except Stopped:
            return Receipt(ticket, "", 0, 0)


class BuffersEverything(PlainEngine):
    def batches(self, move, split):
        return iter(list(move.home.read(split)))


class RefusesLargeBatches(PlainEngine):
    def batches(self, move, split):
        for table in super().batches(move, split):
            if table.nbytes > move.limits.memory_per_lane:
                raise UnfitValue("a batch is larger than the budget")
            yield table


class NoReceiptForNothing(PlainEngine):
    def move_split(self, move, split, stop, moved):
        return [each for each in super().move_split(move, split, stop, moved) if each.rows]


class NeverLooksForASchema(PlainEngine):
    def choose_schema(self, schema, move):
        return move.schema


class TellsAtTheEnd(PlainEngine):
    def move(self, move, watch, stop):
        moved = super().move(move, watch, stop)
        super().report(move, moved.receipts)
        return moved

    def report(self, move, receipts):
        pass


class GoesOnWithoutAJournal(PlainEngine):
    def report(self, move, receipts):
        with suppress(HyggeError):
            super().report(move, receipts)
