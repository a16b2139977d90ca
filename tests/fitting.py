"""A target that stops fitting between `prepare` and `commit`, for tests of every Store."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pyarrow as pa
import pytest

from hygge import Flow
from hygge.errors import FlowFailed, Rejected
from hygge.home import Home
from hygge.journal import FlowJournal
from hygge.model import Column, Limits, Plan, Split
from hygge.places.place import place_at
from hygge.run.watch import Silent

ROWS = [(1, "a"), (2, "a"), (3, None)]


class Heard(Silent):
    """A watch that keeps the messages of a flow."""

    def __init__(self):
        self.words = []

    def said(self, flow, text):
        self.words.append(text)


class Rows(Home):
    """A Home of `ROWS` in two splits."""

    def open(self, since=None):
        columns = (Column("id", pa.int64(), nullable=False), Column("v", pa.string()))
        return contextlib.nullcontext(Plan(columns, (Split(0, "1"), Split(1, "1"))))

    def read(self, split):
        rows = ROWS[2 * split.index : 2 * split.index + 2]
        schema = pa.schema([pa.field("id", pa.int64(), nullable=False), ("v", pa.string())])
        yield pa.Table.from_pylist(
            [dict(zip(("id", "v"), row, strict=True)) for row in rows], schema
        )


def flow(store, mode: str, state: Path) -> Flow:
    key = ["id"] if mode == "merge" else []
    return Flow(
        Rows("rows"), store, name="f", mode=mode, key=key, engine="inline", state=state,
        limits=Limits(retries=0),
    )  # fmt: skip


def refused(store, mode: str, state: Path, change) -> Rejected:
    """Run a flow, with `change()` between its last receipt and its commit; return the refusal.

    The store must refuse to commit it, and the run must be over.
    """
    heard, moving = Heard(), flow(store, mode, state)
    commit = store.commit

    def changed(*given):
        change()
        return commit(*given)

    store.commit = changed
    try:
        with pytest.raises(FlowFailed) as caught:
            moving.run(heard)
    finally:
        del store.commit
    error = caught.value.__cause__
    assert isinstance(error, Rejected), repr(error)
    assert not [words for words in heard.words if "running it again" in words]
    assert FlowJournal(place_at(moving.state), moving.identity).open_runs() == []
    return error


def goes_anew(store, mode: str, state: Path) -> None:
    """Run the flow; it must begin anew, as no earlier run is left."""
    heard = Heard()
    report = flow(store, mode, state).run(heard)
    assert (report.rows, report.resumed, report.note) == (len(ROWS), 0, "")
    assert heard.words == []
