"""The driver of a flow: the process that plans, decides and commits.

`Driver` holds what it works with, and the steps that a run and the recovery of earlier runs share:
calls that are retried, the commit, and the end of a run.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Protocol, TypeVar

from hygge.errors import (
    ConfigError,
    JournalError,
    NotOurs,
    Rejected,
    StoreError,
    TooManyBadRows,
    Transient,
    UnfitValue,
    Unknown,
)
from hygge.home import Home
from hygge.journal import Decision, FlowJournal
from hygge.journal.bad_files import BadFiles
from hygge.model import Commit, Head, Limits, Mode, Plan, Receipt, Run, Watermark
from hygge.refused_rows import RefusedRows, settled
from hygge.run.engines import backoff_s
from hygge.run.recorder import Recorder
from hygge.run.retrying import retried
from hygge.run.said import speaker_for, speaking
from hygge.run.stall import StallGuard
from hygge.shape.settings import Shape
from hygge.store import Store

if TYPE_CHECKING:
    import pyarrow as pa

Result = TypeVar("Result")

COMMITTED = "committed"
"""The outcome of a run whose rows are visible."""
REFUSALS = (Rejected, NotOurs, UnfitValue, ConfigError, TooManyBadRows)
"""Errors of a commit after which it is of no use to try it again: the run is over."""
_LONGEST_PAUSE_S = 10.0
"""Between two attempts to commit: what is decided should be known soon."""


@dataclass(frozen=True)
class Attempt:
    """The number of this attempt at one request to run a flow.

    A Ray job whose driver dies is submitted again: all its attempts have the same request. So have
    commands with the same HYGGE_REQUEST. The journal keeps the request with each run, so that a
    later attempt finds the runs of earlier ones.
    """

    request: str = ""
    """Unique id of the request; empty: there is one attempt only."""
    number: int = 1
    """From 1."""
    is_named: bool = False
    """Whether the user gave the request its name, so that an earlier command may have it too."""
    command: str = ""
    """Unique id of the request to run many flows that this one is a part of; empty: none."""

    @property
    def is_repeated(self) -> bool:
        """Return whether another driver may have done already what was asked for."""
        return bool(self.request) and (self.number > 1 or self.is_named)


class DrivenFlow(Protocol):
    """A Flow, as its driver sees it."""

    name: str
    identity: str
    home: Home
    store: Store
    mode: Mode
    key: tuple[str, ...]
    cursor: str | None
    lacks_cursor: str
    shape: Shape | None
    limits: Limits

    def since(self, base: Head | None) -> Watermark: ...
    def new_run(self, run_id: str | None = None) -> Run: ...
    def shaped(self, plan: Plan) -> Plan: ...


@dataclass(frozen=True)
class Driver:
    """The process that plans, decides and commits. No other driver of the flow has its `epoch`."""

    flow: DrivenFlow
    journal: FlowJournal
    epoch: int
    watch: Recorder
    stop: threading.Event
    guard: StallGuard
    attempt: Attempt = field(default_factory=Attempt)

    def ask_home(self, phase: str, call: Callable[[], Result]) -> Result:
        """Return the result of a call of the Home; raise Stalled where it does not come back."""
        who = f"the home {self.flow.home.describe()} ({phase})"
        return self.guard.call(who, self.spoken(call))

    def ask_store(self, phase: str, call: Callable[[], Result]) -> Result:
        """Return the result of a call of the Store; raise Stalled where it does not come back."""
        who = f"the store {self.flow.store.describe()} ({phase})"
        return self.guard.call(who, self.spoken(call))

    def spoken(self, call: Callable[[], Result]) -> Callable[[], Result]:
        """Return a call whose prints and logs are reported with the name of the flow."""

        def speaks() -> Result:
            with speaking(speaker_for(self.watch, self.flow.name)):
                return call()

        return speaks

    def say(self, text: str) -> None:
        """Report a message for people."""
        self.watch.said(self.flow.name, text)

    def head(self) -> Head | None:
        """Return what the store holds committed for this flow."""
        return self.retry("the head", self._ask_head)

    def _ask_head(self) -> Head | None:
        return self.ask_store("the head", lambda: self.flow.store.head(self.flow.identity))

    def retry(self, what: str, call: Callable[[], Result]) -> Result:
        """Return the result of `call`; after Transient it is called again, `limits.retries` times.

        `what` names the step in the message about that. Raises Stopped when asked to stop.
        """
        return retried(what, call, self.flow.limits.retries, self.say, self.stop)

    def commit(
        self,
        run: Run,
        base: Head | None,
        receipts: Sequence[Receipt],
        watermark: Watermark,
        schema: pa.Schema | None = None,
    ) -> Commit:
        """Commit; again after Transient or Unknown, unless the head shows that it happened.

        `schema` is that of the rows, where it is known.
        """
        for receipt in receipts:
            if receipt.reached is not None:
                run = replace(run, ties=receipt.reached.get("ties"))
        for n in range(self.flow.limits.retries + 1):
            store = self.flow.store
            store.refused_rows = self._refused_rows(run, receipts, schema)
            try:
                return self.ask_store(
                    "the commit", partial(store.commit, run, base, receipts, watermark)
                )
            except (Transient, Unknown) as error:
                # Also when asked to stop: it is better to know how a decided run ended.
                self.stop.wait(min(_LONGEST_PAUSE_S, backoff_s(n)))
                if isinstance(error, Unknown):
                    with contextlib.suppress(Transient):
                        if (done := self._committed(run, receipts)) is not None:
                            return done
                if n == self.flow.limits.retries:
                    raise
                self.say(f"the commit is tried again: {error.message}")
            except REFUSALS:
                # The run is given up now, and this is the last look: another driver may have
                # committed it. Where the head cannot be read, nobody knows, and it stays decided.
                if (done := self._committed(run, receipts)) is not None:
                    return done
                raise
            finally:
                store.refused_rows = None
        raise AssertionError("unreachable")

    def _refused_rows(
        self, run: Run, receipts: Sequence[Receipt], schema: pa.Schema | None
    ) -> RefusedRows | None:
        """Return what takes the rows that one call of `commit` sets aside; None: none may be."""
        limits = self.flow.limits
        if limits.on_bad_row != "set_aside":
            return None
        keep = partial(self.bad_files.keep_refused, run)
        return RefusedRows(run, receipts, limits, schema, keep)

    def _committed(self, run: Run, receipts: Sequence[Receipt]) -> Commit | None:
        """Return the commit of a run if the head of the store is this run; else None."""
        head = self._ask_head()
        if head is None or head.run != run.id:
            return None
        return commit_from_head(head, receipts, "settled by asking the head")

    def abandon(self, run: Run, why: str) -> None:
        """Decide that a run does not commit, and remove what it staged.

        Raises JournalError where its own driver is alive and decided at the same moment to commit.
        """
        decision = self.journal.decide(run, Decision(abandoned=why))
        if decision.abandoned is None:
            raise JournalError(
                f"run {run.id} of this flow was decided in this moment by another driver",
                "run it again",
            )
        self.close(run, f"abandoned: {decision.abandoned}")

    @property
    def bad_files(self) -> BadFiles:
        """Return the files of rows that were set aside."""
        return BadFiles(self.journal.place, self.journal.flow)

    def close(
        self,
        run: Run,
        how: str,
        answers_request: bool = False,
        receipts: Sequence[Receipt] = (),
        commit: Commit | None = None,
    ) -> None:
        """Remove what a run staged, and note how it ended.

        What cannot be removed of a run that is not committed, such as tables without the right to
        drop them, does not keep it open: the store sweeps it later.
        `answers_request`: the run is what this attempt was asked for. `receipts` are those of the
        decision, where it is committed, and `commit` is how: the rows that they set aside are
        shown.
        """
        try:
            self.retry(
                "the clean-up",
                lambda: self.ask_store("the clean-up", lambda: self.flow.store.discard(run)),
            )
        except (StoreError, Transient) as error:
            if how == COMMITTED:
                raise
            self.say(f"what the run staged is not removed yet: {error.message}")
        aside = None if commit is None else commit.head.aside
        if aside is not None or any(receipt.set_aside for receipt in receipts):
            if lost := self.bad_files.show(run, receipts, aside):
                self.say(lost)
        elif how != COMMITTED or self.flow.limits.on_bad_row == "set_aside":
            self.bad_files.drop(run)
        request = self.attempt.request if answers_request else ""
        changes = () if commit is None else commit.changes
        self.journal.end(run, how, request=request, changes=changes)


def commit_from_head(head: Head, receipts: Sequence[Receipt], note: str) -> Commit:
    """Return the commit that made `head`, as far as the head and the receipts tell."""
    return Commit(head, *settled(head, receipts), note=note)
