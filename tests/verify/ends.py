"""Ends of flows, for comparing what is there: sources with known rows, stores that get damaged."""

from __future__ import annotations

import datetime as dt
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import sqlalchemy as sa
from deltalake import DeltaTable, write_deltalake
from pyarrow import feather

from hygge import (
    ArrowHome,
    ArrowStore,
    CsvHome,
    CsvStore,
    DeltaHome,
    DeltaStore,
    IcebergHome,
    JsonlHome,
    JsonlStore,
    ParquetHome,
    ParquetStore,
    SQLHome,
    SQLStore,
)  # fmt: skip
from hygge.home import Home
from hygge.store import Store
from tests.connectors.iceberg import lakes

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
CHANGED, LOST, DOUBLED = 30, 20, 10
"""The ids of the rows that `damage` changes, takes away, and doubles."""
NAMED = ["lost: id 20", "doubled: id 10 is there 2 times", "changed: id 30 in name"]
"""What `hygge verify` says of them, and of no other row."""
STATEMENTS = (
    f"update {{0}} set name = 'name {CHANGED}' where id = {CHANGED}",
    f"delete from {{0}} where id = {LOST}",
    f"insert into {{0}} select * from {{0}} where id = {DOUBLED}",
)
FILES = {"parquet": ParquetStore, "arrow": ArrowStore, "csv": CsvStore, "jsonl": JsonlStore}
HOMES = {"parquet": ParquetHome, "arrow": ArrowHome, "csv": CsvHome, "jsonl": JsonlHome}
KINDS = [*FILES, "sqlite", "duckdb", "delta", "iceberg"]
"""The ends that need no server."""


@dataclass
class End:
    """A place of one kind, which a Store writes, a Home reads, and `damage` damages."""

    kind: str
    """One of KINDS; any other word is a database at `url`."""
    folder: Path
    """An empty folder of its own."""
    url: str = ""
    table: str = "t"

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True)
        if self.kind in ("sqlite", "duckdb"):
            self.url = f"{self.kind}:///{self.folder}/{self.kind}.db"

    @property
    def path(self) -> Path:
        """The directory that it is, where it is one."""
        return self.folder / self.kind

    def store(self) -> Store:
        if self.kind in FILES:
            return FILES[self.kind](path=self.path)
        if self.kind == "delta":
            return DeltaStore(path=self.path)
        if self.kind == "iceberg":
            return lakes.store(self.folder)
        return SQLStore(table=self.table, connection=self.url)

    def home(self) -> Home:
        if self.kind in FILES:
            options: dict[str, Any] = {"parquet": {"split_bytes": 1}, "arrow": {}}.get(
                self.kind, {"types": TYPES}
            )
            return HOMES[self.kind](path=self.path, options=options)
        if self.kind == "delta":
            return DeltaHome(path=self.path)
        if self.kind == "iceberg":
            return IcebergHome(lakes.TABLE, catalog=lakes.settings(self.folder))
        return SQLHome(table=self.table, connection=self.url)

    def damage(self) -> None:
        """Change a value, take a row away, and double a row, as another program would."""
        if self.kind in FILES:
            self._damage_files()
        elif self.kind == "delta":
            table = DeltaTable(self.path)
            (doubled,) = [
                batch
                for batch in pa.table(table.scan().read_all()).to_pylist()
                if batch["id"] == DOUBLED
            ]
            table.update(predicate=f"id = {CHANGED}", updates={"name": f"'name {CHANGED}'"})
            table.delete(f"id = {LOST}")
            write_deltalake(self.path, pa.Table.from_pylist([doubled], TABLE.schema), mode="append")
        elif self.kind == "iceberg":
            with lakes.table(self.folder) as found:
                found.overwrite(damaged(found.scan().to_arrow()))
        elif self.kind == "duckdb":
            with duckdb.connect(self.folder / "duckdb.db") as connection:
                connection.execute(";".join(STATEMENTS).format(self.table))
        else:
            engine = sa.create_engine(self.url)
            with engine.begin() as connection:
                for statement in STATEMENTS:
                    connection.execute(sa.text(statement.format(self.table)))
            engine.dispose()

    def _damage_files(self) -> None:
        for file in sorted(self.path.rglob(f"*.{self.kind}")):
            if self.kind in ("csv", "jsonl"):
                file.write_text("".join(_damaged_lines(file.read_text().splitlines(True))))
            elif self.kind == "parquet":
                if (table := pq.read_table(file)).num_rows:  # else it is the head
                    pq.write_table(damaged(table), file)
            elif (table := feather.read_table(file)).num_rows:
                feather.write_feather(damaged(table), file)


def seed(path: Path) -> Home:
    """Return a Home of the rows of TABLE, which are written to `path`."""
    pq.write_table(TABLE, path, row_group_size=20)
    return ParquetHome(path=path, options={"split_bytes": 1})


def damaged(table: pa.Table) -> pa.Table:
    """Return the rows of a table as `damage` leaves them."""
    rows = table.to_pylist()
    for row in list(rows):
        if row["id"] == CHANGED:
            row["name"] = f"name {CHANGED}"
        elif row["id"] == LOST:
            rows.remove(row)
        elif row["id"] == DOUBLED:
            rows.append(row)
    return pa.Table.from_pylist(rows, schema=table.schema)


def _damaged_lines(lines: Sequence[str]) -> list[str]:
    kept = [line.replace(f"näme {CHANGED}", f"name {CHANGED}") for line in lines]
    kept = [line for line in kept if f"näme {LOST}" not in line]
    return kept + [line for line in kept if f"näme {DOUBLED}" in line]


def execute(database: Path, *statements: str) -> None:
    """Run statements in a SQLite file."""
    with closing(sqlite3.connect(database)) as connection:
        connection.executescript(";".join(statements))
