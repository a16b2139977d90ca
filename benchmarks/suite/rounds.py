"""Runs the contenders of a job in turn, each in a process of its own, and keeps what came of it.

    of each job, `rounds` times, each round in another order:
      clear the targets → prepare (not measured) → the command, measured by launch.py → figures →
      the target is compared with the source

A contender that fails, or is wrong, is not run again; the report says so.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .contenders import Contender
from .environments import NotInstalled, environment
from .jobs import MEMORY_ONLY, Job
from .room import ROOT, Room

LAUNCH = Path(__file__).with_name("launch.py")
KEEPS_NOTHING = {("limit", "pg_to_parquet"), ("limit", "my_to_parquet")}
CLIENTS = ("limit",)
ONLY_FULL = "measured in a full run, `make bench FULL=1`"
PREPARE_S = 60.0
DONE, WRONG, LEFT_OUT = "done", "wrong", "left out"


@dataclass
class Result:
    """What one contender made of one job.

    `status`: done, wrong, failed, cannot, not installed, left out.
    """

    job: str
    contender: str
    status: str = DONE
    words: str = ""
    """Why not done; or the types that were not kept."""
    runs: list[dict[str, float]] = field(default_factory=list)

    def median(self, figure: str) -> float | None:
        values = [run[figure] for run in self.runs if figure in run]
        return statistics.median(values) if values else None

    def range(self, figure: str) -> tuple[float, float] | None:
        values = [run[figure] for run in self.runs if figure in run]
        return (min(values), max(values)) if values else None


class Stopped(Exception):
    """A run that is no result; `status` and the words say why."""

    def __init__(self, status: str, words: str) -> None:
        super().__init__(words)
        self.status = status


@dataclass
class Rounds:
    """How jobs are run."""

    room: Room
    rounds: int
    timeout_s: float
    is_time_left: Callable[[], bool] = lambda: True
    is_quick: bool = False
    """Long jobs are left out, and so are contenders in jobs that are long for them, and who wants a
    Ray that stands: to start it for each job takes half of the time."""
    python_path: dict[str, str] = field(default_factory=dict)
    """Contender → PYTHONPATH, where it is another checkout."""

    def run(self, job: Job, contenders: list[Contender]) -> list[Result]:
        """All contenders of a job, interleaved."""
        chosen = [each for each in contenders if each.does(job.function) and fits(each, job)]
        results = {each.name: Result(job.name, each.name) for each in chosen}
        if lacking := [why for server, why in self.room.missing.items() if server in job.servers]:
            for result in results.values():
                result.status, result.words = LEFT_OUT, lacking[0]
            return list(results.values())
        if self.is_quick and job.is_long:
            return [Result(job.name, "all", LEFT_OUT, ONLY_FULL)]
        for contender in chosen if self.is_quick else ():
            if contender.ray or job.function in contender.long:
                result = results[contender.name]
                result.status, result.words = LEFT_OUT, ONLY_FULL
        if chosen and self.is_time_left():
            self.room.load(job)
        for number in range(self.rounds):
            for contender in _turned(chosen, number):
                result = results[contender.name]
                if result.status != DONE or (number and contender.once):
                    continue
                if not self.is_time_left():
                    if not result.runs:
                        result.status, result.words = LEFT_OUT, "there was no time left"
                    continue
                try:
                    figures, result.words = self._once(job, contender)
                    result.runs.append(figures)
                except Stopped as stopped:
                    result.status, result.words = stopped.status, str(stopped)
                except NotInstalled as error:
                    result.status, result.words = "not installed", str(error)
                _say(job, contender, result)
        return list(results.values())

    def _once(self, job: Job, contender: Contender) -> tuple[dict[str, float], str]:
        python = environment(contender)
        self.room.clear(job, client=contender.name in CLIENTS)
        with _standing(contender, self.room) as (ray_environment, ray_pids):
            address = ray_environment.get("RAY_API_SERVER_ADDRESS", "")
            task = self.room.task(job, contender.setting, address)
            file = self.room.folder / "task.json"
            environ = {**_environment(), **ray_environment}
            if path := self.python_path.get(contender.name):
                environ["PYTHONPATH"] = path
            plain = [str(python), str(contender.file), str(file)]
            call = Call(self.room, plain, environ, self.timeout_s)
            file.write_text(json.dumps(task))
            if job.function == "pg_incremental":
                call.measured(contender, [])
                self.room.grow()
            servers = [server.process.pid for server in self.room.running] + ray_pids
            figures = call.measured(contender, servers)
        if job.target and (contender.name, job.function) not in KEEPS_NOTHING:
            found = self.room.check(job)
            if found.wrong:
                raise Stopped(WRONG, found.wrong)
            figures["target_mb"] = self.room.target_bytes() / 1e6
            return figures, found.types
        return figures, ""


@dataclass
class Call:
    """The steps of one contender's file."""

    room: Room
    plain: list[str]
    environ: dict[str, str]
    timeout_s: float

    def measured(self, contender: Contender, servers: list[int]) -> dict[str, float]:
        """Prepare, run and measure, and read the figures. Raises Stopped."""
        command = self.plain
        if "prepare" in contender.functions:
            command = self._step("prepare", "")["command"] or command
        out, err, result = (str(self.room.folder / name) for name in ("stdout", "stderr", "result"))
        launch = {
            "command": command, "out": out, "err": err, "result": result, "servers": servers,
            "timeout_s": self.timeout_s, "environment": self.environ, "cwd": str(self.room.work),
        }  # fmt: skip
        told = self.room.folder / "launch.json"
        told.write_text(json.dumps(launch))
        subprocess.run([sys.executable, str(LAUNCH), str(told)], check=True)
        figures = json.loads(Path(result).read_text())
        printed = Path(out).read_text(errors="replace")
        code = figures.pop("code")
        if code == "timeout":
            raise Stopped("failed", f"not done in {self.timeout_s:.0f} s")
        if code and "figures" not in contender.functions:
            raise Stopped("failed", _last_words(printed, Path(err).read_text(errors="replace")))
        if "figures" in contender.functions and not (code and not printed.strip()):
            more = self._step("figures", printed)
        elif code:
            raise Stopped("failed", _last_words(printed, Path(err).read_text(errors="replace")))
        else:
            more = _last_json(printed)
        if "cannot" in more:
            raise Stopped("cannot", more["cannot"])
        if "failed" in more or code:
            raise Stopped("failed", more.get("failed") or _last_words(printed, ""))
        figures.setdefault("move_s", figures["whole_s"])
        return {**figures, **more}

    def _step(self, name: str, printed: str) -> dict[str, Any]:
        done = subprocess.run(
            [*self.plain, name], input=printed, env=self.environ, cwd=self.room.work,
            capture_output=True, text=True, timeout=PREPARE_S,
        )  # fmt: skip
        if done.returncode:
            raise Stopped("failed", _last_words(done.stdout, done.stderr))
        told = _last_json(done.stdout)
        if "cannot" in told:
            raise Stopped("cannot", told["cannot"])
        return told


