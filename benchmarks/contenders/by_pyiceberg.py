# /// script
# dependencies = ["pyiceberg[sql-sqlite]==0.12.0", "pyarrow==26.0.1"]
# [tool.bench]
# name = "pyiceberg"
# ///
"""pyiceberg: one append of the whole file, on a catalog in SQLite."""

import pyarrow.parquet as pq
from common import Task, run
from pyiceberg.catalog.sql import SqlCatalog


def parquet_to_iceberg(task: Task):
    where = {"uri": f"sqlite:///{task.work}/catalog.db", "warehouse": f"file://{task.out}"}
    catalog = SqlCatalog("bench", **where)
    catalog.create_namespace("bench")
    rows = pq.read_table(task.source)
    catalog.create_table(f"bench.{task.table}", rows.schema).append(rows)


if __name__ == "__main__":
    run(globals())
