"""What is moved in the crash tests: small flows, their sources in stages, and a foreign reader.

Below the folder of a world: `source`, `out` (the target and what hygge keeps beside it), `state`.
Stage 0 is what a first run moved; each later stage adds rows, and where the mode allows changes
some. Values are of the kinds that get lost first: NULL beside '', and floats with all their digits.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.csv as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq
from deltalake import DeltaTable

from hygge import CsvStore, DeltaStore, Flow, ParquetHome, ParquetStore, SQLHome, SQLStore
from hygge.model import Limits

Row = tuple[int, int, str | None, float]
COLUMNS = ["id", "seq", "v", "x"]
ROWS = 10
IN_A_FILE = 4


@dataclass(frozen=True)
class Scene:
    """A flow from a `table` or `files` to one of the stores that `flow` makes."""

    source: str
    store: str
    mode: str
    cursor: str | None = None
    splits: int = 1
    adopts: bool = False
    """Whether somebody made the table of the store before."""
    changes: bool = False
    """Whether the table is one of changes (`_op`), in the order of `n`."""

    @property
    def plain(self) -> bool:
        """Whether each run adds all rows again."""
        return self.mode == "append" and self.cursor is None


SCENES = {
    "directory, append by cursor": Scene("table", "directory", "append", "seq"),
    "directory, plain append": Scene("table", "directory", "append"),
    "directory, replace": Scene("table", "directory", "replace", splits=2),
    "file, replace": Scene("table", "file", "replace", splits=2),
    "SQLite, append by cursor": Scene("table", "SQLite", "append", "seq"),
    "SQLite, plain append": Scene("table", "SQLite", "append"),
    "SQLite, replace": Scene("table", "SQLite", "replace", splits=2),
    "SQLite, merge": Scene("table", "SQLite", "merge", "seq"),
    "files to directory, replace": Scene("files", "directory", "replace"),
    "files to directory, plain append": Scene("files", "directory", "append"),
    "files to SQLite, plain append": Scene("files", "SQLite", "append"),
}
DELTA = {
    "Delta, append by cursor": Scene("table", "Delta", "append", "seq"),
    "Delta, replace": Scene("table", "Delta", "replace", splits=2),
    "Delta, merge": Scene("table", "Delta", "merge", "seq"),
}
DUCKDB = {
    "DuckDB, append by cursor": Scene("table", "DuckDB", "append", "seq"),
    "DuckDB, replace": Scene("table", "DuckDB", "replace", splits=2),
    "DuckDB, merge": Scene("table", "DuckDB", "merge", "seq"),
}
ADOPT = Scene("table", "SQLite", "replace", splits=2, adopts=True)
CHANGES = Scene("table", "SQLite", "merge", "n", changes=True)
EVERY = {**SCENES, **DELTA, **DUCKDB, "SQLite, adopt": ADOPT, "SQLite, changes": CHANGES}


def flow(scene: Scene, folder: Path, **more: object) -> Flow:
    """The flow of a scene; what it waits for it gives up soon, as nobody else will end it."""
    home = ParquetHome(path=folder / "source", options={"split_bytes": 1})
    if scene.source == "table":
        connection = f"sqlite:///{folder}/source/shop.db"
        options = {"splits": scene.splits} if scene.splits > 1 else {}
        of_table = {"cursor": scene.cursor, "changes": scene.changes, "options": options}
        home = SQLHome("t", connection=connection, **of_table)
    store = {
        "directory": lambda: ParquetStore(path=folder / "out" / "lake"),
        "file": lambda: CsvStore(path=folder / "out" / "t.csv"),
        "Delta": lambda: DeltaStore(path=folder / "out" / "delta"),
        "SQLite": lambda: SQLStore(
            "t", connection=f"sqlite:///{folder}/out/target.db", options={"adopt": scene.adopts}
        ),
        "DuckDB": lambda: SQLStore("t", connection=f"duckdb:///{folder}/out/target.duckdb"),
    }[scene.store]()
    key = ["id"] if scene.mode == "merge" else []
    limits = Limits(retries=0)
    state = folder / "state"
    return Flow(
        home, store, name="f", mode=scene.mode, key=key, engine="inline", limits=limits,
        state=state, **more,
    )  # fmt: skip


def rows_of(scene: Scene, stage: int) -> list[Row]:
    """Every row of the source as of a stage."""
    rows = []
    for number in range(1, ROWS * (stage + 1) + 1):
        if scene.changes and stage and number == 3:
            continue  # it was deleted
        changes = scene.mode != "append" and number in (2, 8)
        touched = stage if changes else (number - 1) // ROWS
        value = f"v{number} at {touched}" if number % 5 else (None if number % 2 else "")
        rows.append((number, number + 1000 * touched, value, number / 7))
    return rows


def grow(scene: Scene, folder: Path, stage: int) -> None:
    """Bring the source from one stage to the next."""
    source = folder / "source"
    source.mkdir(parents=True, exist_ok=True)
    (folder / "out").mkdir(exist_ok=True)
    if scene.adopts and not stage:
        with closing(sqlite3.connect(folder / "out" / "target.db")) as target:
            target.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, seq INTEGER, v TEXT, x REAL)")
    rows, before = rows_of(scene, stage), rows_of(scene, stage - 1) if stage else []
    if scene.changes:
        with closing(sqlite3.connect(source / "shop.db")) as shop, shop:
            shop.execute("PRAGMA journal_mode = WAL")
            shop.execute(
                "CREATE TABLE IF NOT EXISTS t "
                "(n INTEGER PRIMARY KEY, _op TEXT, id INTEGER, seq INTEGER, v TEXT, x REAL)"
            )
            gone = {row[0] for row in before} - {row[0] for row in rows}
            new = [("update", *row) for row in rows if row not in before]
            new += [("delete", number, None, None, None) for number in gone]
            shop.executemany("INSERT INTO t (_op, id, seq, v, x) VALUES (?, ?, ?, ?, ?)", new)
        return
    if scene.source == "table":
        with closing(sqlite3.connect(source / "shop.db")) as shop:
            shop.execute("PRAGMA journal_mode = WAL")  # a stopped reader keeps no writer waiting
            shop.execute(
                "CREATE TABLE IF NOT EXISTS t "
                "(id INTEGER PRIMARY KEY, seq INTEGER NOT NULL, v TEXT, x REAL NOT NULL)"
            )
            new = [row for row in rows if row not in before]
            shop.executemany("INSERT OR REPLACE INTO t VALUES (?, ?, ?, ?)", new)
            shop.commit()
        return
    for at in range(0, len(rows), IN_A_FILE):
        part = rows[at : at + IN_A_FILE]
        if part != before[at : at + IN_A_FILE]:
            path = source / f"{at:04d}.parquet"
            columns = dict(zip(COLUMNS, map(list, zip(*part, strict=True)), strict=True))
            pq.write_table(pa.table(columns), f"{path}.tmp")
            os.replace(f"{path}.tmp", path)


def seen(scene: Scene, folder: Path) -> list[Row]:
    """What a reader that is not hygge sees, in an order of its own."""
    out = folder / "out"
    if scene.store == "SQLite":
        if not (out / "target.db").exists():
            return []
        with closing(sqlite3.connect(out / "target.db")) as target:
            if not target.execute("SELECT 1 FROM sqlite_master WHERE name = 't'").fetchone():
                return []
            return in_order(target.execute(f"SELECT {', '.join(COLUMNS)} FROM t").fetchall())
    if scene.store == "Delta":
        if not DeltaTable.is_deltatable(str(out / "delta")):
            return []
        return _rows(pa.table(DeltaTable(str(out / "delta")).scan(columns=COLUMNS).read_all()))
    if scene.store == "DuckDB":
        path = out / "target.duckdb"
        found = "SELECT 1 FROM duckdb_tables() WHERE table_name = 't'"
        if not path.exists():
            return []
        with duckdb.connect(path, read_only=True) as target:
            if not target.execute(found).fetchall():
                return []
            return in_order(target.execute(f"SELECT {', '.join(COLUMNS)} FROM t").fetchall())
    if scene.store == "file":
        if not (out / "t.csv").exists():
            return []
        nulls = pc.ConvertOptions(strings_can_be_null=True, quoted_strings_can_be_null=False)
        return _rows(pc.read_csv(out / "t.csv", convert_options=nulls))
    if not (out / "lake").exists():
        return []
    lake = ds.dataset(out / "lake", format="parquet")
    if not lake.files:  # a directory that was opened, then replaced and emptied, then listed
        raise FileNotFoundError(out / "lake")
    return _rows(lake.to_table(columns=COLUMNS))


def in_order(rows: list[Row]) -> list[Row]:
    """Rows as a set with repetitions."""
    return sorted(map(tuple, rows), key=repr)


def _rows(table: pa.Table) -> list[Row]:
    return in_order(list(zip(*(table[name].to_pylist() for name in COLUMNS), strict=True)))
