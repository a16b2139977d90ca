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
import pyarrow.csv as pc
import pyarrow.feather as pf
import pyarrow.parquet as pq

from hygge import (
    ArrowHome,
    ArrowStore,
    CsvHome,
    CsvStore,
    Flow,
    JsonlHome,
    JsonlStore,
    ParquetHome,
    ParquetStore,
    SQLHome,
    SQLStore,
)
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
    """Write the source in each format, as one file for each split."""
    for at in range(SPLITS):
        part = zip(*ROWS[at * 8 : at * 8 + 8], strict=True)
        table = pa.table(dict(zip(COLUMNS, map(list, part), strict=True)))
        for suffix, write in WRITERS.items():
            place = folder / suffix
            place.mkdir(exist_ok=True)
            write(table, place / f"{at}.{suffix}")


def write_json_lines(table: pa.Table, path: Path) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in table.to_pylist()))


WRITERS: dict[str, Callable[[pa.Table, Path], object]] = {
    "parquet": lambda table, path: pq.write_table(table, path),
    "arrow": lambda table, path: pf.write_feather(table, str(path)),
    "csv": lambda table, path: pc.write_csv(table, path),
    "jsonl": write_json_lines,
}
FILE_HOMES: dict[str, Callable[[str], Home]] = {
    "Parquet": lambda path: ParquetHome(path=path, options={"split_bytes": 1}),
    "bucket": lambda path: ParquetHome(path=path, options={"split_bytes": 1}),
    "Arrow": lambda path: ArrowHome(path=path, options={"split_bytes": 1}),
    "CSV": lambda path: CsvHome(path=path, options={"split_bytes": 1}),
    "JSONL": lambda path: JsonlHome(path=path, options={"split_bytes": 12_000}),  # of one file
}
FILE_STORES: dict[str, Callable[[str], Store]] = {
    "Parquet": lambda path: ParquetStore(path=path),
    "bucket": lambda path: ParquetStore(path=path),
    "one Parquet": lambda path: ParquetStore(path=path),
    "Arrow": lambda path: ArrowStore(path=path),
    "one CSV": lambda path: CsvStore(path=path),
    "JSONL": lambda path: JsonlStore(path=path),
}


def home_of(kind: str, place: str) -> Home:
    """The source at a place: files, or a table that is read in one of several ways."""
    if kind in FILE_HOMES:
        return FILE_HOMES[kind](place)
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
    if kind in FILE_STORES:
        return FILE_STORES[kind](place)
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
        os.environ.update(asked["environment"])
        warm(flow(asked))
        sys.stdout.write(json.dumps(ended(forked(driver(asked)))) + "\n")
        sys.stdout.flush()
