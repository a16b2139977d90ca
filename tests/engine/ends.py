"""Connectors that misbehave on purpose; importable by the workers, state kept in files."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pyarrow as pa

from hygge import Home
from hygge.connectors.files.arrow import ArrowStore
from hygge.errors import Transient
from hygge.model import Column, Plan, Split


class once:
    """True the first time, in whichever process, for one flag file."""

    def __init__(self, flag: str) -> None:
        self.flag = flag

    def __bool__(self) -> bool:
        try:
            os.close(os.open(self.flag, os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return False
        return True


class Counted(Home):
    """`splits` splits of `batches` batches of `rows` rows: `n` counts through all of them."""

    class Settings(Home.Settings):
        splits: int = 1
        batches: int = 4
        rows: int = 100
        width: int = 0
        flag: str = ""
        act: str = ""
        pids: str = ""

    def open(self, since=None):
        from contextlib import nullcontext

        columns = [Column("n", pa.int64())]
        if self.settings.width:
            columns.append(Column("pad", pa.string()))
        splits = tuple(Split(i, "1", rows=self.per_split) for i in range(self.settings.splits))
        return nullcontext(Plan(tuple(columns), splits))

    @property
    def per_split(self) -> int:
        return self.settings.batches * self.settings.rows

    def read(self, split):
        note_pid(self.settings.pids, "home")
        for number in range(self.settings.batches):
            if number == 2:
                act(self.settings.act, self.settings.flag)
            start = split.index * self.per_split + number * self.settings.rows
            table = pa.table({"n": pa.array(range(start, start + self.settings.rows), pa.int64())})
            if self.settings.width:
                pad = pa.repeat(pa.scalar("x" * self.settings.width), self.settings.rows)
                table = table.append_column("pad", pad)
            yield table


class Careful(ArrowStore):
    """An ArrowStore that acts up while it stages."""

    class Settings(ArrowStore.Settings):
        flag: str = ""
        act: str = ""
        delay_s: float = 0.0
        pids: str = ""

    def stage(self, ticket, schema, batches):
        note_pid(self.settings.pids, "store")
        return super().stage(ticket, schema, self._acting(batches))

    def _acting(self, batches):
        for number, batch in enumerate(batches):
            if number == 2:
                act(self.settings.act, self.settings.flag)
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


def note_pid(folder: str, who: str) -> None:
    if folder:
        Path(folder, f"{who}-{os.getpid()}").touch()
