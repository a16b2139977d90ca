"""Iceberg tables for tests: a catalog in a file of SQLite, and what a foreign reader sees.

Their files lie beside the catalog, or in the object store whose endpoint OBJECTS names.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.exceptions import NoSuchNamespaceError, NoSuchTableError

from hygge import IcebergStore
from tests.servers import s3

TABLE = "sales.lines"
OBJECTS = "HYGGE_TEST_OBJECTS"
"""The variable of the environment."""


def settings(folder: Path) -> dict[str, str]:
    """The settings of a catalog below a folder."""
    uri, endpoint = f"sqlite:///{folder}/catalog.db", os.environ.get(OBJECTS)
    if not endpoint:
        return {"uri": uri, "warehouse": f"{folder}/lake"}
    return {
        "uri": uri,
        "warehouse": f"s3://{s3.BUCKET}/lakes{folder}",
        "s3.endpoint": endpoint,
        "s3.access-key-id": "hygge",
        "s3.secret-access-key": s3.SECRET,
        "s3.region": "us-east-1",
    }


def store(folder: Path, **more: Any) -> IcebergStore:
    return IcebergStore(TABLE, catalog=settings(folder), **more)


@contextmanager
def catalog(folder: Path) -> Iterator[SqlCatalog]:
    """The catalog as any other program opens it."""
    given = settings(folder)
    if OBJECTS not in os.environ:
        given["warehouse"] = f"file://{given['warehouse']}"
    opened = SqlCatalog("default", **given)
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
            if OBJECTS in os.environ:
                return found.scan().to_arrow()
            tables = [found.schema().as_arrow().empty_table()]
            for task in found.scan().plan_files():
                assert not task.delete_files
                tables.append(pq.ParquetFile(task.file.file_path.removeprefix("file://")).read())
            bare = [pa.table(t.columns, names=t.column_names) for t in tables]
            return pa.concat_tables(bare, promote_options="permissive")
    except (NoSuchTableError, NoSuchNamespaceError):
        return None
