# /// script
# dependencies = [
#     "pandas==3.1.1", "pyarrow==26.0.1", "sqlalchemy==2.1.9", "psycopg[binary]==3.3.9",
# ]
# [tool.bench]
# name = "pandas"
# long = ["pg_to_parquet"]
# ///
"""pandas: read, then write, with Arrow's types and readers; a table of PostgreSQL in chunks."""

import sqlite3

import pandas as pd
from common import Task, run


def parquet_to_parquet(task: Task):
    pd.read_parquet(task.source, dtype_backend="pyarrow").to_parquet(task.file)


def csv_to_parquet(task: Task):
    types = {field.name: pd.ArrowDtype(field.type) for field in task.schema()}
    pd.read_csv(task.source, engine="pyarrow", dtype=types).to_parquet(task.file)


def jsonl_to_parquet(task: Task):
    frame = pd.read_json(task.source, lines=True, engine="pyarrow", dtype_backend="pyarrow")
    frame.to_parquet(task.file)


def sqlite_to_parquet(task: Task):
    with sqlite3.connect(task.source.removeprefix("sqlite:///")) as db:
        pd.read_sql(f"SELECT * FROM {task.table}", db).to_parquet(task.file, index=False)


def pg_to_parquet(task: Task):
    import sqlalchemy

    url = task.source.replace("postgresql", "postgresql+psycopg", 1)
    with sqlalchemy.create_engine(url).connect() as db:
        stream = db.execution_options(stream_results=True)
        chunks = pd.read_sql(f"SELECT * FROM {task.table}", stream, chunksize=100_000)
        for number, chunk in enumerate(chunks):
            chunk.to_parquet(f"{task.out}/{number}.parquet", index=False)


if __name__ == "__main__":
    run(globals())
