"""A driver whose store is a bucket dies, or falls asleep, before each of its puts, copies, deletes.

A program of its own: obstore's threads do not survive a fork, so nothing but the forked drivers
and readers may speak to the bucket. Prints one JSON line: points, and what went wrong. Every third
point is tried, with `HYGGE_CRASH=all` and of a broken twin each.

    python object_points.py <folder> <URL> <mode> <what happens> <first point> [a broken twin]

What happens: dies, dies twice, sleeps.
"""

from __future__ import annotations

import ctypes
import io
import json
import os
import shutil
import signal
import sqlite3
import sys
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import obstore
import pandas  # noqa: F401  # so that no driver has to import it
import pyarrow.compute  # noqa: F401  # as above
import pyarrow.parquet as pq
import sqlalchemy.dialects.sqlite  # noqa: F401  # as above
from obstore.store import from_url

from hygge import Flow, ParquetStore, SQLHome
from hygge.connectors.files.prefix import Prefix
from hygge.connectors.sqlite import home as sqlite_home  # noqa: F401  # as above
from hygge.engine import inline  # noqa: F401  # as above
from hygge.journal import lease
from hygge.places.bucket import Bucket
from tests.crash.points import STEP

Row = tuple[int, str]
ROWS: dict[str, dict[str, list[Row]]] = {
    "replace": {each: [(n, each) for n in range(1, 7)] for each in ("old", "new", "newer")},
    "append": {
        "old": [(n, "old") for n in range(1, 5)],
        "new": [(n, "old" if n < 5 else "new") for n in range(1, 11)],
        "newer": [(n, "old" if n < 5 else "new" if n < 11 else "newer") for n in range(1, 13)],
    },
}
"""What the source holds, by mode and by time."""


class Numbered:
    """obstore's client; before its call number `point` that changes something, `act` happens."""

    made = 0
    lock = threading.Lock()

    def __init__(self, client: Any, point: int, act: int) -> None:
        self.client, self.point, self.act = client, point, act

    def __getattr__(self, name: str) -> Any:
        verb = getattr(self.client, name)

        def called(*arguments: Any, **more: Any) -> Any:
            if name in ("put", "copy", "delete"):
                with Numbered.lock:
                    if Numbered.made == self.point:
                        os.kill(os.getpid(), self.act)
                    Numbered.made += 1
            return verb(*arguments, **more)

        return called


def flow(folder: Path, url: str, mode: Any) -> Flow:
    cursor = {"cursor": "id"} if mode == "append" else {}
    home = SQLHome("t", connection=f"sqlite:///{folder}/t.db", options={"batch_size": 2}, **cursor)
    store = ParquetStore(path=url, options={"file_bytes": 1, "row_group_bytes": 1})
    return Flow(home, store, name="f", mode=mode, engine="inline", state=folder / "state")


def source(folder: Path, rows: list[Row]) -> None:
    with closing(sqlite3.connect(folder / "t.db")) as database:
        database.execute("PRAGMA journal_mode = WAL")  # a sleeper's snapshot holds up nobody
        database.execute("CREATE TABLE IF NOT EXISTS t (id INTEGER PRIMARY KEY, v TEXT)")
        database.executemany("INSERT OR REPLACE INTO t VALUES (?, ?)", rows)
        database.commit()


