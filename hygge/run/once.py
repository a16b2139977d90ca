"""One run of a flow. The order of its steps makes it exactly once:

    lease      an epoch of its own, so that no ticket is ever used twice (`hygge/run/flow.py`)
    recovery   earlier runs without an outcome are dealt with first (`hygge/run/recovery.py`)
    plan       `Home.open`, then the journal's plan: before a row is read
    prepare    the store's invisible place; whatever the store refuses, it refuses here
    move       an engine stages the splits that are missing; the journal keeps each receipt
    decision   one create-only entry: exactly these tickets, or nothing
    commit     the store's compare-and-swap of its head: rows and head become visible together
    outcome    evidence, after what was staged is removed

After a death at any point the next driver finds everything that was written before it.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from hygge.bad_rows import check_limits
from hygge.batches import RAW_ABOUT, raw_format, with_key
from hygge.errors import (
    Rejected,
    Stopped,
    StoreError,
    Superseded,
    TooManyBadRows,
    as_hygge_error,
)
from hygge.journal import Decision, RunRecord
from hygge.journal.fingerprint import fingerprint
from hygge.journal.runs import digest_of, reusable_receipts
from hygge.model import Commit, Plan, Receipt, Run, Watermark
from hygge.run.driver import COMMITTED, REFUSALS, Driver
from hygge.run.ends import writes_what_it_locks
from hygge.run.engines import (
    Engine,
    MoveRequest,
    MoveResult,
    passthrough,
    schema_for,
)
from hygge.run.receipts import ReceiptLog
from hygge.run.recovery import FinishedRun, Recovery, changed_since, committed_run, recover
from hygge.run.shaping import home_for
from hygge.run.stall import Stalled
from hygge.shape.step import Reading

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass
class Outcome:
    """The result of a run whose rows are visible."""

    run: Run
    commit: Commit
    receipts: tuple[Receipt, ...]
    move: MoveResult = field(default_factory=lambda: MoveResult(lanes=0))
    resumed: int = 0
    """Splits that an earlier driver had staged already."""
    follows_open_run: bool = False
    """True if an earlier run, which had no outcome, may have written some of these rows too."""
    notes: list[str] = field(default_factory=list)
    done_at: float = field(default_factory=time.time)
    """Time when the commit had returned, in seconds since 1970."""


def run_flow(driver: Driver, engine: Engine, fresh: bool) -> Outcome:
    """Run the flow of `driver` to its outcome, or finish an earlier run that answers for it.

    `fresh` gives up earlier runs without an outcome instead of resuming one.
    """
    flow = driver.flow
    today = fingerprint(flow.home, flow.store, flow.mode, flow.key, flow.shape)
    if driver.attempt.is_repeated:
        runs = driver.journal.runs_of_request(driver.attempt.request)
        done = driver.journal.committed_for(driver.attempt.request)
        if done is not None and driver.attempt.is_named:
            reason = f"that was for the request {driver.attempt.request}, which is done"
            return _outcome_of(committed_run(driver, done[0]), reason)
        if done is not None and not changed_since(driver, done[1], today):
            return _outcome_of(committed_run(driver, done[0]), "its driver died before it said so")
        fresh = fresh and not runs  # what such a run staged belongs to this very request
    recovery = recover(driver, today, fresh)
    if recovery.finished is not None and recovery.finished.is_answer:
        return _outcome_of(recovery.finished, "run again to append once more")
    active: _ActiveRun | None = None
    try:
        with contextlib.ExitStack() as stack:
            since = flow.since(recovery.head)
            plan = driver.retry("the plan", lambda: _open_plan(driver, stack, since))
            plan = driver.spoken(partial(flow.shaped, plan))()
            adds_in_each_run = flow.mode == "append" and flow.cursor is None
            finished = None if adds_in_each_run else recovery.finished
            if finished is not None and _is_of(finished.decision, plan):
                return _outcome_of(finished, "the source has not changed since")
            active = _ActiveRun(driver, engine, plan, recovery, today)
            active.go(since, stack.close)
            if active.outcome is not None:
                driver.journal.prune(active.outcome.commit.head)
    except Exception as error:
        if active is None or active.outcome is None:
            raise
        active.outcome.notes.append(f"committed, and then: {as_hygge_error(error).message}")
    assert active is not None
    assert active.outcome is not None
    active.outcome.follows_open_run = recovery.had_open_runs
    return active.outcome


def _open_plan(driver: Driver, stack: contextlib.ExitStack, since: Watermark) -> Plan:
    """Return the plan of the Home; `stack` closes it."""
    opened = driver.flow.home.open(since)
    plan = driver.ask_home("the plan", opened.__enter__)

    def close(*error: Any) -> bool | None:
        try:
            return driver.ask_home("the end of the plan", lambda: opened.__exit__(*error))
        except Stalled:
            if error[0] is None:
                raise
            return False  # the first error is the one to report

    stack.push(close)
    return plan


class _ActiveRun:
    """A run from its plan to its outcome."""

    def __init__(
        self, driver: Driver, engine: Engine, plan: Plan, recovery: Recovery, today: dict[str, str]
    ) -> None:
        self.driver, self.engine, self.plan = driver, engine, plan
        self.flow, self.journal = driver.flow, driver.journal
        self.base = recovery.head
        self.home, self.schema = self.flow.home, schema_for(plan, self.flow.store)
        self.digests = {split.index: digest_of(split) for split in plan.splits}
        self.versions = {split.index: split.version for split in plan.splits}
        self.is_decided = False
        self.given_up: str | None = None  # why another driver abandoned it
        self.outcome: Outcome | None = None
        self.reused: list[Receipt] = []  # of splits that an earlier driver staged
        flow = self.flow
        run = flow.new_run()
        raw = driver.ask_store("the preparation", lambda: passthrough(flow.store, run, plan))
        if raw is not None:
            self.home, self.schema = flow.home.passing(raw), raw
        resumed = None
        if recovery.resumable is not None:
            resumed = self._resume(recovery.resumable)
        began = datetime.now(UTC)
        if resumed is not None and recovery.resumable is not None:
            began = recovery.resumable.began
        if flow.shape is not None:
            who = self.home.describe()
            self.home.reading = Reading(who, (resumed or run).id, began)
        self.run = resumed or run
        driver.watch.note_run(self.run.id, plan.columns or ())
        if resumed is not None:
            return
        self.journal.plan(
            RunRecord(
                run,
                driver.epoch,
                began,
                self.base,
                _columns(self.schema),
                today,
                request=driver.attempt.request,
                command=driver.attempt.command,
            )
        )

    def go(self, since: Watermark, close_plan: Callable[[], None]) -> None:
        """Stage what is missing, decide, commit, and clean up.

        The plan is closed behind it, or before the commit by `close_plan`, where nobody can write
        the store as long as it is open.
        """
        receipts_log = ReceiptLog(self)
        try:
            self.driver.watch.began(self.flow.name, len(self.plan.splits))
            result = self._stage(receipts_log)
            receipts = self._check_receipts(result, receipts_log)
            if self.driver.stop.is_set():
                raise Stopped("stopped before the commit")
            if writes_what_it_locks(self.flow.home, self.flow.store):
                close_plan()
            watermark = _reached_watermark(receipts, self.plan, since)
            digests = tuple(self.digests[receipt.ticket.split] for receipt in receipts)
            self.is_decided = True  # from here on, another driver may finish this run
            decision = self.journal.decide(self.run, Decision(receipts, watermark, digests))
            if decision.abandoned is not None:
                self.given_up = decision.abandoned
                raise _given_up_error(decision.abandoned)
            began = time.monotonic()
            commit = self.driver.commit(
                self.run, self.base, decision.receipts, decision.watermark, self.schema
            )
            commit_s = time.monotonic() - began
            with contextlib.suppress(Exception):  # a metric must not fail a run that is committed
                self.engine.record_commit(self.flow.home, self.flow.store, commit_s)
        except BaseException as error:
            receipts_log.close()
            with contextlib.suppress(Exception):  # the first error is the one to report
                if not self.is_decided and (other := self.journal.decision(self.run)) is not None:
                    self.given_up = other.abandoned  # its staging was removed while it moved
                self._clean_up_after(error, receipts_log)
            if self.given_up is not None and isinstance(error, StoreError):
                raise _given_up_error(self.given_up) from error
            raise
        receipts_log.close()
        self.outcome = Outcome(
            self.run,
            commit,
            decision.receipts,
            result,
            len(self.reused),
            notes=[
                *([f"found in the home: {self.plan.found}"] if self.plan.found else []),
                *self.flow.store.remarks(self.schema),
            ],
        )
        for receipt in decision.receipts:
            self.outcome.notes += (receipt.reached or {}).get("notes", ())
        if commit.set_aside or any(receipt.set_aside for receipt in decision.receipts):
            can_replay = not self.flow.home.traits.changes
            self.outcome.notes.append(
                f"the rows that were set aside are in {self.driver.bad_files.describe(self.run.id)}"
                "; `hygge bad` lists them" + ", and moves them again after the mend" * can_replay
            )
        self.driver.close(self.run, COMMITTED, True, decision.receipts, commit)

    def _resume(self, record: RunRecord) -> Run | None:
        """Return the run of `record` if some of its receipts can be used; else abandon it."""
        if record.columns != _columns(self.schema):
            self.driver.abandon(record.run, "its columns, or the form that they come in, changed")
            return None
        kept = reusable_receipts(self.journal.receipts(record.run), self.digests)
        sets_aside = self.flow.limits.on_bad_row == "set_aside"
        self.reused = [
            receipt
            for receipt in kept
            if not receipt.set_aside or (sets_aside and self.driver.bad_files.has_all(receipt))
        ]
        if not self.reused:
            self.driver.abandon(record.run, "nothing that it staged is of use now")
            return None
        return record.run

    def _stage(self, receipts_log: ReceiptLog) -> MoveResult:
        """Prepare the store, and let the engine stage the splits that have no receipt yet."""
        store, driver, run = self.flow.store, self.driver, self.run
        schema = with_key(self.schema, self.plan.key)
        driver.retry(
            "the preparation",
            lambda: driver.ask_store("the preparation", lambda: store.prepare(run, schema)),
        )
        if self.reused:
            receipts = self.reused
            self.reused = driver.retry(
                "the look at what is staged",
                lambda: driver.ask_store(
                    "the look at what is staged", lambda: store.resume(run, receipts)
                ),
            )
            driver.say(f"{len(self.reused)} of {len(self.plan.splits)} splits were already staged")
        staged = {receipt.ticket.split for receipt in self.reused}
        splits = tuple(split for split in self.plan.splits if split.index not in staged)
        if not splits:
            return MoveResult(lanes=0)
        home = home_for(store, self.home, self.schema)
        request = MoveRequest(
            self.flow.name, run, home, store, self.schema, splits,
            self.flow.limits, driver.epoch, receipts_log.add, driver.watch.attempts,
        )  # fmt: skip
        try:
            return self.engine.move(request, driver.watch, driver.stop)
        finally:
            driver.watch.attempts.close()

    def _check_receipts(self, result: MoveResult, receipts_log: ReceiptLog) -> tuple[Receipt, ...]:
        """Return one receipt a split, in order.

        Raises Rejected unless there is exactly one, and the rows that were read are all counted.
        """
        new = receipts_log.wait()
        receipts = sorted([*self.reused, *new], key=lambda receipt: receipt.ticket.split)
        wanted = sorted(split.index for split in self.plan.splits)
        if [receipt.ticket.split for receipt in receipts] != wanted:
            raise Rejected(
                f"{len(wanted)} splits were planned and {len(receipts)} receipts came; "
                "nothing became visible",
                "this is a defect of hygge: please report it with this message",
            )
        counted = sum(receipt.rows + receipt.set_aside for receipt in new)
        if counted != result.rows_read:
            raise Rejected(
                f"{result.rows_read:,} rows were read and {counted:,} are accounted for; nothing "
                "became visible",
                "this is a defect of hygge or of the store: please report it with this message",
            )
        if any(receipt.set_aside for receipt in receipts):
            check_limits(receipts, self.flow.limits, lambda: self.driver.bad_files.first(receipts))
        return tuple(receipts)

    def _clean_up_after(self, error: BaseException, receipts_log: ReceiptLog) -> None:
        """Leave what the next run can use, and nothing else."""
        if isinstance(error, Stopped):
            why = "interrupted"
        elif isinstance(error, Exception):
            why = as_hygge_error(error).message
        else:
            why = type(error).__name__
        receipts = [*self.reused, *receipts_log.kept()]
        if self.given_up is not None:
            self.driver.close(self.run, f"abandoned: {self.given_up}")
        elif self.is_decided:
            if isinstance(error, REFUSALS):
                self.driver.close(self.run, f"refused: {why}")
            else:  # it may be committed, now or later: the next run asks the head
                self.journal.note_stop(self.run, self.driver.epoch, why)
                self.driver.say("everything is staged and decided; running it again finishes it")
        elif isinstance(error, TooManyBadRows):
            self.driver.abandon(self.run, why)  # after the mend all rows are read again
        elif any(self.digests[receipt.ticket.split] for receipt in receipts):
            self.journal.note_stop(self.run, self.driver.epoch, why)
            self.driver.say(
                f"{len(receipts)} of {len(self.plan.splits)} splits are staged; running it again "
                "goes on from there"
            )
        else:
            self.driver.abandon(self.run, why)


def _given_up_error(why: str) -> Superseded:
    return Superseded(
        f"this run was given up by another driver: {why}", "run it again if nobody else does"
    )


def _reached_watermark(receipts: Sequence[Receipt], plan: Plan, since: Watermark) -> Watermark:
    """Return the watermark after a run: what was reached while reading, else the plan's."""
    for receipt in receipts:
        if receipt.reached is not None:
            watermark: Watermark = receipt.reached["watermark"]
            return watermark
    return since if plan.watermark is None else plan.watermark


def _outcome_of(finished: FinishedRun, reason: str) -> Outcome:
    """Return the outcome of an earlier run, which this run is content with for `reason`."""
    receipts = finished.decision.receipts
    note = f"an earlier run ({finished.run.id}) was decided, and is committed; {reason}"
    return Outcome(finished.run, finished.commit, receipts, resumed=len(receipts), notes=[note])


def _is_of(decision: Decision, plan: Plan) -> bool:
    """Return whether a plan would give exactly what was decided."""
    today = {split.index: digest_of(split) for split in plan.splits}
    splits = [receipt.ticket.split for receipt in decision.receipts]
    return all(today.values()) and today == dict(zip(splits, decision.digests, strict=True))


def _columns(schema: pa.Schema | None) -> tuple[tuple[str, str, bool], ...] | None:
    """Return (name, Arrow type as text, nullable) of each column, for the journal."""
    if schema is None:
        return None
    columns = [(field.name, str(field.type), field.nullable) for field in schema]
    if (form := raw_format(schema)) is not None:
        columns.append((form, (schema.metadata or {})[RAW_ABOUT].decode(), False))
    return tuple(columns)
