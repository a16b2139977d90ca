"""A command of many flows dies at any point of its run, and the same command makes it whole.

A program of its own, whose forks die. Prints one JSON line: points, and what went wrong. It tries
the points from `first` on, each `step`-th.

    python request_points.py <folder> <first> <step> [a broken twin]
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

import pyarrow.dataset as ds
import sqlalchemy.dialects.sqlite  # noqa: F401  # so that no driver has to import it

from hygge.connectors.sqlite import home as sqlite_home  # noqa: F401  # as above
from hygge.coordinator import tables  # noqa: F401  # as above
from hygge.coordinator.coordinator import Coordinator
from hygge.coordinator.done import SKIPPED, Request
from hygge.engine import inline  # noqa: F401  # as above
from hygge.journal import FlowJournal, lease
from tests.crash.points import ALL, numbered

FLOWS = """
max_parallel_flows: 1
flows:
  nightly:
    home: {connection: "sqlite:///source.db", tables: ["*"]}
    store: "out/{table}"
    mode: append
  last: {home: {connection: "sqlite:///source.db", table: one}, store: out/last, mode: append}
"""
NAMES = ("one", "two", "last")
NAMED = (
    "hygge.journal.runs.FlowJournal.end 1",  # the first flow is committed, and nobody says so
    "hygge.journal.runs.FlowJournal.end 2",
    "hygge.journal.runs.FlowJournal.end 3",
    "hygge.journal.runs.FlowJournal.prune 1",
    "hygge.journal.runs.FlowJournal.prune 3",
    "hygge.coordinator.done.Request.note_tables 1",
    "hygge.coordinator.done.Request.forget 1",  # all flows are done
)


def run(folder: Path, point: str = "") -> int:
    """Run the command in a fork, which perhaps dies; return its exit code, negative for a signal.

    The code is 3 if it left flows out, 0 if it did not, 1 if it failed.
    """
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.chdir(folder)
            lease._is_gone = lambda held: True  # what holds must hold without trust in it
            command = Coordinator("flows.yml", engine="inline")
            if point:
                numbered({point: "kill"}, lambda _: None)
            summary = command.run()
            if summary.ok:
                code = 3 if any(SKIPPED in report.note for report in summary.flows) else 0
        except BaseException as error:
            sys.stderr.write(f"{error!r}\n")
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def rows(folder: Path) -> list[int]:
    """Return the number of rows of each target."""
    counts = []
    for name in NAMES:
        path = folder / "out" / name
        counts.append(ds.dataset(path, format="parquet").count_rows() if path.exists() else 0)
    return counts


def tried(folder: Path, point: str, wrong: list[str]) -> int:
    """Let a run die at a point, and look at what the next two make of it; return how it ended."""
    folder.mkdir()
    (folder / "flows.yml").write_text(FLOWS)
    with closing(sqlite3.connect(folder / "source.db")) as source:
        source.executescript(
            "CREATE TABLE one (id int); INSERT INTO one VALUES (1);"
            "CREATE TABLE two (id int); INSERT INTO two VALUES (1);"
        )
    ended = run(folder, point)
    died = rows(folder)
    was_whole = died == [1, 1, 1]
    if run(folder) not in (0, 3):
        wrong.append(f"{point}: the next run failed")
    after = rows(folder)
    if after != [1, 1, 1] and not (was_whole and after == [2, 2, 2]):
        wrong.append(f"{point}: {died} rows after the death, {after} after the next run")
    if point not in NAMED and not ALL:
        pass  # one more run is tried at the points that have a name
    elif run(folder) != 0 or rows(folder) != [count + 1 for count in after]:
        wrong.append(f"{point}: {after} rows, and {rows(folder)} after one more run")
    if point == NAMED[-1] and after != [2, 2, 2]:
        wrong.append(f"{point}: all was done, and the next run left flows out")
    shutil.rmtree(folder)
    return ended


def main(folder: Path, number: int, step: int, twin: str) -> None:
    if twin == "forgets":
        FlowJournal.committed_for = lambda *_: None  # type: ignore[method-assign,assignment]
    if twin == "never done":
        Request.is_done = lambda *_: False  # type: ignore[method-assign,assignment]
    wrong: list[str] = []
    for point in NAMED:
        if tried(folder / "named", point, wrong) != -signal.SIGKILL:
            wrong.append(f"{point}: it did not die")
    while not twin and tried(folder / str(number), str(number), wrong) == -signal.SIGKILL:
        number += step
    sys.stdout.write(json.dumps({"points": number, "wrong": wrong}) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), "".join(sys.argv[4:]))
