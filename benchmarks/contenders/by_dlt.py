# /// script
# dependencies = [
#     "dlt[filesystem,parquet,postgres,deltalake,duckdb]==1.31.0", "sqlalchemy==2.1.9",
#     "connectorx==0.4.6", "psycopg[binary]==3.3.9", "psycopg2-binary==2.9.13",
#     "pymysql==1.2.4", "pyarrow==26.0.1", "pandas==3.1.1",
# ]
# [tool.bench]
# name = "dlt"
# [tool.bench.variants."dlt"]
# setting = "connectorx"
# [tool.bench.variants."dlt pyarrow"]
# setting = "pyarrow"
# once = true
# long = ["pg_to_pg"]
# jobs = ["pg_to_parquet", "pg_to_pg"]
# ///
"""dlt: for databases its backend ConnectorX (its fastest that fits), and pyarrow beside it.

Files are read by pyarrow and yielded as Arrow. Into files it loads Parquet, into PostgreSQL by its
default.
"""

import os

from common import Task, run

os.environ.update(RUNTIME__DLTHUB_TELEMETRY="false", RUNTIME__LOG_LEVEL="ERROR")

import dlt
from dlt.sources.sql_database import sql_database, sql_table


def pipeline(task, destination):
    os.environ["DLT_DATA_DIR"] = task.work
    return dlt.pipeline(
        "bench", pipelines_dir=task.work, destination=destination, dataset_name="target"
    )


def to_files(task, rows):
    made = pipeline(task, dlt.destinations.filesystem(task.out))
    made.run(rows, loader_file_format="parquet")


def to_pg(task, rows):
    url = task.target.replace("postgres@", "postgres:any@", 1)  # it wants a password to be there
    made = pipeline(task, dlt.destinations.postgres(url))
    made.run(rows)  # its default is CSV for Arrow: empty text comes as NULL


def reading(task, url=None):
    backend = task.setting
    url = url or task.source
    if backend == "pyarrow":
        url = url.replace("postgresql", "postgresql+psycopg", 1)
    url = url.replace("mysql:", "mysql+pymysql:", 1)
    given = {"backend_kwargs": {"return_type": "arrow"}} if backend == "connectorx" else {}
    return {"credentials": url, "backend": backend, "chunk_size": 100_000, **given}


def file_rows(task):
    import pyarrow.parquet as pq

    def rows():
        yield from pq.ParquetFile(task.source).iter_batches()

    return dlt.resource(rows, name=task.table)


def parquet_to_parquet(task: Task):
    to_files(task, file_rows(task))


def csv_to_parquet(task: Task):
    from pyarrow import csv

    types = {field.name: field.type for field in task.schema()}

    def rows():
        yield from csv.open_csv(task.source, convert_options=csv.ConvertOptions(column_types=types))

    to_files(task, dlt.resource(rows, name=task.table))


def jsonl_to_parquet(task: Task):
    from pyarrow import json

    def rows():
        yield from json.open_json(task.source)

    to_files(task, dlt.resource(rows, name=task.table))


def pg_to_parquet(task: Task):
    to_files(task, sql_table(table=task.table, **reading(task)))


def pg_to_pg(task: Task):
    to_pg(task, sql_table(table=task.table, **reading(task)))


def parquet_to_pg(task: Task):
    to_pg(task, file_rows(task))


def my_to_parquet(task: Task):
    to_files(task, sql_table(table=task.table, **reading(task)))


def sqlite_to_parquet(task: Task):
    """By the pyarrow backend: ConnectorX takes no URL as SQLAlchemy writes it for a file."""
    given = {**reading(task), "backend": "pyarrow"}
    given.pop("backend_kwargs", None)
    to_files(task, sql_table(table=task.table, **given))


def pg_small_tables(task: Task):
    to_files(task, sql_database(schema=task.more["schema"], **reading(task)))


def pg_incremental(task: Task):
    cursor = dlt.sources.incremental(task.more["cursor"])
    to_files(task, sql_table(table=task.table, incremental=cursor, **reading(task)))


def parquet_to_delta(task: Task):
    rows = file_rows(task)
    rows.apply_hints(table_format="delta")
    pipeline(task, dlt.destinations.filesystem(task.out)).run(rows)


def parquet_to_duckdb(task: Task):
    made = pipeline(task, dlt.destinations.duckdb(task.file))
    made.run(file_rows(task), loader_file_format="parquet")


if __name__ == "__main__":
    run(globals())
