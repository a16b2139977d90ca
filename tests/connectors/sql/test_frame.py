"""The frame of a commit takes its steps in their order, whatever the database answers."""

from __future__ import annotations

import contextlib
from types import SimpleNamespace

import pyarrow as pa
import pytest

from hygge.connectors.sql import frame
from hygge.errors import Rejected, StoreError, Superseded, Unknown
from hygge.model import Head, Receipt, Run, Ticket

RUN, BASE = Run("r2", "f", "append"), Head("f", 1, "r1", 2, None, ())
MINE, OTHER = Head("f", 2, "r2", 3, None, ()), Head("f", 2, "r9", 9, None, ())
BEFORE = ["head", "rejecting", "gather", "lock", "locked head"]
ALL = [*BEFORE, "staged", "check", "publish", "finish", "end"]


class Fake(frame.Publisher):
    """A database that notes its steps; a step may raise, and `heads` are what it answers."""

    def __init__(self, *heads, raises=None, committed=False):
        receipts = [Receipt(Ticket("r2", split), "", 1, 1) for split in (2, 0, 1)]
        super().__init__(None, SimpleNamespace(who="d.t", refused=None), RUN, BASE, receipts)
        self.heads, self.raises, self.committed, self.steps = [*heads], raises or {}, committed, []

    def step(self, name):
        self.steps.append(name)
        if name in self.raises:
            raise self.raises[name]

    def head(self, lock):
        self.step("locked head" if lock else "head")
        return self.heads.pop(0) if self.heads else BASE

    def rejecting(self):
        self.step("rejecting")
        return contextlib.nullcontext()

    def gather(self):
        self.step("gather")

    def lock(self):
        self.step("lock")

    def staged(self):
        self.step("staged")
        return pa.schema([("a", pa.int64())])

    def check(self, schema):
        self.step("check")
        return True

    def publish(self, schema, exists):
        self.step("publish")
        return frame.Published(2, "t", None, ["", "said"])

    def finish(self, row):
        self.step("finish")

    def is_committed(self, error):
        return self.committed

    def end(self):
        self.step("end")


def test_every_step_is_taken_once_and_in_order():
    fake = Fake()
    done = frame.commit(fake, 7)
    assert fake.steps == ALL
    assert [receipt.ticket.split for receipt in fake.receipts] == [0, 1, 2]
    assert (done.applied, done.superseded, done.note) == (2, 1, "said")
    assert (done.head.run, done.head.generation, done.head.watermark) == ("r2", 2, 7)


@pytest.mark.parametrize("heads", [[MINE], [BASE, MINE]])
def test_a_run_that_is_committed_already_moves_nothing(heads):
    fake = Fake(*heads)
    assert frame.commit(fake, 7).head == MINE
    assert fake.steps == (["head"] if len(heads) == 1 else [*BEFORE, "end"])


@pytest.mark.parametrize("heads", [[OTHER], [BASE, OTHER], [None]])
def test_a_run_that_is_late_moves_nothing(heads):
    fake = Fake(*heads)
    with pytest.raises(Superseded):
        frame.commit(fake, 7)
    assert "staged" not in fake.steps


def test_a_database_that_let_go_of_its_lock_is_asked_once_more():
    fake = Fake(BASE, BASE, OTHER)
    fake.has_let_go = True
    with pytest.raises(Superseded):
        frame.commit(fake, 7)
    assert fake.steps == [*BEFORE, "staged", "locked head", "end"]


@pytest.mark.parametrize("step", ["gather", "lock", "staged", "check", "publish", "finish"])
def test_what_stops_to_fit_ends_the_run_and_what_is_locked_is_released(step):
    fake = Fake(raises={step: StoreError("no longer", "so")})
    with pytest.raises(Rejected, match="no longer"):
        frame.commit(fake, 7)
    assert fake.steps[-1] == ("gather" if step == "gather" else "end")


def test_the_head_tells_whether_a_commit_that_failed_was_done():
    lost = {"finish": OSError("gone")}
    assert frame.commit(Fake(raises=lost, committed=True), 7).applied == 2
    with pytest.raises(OSError, match="gone"):
        frame.commit(Fake(raises=lost, committed=False), 7)
    with pytest.raises(Unknown):
        frame.commit(Fake(raises=lost, committed=None), 7)
