"""What a driver does about the runs that earlier ones left, before it begins one of its own.

    prepared     its tickets are frozen: committed now, or known to be committed, or refused by the
                 store for good
    undecided    the newest may be gone on with; any other is abandoned, by a decision of its own
    abandoned    what it staged is removed

The head of the store says what happened; the journal only tells what was meant to.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from hygge.errors import ConfigError, HyggeError, JournalError, Rejected, UnfitValue
from hygge.journal import GIVEN_UP, Decision, Past
from hygge.journal.fingerprint import difference
from hygge.model import Commit, Head, Run
from hygge.run.driver import Driver, committed_before


@dataclass(frozen=True)
class Settled:
    """A run of an earlier driver, seen through by this one."""

    run: Run
    decision: Decision
    commit: Commit


@dataclass
class Left:
    """What there is to go on with."""

    head: Head | None
    settled: Settled | None = None
    candidate: Past | None = None
    earlier: bool = False
    """Whether an earlier run had no outcome yet."""


def settle(driver: Driver, fingerprint: dict[str, str], fresh: bool) -> Left:
    """Settle what earlier drivers left. Raises JournalError where that must be done otherwise."""
    if fresh:
        return Left(_pass_over(driver))
    open_runs = driver.journal.unsettled()
    left = Left(driver.head(), earlier=bool(open_runs))
    for past in reversed(open_runs):
        if past.decision is None or past.decision.abandoned is not None:
            continue
        done = _settle(driver, past, past.decision, fingerprint, left.head)
        if done is not None:
            left.settled, left.head = Settled(past.run, past.decision, done), done.head
    for past in open_runs:
        if past.decision is not None:
            if past.decision.abandoned is not None:
                driver.close(past.run, f"abandoned: {past.decision.abandoned}")
            continue
        why = _why_not(driver, past, fingerprint, left)
        if why is None:
            left.candidate = past
            continue
        driver.say(f"the run of {_when(past)} is given up: {why}")
        driver.abandon(past.run, why)
    return left


def _why_not(driver: Driver, past: Past, fingerprint: dict[str, str], left: Left) -> str | None:
    """Why an undecided run cannot be gone on with, or None."""
    if left.candidate is not None:
        return "a newer run began after it"
    changed = difference(past.fingerprint, fingerprint)
    if changed is not None:
        return f"the flow changed: {changed}"
    within = timedelta(seconds=driver.flow.limits.resume_within_s)
    if datetime.now(UTC) - past.began > within:
        return f"it is older than resume_within ({within})"
    if _place(past.base) != _place(left.head):
        return "something was committed since it began"
    return None


def _settle(
    driver: Driver,
    past: Past,
    decision: Decision,
    fingerprint: dict[str, str],
    head: Head | None,
) -> Commit | None:
    """See a prepared run through; None where it did not, and cannot, commit."""
    run, store = past.run, driver.flow.store
    if head is not None and head.run == run.id:
        done = committed_before(head, decision.receipts, "")
    elif changed := difference(past.fingerprint, fingerprint):
        raise JournalError(
            f"the run of {_when(past)} was about to commit when its driver died, and the flow has "
            f"changed since: {changed}",
            "run it once as it was, so that this run is finished; or give that run up with "
            "`--fresh`",
        )
    elif store.traits.guarantee == "exactly once" and _place(head) != _place(past.base):
        driver.say(f"the run of {_when(past)} is given up: something was committed since it began")
        driver.close(run, "superseded")
        return None
    else:
        driver.say(f"the run of {_when(past)} was about to commit when its driver died: finishing")
        # It was read, and may not be durable yet: whoever wrote it died before that, perhaps.
        driver.journal.decide(run, decision)
        try:
            done = driver.commit(run, past.base, decision.receipts, decision.watermark)
        except (Rejected, UnfitValue, ConfigError) as error:
            driver.say(f"the run of {_when(past)} is given up: {error.message}")
            driver.close(run, f"refused: {error.message}")
            return None
        except HyggeError as error:
            hint = f"{error.hint or 'mend that, then run it again'}; `--fresh` gives that run up"
            error.hint = hint
            raise
    # A plain append means each run, so that this one is what was asked for now.
    answers = driver.flow.mode == "append" and driver.flow.cursor is None
    driver.close(run, "committed", answers)
    return done


def committed_run(driver: Driver, name: str) -> Settled:
    """A run of which an earlier driver noted that it committed."""
    flow, head = driver.flow, driver.head()
    run = Run(name, flow.identity, flow.mode, flow.key, flow.cursor)
    decision = driver.journal.decision(run) or Decision()
    if head is None or head.run != name:  # something was committed since
        staged = sum(receipt.rows for receipt in decision.receipts)
        head = Head(flow.identity, 0, name, staged, decision.watermark, cursor=flow.cursor)
    return Settled(run, decision, committed_before(head, decision.receipts, ""))


def _pass_over(driver: Driver) -> Head | None:
    """Give up, on purpose, whatever has no outcome, also what cannot be read.

    One that was decided may be committing just now, in a driver that lives: what it staged is left
    to be swept, and if it commits, the head moves and this run is superseded.
    """
    passed = driver.journal.pass_over()
    head = driver.head()
    for run_id, undecided in passed:
        run = Run(run_id, driver.flow.identity, driver.flow.mode)
        if head is not None and head.run == run_id:
            driver.close(run, "committed")
            if driver.flow.mode == "append" and driver.flow.cursor is None:
                raise JournalError(
                    f"run {run_id}, which --fresh would give up, is committed: its {head.rows:,} "
                    "rows are in the store, and nothing was added to them",
                    "that run is done; run it again to append once more",
                )
            continue
        driver.say(f"run {run_id} is given up, as --fresh asks")
        if undecided:
            driver.close(run, GIVEN_UP)
        else:
            driver.journal.end(run, GIVEN_UP)
    return head


def _place(head: Head | None) -> tuple[int, str] | None:
    return None if head is None else (head.generation, head.run)


def _when(past: Past) -> str:
    return f"{past.began.astimezone():%Y-%m-%d %H:%M:%S}"
