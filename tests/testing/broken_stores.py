"""Twins of the reference Store. Each breaks one promise, and a test of the suite must fail."""

from __future__ import annotations

import os
import shutil
import threading
from contextlib import contextmanager
from dataclasses import replace

import pyarrow as pa
import pyarrow.compute as pc

from hygge.changes import OP, has_op
from hygge.errors import StoreError, UnfitValue
from hygge.model import Receipt, StoreTraits
from hygge.store import BY_HAND
from tests.testing.reference import FolderStore, pause, read_arrow


class LosesTheLastSplit(FolderStore):
    def gather(self, run, receipts):
        return super().gather(run, receipts[:-1])


class ShowsInStage(FolderStore):
    def stage(self, ticket, schema, batches):
        receipt = super().stage(ticket, schema, batches)
        shutil.copy(self.staged_path(ticket), self.target)
        return receipt


class CommitsTwice(FolderStore):
    def is_done(self, now, run):
        return False

    def compare(self, now, base):
        pass

    def combine(self, run, new):
        return super().combine(replace(run, mode="append"), new)


class AlwaysTheFirstGeneration(FolderStore):
    def next_generation(self, base):
        return 1


class ForgetsTies(FolderStore):
    def commit(self, run, base, receipts, watermark):
        return super().commit(replace(run, ties=None), base, receipts, watermark)


class HeadBeforeRows(FolderStore):
    def gather(self, run, receipts):
        old = read_arrow(self.target) if os.path.exists(self.target) else None
        if old is not None:
            head = replace(self.parse_head(old.schema.metadata[b"head"]), run=run.id)
            self.publish(old, head)
            pause()
        return super().gather(run, receipts)


class SplitBySplit(FolderStore):
    def publish(self, table, head):
        for rows in range(20, table.num_rows + 1, 20):
            super().publish(table.slice(0, rows), head)
            pause()


class SharesAPath(FolderStore):
    def staged_path(self, ticket):
        return super().staged_path(replace(ticket, n=0))


class TakesTheLastAttempt(FolderStore):
    def check(self, receipt):
        pass

    def gather(self, run, receipts):
        last = sorted(os.listdir(self.run_folder(run.id)))
        names = {name.split("-")[0]: name for name in last if "-" in name}
        return [read_arrow(os.path.join(self.run_folder(run.id), name)) for name in names.values()]


class LetsZombiesIn(FolderStore):
    def stage(self, ticket, schema, batches):
        receipt = super().stage(ticket, schema, batches)
        if os.path.exists(self.target):
            old = read_arrow(self.target)
            head = self.parse_head(old.schema.metadata[b"head"])
            if head.run == ticket.run:
                new = read_arrow(self.staged_path(ticket))
                self.publish(pa.concat_tables([old.replace_schema_metadata(None), new]), head)
        return receipt


class UndoesNewerRuns(FolderStore):
    def stage(self, ticket, schema, batches):
        before = read_arrow(self.target) if os.path.exists(self.target) else None
        receipt = super().stage(ticket, schema, batches)
        if os.path.exists(self.target) and before is None:
            os.unlink(self.target)
        return receipt


class NeverCompares(FolderStore):
    def compare(self, now, base):
        pass


class ComparesTooEarly(FolderStore):
    @contextmanager
    def lock(self):
        yield

    def compare(self, now, base):
        super().compare(now, base)
        pause()


class PrepareWipes(FolderStore):
    def prepare(self, run, schema):
        self.discard(run)
        super().prepare(run, schema)


class DiscardsNothing(FolderStore):
    def discard(self, run):
        pass


class DiscardsOnce(FolderStore):
    def discard(self, run):
        shutil.rmtree(self.run_folder(run.id))


class DiscardsWhatIsVisible(FolderStore):
    def discard(self, run):
        super().discard(run)
        if os.path.exists(self.target):
            os.unlink(self.target)


class SealsWhatBroke(FolderStore):
    def stage(self, ticket, schema, batches):
        def until_it_breaks():
            try:
                yield from batches
            except ZeroDivisionError:
                return

        return super().stage(ticket, schema, until_it_breaks())


