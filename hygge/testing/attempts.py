"""The tests of a Store about failures: lost attempts, zombies, other runs, broken batches.

A zombie is an attempt that goes on although it was given up. Here it is in the middle of its
batches while another attempt commits, and goes on after the commit. Attempts that only follow each
other would not show what it breaks.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest

from hygge.errors import Rejected, Superseded, Transient
from hygge.model import Commit, Ticket
from hygge.testing.staging import (
    FLOW,
    SCHEMA,
    Staged,
    StoreHooks,
    begin_run,
    copy_of,
    stage_run,
    stage_split,
    tagged_rows,
)


class Attempts(StoreHooks):
    """The part of `StoreContract` about attempts and failures."""

    # Attempts, zombies, other runs

    @pytest.mark.parametrize("winner", ["first", "second"])
    def test_an_attempt_that_lost_changes_nothing(self, winner: str, tmp_path: Path) -> None:
        store = self.make_exactly_once(tmp_path)
        begun = begin_run(store)
        first = stage_split(begun, tagged_rows("first"), n=0)
        second = stage_split(begun, tagged_rows("second", 50), n=1)
        decided = first if winner == "first" else second
        replace(begun, receipts=(decided,)).commit()
        # A Store may answer the second try with what the first one sealed.
        self.assert_shows(
            store, tagged_rows("first") if decided == first else tagged_rows("second", 50)
        )

    def test_a_zombie_that_goes_on_after_the_commit_changes_nothing(self, tmp_path: Path) -> None:
        store = self.make_exactly_once(tmp_path)
        begun = begin_run(store)
        winner = replace(begun, receipts=(stage_split(begun, tagged_rows("winner"), n=1),))
        _stage_around(begun, winner.commit)
        self.assert_shows(store, tagged_rows("winner"), "after a zombie went on")
        with contextlib.suppress(Exception):  # it may be refused: its rows are not needed
            stage_split(begun, tagged_rows("late zombie", 500), n=2, store=copy_of(store))
        self.assert_shows(store, tagged_rows("winner"), "after a zombie began late")
        store.discard(begun.run)
        self.assert_shows(store, tagged_rows("winner"), "after the discard")
        head = store.head(FLOW)
        assert head is not None
        assert (head.run, head.generation) == (begun.run.id, 1)

    def test_a_zombie_of_an_older_run_changes_nothing(self, tmp_path: Path) -> None:
        store = self.make_exactly_once(tmp_path)
        old = begin_run(store)
        newer = stage_run(copy_of(store), tagged_rows("newer", 50))
        _stage_around(old, newer.commit)
        self.assert_shows(store, tagged_rows("newer", 50), "after a zombie of an older run went on")
        store.discard(old.run)
        with contextlib.suppress(Exception):  # as above
            stage_split(old, tagged_rows("late zombie", 500), n=2)
        self.assert_shows(store, tagged_rows("newer", 50), "after a zombie of a discarded run")

    def test_a_superseded_run_cannot_commit(self, tmp_path: Path) -> None:
        store = self.make_exactly_once(tmp_path)
        slow, quick = (
            stage_run(store, tagged_rows("slow")),
            stage_run(copy_of(store), tagged_rows("quick", 50)),
        )
        quick.commit()
        self.assert_refused(slow, Superseded)
        self.assert_shows(store, tagged_rows("quick", 50), "after a superseded run tried")
        head = store.head(FLOW)
        assert head is not None
        assert (head.run, head.generation) == (quick.run.id, 1)

    def test_a_run_of_the_past_cannot_commit_again(self, tmp_path: Path) -> None:
        store = self.make_exactly_once(tmp_path)
        old = stage_run(store, tagged_rows("old"))
        old.commit()
        stage_run(store, tagged_rows("new", 50)).commit()
        before = self.rows(store)
        self.assert_refused(old, Superseded)
        assert before is not None
        self.assert_shows(store, before, "after an old run tried again")

    def test_of_two_commits_at_once_one_wins(self, tmp_path: Path) -> None:
        store = self.make_exactly_once(tmp_path)
        runs = {
            tag: stage_run(copy_of(store), tagged_rows(tag, at))
            for tag, at in (("a", 0), ("b", 50))
        }
        together = threading.Barrier(2)
        won: list[str] = []

        def commit(tag: str) -> None:
            together.wait()
            with contextlib.suppress(Superseded, Transient):
                runs[tag].commit()
                won.append(tag)

        with ThreadPoolExecutor(len(runs)) as pool:
            list(pool.map(commit, runs))  # raises what a commit raised
        assert len(won) == 1, f"{won} committed over the same head"
        head = store.head(FLOW)
        assert head is not None
        assert head.run == runs[won[0]].run.id
        self.assert_shows(store, tagged_rows(won[0], 0 if won[0] == "a" else 50))

    # A driver that died

    def test_a_run_that_died_is_gone_on_with(self, tmp_path: Path) -> None:
        store = self.make_exactly_once(tmp_path)
        begun = begin_run(store)
        sealed = stage_split(begun, tagged_rows("sealed"), split=0)
        stage_split(begun, tagged_rows("unknown", 500), split=1)  # its receipt died with the driver
        never = replace(sealed, ticket=Ticket(begun.run.id, 2))
        again = copy_of(store)
        again.prepare(begun.run, SCHEMA)
        for _ in range(2):
            kept = again.resume(begun.run, (sealed, never))
            assert sealed in kept, "rows that are staged were not found"
        self.assert_shows(store, SCHEMA.empty_table(), "after a run was resumed")
        missing = stage_split(begun, tagged_rows("anew", 50), split=1, store=again, epoch=1)
        assert missing.ticket.epoch == 1, "a try of the driver that died was taken for a new one"
        replace(begun, store=again, receipts=(sealed, missing)).commit()
        expected = pa.concat_tables([tagged_rows("sealed"), tagged_rows("anew", 50)])
        self.assert_shows(store, expected)
        again.resume(begun.run, ())
        self.assert_shows(store, expected, "after a late look at what was staged")

    # Prepare, discard, failures

    def test_preparing_twice_is_preparing_once(self, tmp_path: Path) -> None:
        store = self.make(tmp_path)
        begun = begin_run(store)
        first = stage_split(begun, tagged_rows("a"), split=0)
        store.prepare(begun.run, SCHEMA)
        replace(begun, receipts=(first, stage_split(begun, tagged_rows("a", 20), split=1))).commit()
        self.assert_shows(store, tagged_rows("a", 0, 40))

    def test_discarding_twice_is_discarding_once(self, tmp_path: Path) -> None:
        store = self.make_exactly_once(tmp_path)
        run = stage_run(store, tagged_rows("given up"))
        for _ in range(2):
            store.discard(run.run)
        self.assert_shows(store, SCHEMA.empty_table(), "after the discard")
        self.assert_refused(run, Rejected)
        stage_run(store, tagged_rows("next", 50)).commit()
        self.assert_shows(store, tagged_rows("next", 50))

    def test_discard_never_touches_visible_rows(self, tmp_path: Path) -> None:
        store = self.make_exactly_once(tmp_path)
        run, other = stage_run(store, tagged_rows("a")), stage_run(store, tagged_rows("other", 50))
        run.commit()
        for discarded in (run.run, other.run, replace(run.run, id="never-prepared")):
            store.discard(discarded)
            self.assert_shows(store, tagged_rows("a"), f"after the discard of {discarded.id}")

    def test_batches_that_break_midway_leave_nothing(self, tmp_path: Path) -> None:
        store = self.make(tmp_path)
        begun = begin_run(store)

        def breaks() -> Iterator[pa.Table]:
            yield tagged_rows("broken", 500)
            raise ZeroDivisionError("the Home broke")

        with pytest.raises(ZeroDivisionError, match="the Home broke"):
            store.stage(Ticket(begun.run.id, 0), SCHEMA, breaks())
        if store.traits.guarantee == "at least once":
            return  # its first batch is visible already, and declared so
        self.assert_shows(store, SCHEMA.empty_table(), "after a broken attempt")
        replace(begun, receipts=(stage_split(begun, tagged_rows("a"), n=1),)).commit()
        self.assert_shows(store, tagged_rows("a"), "after the next attempt")

    def test_a_receipt_without_its_rows_is_rejected(self, tmp_path: Path) -> None:
        store = self.make_exactly_once(tmp_path)
        stage_run(store, tagged_rows("old")).commit()
        head = store.head(FLOW)
        run = stage_run(store, tagged_rows("new", 50))
        more = replace(run.receipts[0], rows=25)
        never = replace(run.receipts[0], ticket=Ticket(run.run.id, 7))
        for receipts in ((more,), (*run.receipts, never)):
            self.assert_refused(replace(run, receipts=receipts), Rejected)
            self.assert_shows(store, tagged_rows("old"), "after a rejected commit")
            assert store.head(FLOW) == head, "a rejected commit moved the head"


def _stage_around(begun: Staged, commit: Callable[[], Commit]) -> None:
    """Stage a split, and call `commit` in the middle of its batches."""
    committed: list[Commit] = []

    def batches() -> Iterator[pa.Table]:
        yield tagged_rows("zombie", 200)
        with contextlib.suppress(Transient):  # the zombie may hold a lock
            committed.append(commit())
        yield tagged_rows("zombie", 300)

    with contextlib.suppress(Exception):  # it may be refused: its rows are not needed
        copy_of(begun.store).stage(Ticket(begun.run.id, 0), SCHEMA, batches())
    if not committed:
        commit()
