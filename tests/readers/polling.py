"""A reader that knows nothing of hygge, and reads a target again and again, in its own process.

Prints a JSON line for each read: `seen`, the rows of each generation (column `gen`), or `gone`,
what a reader of a directory that is replaced may meet, and has to list again for: files that went
between listing and opening. Anything else that goes wrong is `wrong`. Ends when its input does.

    python polling_reader.py <kind> <path>
"""

from __future__ import annotations

import json
import os
import select
import sqlite3
import sys
from collections import Counter
from contextlib import closing

import duckdb
import pyarrow as pa
import pyarrow.csv as pc
import pyarrow.dataset as ds
import pyarrow.json as pj
import pyarrow.parquet as pq

FORMATS = {"parquet": "parquet", "arrow": "arrow", "csv": "csv", "jsonl": "json"}
SCANS = {"parquet": "read_parquet", "csv": "read_csv", "jsonl": "read_json"}
GONE = ("No files found", "No such file", "does not exist", "no files that match")


def by_dataset(kind: str, path: str) -> Counter:
    """As `pyarrow.dataset` finds a directory with what is below it."""
    dataset = ds.dataset(path, format=FORMATS[kind])
    if not dataset.files:  # DuckDB says so by itself
        raise FileNotFoundError(path)
    table = dataset.to_table(columns=["gen"])
    return Counter(table["gen"].to_pylist())


def by_one_open(kind: str, path: str) -> Counter:
    """A single file, opened once; `pyarrow.dataset` and DuckDB open it twice for one read."""
    read = {
        "parquet": lambda file: pq.ParquetFile(file).read(),
        "arrow": lambda file: pa.ipc.open_file(file).read_all(),
        "csv": pc.read_csv,
        "jsonl": pj.read_json,
    }
    with open(path, "rb") as file:
        return Counter(read[kind](file)["gen"].to_pylist())


def by_duckdb(kind: str, path: str) -> Counter:
    """As DuckDB's glob finds it."""
    found = f"SELECT gen, count(*) FROM {SCANS[kind]}('{path}/**/*.{kind}') GROUP BY gen"
    with duckdb.connect(config={"threads": 2}) as database:
        return Counter(dict(database.execute(found).fetchall()))


def by_sqlite3(kind: str, path: str) -> Counter:
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=300)) as database:
        return Counter(dict(database.execute("SELECT gen, count(*) FROM t GROUP BY gen")))


def readers(kind: str, path: str) -> list:
    if kind == "sqlite":
        return [by_sqlite3]
    if os.path.isfile(path):
        return [by_one_open]
    return [by_dataset, by_duckdb] if kind in SCANS else [by_dataset]


def read_once(reader, kind: str, path: str) -> dict:
    try:
        return {"seen": sorted(reader(kind, path).items()), "by": reader.__name__}
    except Exception as error:
        said = str(error)
        if isinstance(error, FileNotFoundError) or any(word in said for word in GONE):
            return {"gone": said[:200]}
        return {"wrong": f"{reader.__name__}: {type(error).__name__}: {said[:300]}"}


def main(kind: str, path: str) -> None:
    each = readers(kind, path)
    at = 0
    while not select.select([sys.stdin], [], [], 0)[0]:
        sys.stdout.write(json.dumps(read_once(each[at % len(each)], kind, path)) + "\n")
        sys.stdout.flush()
        at += 1


if __name__ == "__main__":
    main(*sys.argv[1:])
