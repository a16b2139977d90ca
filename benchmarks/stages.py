"""What each stage of a move costs, one at a time, in this process: CPU seconds a million rows.

    python benchmarks/stages.py                  # TPC-H scale 0.1; about two minutes
    python benchmarks/stages.py --scale 1

A Home is read to its end and nobody takes the rows; a Store is given rows that lie in memory. A
flow has a line of each, and between them, on Ray, shared memory. CPU is of all threads of this
process; what the server does is in its own column.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.suite import data, tables
from benchmarks.suite.launch import below, processes
from benchmarks.suite.servers import Postgres
from hygge import CsvHome, CsvStore, JsonlHome, JsonlStore, ParquetHome, ParquetStore, SQLHome
from hygge.connectors.databases.store import SQLStore
from hygge.model import Run, Ticket

BATCH_BYTES = 32 << 20


class Costs:
    """Prints a line for each stage."""

    def __init__(self, server: list[int]) -> None:
        self.server = server
        print("| stage | rows | CPU s a million rows | server's | s | Arrow MB/s |")
        print("|---|---:|---:|---:|---:|---:|")

    def stage(self, name: str, rows: int, size: int, work: Callable[[], Any]) -> Any:
        """Do `work` once more than it is measured: the first time loads modules."""
        work()
        server, cpu, began = self._server(), time.process_time(), time.monotonic()
        result = work()
        took, cpu = time.monotonic() - began, time.process_time() - cpu
        server, millions = self._server() - server, rows / 1e6
        print(f"| {name} | {rows:,} | {cpu / millions:.2f} | {server / millions:.2f} | {took:.2f} "
              f"| {size / 1e6 / took:.0f} |", flush=True)  # fmt: skip
        return result

    def _server(self) -> float:
        now = processes()
        return sum(sum(now[pid][1:]) for pid in below(self.server, now))


def drained(home: Any) -> int:
    """Read a Home to its end; the number of its rows."""
    rows = 0
    with home.open(None) as plan:
        for split in plan.splits:
            rows += sum(batch.num_rows for batch in home.read(split))
    return rows


def staged(make: Callable[[int], Any], batches: list[pa.Table], number: list[int]) -> Any:
    """Stage and commit the batches in a new Store."""
    number[0] += 1
    store, run = make(number[0]), Run(f"20261130T000000-{number[0]:04}", "stages")
    base = store.head("stages")
    store.prepare(run, batches[0].schema)
    receipt = store.stage(Ticket(run.id, 0, 1, 1), batches[0].schema, iter(batches))
    store.commit(run, base, [receipt], None)
    store.discard(run)
    return receipt


def batches_of(table: pa.Table) -> Iterator[pa.Table]:
    step = max(1, int(table.num_rows * BATCH_BYTES / table.nbytes))
    for at in range(0, table.num_rows, step):
        yield table.slice(at, step)


def shared_memory(costs: Costs, table: pa.Table, batches: list[pa.Table]) -> None:
    """What a lane adds: each batch is put into Ray's object store and taken out of it."""
    import ray

    ray.init(include_dashboard=False, logging_level="ERROR", log_to_driver=False,
             object_store_memory=1 << 29)  # fmt: skip

    def through() -> None:
        for batch in batches:
            ray.get(ray.put(batch))

    costs.stage("through shared memory", table.num_rows, table.nbytes, through)
    ray.shutdown()


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--scale", default="0.1", help="TPC-H's (1: 6 million rows)")
    scale = parser.parse_args().scale
    lineitem = data.source("lineitem", "parquet", scale)
    table = pq.read_table(lineitem)
    nested = pq.read_table(data.truth("nested", scale))
    plain = pq.read_table(data.truth("plain", scale))
    sqlite = data.source("plain", "sqlite", scale)
    with tempfile.TemporaryDirectory(prefix="hygge-stages-") as name:
        folder = Path(name)
        folder.chmod(0o755)  # the server runs as another user
        with Postgres(folder) as pg:
            ready = folder / "ready.pgcopy"
            tables.load_pg(pg, "lineitem", lineitem, ready)
            pg.fresh()
            costs = Costs([pg.process.pid])
            homes = {
                "read Parquet": (ParquetHome(path=str(lineitem)), table),
                "read CSV": (CsvHome(path=str(data.source("lineitem", "csv", scale))), table),
                "read JSON lines, nested": (
                    JsonlHome(path=str(data.source("nested", "jsonl", scale))), nested,
                ),
                "read SQLite": (SQLHome("plain", connection=f"sqlite:///{sqlite}"), plain),
                "read PostgreSQL": (SQLHome("lineitem", connection=pg.url), table),
            }  # fmt: skip
            for stage, (home, rows) in homes.items():
                found = costs.stage(stage, rows.num_rows, rows.nbytes, lambda h=home: drained(h))
                assert found == rows.num_rows, (stage, found)
            batches, number = list(batches_of(table)), [0]
            shared_memory(costs, table, batches)
            stores: dict[str, Callable[[int], Any]] = {
                "write Parquet": lambda n: ParquetStore(path=str(folder / f"p{n}")),
                "write CSV": lambda n: CsvStore(path=str(folder / f"c{n}")),
                "write JSON lines": lambda n: JsonlStore(path=str(folder / f"j{n}")),
                "write PostgreSQL": lambda n: SQLStore(f"target.t{n}", connection=pg.url),
            }
            for stage, make in stores.items():
                costs.stage(
                    f"{stage} and commit", table.num_rows, table.nbytes,
                    lambda m=make: staged(m, batches, number),
                )  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())
