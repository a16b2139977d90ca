# /// script
# dependencies = [
#     "ray[data]==2.60.0", "pyarrow==26.0.1", "pandas==3.1.1", "psycopg[binary]==3.3.9",
# ]
# [tool.bench]
# name = "Ray Data"
# once = true
# long = ["jsonl_to_parquet", "pg_to_parquet"]
# ///
"""Ray Data: read and write, all defaults. Ray is started as hygge starts it, quiet and without a
dashboard, which is quicker than by itself; `move` begins when it stands. CSV is told the types."""

import time

import ray
from common import Task, run


def move(task, read):
    ray.init(include_dashboard=False, logging_level="ERROR", log_to_driver=False)
    ray.data.DataContext.get_current().enable_progress_bars = False
    began = time.monotonic()
    read().write_parquet(task.out)
    return time.monotonic() - began


def parquet_to_parquet(task: Task):
    return move(task, lambda: ray.data.read_parquet(task.source))


def csv_to_parquet(task: Task):
    from pyarrow import csv

    types = {field.name: field.type for field in task.schema()}
    options = csv.ConvertOptions(column_types=types)
    return move(task, lambda: ray.data.read_csv(task.source, convert_options=options))


def jsonl_to_parquet(task: Task):
    return move(task, lambda: ray.data.read_json(task.source, lines=True))


def pg_to_parquet(task: Task):
    import psycopg

    url, table = task.source, task.table
    return move(
        task, lambda: ray.data.read_sql(f"SELECT * FROM {table}", lambda: psycopg.connect(url))
    )


if __name__ == "__main__":
    run(globals())
