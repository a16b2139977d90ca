"""Twins of the journal, the driver and the stores, each with one promise broken, for one process.

`tests/crash/driver.py` breaks the drivers that it is told to; the promises of
`tests/crash/promises.py` must notice.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from dataclasses import replace
from types import SimpleNamespace

from hygge.connectors.files import directory, parts, publish
from hygge.connectors.sql import heads
from hygge.connectors.sqlite import store as sqlite_store
from hygge.journal import Decision, FlowJournal
from hygge.journal.entries import encode
from hygge.places import durable, folder
from hygge.run import once
from hygge.run.driver import Driver


def a_commit_that_is_not_idempotent() -> None:
    heads.already = lambda *_: None
    heads.check_base = lambda *_: None


def a_head_that_is_not_compared() -> None:
    heads.check_base = lambda *_: None


def a_watermark_before_its_rows() -> None:
    commit = sqlite_store.commit

    def early(goal, run, base, receipts, watermark):
        with closing(sqlite3.connect(sqlite_store.path_of(goal.url))) as connection:
            told = "UPDATE _hygge_heads SET watermark = ? WHERE flow = ?"
            connection.execute(told, [str(watermark), run.flow])
            connection.commit()
        base = base and replace(base, watermark=watermark)
        return commit(goal, run, base, receipts, watermark)

    sqlite_store.commit = early


def no_fsync_of_files() -> None:
    fsync = durable.sync
    durable.sync = lambda path: fsync(path) if os.path.isdir(path) else None


def no_fsync_of_folders() -> None:
    fsync = durable.sync
    durable.sync = lambda path: None if os.path.isdir(path) else fsync(path)


def no_fsync_in_the_journal() -> None:
    folder.sync = lambda path: None


def attempts_that_share_a_path() -> None:
    directory.ticket_name = lambda ticket: f"{ticket.split:05d}-0-0"
    shared = {**vars(os), "mkdir": lambda path: os.makedirs(path, exist_ok=True)}
    parts.os = SimpleNamespace(**shared)


def a_lease_that_is_trusted() -> None:
    """Who believes to drive the flow writes its decision over any other."""

    def decide(self: FlowJournal, run, wanted: Decision) -> Decision:
        place = self.place
        place.create = lambda key, content: place.put(key, content) or True
        return DECIDE(self, run, wanted)

    FlowJournal.decide = decide


def a_create_that_overwrites() -> None:
    folder._linked = folder._replaced


def a_create_that_overwrites_unchecked() -> None:
    folder._linked = folder._replaced
    folder.Folder.check = lambda self: None


def receipts_of_another_source() -> None:
    once.reusable_receipts = lambda sealed, digests: NEWEST(
        [("same", receipt) for _, receipt in sealed], dict.fromkeys(digests, "same")
    )


def receipts_that_are_forgotten() -> None:
    once.reusable_receipts = lambda sealed, digests: []


def a_discard_before_the_decision() -> None:
    def abandon(self: Driver, run, why: str) -> None:
        self.flow.store.discard(run)
        ABANDON(self, run, why)

    Driver.abandon = abandon


def a_publisher_in_two_steps() -> None:
    def show(staged: str, target: str) -> None:
        if os.path.exists(target):
            os.rename(target, f"{staged}.gone")
        os.rename(staged, target)

    publish.show_directory = show


def an_outcome_before_the_commit() -> None:
    def commit(self: Driver, run, base, receipts, watermark):
        content = encode("outcome", self.flow.identity, {"run": run.id, "how": "committed"})
        self.journal.place.put(self.journal._key(run, "outcome"), content)
        return COMMIT(self, run, base, receipts, watermark)

    Driver.commit = commit


DECIDE, NEWEST = FlowJournal.decide, once.reusable_receipts
ABANDON, COMMIT = Driver.abandon, Driver.commit
TWINS = {
    name.replace("_", " "): broken
    for name, broken in list(globals().items())
    if callable(broken) and getattr(broken, "__module__", "") == __name__
}