def fits(contender: Contender, job: Job) -> bool:
    return (job.name in MEMORY_ONLY) <= (contender.setting == "one lane")


def _turned(contenders: list[Contender], number: int) -> list[Contender]:
    at = number % max(1, len(contenders))
    return contenders[at:] + contenders[:at]


def _environment() -> dict[str, str]:
    """What all of them get: no Ray of somebody, no hygge of another run."""
    return {
        name: text for name, text in os.environ.items()
        if not name.startswith(("RAY_", "HYGGE_", "PYTHON"))
    }  # fmt: skip


@contextlib.contextmanager
def _standing(contender: Contender, room: Room) -> Iterator[tuple[dict[str, str], list[int]]]:
    """A Ray for those who want one that stands: its variables, and its first process."""
    if not contender.ray:
        yield {}, []
        return
    sys.path.insert(0, str(ROOT))
    from tests.servers.standing import Standing

    cpus = str(max(4, os.cpu_count() or 1))
    size = ["--loopback", "--cpus", cpus, "--store-mib", "1024", "--for", "7200"]
    ray = Standing("1", *size)
    try:
        time.sleep(2)  # until its own processes have started
        yield (
            {name: text for name, text in ray.environ.items() if name.startswith("RAY_")},
            [ray.process.pid],
        )
    finally:
        ray.end()


def _last_json(printed: str) -> dict[str, Any]:
    for line in reversed(printed.splitlines()):
        if line.startswith("{"):
            with contextlib.suppress(ValueError):
                told: dict[str, Any] = json.loads(line)
                return told
    return {}


def _last_words(printed: str, err: str) -> str:
    plain = re.sub(r"\x1b\[[0-9;]*m", "", f"{printed}\n{err}")
    lines = [line.strip() for line in plain.splitlines() if line.strip()]
    return (lines[-1] if lines else "it said nothing")[:300]


def _say(job: Job, contender: Contender, result: Result) -> None:
    if result.status == DONE:
        last = result.runs[-1]
        told = (
            f"whole {last['whole_s']:.2f} s, move {last['move_s']:.2f} s, CPU {last['cpu_s']:.2f} s"
        )
    else:
        told = f"{result.status.upper()}: {result.words}"
    types = f"  types: {result.words}" if result.status == DONE and result.words else ""
    print(f"  {job.name} | {contender.name}: {told}{types}", file=sys.stderr, flush=True)
