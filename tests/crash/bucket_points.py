"""A driver whose journal lies in a bucket dies before each of its puts and deletes there.

A program of its own: obstore's threads do not survive a fork, so nothing but the forked drivers
may speak to the bucket. Prints one JSON line: points, and what went wrong. Every third point is
tried, with two deaths in a row another third; with `HYGGE_CRASH=all` and of a broken twin each.

    python bucket_points.py <folder> <state URL> <deaths in a row> [a broken twin]
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import sys
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import obstore.store  # noqa: F401  # so that no driver has to import it
import pyarrow.dataset as ds
import sqlalchemy.dialects.sqlite  # noqa: F401  # as above

from hygge import Flow, ParquetStore, SQLHome
from hygge.connectors.files.directory import Directory
from hygge.connectors.sqlite import home as sqlite_home  # noqa: F401  # as above
from hygge.engine import inline  # noqa: F401  # as above
from hygge.journal import lease
from hygge.places.bucket import Bucket
from hygge.places.place import place_at
from tests.crash.points import STEP

ROWS = list(range(1, 11))


class Numbered:
    """obstore's client; the process dies before its call number `point` that changes something."""

    made = 0

    def __init__(self, client: Any, point: int) -> None:
        self.client, self.point = client, point

    def __getattr__(self, name: str) -> Any:
        verb = getattr(self.client, name)

        def called(*arguments: Any, **more: Any) -> Any:
            if name in ("put", "delete") and threading.current_thread().name != "hygge-lease":
                if Numbered.made == self.point:
                    os.kill(os.getpid(), signal.SIGKILL)
                Numbered.made += 1
            return verb(*arguments, **more)

        return called


def flow(folder: Path, state: str) -> Flow:
    home = SQLHome("t", connection=f"sqlite:///{folder}/source.db", cursor="id")
    store = ParquetStore(path=folder / "lake")
    return Flow(home, store, name="f", mode="append", engine="inline", state=state)


def driver(folder: Path, state: str, point: int | None = None) -> int:
    """A run in a fork, perhaps dying; its exit code, negative for a signal."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            lease._is_gone = lambda held: True  # what holds must hold without trust in it
            if point is not None:
                client = Bucket._client
                Bucket._client = lambda self, once=False: Numbered(client(self, once), point)
            flow(folder, state).run()
            code = 0
        except BaseException as error:
            sys.stderr.write(f"{error!r}\n")
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def seen(folder: Path) -> list[int]:
    if not (folder / "lake").exists():
        return []
    return sorted(ds.dataset(folder / "lake").to_table()["id"].to_pylist())


def entries(state: str) -> list[str]:
    """The keys of the journal, as a fork sees them."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        with os.fdopen(write, "w") as out:
            json.dump(place_at(state).keys(""), out)
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as told:
        keys = json.load(told)
    os.waitpid(child, 0)
    return keys


def break_head() -> None:
    """A broken twin: the store does not look at its head."""
    Directory.head = Directory._done = lambda *_: None  # type: ignore[assignment,method-assign]


def main(folder: Path, state: str, deaths: int) -> None:
    wrong: list[str] = []
    step = 1 if sys.argv[4:] else STEP
    point = (deaths - 1) % step
    ended = -signal.SIGKILL
    while ended == -signal.SIGKILL:
        here, prefix = folder / str(point), f"{state}/{point}"
        here.mkdir()
        with closing(sqlite3.connect(here / "source.db")) as source:
            source.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT)")
            source.executemany("INSERT INTO t VALUES (?, 'v')", [(n,) for n in ROWS])
            source.commit()
        ended = driver(here, prefix, point)
        for _ in range(deaths - 1):
            driver(here, prefix, point)
        if seen(here) not in ([], ROWS):
            wrong.append(f"point {point}: a reader saw {seen(here)} after the death")
        if driver(here, prefix) != 0:
            wrong.append(f"point {point}: the next run failed")
        elif seen(here) != ROWS:
            wrong.append(f"point {point}: {seen(here)} after the next run")
        elif not any(key.endswith("/decision.json") for key in entries(prefix)):
            wrong.append(f"point {point}: no decision is in {entries(prefix)}")
        shutil.rmtree(here)
        point += step
    if ended != 0:
        wrong.append(f"the undisturbed run ended with {ended}")
    sys.stdout.write(json.dumps({"points": point - step, "wrong": wrong}) + "\n")


if __name__ == "__main__":
    if sys.argv[4:] == ["head"]:
        break_head()
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
