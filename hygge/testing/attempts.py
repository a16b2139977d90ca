"""What a Store promises when things go wrong: lost attempts, zombies, other runs, broken batches.

An attempt is tried in the middle of its batches while somebody commits, and after that: attempts
that only follow each other hide what a zombie does.
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
    begin,
    put,
    stage,
    tagged,
    twin_of,
)


class Attempts(StoreHooks):
    """The part of `StoreContract` about attempts."""

    # Attempts, zombies, other runs

    @pytest.mark.parametrize("winner", ["first", "second"])
    def test_an_attempt_that_lost_changes_nothing(self, winner: str, tmp_path: Path) -> None:
        store = self.exact(tmp_path)
        begun = begin(store)
        first = stage(begun, tagged("first"), n=0)
        second = stage(begun, tagged("second", 50), n=1)
        decided = first if winner == "first" else second
        replace(begun, receipts=(decided,)).commit()
        # A Store may answer the second try with what the first one sealed.
        self.shows(store, tagged("first") if decided == first else tagged("second", 50))

    def test_a_zombie_that_goes_on_after_the_commit_changes_nothing(self, tmp_path: Path) -> None:
        store = self.exact(tmp_path)
        begun = begin(store)
        winner = replace(begun, receipts=(stage(begun, tagged("winner"), n=1),))
        _go_on_around(begun, winner.commit)
        self.shows(store, tagged("winner"), "after a zombie went on")
        with contextlib.suppress(Exception):  # it may be refused: nobody asks for its rows
            stage(begun, tagged("late zombie", 500), n=2, store=twin_of(store))
        self.shows(store, tagged("winner"), "after a zombie began late")
        store.discard(begun.run)
        self.shows(store, tagged("winner"), "after the discard")
        head = store.head(FLOW)
        assert head is not None
        assert (head.run, head.generation) == (begun.run.id, 1)

    def test_a_zombie_of_an_older_run_changes_nothing(self, tmp_path: Path) -> None:
        store = self.exact(tmp_path)
        old = begin(store)
        newer = put(twin_of(store), tagged("newer", 50))
        _go_on_around(old, newer.commit)
        self.shows(store, tagged("newer", 50), "after a zombie of an older run went on")
        store.discard(old.run)
        with contextlib.suppress(Exception):  # as above
            stage(old, tagged("late zombie", 500), n=2)
        self.shows(store, tagged("newer", 50), "after a zombie of a discarded run")

    def test_a_superseded_run_cannot_commit(self, tmp_path: Path) -> None:
        store = self.exact(tmp_path)
        slow, quick = put(store, tagged("slow")), put(twin_of(store), tagged("quick", 50))
        quick.commit()
        self.refused(slow, Superseded)
        self.shows(store, tagged("quick", 50), "after a superseded run tried")
        head = store.head(FLOW)
        assert head is not None
        assert (head.run, head.generation) == (quick.run.id, 1)

    def test_a_run_of_the_past_cannot_commit_again(self, tmp_path: Path) -> None:
        store = self.exact(tmp_path)
        old = put(store, tagged("old"))
        old.commit()
        put(store, tagged("new", 50)).commit()
        before = self.rows(store)
        self.refused(old, Superseded)
        assert before is not None
        self.shows(store, before, "after an old run tried again")

    def test_of_two_commits_at_once_one_wins(self, tmp_path: Path) -> None:
        store = self.exact(tmp_path)
        runs = {tag: put(twin_of(store), tagged(tag, at)) for tag, at in (("a", 0), ("b", 50))}
        together = threading.Barrier(2)
        won: list[str] = []

        def commit(tag: str) -> None:
            together.wait()
            with contextlib.suppress(Superseded, Transient):
                runs[tag].commit()
                won.append(tag)

        with ThreadPoolExecutor(len(runs)) as pool:
            list(pool.map(commit, runs))  # which raises what a commit raised
        assert len(won) == 1, f"{won} committed over the same head"
        head = store.head(FLOW)
        assert head is not None
        assert head.run == runs[won[0]].run.id
        self.shows(store, tagged(won[0], 0 if won[0] == "a" else 50))

    # A driver that died

    def test_a_run_that_died_is_gone_on_with(self, tmp_path: Path) -> None:
        store = self.exact(tmp_path)
        begun = begin(store)
        sealed = stage(begun, tagged("sealed"), split=0)
        stage(begun, tagged("unknown", 500), split=1)  # its receipt died with the driver
        never = replace(sealed, ticket=Ticket(begun.run.id, 2))
        again = twin_of(store)
        again.prepare(begun.run, SCHEMA)
        for _ in range(2):
            kept = again.resume(begun.run, (sealed, never))
            assert sealed in kept, "rows that are staged were not found"
        self.shows(store, SCHEMA.empty_table(), "after a run was gone on with")
        missing = stage(begun, tagged("anew", 50), split=1, store=again, epoch=1)
        assert missing.ticket.epoch == 1, "a try of the driver that died was taken for a new one"
        replace(begun, store=again, receipts=(sealed, missing)).commit()
        expected = pa.concat_tables([tagged("sealed"), tagged("anew", 50)])
        self.shows(store, expected)
        again.resume(begun.run, ())
        self.shows(store, expected, "after a late look at what was staged")

    # Prepare, discard, failures

    def test_preparing_twice_is_preparing_once(self, tmp_path: Path) -> None:
        store = self.make(tmp_path)
        begun = begin(store)
        first = stage(begun, tagged("a"), split=0)
        store.prepare(begun.run, SCHEMA)
        replace(begun, receipts=(first, stage(begun, tagged("a", 20), split=1))).commit()
        self.shows(store, tagged("a", 0, 40))

    def test_discarding_twice_is_discarding_once(self, tmp_path: Path) -> None:
        store = self.exact(tmp_path)
        run = put(store, tagged("given up"))
        for _ in range(2):
            store.discard(run.run)
        self.shows(store, SCHEMA.empty_table(), "after the discard")
        self.refused(run, Rejected)
        put(store, tagged("next", 50)).commit()
        self.shows(store, tagged("next", 50))

    def test_discard_never_touches_visible_rows(self, tmp_path: Path) -> None:
        store = self.exact(tmp_path)
        run, other = put(store, tagged("a")), put(store, tagged("other", 50))
        run.commit()
        for each in (run.run, other.run, replace(run.run, id="never-prepared")):
            store.discard(each)
            self.shows(store, tagged("a"), f"after the discard of {each.id}")

    def test_batches_that_break_midway_leave_nothing(self, tmp_path: Path) -> None:
        store = self.make(tmp_path)
        begun = begin(store)

        def breaks() -> Iterator[pa.Table]:
            yield tagged("broken", 500)
            raise ZeroDivisionError("the Home broke")

        with pytest.raises(ZeroDivisionError, match="the Home broke"):
            store.stage(Ticket(begun.run.id, 0), SCHEMA, breaks())
        if store.traits.guarantee == "at least once":
            return  # its first batch is visible already, and declared so
        self.shows(store, SCHEMA.empty_table(), "after a broken attempt")
        replace(begun, receipts=(stage(begun, tagged("a"), n=1),)).commit()
        self.shows(store, tagged("a"), "after the next attempt")

    def test_a_receipt_without_its_rows_is_rejected(self, tmp_path: Path) -> None:
        store = self.exact(tmp_path)
        put(store, tagged("old")).commit()
        head = store.head(FLOW)
        run = put(store, tagged("new", 50))
        more = replace(run.receipts[0], rows=25)
        never = replace(run.receipts[0], ticket=Ticket(run.run.id, 7))
        for receipts in ((more,), (*run.receipts, never)):
            self.refused(replace(run, receipts=receipts), Rejected)
            self.shows(store, tagged("old"), "after a rejected commit")
            assert store.head(FLOW) == head, "a rejected commit moved the head"


def _go_on_around(begun: Staged, commit: Callable[[], Commit]) -> None:
    """An attempt that is in the middle of its batches when somebody commits."""
    committed: list[Commit] = []

    def batches() -> Iterator[pa.Table]:
        yield tagged("zombie", 200)
        with contextlib.suppress(Transient):  # a lock that the zombie holds
            committed.append(commit())
        yield tagged("zombie", 300)

    with contextlib.suppress(Exception):  # it may be refused: nobody asks for its rows
        twin_of(begun.store).stage(Ticket(begun.run.id, 0), SCHEMA, batches())
    if not committed:
        commit()
