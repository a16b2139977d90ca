# /// script
# dependencies = ["daft==0.7.26"]
# [tool.bench]
# name = "Daft"
# ///
"""Daft on its own runner, all defaults. CSV is told the types."""

import os

os.environ["DAFT_ANALYTICS_ENABLED"] = "0"
import daft
from common import Task, run


def parquet_to_parquet(task: Task):
    daft.read_parquet(task.source).write_parquet(task.out)


def csv_to_parquet(task: Task):
    schema = daft.read_parquet(task.truth).schema()
    types = {field.name: field.dtype for field in schema}
    daft.read_csv(task.source, schema=types).write_parquet(task.out)


def jsonl_to_parquet(task: Task):
    daft.read_json(task.source).write_parquet(task.out)


if __name__ == "__main__":
    run(globals())
