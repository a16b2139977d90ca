"""One run of a flow. What is written when makes it exactly once:

    lease      an epoch of its own, so that no ticket is ever used twice
    past       what earlier drivers left is settled first (`hygge/run/recovery.py`)
    plan       `Home.open`, then the journal's plan: before a row is read
    prepare    the store's invisible place; whatever can be refused is refused here
    move       an engine stages what is not staged yet; each receipt is sealed in the journal
    decision   one create-only entry: exactly these tickets, or nothing
    commit     the store's compare-and-swap of its head: rows and head become visible together
    outcome    evidence, after what was staged is removed

A death at any point leaves what stands above it to the next driver.
"""

from __future__ import annotations

import contextlib
import time
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from hygge.batches import RAW_ABOUT, raw_format, with_key
from hygge.errors import (
    ConfigError,
    HyggeError,
    Rejected,
    Stopped,
    StoreError,
    Superseded,
    UnfitValue,
    in_words,
)
from hygge.journal import Decision, Past
from hygge.journal.fingerprint import fingerprint
from hygge.journal.runs import digest_of, newest_of_each
from hygge.model import Commit, Plan, Receipt, Run, Watermark
from hygge.run.driver import Driver
from hygge.run.engines import Engine, Move, Moved, passthrough, schema_of
from hygge.run.recovery import Left, Settled, committed_run, settle
from hygge.store import new_run_id

if TYPE_CHECKING:
    import pyarrow as pa

_PUTS_AT_ONCE = 8


@dataclass
class Ended:
    """What a run came to, once it is visible."""

    run: Run
    commit: Commit
    receipts: tuple[Receipt, ...]
    moved: Moved = field(default_factory=lambda: Moved(lanes=0))
    resumed: int = 0
    again: bool = False
    """Whether a run that died before it may have written some of these rows, too."""
    notes: list[str] = field(default_factory=list)
    done_at: float = field(default_factory=time.time)


def run_once(driver: Driver, engine: Engine, fresh: bool) -> Ended:
    """Run the flow of `driver`, or see an earlier run of it through."""
    flow = driver.flow
    known = fingerprint(flow.home, flow.store, flow.mode, flow.key)
    if driver.attempt.again:
        tried = driver.journal.requested(driver.attempt.request)
        done = next((run for run, how in tried.items() if how == "committed"), None)
        if done is not None:
            return _of_settled(committed_run(driver, done), "its driver died before it said so")
        fresh = fresh and not tried  # what it staged is of this very request
    left = settle(driver, known, fresh)
    if left.settled is not None and flow.mode == "append" and flow.cursor is None:
        # An append means each run: this one was asked for once.
        return _of_settled(left.settled, "run again to append once more")
    running: _Running | None = None
    try:
        with contextlib.ExitStack() as stack:
            since = flow.since(left.head)
            plan = driver.again("the plan", lambda: stack.enter_context(flow.home.open(since)))
            flow.check_columns(schema_of(plan))
            if left.settled is not None and _is_of(left.settled.decision, plan):
                return _of_settled(left.settled, "the source has not changed since")
            running = _Running(driver, engine, plan, left, known)
            running.go(since)
            if running.ended is not None:
                driver.journal.prune(running.ended.commit.head)
    except Exception as error:
        if running is None or running.ended is None:
            raise
        running.ended.notes.append(f"committed, and then: {in_words(error).message}")
    assert running is not None
    assert running.ended is not None
    running.ended.again = left.earlier
    return running.ended


