"""What flows hold in memory at full size, beside what hygge promises: 300 MB + 500 MB a lane.

Every flow runs in a program of its own, on a private Ray, and is looked at from outside as
`tests/engine/ray/memory_probe.py` says. Prints one line a flow, and ends with 1 where a bound is
broken.

    python benchmarks/memory.py                       # several minutes, 4 GB of disk
    python benchmarks/memory.py --rows 2 --lanes 1    # millions of rows of the files
    python benchmarks/memory.py --only csv
"""

from __future__ import annotations

import argparse
import contextlib
import sqlite3
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

sys.path.insert(0, str(Path(__file__).parent.parent))
from tests.engine.ray.memory_probe import MB, moved

MILLION = 1_000_000


def flows(folder: Path) -> Iterator[tuple[str, list[Any], list[Any]]]:
    """Name, home and store; later ones read what earlier ones wrote."""
    out = {each: str(folder / each) for each in ("lake", "wide", "t.csv", "t.jsonl", "a", "b", "c")}
    one, many = str(folder / "one.parquet"), str(folder / "many.parquet")
    made, kept = f"sqlite:///{folder / 'made.db'}", f"sqlite:///{folder / 'kept.db'}"
    yield (
        "narrow, slow store",
        ["Narrow", {"rows": 20 * MILLION, "splits": 2}],
        ["Sink", {"delay_s": 0.3}],
    )
    yield (
        "narrow, six times",
        ["Narrow", {"rows": 120 * MILLION, "splits": 2}],
        ["Sink", {"delay_s": 0.05}],
    )
    yield "rows of 50 MB", ["Wide", {}], ["Sink", {"delay_s": 0.2}]
    yield "rows of 50 MB, parquet", ["Wide", {}], ["ParquetStore", {"path": out["wide"]}]
    lake = ["ParquetStore", {"path": out["lake"]}]
    yield "one row group", ["ParquetHome", {"path": one}], lake
    csv = ["CsvStore", {"path": out["t.csv"]}]
    yield "parquet, one csv", ["ParquetHome", {"path": many}], csv
    yield "csv, parquet", ["CsvHome", {"path": out["t.csv"]}], ["ParquetStore", {"path": out["a"]}]
    jsonl = ["JsonlStore", {"path": out["t.jsonl"]}]
    yield "parquet, one jsonl", ["ParquetHome", {"path": many}], jsonl
    read = ["JsonlHome", {"path": out["t.jsonl"]}]
    yield "jsonl, parquet", read, ["ParquetStore", {"path": out["b"]}]
    here = ["SQLStore", {"name": "t", "connection": made}]
    yield "parquet, sqlite", ["ParquetHome", {"path": many}], here
    there = ["SQLHome", {"name": "t", "connection": kept}]
    yield "sqlite, parquet", there, ["ParquetStore", {"path": out["c"]}]


def make(folder: Path, rows: int) -> None:
    """The sources: `rows` rows of four columns, 47 bytes each; one row group of thrice as many."""
    rng = np.random.default_rng(1)

    def some(count: int) -> pa.Table:
        words = pa.array(rng.integers(0, 1 << 40, count)).cast(pa.string())
        return pa.table(
            {
                "id": np.arange(count),
                "amount": rng.integers(0, MILLION, count) / 100,
                "code": rng.integers(0, 1000, count),
                "word": words,
            }
        )

    pq.write_table(some(3 * rows), folder / "one.parquet", row_group_size=3 * rows)
    table = some(rows)
    pq.write_table(table, folder / "many.parquet", row_group_size=500_000)
    with contextlib.closing(sqlite3.connect(folder / "kept.db")) as kept, kept:
        kept.execute(
            "CREATE TABLE t (id INTEGER PRIMARY KEY, amount REAL, code INTEGER, word TEXT)"
        )
        for batch in table.slice(0, rows // 2).to_batches(100_000):
            columns = [column.to_pylist() for column in batch.columns]
            kept.executemany("INSERT INTO t VALUES (?, ?, ?, ?)", zip(*columns, strict=True))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=float, default=8, help="millions of rows in the files")
    parser.add_argument("--lanes", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--only", default="", help="flows whose name holds this")
    given = parser.parse_args()
    rows, broken = int(given.rows * MILLION), 0
    with tempfile.TemporaryDirectory(prefix="hygge-memory-") as name:
        folder = Path(name)
        make(folder, rows)
        print("| flow | lanes | moved | seconds | held at most | bound | object store | charged |")
        print("| --- | --- | --- | --- | --- | --- | --- | --- |")
        for lanes in given.lanes:
            for flow, home, store in flows(folder):
                if given.only not in flow:
                    continue
                spec = {"name": flow.replace(", ", "_"), "home": home, "store": store}
                for each in moved([{**spec, "lanes": lanes}], timeout_s=3600):
                    over = each.held.most > each.bound or each.spilled
                    broken += bool(over)
                    print(
                        f"| {flow} | {each.lanes} | {each.bytes // MB} MB | {each.seconds:.1f} | "
                        f"{each.held.most // MB} MB | {each.bound // MB} MB | "
                        f"{each.held.shared // MB} MB | {each.most_charged // MB} MB |"
                        f"{f' spilled {each.spilled // MB} MB' if each.spilled else ''}"
                        f"{' BROKEN' if over else ''}",
                        flush=True,
                    )
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
