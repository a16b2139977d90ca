"""`StoreContract`: the tests that every Store must pass. Subclass it; define `make` and `rows`.

    class TestMyStore(StoreContract):
        def make(self, tmp_path): return MyStore(path=str(tmp_path / "out"))
        def rows(self, store): ...   # what a FOREIGN reader sees now; None: nothing is there

The Store's traits say which modes, guarantee, visibility and lossy types are tested. For a Store
that delivers at least once the tests of "exactly once" are skipped, with that reason.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import threading
import time
from collections.abc import Iterable
from dataclasses import asdict, replace
from pathlib import Path
from typing import ClassVar

import pyarrow as pa
import pytest

from hygge.errors import NotOurs, StoreError, UnfitValue
from hygge.model import Receipt, Ticket
from hygge.store import Store
from hygge.testing.attempts import Attempts
from hygge.testing.changes import Changes
from hygge.testing.probes import SECRET, ArrowMemory, all_text_of, in_worker, xfail_if_declared
from hygge.testing.staging import (
    FLOW,
    SCHEMA,
    Staged,
    begin_run,
    copy_of,
    count_tags,
    mib_batches,
    stage_run,
    stage_split,
    tagged_rows,
)
from hygge.testing.together import Move, kept_together
from hygge.testing.values import difference, every_type, is_lossy, table_of


class StoreContract(Changes, Attempts):
    """The tests of a Store; a subclass defines `make` and `rows`, and hooks of `StoreHooks`."""

    big_batches: ClassVar[int] = 96
    """The number of batches of 1 MiB in the test of memory."""

    # Invisible, then visible at once

    def test_committed_rows_are_visible(self, tmp_path: Path) -> None:
        store = self.make(tmp_path)
        run = stage_run(store, tagged_rows("a"), tagged_rows("a", 20))
        assert [receipt.rows for receipt in run.receipts] == [20, 20]
        commit = run.commit()
        self.assert_shows(store, tagged_rows("a", 0, 40))
        assert commit.applied + commit.superseded + commit.set_aside == 40, (
            f"40 rows were staged, {commit} accounts for others"
        )

    def test_staged_rows_are_invisible_before_the_commit(self, tmp_path: Path) -> None:
        store = self.make_exactly_once(tmp_path)
        first = stage_run(store, tagged_rows("first"))
        self.assert_shows(store, SCHEMA.empty_table(), "before the first commit")
        first.commit()
        stage_run(store, tagged_rows("second", 100))
        self.assert_shows(store, tagged_rows("first"), "before the second commit")

    def test_committing_twice_is_committing_once(self, tmp_path: Path) -> None:
        store = self.make_exactly_once(tmp_path)
        run = stage_run(store, tagged_rows("a"), tagged_rows("a", 20))
        once = run.commit()
        again = run.commit(copy_of(store))
        assert again.head == once.head == store.head(FLOW), f"{again.head}, after {once.head}"
        self.assert_shows(store, tagged_rows("a", 0, 40))

    def test_the_head_moves_with_the_rows(self, tmp_path: Path) -> None:
        store = self.make_exactly_once(tmp_path)
        assert store.head(FLOW) is None
        run = stage_run(store, tagged_rows("a"))
        assert store.head(FLOW) is None, "staging moved the head"
        committed = run.commit(watermark=19)
        head = copy_of(store).head(FLOW)
        assert head == committed.head
        assert head is not None
        assert (head.flow, head.run) == (FLOW, run.run.id)
        assert (head.generation, head.rows, head.watermark) == (1, 20, 19)
        assert [name for name, _ in head.columns] == SCHEMA.names
        assert store.head("another flow") is None
        stage_run(store, tagged_rows("b", 100)).commit()
        second = store.head(FLOW)
        assert second is not None
        assert second.generation == 2

    def test_a_reader_sees_the_old_rows_or_the_new(self, tmp_path: Path) -> None:
        store = self.make_exactly_once(tmp_path)
        if store.traits.visibility != "atomic":
            pytest.skip(f"traits.visibility is '{store.traits.visibility}'")
        runs: dict[str, str] = {}
        mode = begin_run(store).run.mode
        done, problems = threading.Event(), list[str]()

        def read() -> None:
            other, looked_s = copy_of(store), 0.0
            while not done.wait(looked_s):  # as long as it looked: the writer has its turn too
                began = time.monotonic()
                with contextlib.suppress(Exception):  # a file that is removed while it is opened
                    before, seen, after = other.head(FLOW), self.rows(other), other.head(FLOW)
                    counts = count_tags(seen) if seen is not None else {}
                    if len(counts) > 1 and mode == "replace":
                        problems.append(f"two runs are visible at once: {counts}")
                    if any(count != 48 for count in counts.values()):
                        problems.append(f"half a run is visible: {counts}")
                    if before is not None and before == after and runs[before.run] not in counts:
                        problems.append(f"the head says {runs[before.run]}, the rows {counts}")
                looked_s = time.monotonic() - began

        reader = threading.Thread(target=read)
        reader.start()
        try:
            for at, tag in enumerate("abcdefgh"):
                parts = [tagged_rows(tag, 100 * at + 20 * split) for split in range(3)]
                run = stage_run(store, *parts)
                runs[run.run.id] = tag
                run.commit()
        finally:
            done.set()
            reader.join()
        assert not problems, problems[0]

    # No rows, few rows, many rows

    def test_an_empty_split_adds_nothing(self, tmp_path: Path) -> None:
        store = self.make(tmp_path)
        begun = begin_run(store)
        empty = store.stage(Ticket(begun.run.id, 0), SCHEMA, iter(()))
        assert empty.rows == 0
        replace(begun, receipts=(empty, stage_split(begun, tagged_rows("a"), split=1))).commit()
        self.assert_shows(store, tagged_rows("a"))

    def test_no_rows_with_a_schema_give_an_empty_table(self, tmp_path: Path) -> None:
        store = self.make_exactly_once(tmp_path)
        begun = begin_run(store)
        empty = store.stage(Ticket(begun.run.id, 0), SCHEMA, iter(()))
        replace(begun, receipts=(empty,)).commit()
        seen = self.rows(store)
        assert seen is not None, "there is no file or table"
        assert (seen.num_rows, seen.column_names) == (0, SCHEMA.names)

    @pytest.mark.parametrize("receipts", ["none", "one"])
    def test_no_rows_without_a_schema_create_nothing(self, receipts: str, tmp_path: Path) -> None:
        store = self.make_exactly_once(tmp_path)
        _stage_nothing(store, receipts == "one").commit()
        assert self.rows(store) is None, "something was created out of nothing"

    def test_no_rows_without_a_schema_empty_what_was_there(self, tmp_path: Path) -> None:
        store = self.make_exactly_once(tmp_path)
        self.skip_without_mode(store, "replace")
        stage_run(store, tagged_rows("old")).commit()
        _stage_nothing(store, True).commit()
        seen = self.rows(store)
        assert seen is not None, "the target is gone"
        assert (seen.num_rows, seen.column_names) == (0, SCHEMA.names)

    def test_memory_is_bounded_while_staging(self, tmp_path: Path) -> None:
        store = self.make(tmp_path)
        begun = begin_run(store)
        with ArrowMemory() as memory:
            receipt = store.stage(Ticket(begun.run.id, 0), SCHEMA, mib_batches(self.big_batches))
        assert receipt.rows == self.big_batches * 1024
        held, most = memory.peak >> 20, self.big_batches // 2
        assert held < most, f"{held} of {self.big_batches} MiB were held at once"

    # Modes

    def test_replacing_twice_is_replacing_once(self, tmp_path: Path) -> None:
        store = self.make_exactly_once(tmp_path)
        self.skip_without_mode(store, "replace")
        for tag in ("same", "same", "other"):
            stage_run(store, tagged_rows(tag), tagged_rows(tag, 20), mode="replace").commit()
            self.assert_shows(store, tagged_rows(tag, 0, 40))
        stage_run(store, tagged_rows("less", 7, 5), mode="replace").commit()
        self.assert_shows(store, tagged_rows("less", 7, 5))

    def test_appending_adds(self, tmp_path: Path) -> None:
        store = self.make(tmp_path)
        self.skip_without_mode(store, "append")
        stage_run(store, tagged_rows("a"), mode="append").commit()
        stage_run(store, tagged_rows("a", 20), tagged_rows("a", 40), mode="append").commit()
        self.assert_shows(store, tagged_rows("a", 0, 60))

    def test_the_head_keeps_what_a_run_remembers(self, tmp_path: Path) -> None:
        store = self.make_exactly_once(tmp_path)
        self.skip_without_mode(store, "append")
        ties = {"by": ["n"], "digests": "aGVsbG8=" * 1000}
        staged = stage_run(store, tagged_rows("a"), mode="append")
        remembering = replace(staged, run=replace(staged.run, cursor="n", ties=ties))
        remembering.commit(watermark=19)
        head = copy_of(store).head(FLOW)
        assert head is not None
        assert head.ties == ties, "the head has not kept `run.ties`"
        stage_run(store, tagged_rows("b", 100), mode="append").commit()
        head = store.head(FLOW)
        assert head is not None
        assert head.ties is None, "the head has kept the `ties` of an older run"

    def test_merging_updates_and_inserts(self, tmp_path: Path) -> None:
        store = self.make(tmp_path)
        self.skip_without_mode(store, "merge")
        stage_run(store, tagged_rows("old"), mode="merge").commit()
        commit = stage_run(
            store, tagged_rows("new", 10, 5), tagged_rows("new", 15, 15), mode="merge"
        ).commit()
        self.assert_shows(
            store, pa.concat_tables([tagged_rows("old", 0, 10), tagged_rows("new", 10)])
        )
        assert commit.applied + commit.superseded + commit.set_aside == 20, f"{commit}"

    def test_writes_by_hand_all_arrive(self, tmp_path: Path) -> None:
        store = self.make(tmp_path)
        self.skip_without_mode(store, "append")

        async def by_hand() -> None:
            await store.write(tagged_rows("a"))
            await store.write(tagged_rows("a", 20).combine_chunks().to_batches()[0])
            await store.write(tagged_rows("a", 40))

        asyncio.run(by_hand())
        self.assert_shows(store, tagged_rows("a", 0, 60))

    def test_what_hygge_did_not_write_stays(self, tmp_path: Path) -> None:
        store = self.make(tmp_path)
        still_there = self.plant_foreign(store)
        for mode in sorted(store.traits.modes, reverse=True):  # replace before append
            refused: Exception | None = None
            try:
                stage_run(store, tagged_rows("ours", 1000), mode=mode).commit()
            except StoreError as error:
                refused = error
            assert still_there(), f"mode {mode} removed or changed what hygge did not write"
            if mode == "replace":
                assert isinstance(refused, NotOurs), f"replace gave {refused!r}, not NotOurs"

    # Values, processes, what is printed

    @pytest.mark.parametrize("name", list(every_type()))
    def test_every_type_returns_exactly(self, name: str, tmp_path: Path) -> None:
        if name in kept_together(type(self), lambda: self._moving(tmp_path)):
            return
        store = self.make(tmp_path)
        table = table_of(every_type()[name])
        lossy = is_lossy(name, table.schema.field("v").type, store.traits.lossy)
        unfit: UnfitValue | None = None
        try:
            stage_run(store, table).commit()
        except UnfitValue as error:
            unfit = error
        if unfit is None:
            problem = difference(self.rows(store), table)
            assert not (lossy and problem), f"declared lossy, but must be UnfitValue: {problem}"
        else:
            problem = str(unfit)
            assert "v" in re.findall(r"\w+", unfit.message), f"names no column: {problem}"
            assert unfit.hint, f"says no remedy: {problem}"
        xfail_if_declared(lossy, name, problem)

    def test_it_travels_to_a_worker(self, tmp_path: Path) -> None:
        """Which alone knows the columns, as where the Home has no schema before it is read."""
        store = self.make(tmp_path)
        begun = begin_run(store, schema=None)
        receipt = in_worker(_stage_in_worker, store, begun.run.id, tagged_rows("a"))
        replace(begun, receipts=(receipt,)).commit()
        self.assert_shows(store, tagged_rows("a"))

    def test_a_receipt_is_small_json(self, tmp_path: Path) -> None:
        receipt = stage_run(self.make(tmp_path), tagged_rows("a")).receipts[0]
        try:
            size = len(json.dumps(asdict(receipt)))
        except TypeError as error:
            raise AssertionError(f"a receipt is not JSON: {error}") from error
        assert size <= 1024, f"a receipt is {size} bytes of JSON"

    def test_secrets_are_never_printed(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        store = self.make_with_secret(SECRET, tmp_path)
        failure: Exception | None = None
        try:
            stage_run(store, tagged_rows("a")).commit()
        except Exception as error:
            failure = error
        text = all_text_of(store, failure) + caplog.text
        at = text.find(SECRET)
        assert at < 0, f"the secret is printed: …{text[max(0, at - 200) : at].strip()}***"

    def _moving(self, tmp_path: Path) -> tuple[Iterable[str], Move]:
        folder = tmp_path / "all"
        folder.mkdir()
        store = self.make(folder)

        def moved(table: pa.Table) -> pa.Table | None:
            stage_run(store, table).commit()
            return self.rows(store)

        return store.traits.lossy, moved


def _stage_nothing(store: Store, has_split: bool) -> Staged:
    """Prepare a run without a schema, with one split without rows or with no split."""
    begun = begin_run(store, schema=None)
    if not has_split:
        return begun
    receipt = store.stage(Ticket(begun.run.id, 0), None, iter(()))
    return replace(begun, receipts=(receipt,))


def _stage_in_worker(store: Store, run: str, table: pa.Table) -> Receipt:
    return store.stage(Ticket(run, 0), table.schema, iter([table]))