class _Running:
    """The part of a run between its plan and its outcome."""

    def __init__(
        self, driver: Driver, engine: Engine, plan: Plan, left: Left, known: dict[str, str]
    ) -> None:
        self.driver, self.engine, self.plan = driver, engine, plan
        self.flow, self.journal = driver.flow, driver.journal
        self.base = left.head
        self.home, self.schema = self.flow.home, schema_of(plan)
        self.digests = {split.index: digest_of(split) for split in plan.splits}
        self.versions = {split.index: split.version for split in plan.splits}
        self.decided = False
        self.given_up: str | None = None
        self.ended: Ended | None = None
        self.kept: list[Receipt] = []
        flow = self.flow
        run = Run(new_run_id(), flow.identity, flow.mode, flow.key, flow.cursor)
        raw = passthrough(flow.store, run, plan)
        if raw is not None:
            self.home, self.schema = flow.home.passing(raw), raw
        gone_on = None if left.candidate is None else self._gone_on_with(left.candidate)
        if gone_on is not None:
            self.run = gone_on
            return
        self.run = run
        began = datetime.now(UTC)
        columns = _columns(self.schema)
        request = driver.attempt.request
        self.journal.plan(
            Past(self.run, driver.epoch, began, self.base, columns, known, request=request)
        )

    def go(self, since: Watermark) -> None:
        """Stage what is missing, decide, commit, and clean up."""
        sealing = _Sealing(self)
        try:
            self.driver.watch.began(self.flow.name, len(self.plan.splits))
            moved = self._staged(sealing)
            receipts = self._complete(moved, sealing)
            if self.driver.stop.is_set():
                raise Stopped("stopped before the commit")
            watermark = since if self.plan.watermark is None else self.plan.watermark
            digests = tuple(self.digests[receipt.ticket.split] for receipt in receipts)
            self.decided = True  # from here on, another may see this run through
            decision = self.journal.decide(self.run, Decision(receipts, watermark, digests))
            if decision.abandoned is not None:
                self.given_up = decision.abandoned
                raise _given_up(decision.abandoned)
            began = time.monotonic()
            commit = self.driver.commit(self.run, self.base, decision.receipts, decision.watermark)
            took = time.monotonic() - began
            with contextlib.suppress(Exception):  # a metric does not undo what is committed
                self.engine.committed(self.flow.home, self.flow.store, took)
        except BaseException as error:
            sealing.close()
            with contextlib.suppress(Exception):  # the first error is the one to tell
                if not self.decided and (other := self.journal.decision(self.run)) is not None:
                    self.given_up = other.abandoned  # and what it staged was removed under it
                self._failed(error, sealing)
            if self.given_up is not None and isinstance(error, StoreError):
                raise _given_up(self.given_up) from error
            raise
        sealing.close()
        self.ended = Ended(self.run, commit, decision.receipts, moved, len(self.kept))
        self.driver.close(self.run, "committed", answers=True)

    def _gone_on_with(self, past: Past) -> Run | None:
        """The run of `past`, if some of what it sealed is of use; else it is abandoned."""
        why = None
        if past.columns != _columns(self.schema):
            why = "the columns of the source changed"
        else:
            self.kept = newest_of_each(self.journal.receipts(past.run), self.digests)
            if not self.kept:
                why = "nothing that it staged is of use now"
        if why is None:
            return past.run
        self.driver.abandon(past.run, why)
        return None

    def _staged(self, sealing: _Sealing) -> Moved:
        store, driver, run = self.flow.store, self.driver, self.run
        keyed = with_key(self.schema, self.plan.key)
        driver.again("the preparation", lambda: store.prepare(run, keyed))
        if self.kept:
            before = self.kept
            self.kept = driver.again(
                "the look at what is staged", lambda: store.resume(run, before)
            )
            driver.say(f"{len(self.kept)} of {len(self.plan.splits)} splits were already staged")
        staged = {receipt.ticket.split for receipt in self.kept}
        splits = tuple(split for split in self.plan.splits if split.index not in staged)
        if not splits:
            return Moved(lanes=0)
        move = Move(
            self.flow.name, run, self.home, store, self.schema, splits,
            self.flow.limits, driver.epoch, sealing.seal,
        )  # fmt: skip
        return self.engine.move(move, driver.watch, driver.stop)

    def _complete(self, moved: Moved, sealing: _Sealing) -> tuple[Receipt, ...]:
        """One sealed receipt a split, no more, no less, of as many rows as were read."""
        receipts = sorted([*self.kept, *sealing.all()], key=lambda each: each.ticket.split)
        wanted = sorted(split.index for split in self.plan.splits)
        if [receipt.ticket.split for receipt in receipts] != wanted:
            raise Rejected(
                f"{len(wanted)} splits were planned and {len(receipts)} receipts came; "
                "nothing became visible",
                "this is a defect of hygge: please report it with this message",
            )
        new = sum(each.rows + each.set_aside for each in sealing.all())
        if new != moved.rows_read:
            raise Rejected(
                f"{moved.rows_read:,} rows were read and {new:,} are accounted for; nothing became "
                "visible",
                "this is a defect of hygge or of the store: please report it with this message",
            )
        return tuple(receipts)

    def _failed(self, error: BaseException, sealing: _Sealing) -> None:
        """Leave what the next run can use, and nothing else."""
        why = "interrupted" if isinstance(error, Stopped) else in_words(_plain(error)).message
        sealed = [*self.kept, *sealing.sealed()]
        if self.given_up is not None:
            self.driver.close(self.run, f"abandoned: {self.given_up}")
        elif self.decided:
            if isinstance(error, Rejected | UnfitValue | ConfigError):
                self.driver.close(self.run, f"refused: {why}")
            else:  # it may have been committed, or may be still: the next run asks the head
                self.journal.stopped(self.run, self.driver.epoch, why)
                self.driver.say("everything is staged and decided; running it again finishes it")
        elif any(self.digests[receipt.ticket.split] for receipt in sealed):
            self.journal.stopped(self.run, self.driver.epoch, why)
            self.driver.say(
                f"{len(sealed)} of {len(self.plan.splits)} splits are staged; running it again "
                "goes on from there"
            )
        else:
            self.driver.abandon(self.run, why)


