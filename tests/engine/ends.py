"""A Home and a Store that fail on purpose. Workers import them; files keep what happened."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa

from hygge import Home
from hygge.connectors.files.arrow import ArrowStore
from hygge.errors import Transient
from hygge.model import Column, Limits, Plan, Split
from hygge.run.watch import Progress, Silent
from tests.waiting import until


class once:
    """Is true the first time that it is asked, in any process; a flag file remembers that."""

    def __init__(self, flag: str) -> None:
        self.flag = flag

    def __bool__(self) -> bool:
        try:
            os.close(os.open(self.flag, os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return False
        return True


class Counted(Home):
    """`splits` splits of `batches` batches of `rows` rows; the column `n` counts all rows."""

    class Settings(Home.Settings):
        splits: int = 1
        batches: int = 4
        rows: int = 100
        width: int = 0
        size: int | None = None
        """Bytes that the plan says of each split."""
        flag: str = ""
        act: str = ""
        pids: str = ""
        gate: str = ""
        """A file; no split's third batch is read before it is there."""

    def open(self, since=None):
        from contextlib import nullcontext

        columns = [Column("n", pa.int64())]
        if self.settings.width:
            columns.append(Column("pad", pa.string()))
        splits = tuple(
            Split(i, "1", rows=self.per_split, bytes=self.settings.size)
            for i in range(self.settings.splits)
        )
        return nullcontext(Plan(tuple(columns), splits))

    @property
    def per_split(self) -> int:
        return self.settings.batches * self.settings.rows

    def read(self, split):
        note_pid(self.settings.pids, "home")
        for number in range(self.settings.batches):
            if number == 2:
                if split.index == 0:
                    act(self.settings.act, self.settings.flag)
                wait_at(self.settings.gate)
            start = split.index * self.per_split + number * self.settings.rows
            table = pa.table({"n": pa.array(range(start, start + self.settings.rows), pa.int64())})
            if self.settings.width:
                pad = pa.repeat(pa.scalar("x" * self.settings.width), self.settings.rows)
                table = table.append_column("pad", pad)
            yield table


class Careful(ArrowStore):
    """An ArrowStore that fails or waits while it stages."""

    class Settings(ArrowStore.Settings):
        flag: str = ""
        act: str = ""
        delay_s: float = 0.0
        pids: str = ""
        gate: str = ""
        """A file; no split from `gate_from` on is staged to its end before it is there.

        Each has one of its own where `{split}` is in its name.
        """
        gate_from: int = 0

    def stage(self, ticket, schema, batches):
        note_pid(self.settings.pids, "store")
        gate = self.settings.gate if ticket.split >= self.settings.gate_from else ""
        batches = self._acting(batches, gate.format(split=ticket.split))
        return super().stage(ticket, schema, batches)

    def _acting(self, batches, gate):
        for number, batch in enumerate(batches):
            if number == 2:
                act(self.settings.act, self.settings.flag)
            if number == 3:
                wait_at(gate)
            time.sleep(self.settings.delay_s)
            yield batch


def act(what: str, flag: str) -> None:
    if not what or (flag and not once(flag)):
        return
    if what == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if what == "transient":
        raise Transient("the line was cut")
    if what == "permanent":
        raise ValueError("the value is wrong")
    if what == "hang":
        time.sleep(3600)


def wait_at(gate: str) -> None:
    until(lambda: not gate or os.path.exists(gate), f"nobody opens {gate}")


class OnceSaid(Silent):
    """Lets the `stall_timeout` pass when a flow has said `text`, while `there` is true.

    However long it takes until that is so; what was said before is no stall.
    """

    def __init__(
        self, limits: Limits, text: str, there: Callable[[OnceSaid], bool] = lambda heard: True
    ) -> None:
        self.limits, self.text, self.there = limits, text, there
        self.words: list[str] = []
        self.seen = Progress()

    def moved(self, flow: str, seen: Progress) -> None:
        self.seen = seen

    def said(self, flow: str, text: str) -> None:
        self.words.append(text)
        if self.text in text and self.there(self):
            object.__setattr__(self.limits, "stall_timeout_s", 0.0)


def note_pid(folder: str, who: str) -> None:
    if folder:
        Path(folder, f"{who}-{os.getpid()}").touch()
