# /// script
# dependencies = ["daft==0.7.26"]
# [tool.bench]
# name = "Daft"
# ///
"""Daft on its own runner, all defaults. CSV is told the types; decimals are read as text and cast,
since its reader takes no decimal of a stated precision."""

import os

os.environ["DAFT_ANALYTICS_ENABLED"] = "0"
import daft
from common import Task, run
from daft import DataType, col


def parquet_to_parquet(task: Task):
    daft.read_parquet(task.source).write_parquet(task.out)


def csv_to_parquet(task: Task):
    schema = daft.read_parquet(task.truth).schema()
    types = {field.name: field.dtype for field in schema}
    decimals = {name: kind for name, kind in types.items() if kind.is_decimal128()}
    read = {name: DataType.string() if name in decimals else types[name] for name in types}
    rows = daft.read_csv(task.source, schema=read)
    casts = {name: col(name).cast(kind) for name, kind in decimals.items()}
    rows.with_columns(casts).write_parquet(task.out)


def jsonl_to_parquet(task: Task):
    daft.read_json(task.source).write_parquet(task.out)


if __name__ == "__main__":
    run(globals())
