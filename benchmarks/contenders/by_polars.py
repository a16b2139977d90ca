# /// script
# dependencies = ["polars==2.1.0", "pyarrow==26.0.1", "deltalake==1.6.6"]
# [tool.bench]
# name = "polars"
# ///
"""polars: a lazy scan into a streaming sink, all defaults. CSV is told the types."""

import polars as pl
from common import Task, run


def parquet_to_parquet(task: Task):
    pl.scan_parquet(task.source).sink_parquet(task.file)


def csv_to_parquet(task: Task):
    schema = pl.scan_parquet(task.truth).collect_schema()
    pl.scan_csv(task.source, schema=schema).sink_parquet(task.file)


def jsonl_to_parquet(task: Task):
    pl.scan_ndjson(task.source).sink_parquet(task.file)


def parquet_to_delta(task: Task):
    pl.scan_parquet(task.source).sink_delta(task.out + "/delta")


if __name__ == "__main__":
    run(globals())