def forked(work: Callable[[], None]) -> int:
    """The process id of a fork that does `work`."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # it ends with us, also when it sleeps
        lease._is_gone = lambda held: True  # what holds must hold without trust in it
        work()
        code = 0
    except BaseException as error:
        sys.stderr.write(f"{error!r}\n")
    finally:
        os._exit(code)


def driver(folder: Path, url: str, mode: str, point: int | None = None, act: int = 9) -> int:
    def run() -> None:
        if point is not None:
            client = Bucket._client
            Bucket._client = lambda self, once=False: Numbered(client(self, once), point, act)
        flow(folder, url, mode).run()

    return forked(run)


def ended(child: int) -> int:
    """The exit code of a driver, negative for the signal that ended it, or let it sleep."""
    _, status = os.waitpid(child, os.WUNTRACED)
    return -os.WSTOPSIG(status) if os.WIFSTOPPED(status) else os.waitstatus_to_exitcode(status)


def look(url: str) -> dict[str, Any]:
    """What a plain listing shows, and what lies beside it; read in a fork."""
    read, write = os.pipe()

    def see() -> None:
        bucket = from_url(url.rpartition("/")[0], client_options={"allow_http": True})
        name = url.rpartition("/")[2]
        found = [each["path"] for page in obstore.list(bucket) for each in page]
        shown = [key for key in found if key.startswith(f"{name}/part-")]
        rows = [
            [*row.values(), key.split("-", 3)[3]]  # and the run that wrote it
            for key in shown
            for row in pq.read_table(io.BytesIO(bucket.get(key).bytes())).to_pylist()
        ]
        manifests = sorted(key for key in found if key.startswith(f"{name}/_hygge/"))
        named = json.loads(bytes(bucket.get(manifests[-1]).bytes()))["files"] if manifests else []
        told = {
            "rows": rows,
            "named": sorted(f"{name}/{each[0]}" for each in named) == sorted(shown),
            "manifests": len(manifests),
            "staged": [k for k in found if k.startswith(".") and "/.check/" not in k],
        }
        with os.fdopen(write, "w") as out:
            json.dump(told, out)

    child = forked(see)
    os.close(write)
    with os.fdopen(read) as told:
        seen: dict[str, Any] = json.load(told)
    ended(child)
    return seen


def torn(seen: dict[str, Any], mode: str, old: list[Row], new: list[Row]) -> str | None:
    """What no reader may see, at whichever moment a driver dies."""
    # In a replace those of two runs may be there at once, as it is declared.
    twice = Counter(tuple(row if mode == "replace" else row[:2]) for row in seen["rows"])
    if any(count > 1 for count in twice.values()):
        return f"rows twice: {twice}"
    rows = {(row[0], row[1]) for row in seen["rows"]}
    if not (rows >= {*old} or rows >= {*new}) or not rows <= {*old, *new}:
        return f"neither the old rows nor the new ones: {sorted(rows)}"
    return None


def not_whole(seen: dict[str, Any], rows: list[Row]) -> str | None:
    """What is wrong after a run that nobody disturbed."""
    if sorted((row[0], row[1]) for row in seen["rows"]) != rows:
        return f"{sorted(seen['rows'])} instead of {rows}"
    if not seen["named"]:
        return "the newest manifest names other files than are visible"
    if seen["staged"] or seen["manifests"] > 2:
        return f"left over: {seen['staged']}, {seen['manifests']} manifests"
    return None


def try_point(folder: Path, url: str, mode: str, how: str, point: int) -> tuple[int, str | None]:
    """How the disturbed driver ended, and what went wrong."""
    times = ROWS[mode]
    source(folder, times["old"])
    if ended(driver(folder, url, mode)) != 0:
        return 1, "the first run failed"
    source(folder, times["new"])
    act = signal.SIGSTOP if how == "sleeps" else signal.SIGKILL
    disturbed = driver(folder, url, mode, point, act)
    how_it_ended = ended(disturbed)
    if how == "dies twice":
        ended(driver(folder, url, mode, point, act))
    problem = torn(look(url), mode, times["old"], times["new"])
    if ended(driver(folder, url, mode)) != 0:
        problem = problem or "the next run failed"
    rows = times["new"]
    if how == "sleeps" and how_it_ended == -act:
        if point % 2:  # it wakes after the winner, or after a newer run as well
            rows = times["newer"]
            source(folder, rows)
            if ended(driver(folder, url, mode)) != 0:
                problem = problem or "the newer run failed"
        os.kill(disturbed, signal.SIGCONT)
        ended(disturbed)
        seen = look(url)
        seen["staged"] = []  # it may have staged what nobody asks for
        problem = problem or not_whole(seen, rows)
        if ended(driver(folder, url, mode)) != 0:
            problem = problem or "the run after the sleeper failed"
    if how == "sleeps":
        return how_it_ended, problem or not_whole({**look(url), "staged": []}, rows)
    return how_it_ended, problem or not_whole(look(url), rows)


def break_settle() -> None:
    """A broken twin: what is replaced is removed before what replaces it is there."""
    copy = Prefix._copy

    def removing(self: Prefix, file: Any) -> bool:
        gone = self._look().manifest.gone  # type: ignore[union-attr]
        self.bucket.drop([f"{self.name}/{name}" for name, _, _ in gone])
        return copy(self, file)

    Prefix._copy = removing  # type: ignore[method-assign]


def break_discard() -> None:
    """A broken twin: what was staged is removed though the newest manifest may still need it."""
    Prefix.discard = (  # type: ignore[method-assign]
        lambda self, run: self.bucket.remove(f"{self.staging}/{run.id}")
    )


def break_head() -> None:
    """A broken twin: the store does not look at its head."""
    Prefix.head = Prefix._done = lambda *_: None  # type: ignore[assignment,method-assign]


TWINS = {"settle": break_settle, "discard": break_discard, "head": break_head}


def main(folder: Path, url: str, mode: str, how: str, point: int) -> None:
    wrong: list[str] = []
    last, step = -1, 1 if sys.argv[6:] else STEP
    while last < 0 and not (wrong and sys.argv[6:]):  # of a twin the first one will do
        here = folder / str(point)
        here.mkdir()
        last, problem = try_point(here, f"{url}/{point}/t", mode, how, point)
        if problem:
            wrong.append(f"point {point}: {problem}")
        shutil.rmtree(here)
        point += step
    if last > 0:
        wrong.append(f"the undisturbed run ended with {last}")
    sys.stdout.write(json.dumps({"points": point - step, "wrong": wrong}) + "\n")


if __name__ == "__main__":
    for twin in sys.argv[6:]:
        TWINS[twin]()
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4], int(sys.argv[5]))