class TrustsReceipts(FolderStore):
    def gather(self, run, receipts):
        there = [each for each in receipts if os.path.exists(self.staged_path(each.ticket))]
        return [read_arrow(self.staged_path(each.ticket)) for each in there]


class AnEmptySplitEndsIt(FolderStore):
    def gather(self, run, receipts):
        kept = []
        for receipt in receipts:
            if not receipt.rows:
                break
            kept.append(receipt)
        return super().gather(run, kept)


class NothingForNothing(FolderStore):
    def make_visible(self, run, tables, head):
        if sum(table.num_rows for table in tables):
            super().make_visible(run, tables, head)


class SomethingForNothing(FolderStore):
    def make_visible(self, run, tables, head):
        super().make_visible(run, tables or [pa.table({})], head)


class HoldsAllBatches(FolderStore):
    def stage(self, ticket, schema, batches):
        return super().stage(ticket, schema, iter(list(batches)))


class ReplaceAdds(FolderStore):
    def combine(self, run, new):
        return super().combine(replace(run, mode="append"), new)


class AppendReplaces(FolderStore):
    def combine(self, run, new):
        return super().combine(replace(run, mode="replace"), new)


class MergeAdds(ReplaceAdds):
    pass


class KeepsDeletedRows(FolderStore):
    def combine(self, run, new):
        if not has_op(new.schema):
            return super().combine(run, new)
        return super().combine(run, new.filter(pc.not_equal(new.column(OP), "delete")))


class TheFirstChangeCounts(FolderStore):
    def last_changes(self, run, changes):
        return super().last_changes(run, changes.take(list(range(changes.num_rows))[::-1]))


class MakesAColumnOfOp(FolderStore):
    def last_changes(self, run, changes):
        (rows,), count = super().last_changes(run, changes)
        ops = pa.array(["insert"] * rows.num_rows, pa.string())
        return [rows.append_column(OP, ops)], count


class TakesAnyOp(FolderStore):
    def combine(self, run, new):
        if OP in new.column_names:
            (new,), _ = self.last_changes(run, new)
        return super().combine(run, new)


class WriteReplaces(FolderStore):
    def combine(self, run, new):
        return new if run.flow == BY_HAND else super().combine(run, new)


class TakesWhatIsForeign(FolderStore):
    def refuse_foreign(self):
        pass


class MakesFloats(FolderStore):
    def publish(self, table, head):
        at = table.schema.get_field_index("v")
        super().publish(table.set_column(at, "v", table.column("v").cast(pa.float64())), head)


class MakesFloatsAndSaysSo(MakesFloats):
    traits = StoreTraits(modes=("replace",), lossy=("decimal",))


class DeclaresWhatItStores(FolderStore):
    traits = StoreTraits(modes=("replace",), lossy=("int64",))


class RefusesWithoutAWord(FolderStore):
    traits = StoreTraits(modes=("replace",), lossy=("int64",))

    def prepare(self, run, schema):
        raise UnfitValue("some value does not fit")


class StoreWithALock(FolderStore):
    def __init__(self, *args, **settings):
        super().__init__(*args, **settings)
        self.lock = threading.Lock()


class TalkativeReceipts(FolderStore):
    def stage(self, ticket, schema, batches):
        return replace(super().stage(ticket, schema, batches), max_cursor="x" * 2000)


class StorePrintsItsPassword(FolderStore):
    def head(self, flow):
        try:
            raise ValueError(f"login failed: {self.settings.password}")
        except ValueError as error:
            raise StoreError("cannot log in") from error


class ForgetsWhatWasStaged(FolderStore):
    def resume(self, run, receipts):
        self.discard(run)
        self.prepare(run, None)
        return list(receipts)


class TakesTriesOfTheDead(FolderStore):
    def stage(self, ticket, schema, batches):
        for epoch in range(ticket.epoch):
            earlier = replace(ticket, epoch=epoch)
            if os.path.exists(self.staged_path(earlier)):
                return Receipt(earlier, "", read_arrow(self.staged_path(earlier)).num_rows, 0)
        return super().stage(ticket, schema, batches)

    def resume(self, run, receipts):
        return list(receipts)
