# /// script
# dependencies = ["duckdb==2.0.1"]
# [tool.bench]
# name = "DuckDB"
# ///
"""DuckDB: one COPY, all defaults but that rows may change their order. CSV is told the types."""

import duckdb
from common import Task, run


def connect(path=":memory:"):
    db = duckdb.connect(path)
    db.execute("SET preserve_insertion_order = false")
    return db


def parquet_to_parquet(task: Task):
    connect().execute(f"COPY (FROM read_parquet('{task.source}')) TO '{task.file}'")


def csv_to_parquet(task: Task):
    db = connect()
    types = dict(row[:2] for row in db.execute(f"DESCRIBE FROM '{task.truth}'").fetchall())
    db.execute(f"COPY (FROM read_csv('{task.source}', columns={types})) TO '{task.file}'")


def jsonl_to_parquet(task: Task):
    source = f"read_json('{task.source}', format='newline_delimited')"
    connect().execute(f"COPY (FROM {source}) TO '{task.file}'")


def parquet_to_duckdb(task: Task):
    with connect(task.file) as db:
        db.execute(f"CREATE TABLE {task.table} AS FROM read_parquet('{task.source}')")


if __name__ == "__main__":
    run(globals())
