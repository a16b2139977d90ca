"""Changes in each kind of home, and flows that apply them."""

from __future__ import annotations

import csv
import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as pq

from hygge import ArrowHome, CsvHome, Flow, JsonlHome, ParquetHome, SQLHome, SQLStore
from hygge.home import Home

SCHEMA = pa.schema(
    [
        pa.field("seq", pa.int64()),
        pa.field("_op", pa.string()),
        pa.field("id", pa.int64()),
        pa.field("v", pa.string()),
    ]
)
CHANGES: list[tuple[int, str | None, int | None, str | None]] = [
    (1, "insert", 1, "a"),
    (2, "insert", 2, "b"),
    (3, "insert", 3, "c"),
    (4, "update", 1, "a2"),
    (5, "delete", 2, None),
    (6, "delete", 3, None),
    (7, "insert", 3, "again"),
    (8, "delete", 9, None),
]
AFTER = [(1, "a2"), (3, "again")]
"""The rows (id, v) that they lead to."""


def home_of(kind: str, folder: Path, rows: list[Any] = CHANGES, **settings: Any) -> Home:
    """The changes as files of two rows each, or as a table of SQLite whose rows lie otherwise."""
    place = folder / f"changes.{kind}"
    if kind == "sqlite":
        with closing(sqlite3.connect(place)) as connection, connection:
            connection.execute("CREATE TABLE c (seq INTEGER, _op TEXT, id INTEGER, v TEXT)")
            connection.executemany("INSERT INTO c VALUES (?, ?, ?, ?)", rows[::-1])
        url = f"sqlite:///{place}"
        return SQLHome("c", connection=url, cursor="seq", changes=True, **settings)
    place.mkdir()
    for at in range(0, len(rows), 2):
        write(kind, place / f"{at}.{kind}", rows[at : at + 2])
    a_row = 1 if kind in ("parquet", "arrow") else 48  # about so many bytes
    given = {"options": {"split_bytes": a_row}, "changes": True, **settings}
    if kind == "parquet":
        return ParquetHome(path=place, **given)
    if kind == "arrow":
        return ArrowHome(path=place, **given)
    if kind == "csv":
        given["options"] = {"types": {"v": "string"}, **given["options"]}
        return CsvHome(path=place, **given)
    return JsonlHome(path=place, **given)


def write(kind: str, path: Path, rows: list[Any]) -> None:
    dicts = [dict(zip(SCHEMA.names, row, strict=True)) for row in rows]
    if kind == "parquet":
        pq.write_table(pa.Table.from_pylist(dicts, SCHEMA), path)
    elif kind == "arrow":
        feather.write_feather(pa.Table.from_pylist(dicts, SCHEMA), path)
    elif kind == "csv":
        with path.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(SCHEMA.names)
            writer.writerows(rows)
    else:
        path.write_text("".join(json.dumps(each) + "\n" for each in dicts))


def flow(home: Home, store: SQLStore, folder: Path, **more: Any) -> Flow:
    given = {"mode": "merge", "key": "id", "engine": "inline", **more}
    return Flow(home, store, name="f", state=folder / "state", **given)


def sqlite_store(folder: Path, **options: Any) -> SQLStore:
    return SQLStore("t", connection=f"sqlite:///{folder}/t.db", options=options)


def ask(folder: Path, sql: str = "SELECT id, v FROM t ORDER BY id") -> list[Any]:
    with closing(sqlite3.connect(folder / "t.db")) as connection, connection:
        return connection.execute(sql).fetchall()
