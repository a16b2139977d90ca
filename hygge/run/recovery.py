"""Deals with the runs of earlier drivers, before the driver begins a run of its own.

    prepared     its tickets are frozen: it is committed now, or was committed already, or the store
                 refuses it for good
    undecided    the newest may be resumed; any other is abandoned, by a decision of its own
    abandoned    what it staged is removed

The store's head tells what happened; the journal tells only what was intended.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from hygge.errors import HyggeError, JournalError
from hygge.journal import GIVEN_UP, Decision, RunRecord
from hygge.journal.fingerprint import default_fingerprint, difference
from hygge.model import Commit, Head, Run
from hygge.run.driver import COMMITTED, REFUSALS, Driver, commit_from_head


@dataclass(frozen=True)
class FinishedRun:
    """A run that an earlier driver had decided to commit, and that is committed now."""

    run: Run
    decision: Decision
    commit: Commit
    is_answer: bool = False
    """Whether it is what is asked for now, so that nothing is left to do."""


@dataclass
class Recovery:
    """The state after all earlier runs are dealt with."""

    head: Head | None
    """The head of the store now."""
    finished: FinishedRun | None = None
    """The last run that was decided and is committed now."""
    resumable: RunRecord | None = None
    """The run that may be resumed."""
    had_open_runs: bool = False
    """True if an earlier run had no outcome yet."""


def recover(driver: Driver, fingerprint: dict[str, str], fresh: bool) -> Recovery:
    """Finish, abandon or clean up each run that has no outcome, except one that may be resumed.

    `fingerprint` is that of the flow today; `fresh` gives all of them up. Raises JournalError where
    a decided run can be neither finished nor given up without the user's word.
    """
    if fresh:
        return Recovery(_give_up_all(driver))
    open_runs = driver.journal.open_runs()
    recovery = Recovery(driver.head(), had_open_runs=bool(open_runs))
    for record in reversed(open_runs):  # the oldest first, as their commits build on each other
        decision = record.decision
        if decision is None or decision.abandoned is not None:
            continue
        commit = _finish(driver, record, decision, fingerprint, recovery.head)
        if commit is not None:
            answers = _is_answer(driver, record)
            recovery.finished = FinishedRun(record.run, decision, commit, answers)
            recovery.head = commit.head
    for record in open_runs:
        if record.decision is not None:
            if record.decision.abandoned is not None:
                driver.close(record.run, f"abandoned: {record.decision.abandoned}")
            continue
        obstacle = _why_not_resumable(driver, record, fingerprint, recovery)
        if obstacle is None:
            recovery.resumable = record
            continue
        driver.say(f"the run of {_started(record)} is given up: {obstacle}")
        driver.abandon(record.run, obstacle)
    return recovery


def _why_not_resumable(
    driver: Driver, record: RunRecord, fingerprint: dict[str, str], recovery: Recovery
) -> str | None:
    """Return why an undecided run cannot be resumed, or None if it can."""
    if recovery.resumable is not None:
        return "a newer run began after it"
    changed = changed_since(driver, record.fingerprint, fingerprint)
    if changed is not None:
        return f"the flow changed: {changed}"
    within = timedelta(seconds=driver.flow.limits.resume_within_s)
    if datetime.now(UTC) - record.began > within:
        return f"it is older than resume_within ({within})"
    if _version(record.base) != _version(recovery.head):
        return "something was committed since it began"
    return None


def changed_since(driver: Driver, then: dict[str, str], fingerprint: dict[str, str]) -> str | None:
    """Return what changed in the flow since a run with the fingerprint `then`, for people."""
    defaults = default_fingerprint(driver.flow.home, driver.flow.store)
    return difference(then, fingerprint, defaults)


def _finish(
    driver: Driver,
    record: RunRecord,
    decision: Decision,
    fingerprint: dict[str, str],
    head: Head | None,
) -> Commit | None:
    """Commit a prepared run; None where it is not committed and never can be."""
    run, store = record.run, driver.flow.store
    if head is not None and head.run == run.id:
        commit = commit_from_head(head, decision.receipts, "")
    elif changed := changed_since(driver, record.fingerprint, fingerprint):
        raise JournalError(
            f"the run of {_started(record)} was about to commit when its driver ended, and the "
            f"flow has changed since: {changed}",
            "run it once as it was, so that this run is finished; or give that run up with "
            "`--fresh`; or, if that was a flow of the same name in another file, give each file a "
            "`project:` of its own",
        )
    elif store.traits.guarantee == "exactly once" and _version(head) != _version(record.base):
        driver.say(
            f"the run of {_started(record)} is given up: something was committed since it began"
        )
        driver.close(run, "superseded")
        return None
    else:
        driver.say(
            f"the run of {_started(record)} was about to commit when its driver ended: finishing"
        )
        # Its driver may have died before the entry was durable, so it is created again.
        driver.journal.decide(run, decision)
        try:
            commit = driver.commit(run, record.base, decision.receipts, decision.watermark)
        except REFUSALS as error:
            driver.say(f"the run of {_started(record)} is given up: {error.message}")
            driver.close(run, f"refused: {error.message}")
            return None
        except HyggeError as error:
            hint = error.hint or "fix that, then run it again"
            error.hint = f"{hint}; `--fresh` gives that run up"
            raise
    driver.close(run, COMMITTED, _is_answer(driver, record), decision.receipts, commit)
    return commit


def _is_answer(driver: Driver, record: RunRecord) -> bool:
    """Return whether an older run, which is committed now, is what was asked for now.

    A plain append adds rows in each run, so one that nobody heard of is what was asked for, unless
    the two requests have different names.
    """
    is_other = driver.attempt.is_named and driver.attempt.request != record.request
    return driver.flow.mode == "append" and driver.flow.cursor is None and not is_other


def committed_run(driver: Driver, run_id: str) -> FinishedRun:
    """Return a run of which an earlier driver noted that it is committed."""
    flow, head = driver.flow, driver.head()
    run = flow.new_run(run_id)
    decision = driver.journal.decision(run) or Decision()
    if head is None or head.run != run_id:  # something was committed since
        staged = sum(receipt.rows for receipt in decision.receipts)
        head = Head(flow.identity, 0, run_id, staged, decision.watermark, cursor=run.cursor)
    return FinishedRun(run, decision, commit_from_head(head, decision.receipts, ""))


def _give_up_all(driver: Driver) -> Head | None:
    """Give up every run without an outcome, as the user asked, also one that cannot be read.

    A decided run may be committing at this moment, in a driver that is alive. What it staged is
    left to be swept later; if it commits, the head moves and this driver's run is superseded.
    """
    given_up = driver.journal.give_up_open_runs()
    head = driver.head()
    for run_id, was_undecided in given_up:
        run = Run(run_id, driver.flow.identity, driver.flow.mode)
        if head is not None and head.run == run_id:
            decision = driver.journal.decision(run) or Decision()
            commit = commit_from_head(head, decision.receipts, "")
            driver.close(run, COMMITTED, receipts=decision.receipts, commit=commit)
            if driver.flow.mode == "append" and driver.flow.cursor is None:
                raise JournalError(
                    f"run {run_id}, which --fresh would give up, is committed: its {head.rows:,} "
                    "rows are in the store, and nothing was added to them",
                    "that run is done; run it again to append once more",
                )
            continue
        driver.say(f"run {run_id} is given up, as --fresh asks")
        if was_undecided:
            driver.close(run, GIVEN_UP)
        else:
            driver.journal.end(run, GIVEN_UP)
    return head


def _version(head: Head | None) -> tuple[int, str] | None:
    """Return what tells two states of a store apart."""
    return None if head is None else (head.generation, head.run)


def _started(record: RunRecord) -> str:
    return f"{record.began.astimezone():%Y-%m-%d %H:%M:%S}"
