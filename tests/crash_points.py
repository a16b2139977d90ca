"""Kills a run before each call that touches disk or database, and runs it again.

A process of its own, without Ray: it forks a driver for every point. The calls are found by
interposition (`sys.setprofile`), not by hand: whatever the run calls in `posix`, `fcntl` and
`sqlite3` that changes something is numbered. Prints one JSON line: points, and what went wrong.

    python crash_points.py <scenario> <folder> [in two steps]
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

import pyarrow.csv as pc
import pyarrow.dataset as ds

from hygge import CsvStore, Flow, ParquetStore, SQLHome, SQLStore
from hygge.io import publish

CALLS = {"rename", "replace", "fsync", "mkdir", "unlink", "rmdir", "link", "flock"}
STATEMENTS = {"execute", "executemany", "executescript", "commit"}
OLD, NEW = list(range(1, 11)), list(range(1, 21))
SCENARIOS = {
    "directory append": "append",
    "directory replace": "replace",
    "file replace": "replace",
    "sqlite append": "append",
    "sqlite replace": "replace",
    "sqlite merge": "merge",
}


def flow(scenario: str, folder: Path) -> Flow:
    kind, mode = scenario.split()
    store = {
        "directory": lambda: ParquetStore(path=folder / "lake"),
        "file": lambda: CsvStore(path=folder / "out.csv"),
        "sqlite": lambda: SQLStore("t", connection=f"sqlite:///{folder}/target.db"),
    }[kind]()
    cursor = None if mode == "replace" else "id"
    # Two splits: both must be there, once each.
    options = {"splits": 2} if mode == "replace" else {}
    source = f"sqlite:///{folder}/source.db"
    home = SQLHome("t", connection=source, cursor=cursor, options=options)
    key = ["id"] if mode == "merge" else []
    return Flow(home, store, name="f", mode=mode, key=key, engine="inline")


def seen(scenario: str, folder: Path) -> list[int]:
    """What a reader that is not hygge sees."""
    if scenario.startswith("directory"):
        return sorted(ds.dataset(folder / "lake").to_table()["id"].to_pylist())
    if scenario.startswith("file"):
        return sorted(pc.read_csv(folder / "out.csv")["id"].to_pylist())
    with closing(sqlite3.connect(folder / "target.db")) as target:
        return [row[0] for row in target.execute("SELECT id FROM t ORDER BY id")]


def grow(folder: Path, ids: list[int]) -> None:
    with closing(sqlite3.connect(folder / "source.db")) as source:
        source.execute("CREATE TABLE IF NOT EXISTS t (id INTEGER PRIMARY KEY, v TEXT)")
        source.executemany("INSERT OR IGNORE INTO t VALUES (?, 'v')", [(n,) for n in ids])
        source.commit()


def forked(work) -> int:
    """`work` in a child; its exit code, negative for a signal."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        except BaseException as error:
            print(repr(error), file=sys.stderr)
        finally:
            sys.setprofile(None)
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def dying(scenario: str, folder: Path, point: int):
    """A run that is killed just before its call number `point`."""

    def work() -> None:
        number = 0
        moving = flow(scenario, folder)

        def before_call(frame, event, what) -> None:
            nonlocal number
            if event != "c_call":
                return
            name, module = what.__name__, getattr(what, "__module__", None)
            owner = type(getattr(what, "__self__", None)).__module__
            if (name in CALLS and module in ("posix", "fcntl")) or (
                name in STATEMENTS and owner == "sqlite3"
            ):
                number += 1
                if number > point:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.setprofile(before_call)
        moving.run()

    return work


def main(scenario: str, folder: Path) -> None:
    start = folder / "start"
    start.mkdir()
    grow(start, OLD)
    flow(scenario, start).run()  # here, so that no child has to import anything
    grow(start, NEW)
    wrong: list[str] = []
    point = 0
    while True:
        here = folder / "run"
        shutil.rmtree(here, ignore_errors=True)
        shutil.copytree(start, here)
        ended = forked(dying(scenario, here, point))
        try:
            between = seen(scenario, here)
        except OSError as error:
            between = [repr(error)]
        if between not in (OLD, NEW):
            wrong.append(f"point {point}: a reader saw {between} after the death")
        if forked(lambda at=here: flow(scenario, at).run()) != 0:
            wrong.append(f"point {point}: the next run failed")
        elif seen(scenario, here) != NEW:
            wrong.append(f"point {point}: {seen(scenario, here)} after the next run")
        if ended != -signal.SIGKILL:
            if ended != 0:
                wrong.append(f"point {point}: ended with {ended}")
            break
        point += 1
    print(json.dumps({"points": point, "wrong": wrong}))


def in_two_steps(staged: str, target: str) -> None:
    """A broken twin of `publish.show_directory`: there is a moment without a target."""
    if os.path.exists(target):
        os.rename(target, f"{staged}.gone")
    os.rename(staged, target)


if __name__ == "__main__":
    if sys.argv[3:] == ["in two steps"]:
        publish.show_directory = in_two_steps
    main(sys.argv[1], Path(sys.argv[2]))
