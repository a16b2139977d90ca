"""Any pair of connectors whose driver is killed in mid-run.

This is a process of its own, without Ray, that forks a driver for each request, as
`tests/crash/driver.py` does. Requests and answers are one JSON line each. A request names a home
and a store of `flow`, and after how many sealed splits the driver is to be killed; -1 lets it live.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from hygge import CsvStore, Flow, ParquetHome, ParquetStore, SQLHome, SQLStore
from hygge.errors import FlowFailed
from hygge.home import Home
from hygge.journal import FlowJournal
from hygge.model import Limits
from hygge.store import Store
from tests.crash.driver import ended, forked
from tests.waiting import until

SPLITS = 4
COLUMNS = ["id", "v", "x", "wide"]
ROWS = [
    (n, f"v{n}" if n % 5 else None if n % 2 else "", n / 7, f"w{n}" * 400)
    for n in range(10, 10 + 8 * SPLITS)
]
"""So wide that a table has a block for each split."""


def write_files(folder: Path) -> None:
    """Write the source as one Parquet file for each split."""
    folder.mkdir()
    for at in range(SPLITS):
        part = zip(*ROWS[at * 8 : at * 8 + 8], strict=True)
        columns = dict(zip(COLUMNS, map(list, part), strict=True))
        pq.write_table(pa.table(columns), folder / f"{at}.parquet")


def home_of(kind: str, place: str) -> Home:
    """The source at a place: `files`, or a table that is read in one of several ways."""
    if kind == "files":
        return ParquetHome(path=place, options={"split_bytes": 1})
    url, table = place.rsplit("#", 1)
    ways: dict[str, dict[str, Any]] = {
        "snapshot": {"consistency": "snapshot"},
        "split": {"consistency": "split"},
        "columns": {"consistency": "split", "types": {"v": "string"}},  # so nothing is passed on
        "plain": {},
        "ranges": {},
    }
    options = {"splits": SPLITS, **ways[kind]}
    by = "id" if kind == "ranges" else None
    return SQLHome("s", connection=url, table=table, split_by=by, options=options)


def store_of(kind: str, place: str) -> Store:
    if kind == "directory":
        return ParquetStore(path=place)
    if kind == "file":
        return CsvStore(path=place)
    url, table = place.rsplit("#", 1)
    return SQLStore("t", connection=url, table=table)


def flow(asked: dict[str, Any]) -> Flow:
    home, store = home_of(*asked["home"]), store_of(*asked["store"])
    key = ["id"] if asked["mode"] == "merge" else []
    return Flow(
        home, store, name="f", mode=asked["mode"], key=key, engine="inline",
        state=Path(asked["state"]), limits=Limits(retries=0),
    )  # fmt: skip


def driver(asked: dict[str, Any]) -> Callable[..., int]:
    def work(tell: Callable[..., Any]) -> int:
        reads: list[int] = []
        sealed: list[Any] = []
        moving = flow(asked)
        kind = type(moving.home)
        read, seal = kind.read, FlowJournal.seal

        def noted(*given: Any) -> None:
            seal(*given)
            sealed.append(given)

        def watched(home: Home, split: Any) -> Any:
            for batch in read(home, split):
                if len(reads) == asked["after"]:
                    until(lambda: len(sealed) == len(reads), "receipts are not written")
                    os.kill(os.getpid(), signal.SIGKILL)
                yield batch
            reads.append(split.index)
            tell(reads=reads)

        kind.read = watched  # also that of a home that passes rows on
        FlowJournal.seal = noted  # they are written beside the reading
        tell(reads=reads)
        try:
            report = moving.run()
        except FlowFailed as error:
            tell(error=str(error))
            return 1
        except BaseException as error:
            tell(error=repr(error))
            return 2
        tell(rows=report.rows, resumed=report.resumed, splits=report.splits)
        return 0

    return work


def warm(moving: Flow) -> None:
    """Import what a driver will import, so that no child has to."""
    for name in {*moving.home.needs(), *moving.store.needs()}:
        importlib.import_module(name)


if __name__ == "__main__":
    for line in sys.stdin:
        asked = json.loads(line)
        warm(flow(asked))
        sys.stdout.write(json.dumps(ended(forked(driver(asked)))) + "\n")
        sys.stdout.flush()
