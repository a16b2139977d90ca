"""A driver that writes to an Iceberg table dies before and after each step that changes something.

The steps are those of the library and of hygge on files (created, kept, removed), and the commits
in the catalog, a file of SQLite. The drivers are forks; each begins in the same world, and after
each death a reader that is not hygge looks, and the next run must succeed. Prints one JSON line:
points, and what went wrong. Every seventh point is tried, each of them with `HYGGE_CRASH=all`.

    python -m tests.crash.iceberg_points <folder> <mode> [head apart]
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import sqlalchemy.dialects.sqlite  # so that no driver has to import it
import sqlalchemy.orm
from pyiceberg.io.pyarrow import PyArrowFile

from hygge import Flow, SQLHome
from hygge.connectors.iceberg import commit, store  # noqa: F401  # as above
from hygge.connectors.iceberg.staging import Staged
from hygge.connectors.sqlite import home as sqlite_home  # noqa: F401  # as above
from hygge.engine import inline  # noqa: F401  # as above
from hygge.journal import lease
from tests.connectors.iceberg import lakes
from tests.crash.points import STEP

OLD = [(n, "old") for n in range(1, 6)]
MORE = [(n, "new") for n in range(6, 11)]
CHANGED = [(n, "new" if n == 3 else "old") for n in range(1, 6)]
EXPECTED = {"append": OLD + MORE, "replace": CHANGED + MORE, "merge": CHANGED + MORE}
CURSORS = {"append": "id", "merge": "seq"}


class Point:
    """The number of the point that comes next, and of the one at which the process is killed."""

    number, last = 0, -1

    @classmethod
    def reached(cls) -> None:
        if cls.number == cls.last:
            os.kill(os.getpid(), signal.SIGKILL)
        cls.number += 1


def around(cls: Any, name: str) -> None:
    """Have a method be a point before it, and one after it."""
    real = getattr(cls, name)

    def called(*given: Any, **more: Any) -> Any:
        Point.reached()
        result = real(*given, **more)
        Point.reached()
        return result

    setattr(cls, name, called)


def flow(folder: Path, mode: str) -> Flow:
    home = SQLHome("t", connection=f"sqlite:///{folder}/source.db", cursor=CURSORS.get(mode))
    key = ["id"] if mode == "merge" else []
    return Flow(
        home, lakes.store(folder), name="f", mode=mode, key=key, engine="inline",
        state=str(folder / "state"),
    )  # fmt: skip


def driver(work: Callable[[], Any], point: int = -1, twin: str = "") -> int:
    """Do some work in a fork, perhaps dying; return its exit code, negative for a signal."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            lease._is_gone = lambda held: True  # what holds must hold without trust in it
            if point >= 0:
                Point.last = point
                around(PyArrowFile, "create")
                around(Staged, "keep")
                around(Staged, "remove")
                around(sqlalchemy.orm.Session, "commit")
            if twin:
                commit.Trial._move_head = lambda *_: None
            work()
            code = 0
        except BaseException as error:
            sys.stderr.write(f"{error!r}\n")
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def change(folder: Path, *statements: str) -> None:
    with closing(sqlite3.connect(folder / "source.db")) as source, source:
        for statement in statements:
            source.execute(statement)


def rows(values: list[tuple[int, str]]) -> str:
    return ", ".join(f"({n}, '{v}', {n})" for n, v in values)


def seen(folder: Path) -> list[tuple[int, str]]:
    """What a reader sees, in a fork: no fork comes well out of a process that has asked S3."""
    out = folder / "seen.json"

    def look() -> None:
        table = lakes.rows(folder)
        found = [] if table is None else sorted((row["id"], row["v"]) for row in table.to_pylist())
        out.write_text(json.dumps(found))

    out.unlink(missing_ok=True)
    assert driver(look) == 0, "a reader failed"
    return [(n, v) for n, v in json.loads(out.read_text())]


def main(folder: Path, mode: str, twin: str) -> None:
    wrong: list[str] = []
    world, begun = folder / "world", folder / "begun"
    world.mkdir(parents=True)
    change(world, "CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT, seq INTEGER)")
    change(world, f"INSERT INTO t VALUES {rows(OLD)}")
    if driver(lambda: flow(world, mode).run()) != 0:
        wrong.append("the first run failed")
    change(world, f"INSERT INTO t VALUES {rows(MORE)}")
    change(world, "UPDATE t SET v = 'new', seq = 11 WHERE id = 3")
    shutil.copytree(world, begun)
    # What stands before the commit is the same in every mode: tried at other points in each.
    point, ended = list(EXPECTED).index(mode) * 3 % STEP, -signal.SIGKILL
    while ended == -signal.SIGKILL:
        shutil.rmtree(world)
        shutil.copytree(begun, world)
        ended = driver(lambda: flow(world, mode).run(), point, twin)
        after = seen(world)
        if after not in (OLD, EXPECTED[mode]):
            wrong.append(f"point {point}: a reader saw {after} after the death")
        if driver(lambda: flow(world, mode).run(), twin=twin) != 0:
            wrong.append(f"point {point}: the next run failed")
        elif seen(world) != EXPECTED[mode]:
            wrong.append(f"point {point}: {seen(world)} after the next run")
        point += STEP
    if ended != 0:
        wrong.append(f"the undisturbed run ended with {ended}")
    sys.stdout.write(json.dumps({"points": point - STEP, "wrong": wrong}) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], "".join(sys.argv[3:]))
