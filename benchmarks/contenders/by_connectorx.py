# /// script
# dependencies = ["connectorx==0.4.6", "pyarrow==26.0.1"]
# [tool.bench]
# name = "ConnectorX"
# ///
"""ConnectorX: a stream of Arrow batches into one ParquetWriter where it has one, else one table."""

import connectorx as cx
import pyarrow.parquet as pq
from common import Task, run


def pg_to_parquet(task: Task):
    query = f"SELECT * FROM {task.table}"
    reader = cx.read_sql(task.source, query, return_type="arrow_stream", batch_size=100_000)
    with pq.ParquetWriter(task.file, reader.schema) as writer:
        for batch in reader:
            writer.write_batch(batch)


def my_to_parquet(task: Task):
    table = cx.read_sql(task.source, f"SELECT * FROM {task.table}", return_type="arrow")
    pq.write_table(table, task.file)


def sqlite_to_parquet(task: Task):
    url = task.source.replace("sqlite:///", "sqlite://", 1)
    table = cx.read_sql(url, f"SELECT * FROM {task.table}", return_type="arrow")
    pq.write_table(table, task.file)


if __name__ == "__main__":
    run(globals())
