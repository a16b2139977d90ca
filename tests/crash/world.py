"""A small world in which drivers die: its folder, its drivers, and what readers see in it.

Every point of every promise is tried, or a sample of them (`tests/crash/points.py`), spread evenly
with the same seed each time.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.crash.points import ALL
from tests.crash.scenes import EVERY, Row, grow, in_order, rows_of, seen
from tests.waiting import LIMIT_S

DRIVER = "tests.crash.driver"
LOCKED = ("is committing in", "locked")
"""How a run is refused while a living driver is in the middle of its commit."""


class Drivers:
    """The process that forks drivers."""

    def __init__(self, module: str = DRIVER) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", module], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def ask(self, **asked: Any) -> dict[str, Any]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(asked) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        assert line, "the process that forks drivers has ended"
        return json.loads(line)

    def close(self) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.wait(timeout=LIMIT_S)
        self.process.stdout.close()


@dataclass(frozen=True)
class Ended:
    """How a driver ended: `code` is that of its process, None where it was hung; or `stopped`."""

    code: int | None = None
    stopped: int | None = None
    points: int = 0
    call: str = ""
    error: str = ""
    rows: int = 0
    resumed: int = 0
    run: str = ""
    reads: list[int] = field(default_factory=list)

    @property
    def done(self) -> bool:
        return self.code == 0

    @property
    def blocked(self) -> bool:
        return any(word in self.error for word in LOCKED)


class World:
    """A scene after its first run, the source one stage further; `fresh` makes it so again."""

    twin = ""
    """What is broken in its drivers from now on."""

    def __init__(self, drivers: Drivers, name: str, folder: Path, built: bool = True) -> None:
        self.drivers, self.name, self.scene = drivers, name, EVERY[name]
        self.here, self.kept, self.logs = folder / "here", folder / "kept", folder / "logs"
        if not built:
            return
        self.grow(0)
        assert self.run().done
        self.grow(1)
        self.old = self.seen()
        shutil.copytree(self.here, self.kept)
        self.before = os.listdir(self.kept / "state/flows/f/runs")
        undisturbed = self.run()
        assert undisturbed.done, undisturbed
        self.points, self.new = undisturbed.points, self.seen()
        first = rows_of(self.scene, 0) if self.scene.mode == "append" else []
        assert self.old == in_order(rows_of(self.scene, 0))
        assert self.new == in_order([*rows_of(self.scene, 1), *(first if self.scene.plain else [])])

    def run(self, at: dict[Any, str] | None = None, log: Path | None = None, **more: Any) -> Ended:
        asked = {str(point): how for point, how in (at or {}).items()}
        return Ended(
            **self.drivers.ask(
                do="run", scene=self.name, folder=str(self.here), at=asked, more=more,
                twin=self.twin,
                log=str(log) if log else None,
            )
        )  # fmt: skip

    def go_on(self, stopped: Ended, signal: str = "SIGCONT") -> Ended:
        return Ended(**self.drivers.ask(do="signal", pid=stopped.stopped, signal=signal))

    def fresh(self) -> None:
        shutil.rmtree(self.here)
        shutil.copytree(self.kept, self.here)

    def grow(self, stage: int) -> None:
        grow(self.scene, self.here, stage)

    def lose_state(self) -> None:
        shutil.rmtree(self.here / "state")

    def seen(self) -> list[Row] | str:
        try:
            return seen(self.scene, self.here)
        except Exception as error:
            return repr(error)

    def added(self, view: Any, stage: int) -> list[Row]:
        """What one run more makes of a view."""
        rows = rows_of(self.scene, stage)
        return in_order([*view, *rows] if self.scene.plain else rows)

    def newest(self) -> dict[str, dict[str, Any]]:
        """The entries of the newest run since `fresh`, by their names, read without hygge."""
        found = (self.here / "state/flows/f/runs").glob("*/plan.json")
        runs = [each for each in found if each.parent.name not in self.before]
        if not runs:
            return {}
        folder = max(runs, key=lambda path: (json.loads(path.read_text())["epoch"], path)).parent
        found = {path.stem: json.loads(path.read_text()) for path in folder.glob("*.json")}
        receipts = (self.here / "state/flows/f/receipts" / folder.name).glob("[0-9]*.json")
        return {**found, "sealed": {path.stem: {} for path in receipts}}

    def left_behind(self) -> list[str]:
        """What still lies beside the target, but for what belongs there.

        That is the head of a single file, and what the next run that stages something sweeps away.
        """
        beside = (self.here / "out").glob(".*.hygge/*")
        return [each.name for each in beside if not each.name.startswith(("head-", ".gone-"))]

    def sample(self, count: int, ends: bool = True) -> list[int]:
        """So many of the points, evenly spread; with `ends` the first and the last as well."""
        if ALL or count >= self.points:
            return list(range(self.points))
        step, seed = self.points / count, random.Random(self.name)
        spread = {min(self.points - 1, int((at + seed.random()) * step)) for at in range(count)}
        return sorted(spread | ({0, self.points - 1} if ends else set()))


@pytest.fixture(scope="module")
def worlds() -> Iterator[Callable[[str], World]]:
    """The world of a scene by its name; in memory, since a kill loses nothing that was written."""
    drivers, made = Drivers(), {}
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=memory) as folder:

        def world(name: str) -> World:
            if name not in made:
                made[name] = World(drivers, name, Path(folder) / str(len(made)))
            made[name].twin = ""
            return made[name]

        yield world
        drivers.close()
