"""Iceberg tables for tests: a catalog in a file of SQLite, and what a foreign reader sees."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.exceptions import NoSuchNamespaceError, NoSuchTableError

from hygge import IcebergStore

TABLE = "sales.lines"


def settings(folder: Path) -> dict[str, str]:
    """The settings of a catalog below a folder."""
    return {"uri": f"sqlite:///{folder}/catalog.db", "warehouse": f"{folder}/lake"}


def store(folder: Path, **more: Any) -> IcebergStore:
    return IcebergStore(TABLE, catalog=settings(folder), **more)


@contextmanager
def catalog(folder: Path) -> Iterator[SqlCatalog]:
    """The catalog as any other program opens it."""
    given = settings(folder)
    opened = SqlCatalog("default", uri=given["uri"], warehouse=f"file://{given['warehouse']}")
    try:
        yield opened
    finally:
        opened.close()


@contextmanager
def table(folder: Path, name: str = TABLE) -> Iterator[Any]:
    with catalog(folder) as opened:
        yield opened.load_table(name)


def rows(folder: Path, name: str = TABLE) -> pa.Table | None:
    """What the library plans and pyarrow reads; None where there is no table.

    The library itself reads a NULL list of structs as an empty list.
    """
    if not (folder / "catalog.db").exists():
        return None
    try:
        with table(folder, name) as found:
            tables = [found.schema().as_arrow().empty_table()]
            for task in found.scan().plan_files():
                assert not task.delete_files
                tables.append(pq.ParquetFile(task.file.file_path.removeprefix("file://")).read())
            bare = [pa.table(t.columns, names=t.column_names) for t in tables]
            return pa.concat_tables(bare, promote_options="permissive")
    except (NoSuchTableError, NoSuchNamespaceError):
        return None
