"""Ends of flows, for comparing what is there: sources with known rows, stores that get damaged."""

from __future__ import annotations

import datetime as dt
import sqlite3
from collections.abc import Callable
from contextlib import closing
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import sqlalchemy as sa
from pyarrow import feather

from hygge import (
    ArrowHome,
    ArrowStore,
    CsvHome,
    CsvStore,
    JsonlHome,
    JsonlStore,
    ParquetHome,
    ParquetStore,
    SQLHome,
    SQLStore,
)  # fmt: skip
from hygge.home import Home
from hygge.store import Store

ROWS = 50
TABLE = pa.table(
    {
        "id": pa.array(range(ROWS), pa.int64()),
        "name": pa.array([None if n % 7 == 0 else f"näme {n}" for n in range(ROWS)]),
        "price": pa.array([Decimal(n) / 4 for n in range(ROWS)], pa.decimal128(10, 2)),
        "ratio": pa.array([n / 7 for n in range(ROWS)], pa.float64()),
        "day": pa.array([dt.date(2024, 1, 1) + dt.timedelta(n) for n in range(ROWS)], pa.date32()),
        "at": pa.array(
            [dt.datetime(2024, 1, 1, 3, 4, 5, n) for n in range(ROWS)], pa.timestamp("us")
        ),
        "good": pa.array([n % 2 == 0 for n in range(ROWS)], pa.bool_()),
    }
)
TYPES = {"id": "int64", "name": "string", "price": "decimal(10,2)", "ratio": "float64",
         "day": "date", "at": "timestamp", "good": "bool"}  # fmt: skip
FILES = {"parquet": ParquetStore, "arrow": ArrowStore, "csv": CsvStore, "jsonl": JsonlStore}
HOMES = {"parquet": ParquetHome, "arrow": ArrowHome, "csv": CsvHome, "jsonl": JsonlHome}


def store_of(kind: str, folder: Path, url: str = "") -> Store:
    """Return an empty store of a kind: that of a file format, or `sql`."""
    if kind in FILES:
        return FILES[kind](path=folder / f"store_{kind}")
    return SQLStore(table="there", connection=url or f"sqlite:///{folder}/store.db")


def home_of(kind: str, folder: Path, flow: Callable[[Home, Store], object], url: str = "") -> Home:
    """Return a source of a kind with the rows of TABLE; `flow` moves them there."""
    pq.write_table(TABLE, folder / "seed.parquet", row_group_size=20)
    seed = ParquetHome(path=folder / "seed.parquet")
    if kind == "parquet":
        return ParquetHome(path=folder / "seed.parquet", options={"split_bytes": 1})
    if kind in FILES:
        flow(seed, FILES[kind](path=folder / f"home_{kind}"))
        options = {"types": TYPES} if kind in ("csv", "jsonl") else {}
        return HOMES[kind](path=folder / f"home_{kind}", options=options)
    url = url or f"sqlite:///{folder}/home.db"
    flow(seed, SQLStore(table="here", connection=url))
    return SQLHome(table="here", connection=url)


def damage(how: str, kind: str, folder: Path, url: str = "") -> None:
    """Change a value, lose a row, or double a row (that of id 30) of a store."""
    if kind in FILES:
        (file,) = [path for path in sorted((folder / f"store_{kind}").rglob(f"*.{kind}"))
                   if has_row(path)]  # fmt: skip
        if kind in ("csv", "jsonl"):
            lines = file.read_text().splitlines(keepends=True)
            (at,) = [n for n, line in enumerate(lines) if "näme 30" in line]
            lines[at : at + 1] = {"changed": [lines[at].replace("näme 30", "name 30")],
                                  "lost": [], "doubled": [lines[at]] * 2}[how]  # fmt: skip
            file.write_text("".join(lines))
            return
        table = pq.read_table(file) if kind == "parquet" else feather.read_table(file)
        rows = table.to_pylist()
        (at,) = [n for n, row in enumerate(rows) if row["id"] == 30]
        changed = {**rows[at], "name": "name 30"}
        rows[at : at + 1] = {"changed": [changed], "lost": [], "doubled": [rows[at]] * 2}[how]
        written = pa.Table.from_pylist(rows, schema=table.schema)
        if kind == "parquet":
            pq.write_table(written, file)
        else:
            feather.write_feather(written, file)
        return
    statement = {
        "changed": "update there set name = 'name 30' where id = 30",
        "lost": "delete from there where id = 30",
        "doubled": "insert into there select * from there where id = 30",
    }[how]
    engine = sa.create_engine(url or f"sqlite:///{folder}/store.db")
    with engine.begin() as connection:
        connection.execute(sa.text(statement))
    engine.dispose()


def has_row(path: Path) -> bool:
    """Return whether a file has the row of id 30."""
    if path.suffix in (".csv", ".jsonl"):
        return "näme 30" in path.read_text()
    table = pq.read_table(path) if path.suffix == ".parquet" else feather.read_table(path)
    return 30 in table["id"].to_pylist()


def execute(database: Path, *statements: str) -> None:
    """Run statements in a SQLite file."""
    with closing(sqlite3.connect(database)) as connection:
        connection.executescript(";".join(statements))
