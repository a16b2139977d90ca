"""What one driver of a flow has in hand, and the steps that a run and its recovery share."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, TypeVar

from hygge.errors import JournalError, Stopped, Transient, Unknown
from hygge.home import Home
from hygge.journal import Decision, FlowJournal
from hygge.model import Commit, Head, Limits, Mode, Receipt, Run, Watermark
from hygge.run.engines import backoff_s
from hygge.run.watch import Watch
from hygge.store import Store

if TYPE_CHECKING:
    import pyarrow as pa

Given = TypeVar("Given")


@dataclass(frozen=True)
class Attempt:
    """Which try of which request this is: all tries of one flow in one run share the request.

    The journal notes it with what a driver began and brought to its end, so that a later try knows
    what an earlier one did, and is not told so by anybody.
    """

    request: str = ""
    number: int = 1

    @property
    def again(self) -> bool:
        """Whether another driver may have done what was asked for already."""
        return bool(self.request) and self.number > 1


class Movement(Protocol):
    """A Flow, as its driver sees it."""

    name: str
    identity: str
    home: Home
    store: Store
    mode: Mode
    key: tuple[str, ...]
    cursor: str | None
    limits: Limits

    def since(self, base: Head | None) -> Watermark: ...
    def check_columns(self, schema: pa.Schema | None) -> None: ...


@dataclass(frozen=True)
class Driver:
    """The process that plans, decides and commits; `epoch` is its own for ever."""

    flow: Movement
    journal: FlowJournal
    epoch: int
    watch: Watch
    stop: threading.Event
    attempt: Attempt = field(default_factory=Attempt)

    def say(self, text: str) -> None:
        """To whoever watches."""
        self.watch.said(self.flow.name, text)

    def head(self) -> Head | None:
        """What the store holds committed for this flow."""
        return self.again("the head", lambda: self.flow.store.head(self.flow.identity))

    def again(self, what: str, call: Callable[[], Given]) -> Given:
        """`call`, again after what a retry may mend: bounded, and said."""
        for n in range(self.flow.limits.retries + 1):
            try:
                return call()
            except Transient as error:
                if n == self.flow.limits.retries:
                    raise
                self.say(f"{what} is tried again: {error.message}")
                if self.stop.wait(backoff_s(n)):
                    raise Stopped("stopped while it waited to try again") from error
        raise AssertionError("unreachable")

    def commit(
        self, run: Run, base: Head | None, receipts: Sequence[Receipt], watermark: Watermark
    ) -> Commit:
        """Commit, again after what a retry may mend; an unknown outcome is settled by the head."""
        for n in range(self.flow.limits.retries + 1):
            try:
                return self.flow.store.commit(run, base, receipts, watermark)
            except (Transient, Unknown) as error:
                # Also when asked to stop: what is decided is better known than not.
                self.stop.wait(min(10.0, backoff_s(n)))
                if isinstance(error, Unknown):
                    with contextlib.suppress(Transient):
                        head = self.flow.store.head(self.flow.identity)
                        if head is not None and head.run == run.id:
                            return committed_before(head, receipts, "settled by asking the head")
                if n == self.flow.limits.retries:
                    raise
                self.say(f"the commit is tried again: {error.message}")
        raise AssertionError("unreachable")

    def abandon(self, run: Run, why: str) -> None:
        """Decide that a run does not commit, and clean up after it.

        Raises JournalError where it was decided otherwise: its driver lives, and was quicker.
        """
        decision = self.journal.decide(run, Decision(abandoned=why))
        if decision.abandoned is None:
            raise JournalError(
                f"run {run.id} of this flow was decided in this moment by another driver",
                "run it again",
            )
        self.close(run, f"abandoned: {decision.abandoned}")

    def close(self, run: Run, how: str, answers: bool = False) -> None:
        """Remove what a run staged, and note how it ended; whether it is what was asked for."""
        self.again("the clean-up", lambda: self.flow.store.discard(run))
        asked = self.attempt.request if answers else ""
        self.journal.end(run, how, **({"request": asked} if asked else {}))


def committed_before(head: Head, receipts: Sequence[Receipt], note: str) -> Commit:
    """The commit that made `head`, as far as the head tells."""
    staged = sum(receipt.rows for receipt in receipts)
    return Commit(head, applied=head.rows, superseded=max(0, staged - head.rows), note=note)
