"""Files of flows that tests of shapes run, and the same rows in every kind of home."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as pc
import pyarrow.dataset as ds
import pyarrow.feather as feather
import pyarrow.parquet as pq
import yaml

from hygge import Coordinator
from hygge.model import Report

PEOPLE = pa.table(
    {
        "id": pa.array([1, 2, 3], pa.int64()),
        "e_mail": pa.array(["a@x.org", None, "c@x.org"]),
        "age": pa.array([30, 40, None], pa.int64()),
        "ssn": pa.array(["s-1", "s-2", "s-3"]),
    }
)
FORMATS = ("parquet", "arrow", "csv", "jsonl", "sqlite")


def write(kind: str, folder: Path, table: pa.Table = PEOPLE, name: str = "people") -> Any:
    """Write the rows as a home of this kind, and return its YAML."""
    path = folder / f"{name}.{kind}"
    if kind == "parquet":
        pq.write_table(table, path)
    elif kind == "arrow":
        feather.write_feather(table, path)
    elif kind == "csv":
        pc.write_csv(table, path)
    elif kind == "jsonl":
        path.write_text("".join(json.dumps(row, default=str) + "\n" for row in table.to_pylist()))
    else:
        path = folder / "shop.db"
        kinds = [
            f'"{f.name}" {"INTEGER" if pa.types.is_integer(f.type) else "TEXT"}'
            for f in table.schema
        ]
        with sqlite3.connect(path) as connection:
            connection.execute(f"CREATE TABLE {name} ({', '.join(kinds)})")
            marks = ", ".join("?" for _ in table.schema)
            rows = [tuple(row.values()) for row in table.to_pylist()]
            connection.executemany(f"INSERT INTO {name} VALUES ({marks})", rows)
        return {"connection": f"sqlite:///{path}", "table": name}
    return {"path": str(path)}


def flows(folder: Path, home: Any, store: Any = "lake", **flow: Any) -> Path:
    """Write a file with the one flow `people`."""
    content = {"flows": {"people": {"home": home, "store": store, **flow}}}
    (folder / "flows.yml").write_text(yaml.safe_dump(content, sort_keys=False))
    return folder / "flows.yml"


def run(path: Path, engine: str = "inline") -> Report:
    """Run the one flow of a file."""
    (report,) = Coordinator(path, engine=engine).run().flows
    return report


def moved(path: Path, engine: str = "inline") -> list[dict[str, Any]]:
    """Run the one flow of a file, and return what its store `lake` holds."""
    report = run(path, engine)
    assert report.status == "done", (report.error, report.hint)
    return lake(path).to_pylist()


def lake(path: Path) -> pa.Table:
    """Return what the store `lake` of a file of flows holds."""
    return ds.dataset(path.parent / "lake").to_table()
