"""What hygge holds in memory while it moves tables, beside its promise: 300 MB + 500 MB a lane.

Looked at from outside as `tests/engine/ray/memory_probe.py` says: PSS of the command and all that
it started, without Ray's daemons; the servers are not below it. Six times the rows may take a tenth
more.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import database_movers as movers
import pyarrow.parquet as pq
from database_movers import Bench, Took, clear
from database_servers import Failed
from parquet_to_parquet import lineitem

sys.path.insert(0, str(Path(__file__).parent.parent))
from tests.engine.ray.memory_probe import MB, Probe

TIMES, GROWTH = 6, 1.1
MOST_SCALE = 0.3
"""Of what is moved here once: 1.8 million rows, 300 MB in Arrow, fill the Inbox of a lane."""
ORDERS_A_SCALE = 6_000_000


class Watched(Bench):
    """A Bench that looks at memory instead of time."""

    probe: Seen

    def watching(self, pid: int) -> Seen:
        self.probe = Seen(pid)
        return self.probe


class Seen(Probe):
    def __enter__(self) -> Seen:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def seconds(self) -> Took:
        return {}


def memory(bench: Bench, sf: str, broken: list[str]) -> None:
    """Each way with some rows and with six times as many; reading on two lanes too."""
    scale = sf if float(sf) <= MOST_SCALE else str(MOST_SCALE)
    source = lineitem(scale).resolve()
    count = pq.read_metadata(source).num_rows
    watched = Watched(bench.folder, source, TIMES * bench.timeout_s, bench.pg, bench.my)
    some = f"SELECT * FROM lineitem WHERE l_orderkey <= {round(ORDERS_A_SCALE * float(scale))}"
    _six_times(watched, some)
    judged = float(scale) >= MOST_SCALE
    if not judged:
        print(f"\nmemory: fewer rows than fill an Inbox (scale {MOST_SCALE}): growth is not judged")
    print("\n| memory | lanes | rows | held at most | bound | |")
    print("| --- | --- | --- | --- | --- | --- |", flush=True)
    for job, lanes, homes, store in _flows(watched, some):
        most: list[int] = []
        for times, home in zip((1, TIMES), homes, strict=False):
            clear(watched)
            rows = f"{count * times:,}"
            try:
                watched.hygge(home, store, lanes=lanes)
            except Failed as error:
                broken.append(f"memory, {job}: {error}")
                print(f"| {job} | {lanes} | {rows} | failed | | BROKEN |", flush=True)
                break
            most.append(watched.probe.held.most)
            bound = (300 + 500 * lanes) * MB
            words = ["BROKEN"] if most[-1] > bound else []
            words += ["GROWS"] if judged and most[-1] > GROWTH * most[0] else []
            if words:
                broken.append(f"memory, {job}, {lanes} lanes, {rows} rows: {watched.probe.held}")
            told = f"{watched.probe.held} | {bound // MB} MB | {' '.join(words)}"
            print(f"| {job} | {lanes} | {rows} | {told} |", flush=True)


def _flows(bench: Bench, some: str) -> Iterator[tuple[str, int, list[Any], Any]]:
    """Job, lanes, the home as it is and with six times the rows, store."""
    files = [str(bench.source), str(bench.folder / "six")]
    out = str(bench.out / "out")
    if bench.pg is not None:
        tables = [{"connection": "pg", "table": f"public.lineitem_{each}"} for each in (1, TIMES)]
        yield "Postgres → Parquet", 1, tables, out
        yield "Postgres → Parquet", 2, tables[:1], out
        yield "Parquet → Postgres", 1, files, movers.PG_TARGET
        yield "Postgres → Postgres", 1, tables, movers.PG_TARGET
    if bench.my is not None:
        six = f"SELECT t.* FROM ({some}) AS t, seq_1_to_{TIMES}"
        queries = [{"connection": "source", "query": query} for query in (some, six)]
        yield "MariaDB → Parquet", 1, queries, out
        yield "Parquet → MariaDB", 1, files, movers.MY_TARGET


def _six_times(bench: Bench, some: str) -> None:
    folder = bench.folder / "six"
    folder.mkdir()
    for number in range(TIMES):
        (folder / f"{number}.parquet").symlink_to(bench.source)
    if bench.pg is not None:
        for times in (1, TIMES):
            bench.pg.ask(f"CREATE TABLE lineitem_{times} (LIKE lineitem)")
            for _ in range(times):
                bench.pg.ask(f"INSERT INTO lineitem_{times} {some}")
            bench.pg.ask(f"VACUUM (FREEZE, ANALYZE) lineitem_{times}")