def _given_up(why: str) -> Superseded:
    return Superseded(
        f"this run was given up by another driver: {why}", "run it again if nobody else does"
    )


class _Sealing:
    """Receipts on their way into the journal, several at once."""

    def __init__(self, running: _Running) -> None:
        self.running = running
        self.pool = ThreadPoolExecutor(_PUTS_AT_ONCE, thread_name_prefix="hygge-seal")
        self.puts: deque[tuple[Receipt, Future[None]]] = deque()
        self.kept: list[Receipt] = []  # those of `puts` that were sealed

    def seal(self, receipt: Receipt) -> None:
        """Put one; raises what went wrong with an earlier one."""
        while self.puts and self.puts[0][1].done():
            self._keep_first()
        running, split = self.running, receipt.ticket.split
        kept = replace(receipt, version=running.versions[split])
        put = self.pool.submit(running.journal.seal, running.run, kept, running.digests[split])
        self.puts.append((kept, put))

    def all(self) -> list[Receipt]:
        """Every one, when all of them are sealed."""
        while self.puts:
            self._keep_first()
        return self.kept

    def sealed(self) -> list[Receipt]:
        """Those that are."""
        done = [r for r, put in self.puts if put.done() and put.exception() is None]
        return [*self.kept, *done]

    def _keep_first(self) -> None:
        self.puts[0][1].result()
        self.kept.append(self.puts.popleft()[0])

    def close(self) -> None:
        self.pool.shutdown(wait=True)


def _of_settled(settled: Settled, note: str) -> Ended:
    decision, commit = settled.decision, settled.commit
    said = f"an earlier run ({settled.run.id}) was decided, and is committed; {note}"
    count = len(decision.receipts)
    return Ended(settled.run, commit, decision.receipts, resumed=count, notes=[said])


def _is_of(decision: Decision, plan: Plan) -> bool:
    """Whether a plan would give just what was decided."""
    now = {split.index: digest_of(split) for split in plan.splits}
    splits = [receipt.ticket.split for receipt in decision.receipts]
    return all(now.values()) and now == dict(zip(splits, decision.digests, strict=True))


def _columns(schema: pa.Schema | None) -> tuple[tuple[str, str, bool], ...] | None:
    if schema is None:
        return None
    told = [(field.name, str(field.type), field.nullable) for field in schema]
    if (form := raw_format(schema)) is not None:
        told.append((form, (schema.metadata or {})[RAW_ABOUT].decode(), False))
    return tuple(told)


def _plain(error: BaseException) -> Exception:
    return error if isinstance(error, Exception) else HyggeError(type(error).__name__)
